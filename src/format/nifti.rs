//! The NIfTI-2 header beside the levels of a volume (§8), as NIfTI-Zarr has it: for other software.
//!
//! # Invariants
//! - Nothing here is authoritative: the header repeats the attributes and the layout.

use super::array::ArrayLayout;
use super::attributes::{Kind, VolumeAttributes};
use crate::{Dtype, LengthUnit};

/// The folder of the array in a volume's.
pub(crate) const FOLDER: &str = "nifti";
/// Bytes of a header, which is also the value of its first field.
pub(crate) const HEADER_BYTES: usize = 540;
const MAGIC: &[u8; 8] = b"n+2\0\r\n\x1a\n";
/// The sform code "aligned", which says nothing about the frame that the positions are in.
const ALIGNED: i32 = 2;
/// The intent code of label maps.
const LABEL: i32 = 1002;

/// A header whose fields are written in little endian.
struct Header([u8; HEADER_BYTES]);

impl Header {
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }

    fn put_all<const N: usize>(&mut self, at: usize, values: impl IntoIterator<Item = [u8; N]>) {
        for (i, bytes) in values.into_iter().enumerate() {
            self.put(at + i * N, bytes);
        }
    }
}

/// The header of a volume; `None` if its data type is one that NIfTI lacks.
///
/// Channels are the fifth axis of NIfTI; the fourth is time.
pub(crate) fn header(volume: &VolumeAttributes, layout: &ArrayLayout) -> Option<Vec<u8>> {
    let datatype = datatype(layout.dtype)?;
    let [z, y, x] = layout.size.map(|n| n as i64);
    let channels = layout.channels.map(|n| n as i64);
    let rank = if channels.is_some() { 5 } else { 3 };
    let [dz, dy, dx] = volume.affine.spacing_mm();
    // The first of `pixdim` is the handedness of a qform, of which there is none.
    let steps = [1.0, dx, dy, dz, 1.0, 1.0, 1.0, 1.0];
    let unit: i32 = match volume.unit.unwrap_or_default() {
        LengthUnit::Meter => 1,
        LengthUnit::Millimeter => 2,
        LengthUnit::Micrometer => 3,
    };
    let mut header = Header([0; HEADER_BYTES]);
    header.put(0, (HEADER_BYTES as i32).to_le_bytes());
    header.put(4, *MAGIC);
    header.put(12, datatype.to_le_bytes());
    header.put(14, (8 * layout.dtype.size() as i16).to_le_bytes());
    let extents = [rank, x, y, z, 1, channels.unwrap_or(1), 1, 1];
    header.put_all(16, extents.map(i64::to_le_bytes));
    header.put_all(104, steps.map(f64::to_le_bytes));
    header.put(176, volume.slope.to_le_bytes());
    header.put(184, volume.intercept.to_le_bytes());
    header.put(348, ALIGNED.to_le_bytes());
    header.put_all(400, volume.affine.0[..3].iter().flatten().map(|v| v.to_le_bytes()));
    header.put(500, unit.to_le_bytes());
    if volume.kind == Kind::Labels {
        header.put(504, LABEL.to_le_bytes());
    }
    Some(header.0.to_vec())
}

/// The code of a data type.
fn datatype(dtype: Dtype) -> Option<i16> {
    Some(match dtype {
        Dtype::UInt8 => 2,
        Dtype::Int16 => 4,
        Dtype::Int32 => 8,
        Dtype::Float32 => 16,
        Dtype::Float64 => 64,
        Dtype::Int8 => 256,
        Dtype::UInt16 => 512,
        Dtype::UInt32 => 768,
        Dtype::Int64 => 1024,
        Dtype::UInt64 => 1280,
        Dtype::Float16 => return None,
    })
}
