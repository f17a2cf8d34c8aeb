//! Writes NRRD: `.nrrd`, or `.nhdr` beside `.raw.gz`, compressed by gzip.
//!
//! Channels are the slowest axis. The space is left, posterior, superior, as 3D Slicer writes it.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use voxquarry::{Dtype, Error, IfExists, LengthUnit, Result};

use crate::files::file_name;
use crate::formats::export_spec::ExportSpec;
use crate::formats::file_output::{FileOutput, OutputPlan};
use crate::formats::format::VolumeExport;
use crate::formats::world::{FROM_LPS, columns_of};

/// Begins the file at `out`.
///
/// # Errors
/// [`Error::Unsupported`] for a dtype that it does not have, [`Error::Exists`], [`Error::Io`].
pub(super) fn create(
    out: &Path,
    spec: &ExportSpec,
    if_exists: IfExists,
    threads: usize,
) -> Result<Box<dyn VolumeExport>> {
    let gzip_threads = Some(threads);
    if !out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("nhdr")) {
        let plan = OutputPlan { gzip_threads, ..OutputPlan::single(header(spec, None)?) };
        return FileOutput::create(out, plan, spec, if_exists);
    }
    let voxels = out.with_extension("raw.gz");
    let header = header(spec, Some(&file_name(&voxels)))?;
    let header = Some((out.to_owned(), header));
    let plan = OutputPlan { header, gzip_threads, ..OutputPlan::single(Vec::new()) };
    FileOutput::create(&voxels, plan, spec, if_exists)
}

fn header(spec: &ExportSpec, data: Option<&str>) -> Result<Vec<u8>> {
    let name = match spec.dtype {
        Dtype::Float16 => {
            let remedy = "convert the volume to float32 first";
            return Err(Error::unsupported("NRRD cannot hold float16", remedy));
        }
        Dtype::Float32 => "float",
        Dtype::Float64 => "double",
        integer => integer.name(),
    };
    let [z, y, x] = spec.size;
    let sizes = [x, y, z].into_iter().chain(spec.channels).map(|n| n.to_string());
    let (columns, origin) = columns_of(&spec.affine, FROM_LPS);
    let mut directions = columns.map(vector).join(" ");
    let mut kinds = "domain domain domain".to_owned();
    if spec.channels.is_some() {
        directions.push_str(" none");
        kinds.push_str(" list");
    }
    let mut lines = vec![
        ("type", name.to_owned()),
        ("dimension", (3 + spec.channels.iter().len()).to_string()),
        ("space", "left-posterior-superior".to_owned()),
        ("sizes", sizes.collect::<Vec<_>>().join(" ")),
        ("space directions", directions),
        ("kinds", kinds),
        ("endian", "little".to_owned()),
        ("encoding", "gzip".to_owned()),
        ("space origin", vector(origin)),
    ];
    if let Some(unit) = spec.unit {
        let symbol = if unit == LengthUnit::Micrometer { "um" } else { unit.symbol() };
        lines.push(("space units", [symbol; 3].map(|symbol| format!("\"{symbol}\"")).join(" ")));
    }
    let origin = spec.origin.as_ref().filter(|o| o.get("format").is_some_and(|f| f == "nrrd"));
    let frame = origin.and_then(|origin| frame_of(origin.get("measurement_frame")?));
    lines.extend(frame.map(|frame| ("measurement frame", frame.map(vector).join(" "))));
    // The data file comes last, as pynrrd writes it.
    lines.extend(data.map(|name| ("data file", name.to_owned())));
    let mut text = "NRRD0005\n# written by voxquarry\n".to_owned();
    for (field, value) in lines {
        writeln!(text, "{field}: {value}").expect("a string takes everything");
    }
    let pairs = origin.and_then(|origin| origin.get("key_values")?.as_object());
    for (key, value) in pairs.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        writeln!(text, "{key}:={value}").expect("a string takes everything");
    }
    text.push('\n');
    Ok(text.into_bytes())
}

fn vector(numbers: [f64; 3]) -> String {
    format!("({},{},{})", numbers[0], numbers[1], numbers[2])
}

/// The measurement frame, turned from RAS+.
fn frame_of(value: &Value) -> Option<[[f64; 3]; 3]> {
    let mut frame: [[f64; 3]; 3] = serde_json::from_value(value.clone()).ok()?;
    for vector in &mut frame {
        for (number, sign) in vector.iter_mut().zip(FROM_LPS) {
            *number = *number * sign + 0.0;
        }
    }
    Some(frame)
}
