//! Writes MGH and MGZ.

use std::path::Path;

use voxquarry::{Error, IfExists, Result};

use super::{ACQUISITION, HEADER_BYTES, TYPES};
use crate::formats::export_spec::ExportSpec;
use crate::formats::file_output::{FileOutput, OutputPlan};
use crate::formats::format::VolumeExport;
use crate::formats::voxels::ByteOrder;
use crate::formats::world::{columns_of, length};

/// Begins the file at `out`; names that end in `z` are compressed.
///
/// # Errors
/// [`Error::Unsupported`] for a dtype or extents that MGH does not have, [`Error::Exists`],
/// [`Error::Io`].
pub(super) fn create(
    out: &Path,
    spec: &ExportSpec,
    if_exists: IfExists,
    threads: usize,
) -> Result<Box<dyn VolumeExport>> {
    let is_packed = out.extension().is_some_and(|e| e.eq_ignore_ascii_case("mgz"))
        || out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    let plan = OutputPlan {
        tail: footer(spec),
        order: ByteOrder::Big,
        gzip_threads: is_packed.then_some(threads),
        packs_head: true,
        ..OutputPlan::single(header(spec)?)
    };
    FileOutput::create(out, plan, spec, if_exists)
}

fn header(spec: &ExportSpec) -> Result<Vec<u8>> {
    let code = TYPES.iter().find(|(_, dtype)| *dtype == spec.dtype).map(|(code, _)| *code);
    let remedy = "export it to NIfTI or NRRD, or store it as float32 first";
    let code =
        code.ok_or_else(|| Error::unsupported(format!("MGH cannot hold {}", spec.dtype), remedy))?;
    let [z, y, x] = spec.size;
    let mut words = vec![1];
    for extent in [x, y, z, spec.channels.unwrap_or(1)] {
        let extent = i32::try_from(extent);
        words.push(extent.map_err(|_| Error::unsupported("MGH cannot hold that extent", remedy))?);
    }
    words.extend([code, 0]);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend([0, 1]);
    let mm = spec.unit.unwrap_or_default().millimeters();
    let (columns, origin) = columns_of(&spec.affine, [1.0; 3]);
    let lengths = columns.map(length);
    let mut numbers: Vec<f64> = lengths.iter().map(|step| step * mm).collect();
    for (column, length) in columns.iter().zip(lengths) {
        numbers.extend(column.iter().map(|v| v / length));
    }
    for row in 0..3 {
        let half = |(axis, n): (usize, usize)| columns[axis][row] * n as f64 / 2.0;
        let centre = [x, y, z].into_iter().enumerate().map(half).sum::<f64>() + origin[row];
        numbers.push(centre * mm);
    }
    bytes.extend(numbers.iter().flat_map(|&number| (number as f32).to_be_bytes()));
    bytes.resize(HEADER_BYTES, 0);
    Ok(bytes)
}

/// The numbers of the acquisition, if the volume came from such a file.
fn footer(spec: &ExportSpec) -> Vec<u8> {
    let origin = spec.origin.as_ref().filter(|o| o.get("format").is_some_and(|f| f == "mgh"));
    let number = |name| origin.and_then(|origin| origin.get(name)?.as_f64());
    let numbers = ACQUISITION.map(number);
    if numbers.iter().all(Option::is_none) {
        return Vec::new();
    }
    numbers.iter().flat_map(|number| (number.unwrap_or(0.0) as f32).to_be_bytes()).collect()
}
