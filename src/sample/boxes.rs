//! Boxes of voxels: a random voxel of one, the part of one in a chunk, and values added to one.

use ndarray::Array3;

use super::random::RandomStream;
use crate::format::array::ArrayLayout;
use crate::format::grid::iter_box;
use crate::{Region, Size3};

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

/// Adds `values`, in C order, to the voxels of a box.
pub(super) fn add_values(
    map: &mut Array3<f64>,
    region: &Region,
    values: impl IntoIterator<Item = f64>,
) {
    let [z, y, x] = [0, 1, 2].map(|a| region.start[a] as usize..region.end(a) as usize);
    for (at, value) in iter_box([z, y, x]).zip(values) {
        map[at] += value;
    }
}

/// Adds `total`, spread evenly over the voxels of a box.
pub(super) fn add_evenly(map: &mut Array3<f64>, region: &Region, total: f64) {
    add_values(map, region, std::iter::repeat(total / region.len() as f64));
}
