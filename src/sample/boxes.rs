//! Boxes of voxels: a random voxel of one, the part of one in a chunk, and probabilities added to
//! the voxels of one.

use super::random::RandomStream;
use crate::format::array::ArrayLayout;
use crate::format::grid::iter_box;
use crate::{Error, Region, Result, Size3};

/// A uniformly random voxel of a box: one draw for each axis, in the order z, y, x.
pub(super) fn random_voxel(region: &Region, random: &mut RandomStream) -> [i64; 3] {
    [0, 1, 2].map(|a| region.start[a] + random.below(region.size[a] as u64) as i64)
}

/// The voxels of `region` in the chunk at index `at` of the chunk grid.
pub(super) fn in_chunk(region: &Region, layout: &ArrayLayout, at: Size3) -> Region {
    let chunk = layout.chunk_region(at);
    let start = [0, 1, 2].map(|a| chunk.start[a].max(region.start[a]));
    let end = [0, 1, 2].map(|a| chunk.end(a).min(region.end(a)));
    Region::new(start, [0, 1, 2].map(|a| (end[a] - start[a]).max(0) as usize))
}

/// The probability of each voxel of a volume, in C order.
pub(super) struct ProbabilityMap<'a> {
    size: Size3,
    voxels: &'a mut [f64],
}

impl<'a> ProbabilityMap<'a> {
    /// A map of zeros in `voxels`, for a volume of `size`.
    ///
    /// # Errors
    /// [`Error::BufferLength`] if `voxels` has another length.
    pub(super) fn new(size: Size3, voxels: &'a mut [f64]) -> Result<Self> {
        let expected = size.iter().product();
        if voxels.len() != expected {
            return Err(Error::BufferLength { found: voxels.len(), expected });
        }
        voxels.fill(0.0);
        Ok(Self { size, voxels })
    }

    /// Adds `values`, in C order, to the voxels of a box.
    pub(super) fn add(&mut self, region: &Region, values: impl IntoIterator<Item = f64>) {
        let ([_, ny, nx], voxels) = (self.size, &mut *self.voxels);
        let [z, y, x] = [0, 1, 2].map(|a| region.start[a] as usize..region.end(a) as usize);
        for ([z, y, x], value) in iter_box([z, y, x]).zip(values) {
            voxels[(z * ny + y) * nx + x] += value;
        }
    }

    /// Adds `total`, spread evenly over the voxels of a box.
    pub(super) fn add_evenly(&mut self, region: &Region, total: f64) {
        self.add(region, std::iter::repeat(total / region.len() as f64));
    }
}
