//! Writes an array `(z, y, x)` or `(c, z, y, x)` to a `.npy`. Affine and unit are not in it.

use std::path::Path;

use voxquarry::{Dtype, IfExists, Result};

use crate::formats::export_spec::ExportSpec;
use crate::formats::file_output::{FileOutput, OutputPlan};
use crate::formats::format::VolumeExport;

/// numpy maps files whose voxels begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// Begins the file at `out`.
///
/// # Errors
/// [`voxquarry::Error::Exists`], [`voxquarry::Error::Io`].
pub(super) fn create(
    out: &Path,
    spec: &ExportSpec,
    if_exists: IfExists,
) -> Result<Box<dyn VolumeExport>> {
    FileOutput::create(out, OutputPlan::single(header(spec)), spec, if_exists)
}

fn header(spec: &ExportSpec) -> Vec<u8> {
    let letter = match spec.dtype {
        Dtype::UInt8 | Dtype::UInt16 | Dtype::UInt32 | Dtype::UInt64 => 'u',
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => 'i',
        Dtype::Float16 | Dtype::Float32 | Dtype::Float64 => 'f',
    };
    let width = spec.dtype.size();
    let order = if width == 1 { '|' } else { '<' };
    let shape = spec.channels.into_iter().chain(spec.size).map(|n| n.to_string());
    let shape = shape.collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "{{'descr': '{order}{letter}{width}', 'fortran_order': False, 'shape': ({shape}), }}"
    );
    let before = super::header::MAGIC.len() + 4;
    let blanks = (before + text.len() + 1).next_multiple_of(ALIGNMENT) - before - text.len() - 1;
    text.extend(std::iter::repeat_n(' ', blanks).chain(['\n']));
    let length = (text.len() as u16).to_le_bytes();
    [super::header::MAGIC, &[1, 0], &length, text.as_bytes()].concat()
}
