//! What the caller states about sources, in place of what they say or leave out.

use voxquarry::{Affine, Dtype, Error, LengthUnit, Result, Size3};

use super::voxels::{ByteOrder, MAX_VOXELS};

/// The note about a source without geometry.
pub(super) const NO_SPACING: &str =
    "it states no spacing: 1 mm is assumed (state a voxel size or an affine if it is another)";

/// What the caller states about sources, in place of what they say or leave out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stated {
    /// The affine, from voxel `(x, y, z)` to RAS+ millimetres. That of the source may be invalid
    /// then.
    pub affine: Option<Affine>,
    /// What the files are whose names say nothing: voxels and nothing else.
    pub raw: Option<RawVoxels>,
}

impl Stated {
    /// The affine of a volume, and the unit that its source speaks of: the affine that is stated,
    /// else the one that was `found`, else voxels of 1 mm, which a note tells.
    pub(super) fn geometry(
        &self,
        found: Option<(Affine, LengthUnit)>,
        notes: &mut Vec<String>,
    ) -> (Affine, Option<LengthUnit>) {
        let own = found.map(|(affine, _)| affine);
        let affine = self.affine.or(own).unwrap_or_else(|| {
            notes.push(NO_SPACING.to_owned());
            Affine::IDENTITY
        });
        (affine, found.map(|(_, unit)| unit))
    }
}

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

    /// Bytes of all voxels; `None` if they are more than any file holds.
    pub(super) fn bytes(&self) -> Option<u64> {
        let extents = self.size.into_iter().chain(self.channels);
        let mut extents = extents.map(|n| n as u64);
        let voxels = extents.try_fold(1u64, u64::checked_mul).filter(|&n| n <= MAX_VOXELS);
        voxels.map(|n| n * self.dtype.size() as u64)
    }
}
