//! The rows of a chunk's voxels, and the error of a voxel that does not fit its volume.

use crate::{Region, Size3, Voxel};

/// The rows of `inside`, the first voxels of a box of extents `chunk`, in C order.
pub(crate) fn rows<T: Voxel>(
    voxels: &[u8],
    chunk: Size3,
    inside: Region,
) -> impl Iterator<Item = &[T]> + Clone {
    let voxels: &[T] = bytemuck::cast_slice(voxels);
    let [nz, ny, nx] = inside.size;
    (0..nz).flat_map(move |z| (0..ny).map(move |y| &voxels[(z * chunk[1] + y) * chunk[2]..][..nx]))
}

/// A voxel that cannot be a label, or cannot be a weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InvalidVoxel {
    /// Its index `(z, y, x)` in the box of voxels.
    pub(super) index: Size3,
    /// Its value, exact.
    pub(super) value: String,
    /// The rule that it breaks.
    pub(super) rule: &'static str,
}

impl InvalidVoxel {
    /// Its index in the array, whose box begins at `start`.
    pub(crate) fn index(&self, start: [i64; 3]) -> [i64; 3] {
        [0, 1, 2].map(|a| start[a] + self.index[a] as i64)
    }

    /// A sentence about the voxel; the box begins at `start`.
    pub(crate) fn message(&self, start: [i64; 3]) -> String {
        format!("voxel (z, y, x) = {:?} is {}: {}", self.index(start), self.value, self.rule)
    }
}
