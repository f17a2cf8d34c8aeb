//! Reads files of voxels and nothing else, whose shape the caller states.
//!
//! Not here: headers of any kind.

use std::path::Path;

use serde_json::json;
use voxquarry::{Affine, Dtype, Error, Result, Size3};

use super::byte_input::ByteInput;
use super::file_chain::FileChain;
use super::raster::{ByteOrder, OpenedRaster, RasterLayout, no_footer};
use super::{MAX_VOXELS, NO_SPACING, OpenedVolume};
use crate::source::SourceVolume;

/// Endings that are no part of a subject's name.
pub(super) const ENDINGS: [&str; 3] = [".raw", ".bin", ".dat"];

/// A volume in bytes, in C order.
///
/// ```
/// use voxquarry::Dtype;
/// use voxquarry_ingest::{IngestOptions, RawVoxels};
///
/// let voxels = RawVoxels::new([20, 64, 64], Dtype::UInt16);
/// let options = IngestOptions::default().raw(voxels);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawVoxels {
    /// Extents in `(z, y, x)`.
    pub size: Size3,
    /// Channels, which are slowest; `None` without that axis.
    pub channels: Option<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Bytes before the first voxel.
    pub offset: u64,
    /// Byte order of an element.
    pub order: ByteOrder,
}

impl RawVoxels {
    /// Voxels of one channel from the first byte on, little endian.
    pub fn new(size: Size3, dtype: Dtype) -> Self {
        Self { size, channels: None, dtype, offset: 0, order: ByteOrder::Little }
    }

    /// Extents `(z, y, x)` or `(c, z, y, x)`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another number of extents, or an extent of 0.
    pub fn of_shape(shape: &[usize], dtype: Dtype) -> Result<Self> {
        let (channels, size) = match *shape {
            [z, y, x] => (None, [z, y, x]),
            [c, z, y, x] => (Some(c), [z, y, x]),
            _ => (Some(0), [0; 3]),
        };
        if size.contains(&0) || channels == Some(0) {
            let expected = "z, y, x or c, z, y, x, each at least 1";
            return Err(Error::invalid("raw shape", format!("{shape:?}"), expected));
        }
        Ok(Self { channels, ..Self::new(size, dtype) })
    }

    fn bytes(&self) -> Option<u64> {
        let extents = self.size.into_iter().chain(self.channels);
        let mut extents = extents.map(|n| n as u64);
        let voxels = extents.try_fold(1u64, u64::checked_mul).filter(|&n| n <= MAX_VOXELS);
        voxels.map(|n| n * self.dtype.size() as u64)
    }
}

pub(super) fn open(
    path: &Path,
    voxels: &RawVoxels,
    stated: Option<Affine>,
) -> Result<Box<dyn OpenedVolume>> {
    let &RawVoxels { size, channels, dtype, offset, order } = voxels;
    let mut input = ByteInput::open_plain(path)?;
    let bytes = voxels.bytes().filter(|_| !size.contains(&0));
    let expected = bytes.and_then(|bytes| offset.checked_add(bytes));
    if expected != Some(input.file_bytes()) {
        let needed = expected.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        let message = format!(
            "the file has {} bytes, and the stated shape, dtype and offset need {needed}: state \
             those of the file",
            input.file_bytes()
        );
        return Err(Error::data(path, message));
    }
    input.skip_to(offset)?;
    let big = order == ByteOrder::Big;
    let origin = [
        ("format", json!("raw")),
        ("shape", json!(channels.into_iter().chain(size).collect::<Vec<_>>())),
        ("dtype", json!(dtype.name())),
        ("offset", json!(offset)),
        ("byte_order", json!(if big { "big" } else { "little" })),
    ];
    let volume = SourceVolume {
        size,
        channels,
        interleaved: 1,
        dtype,
        affine: stated.unwrap_or(Affine::IDENTITY),
        unit: None,
        slope: 1.0,
        intercept: 0.0,
        origin: origin.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    };
    let notes = if stated.is_none() { vec![NO_SPACING.to_owned()] } else { Vec::new() };
    Ok(Box::new(OpenedRaster {
        layout: RasterLayout::planes(size, dtype, order),
        bytes: Box::new(FileChain::continuing(path, input, bytes.unwrap_or(0))),
        volume,
        notes,
        label_names: Vec::new(),
        footer: no_footer,
    }))
}
