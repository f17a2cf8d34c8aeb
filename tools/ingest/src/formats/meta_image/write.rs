//! Writes `MetaImage`: `.mha`, or `.mhd` beside `.raw`, uncompressed.
//!
//! Channels are the fourth axis. Directions are written as they are, sheared ones too.

use std::path::Path;

use voxquarry::{Error, IfExists, Result};

use super::header::TYPES;
use crate::files::file_name;
use crate::formats::export_spec::ExportSpec;
use crate::formats::file_output::{FileOutput, OutputPlan};
use crate::formats::format::VolumeExport;
use crate::formats::world::{FROM_LPS, columns_of, length};

/// Begins the file at `out`.
///
/// # Errors
/// [`Error::Unsupported`] for a dtype that it does not have, [`Error::Exists`], [`Error::Io`].
pub(super) fn create(
    out: &Path,
    spec: &ExportSpec,
    if_exists: IfExists,
) -> Result<Box<dyn VolumeExport>> {
    if !out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("mhd")) {
        let plan = OutputPlan::single(header(spec, "LOCAL")?);
        return FileOutput::create(out, plan, spec, if_exists);
    }
    let voxels = out.with_extension("raw");
    let header = header(spec, &file_name(&voxels))?;
    let header = Some((out.to_owned(), header));
    let plan = OutputPlan { header, ..OutputPlan::single(Vec::new()) };
    FileOutput::create(&voxels, plan, spec, if_exists)
}

fn header(spec: &ExportSpec, data: &str) -> Result<Vec<u8>> {
    let name = TYPES.iter().find(|(_, dtype)| *dtype == spec.dtype).map(|(name, _)| *name);
    let name = name.ok_or_else(|| {
        let reason = format!("MetaImage cannot hold {}", spec.dtype);
        Error::unsupported(reason, "convert the volume to float32 first")
    })?;
    let axes = 3 + spec.channels.iter().len();
    let (columns, origin) = columns_of(&spec.affine, FROM_LPS);
    let (lengths, mm) = (columns.map(length), spec.unit.unwrap_or_default().millimeters());
    let column = |axis: usize, row: usize| match (columns.get(axis), row) {
        (Some(column), 0..3) => column[row] / lengths[axis],
        _ => f64::from(axis == row),
    };
    let matrix = (0..axes).flat_map(|axis| (0..axes).map(move |row| column(axis, row)));
    let text = |numbers: &mut dyn Iterator<Item = f64>| {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
    };
    let padded = |numbers: [f64; 3], last: f64| numbers.into_iter().chain([last]).take(axes);
    let [z, y, x] = spec.size;
    let dims = [x, y, z].into_iter().chain(spec.channels).map(|n| n as f64);
    let lines = [
        ("ObjectType", "Image".to_owned()),
        ("NDims", axes.to_string()),
        ("BinaryData", "True".to_owned()),
        ("BinaryDataByteOrderMSB", "False".to_owned()),
        ("CompressedData", "False".to_owned()),
        ("TransformMatrix", text(&mut matrix.into_iter())),
        ("Offset", text(&mut padded(origin.map(|v| v * mm), 0.0))),
        ("CenterOfRotation", text(&mut padded([0.0; 3], 0.0))),
        ("ElementSpacing", text(&mut padded(lengths.map(|v| v * mm), 1.0))),
        ("DimSize", text(&mut dims.into_iter())),
        ("ElementType", name.to_owned()),
        ("ElementDataFile", data.to_owned()),
    ];
    Ok(lines.map(|(key, value)| format!("{key} = {value}\n")).concat().into_bytes())
}
