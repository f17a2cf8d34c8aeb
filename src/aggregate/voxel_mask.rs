//! A mask: a set of voxels, one bit each.

use crate::format::grid::iter_box;
use crate::memory::zeroed;
use crate::{Error, Region, Result, Size3};

/// Voxels `(z, y, x)` of a volume, one bit each.
///
/// ```
/// use voxquarry::VoxelMask;
///
/// let mask = VoxelMask::new([1, 2, 2], &[0, 0, 7, 0])?;
/// assert_eq!(mask.size(), [1, 2, 2]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoxelMask {
    pub(super) size: Size3,
    bits: Vec<u64>,
}

impl VoxelMask {
    /// The voxels of a volume of `size` that are not 0, in C order.
    ///
    /// # Errors
    /// [`Error::BufferLength`], [`Error::OutOfMemory`].
    pub fn new(size: Size3, voxels: &[u8]) -> Result<Self> {
        let expected = size.iter().product();
        if voxels.len() != expected {
            return Err(Error::BufferLength { found: voxels.len(), expected });
        }
        let what = || format!("a mask of {expected} voxels");
        let mut bits = zeroed::<u64>(expected.div_ceil(64), what)?;
        for (word, voxels) in bits.iter_mut().zip(voxels.chunks(64)) {
            let bit = |(i, &voxel): (usize, &u8)| u64::from(voxel != 0) << i;
            *word = voxels.iter().enumerate().map(bit).sum();
        }
        Ok(Self { size, bits })
    }

    /// Extents of the volume, `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.size
    }

    pub(super) fn has(&self, [z, y, x]: Size3) -> bool {
        let [_, ny, nx] = self.size;
        let i = (z * ny + y) * nx + x;
        self.bits[i / 64] >> (i % 64) & 1 == 1
    }

    /// Whether it has any voxel in a region.
    pub(super) fn meets(&self, region: &Region) -> bool {
        let inside = region.clip(self.size);
        let range = |a: usize| inside.start[a] as usize..inside.end(a) as usize;
        !inside.is_empty() && iter_box([range(0), range(1), range(2)]).any(|at| self.has(at))
    }

    /// 64 bits that depend on every voxel (FNV-1a).
    pub(super) fn digest(&self) -> u64 {
        let step = |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0x100_0000_01b3);
        self.bits.iter().fold(0xcbf2_9ce4_8422_2325, step)
    }
}
