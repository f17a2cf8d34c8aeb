//! Which rows of a patch count for a tile, and where they lie in both.

use std::ops::Range;

use bytemuck::Pod;

use super::plan::BlendPlan;
use super::value::PatchValue;
use crate::sys::prefetch::prefetch;
use crate::{Region, Size3};

/// How many rows ahead patches and tiles are prefetched: both lie in distant memory.
pub(super) const ROWS_AHEAD: usize = 2;

/// One patch: its elements, `(c, z, y, x)` in C order, and its index in the grid.
pub(super) struct Patch<'a, T> {
    pub(super) values: &'a [T],
    /// Index of its start among the starts of each axis.
    pub(super) index: Size3,
}

/// The part of a patch that counts for a tile.
pub(super) struct PatchPart<'a, T> {
    pub(super) values: &'a [T],
    pub(super) index: Size3,
    /// First voxel of the patch, which may lie outside the volume.
    starts: [i64; 3],
    patch_size: Size3,
    /// Voxels of the result.
    pub(super) z: Range<usize>,
    pub(super) y: Range<usize>,
    pub(super) x: Range<usize>,
    /// The window's weights along `x`.
    profile: &'a [f64],
}

/// One row of a part, in every channel.
pub(super) struct PatchRow<'a, T> {
    pub(super) values: &'a [T],
    /// First element of the row in channel 0 of the patch.
    pub(super) from: usize,
    /// First voxel of the row in channel 0 of the tile.
    to: usize,
    /// The window's weights along the row.
    pub(super) profile: &'a [f64],
    /// The window's weight of the row's z and y.
    pub(super) outer: f64,
    /// Elements from one channel to the next, in the patch and in the tile.
    pub(super) patch_channel: usize,
    tile_channel: usize,
    /// Elements to the row that is prefetched, in the patch and in the tile.
    patch_ahead: usize,
    tile_ahead: usize,
}

impl<'a, T: PatchValue> PatchPart<'a, T> {
    pub(super) fn new(plan: &'a BlendPlan, patch: &Patch<'a, T>, tile: &Region) -> Self {
        let starts = [0, 1, 2].map(|a| plan.axes[a].starts[patch.index[a]]);
        let [z, y, x] = [0, 1, 2].map(|a| {
            let used = &plan.axes[a].used[patch.index[a]];
            used.start.max(tile.start[a] as usize)..used.end.min(tile.end(a) as usize)
        });
        let inside = |i: usize| (i as i64 - starts[2]) as usize;
        let profile = &plan.weights.profiles[2][inside(x.start)..inside(x.end)];
        let (values, index) = (patch.values, patch.index);
        Self { values, index, starts, patch_size: plan.target.patch_size(), z, y, x, profile }
    }

    /// Where on each axis of the patch a voxel of the result lies.
    fn inside(&self, voxel: Size3) -> Size3 {
        [0, 1, 2].map(|a| (voxel[a] as i64 - self.starts[a]) as usize)
    }

    /// The element of channel 0 for a voxel of the result.
    pub(super) fn offset(&self, voxel: Size3) -> usize {
        let ([z, y, x], [_, ny, nx]) = (self.inside(voxel), self.patch_size);
        (z * ny + y) * nx + x
    }

    /// The row at `(z, y)` of the result, which begins at `to` in channel 0 of `tile`.
    fn row(
        &self,
        plan: &BlendPlan,
        [z, y]: [usize; 2],
        tile: &Region,
        to: usize,
    ) -> PatchRow<'a, T> {
        let voxel = [z, y, self.x.start];
        let ([lz, ly, _], [wz, wy, _]) = (self.inside(voxel), &plan.weights.profiles);
        PatchRow {
            values: self.values,
            from: self.offset(voxel),
            to,
            profile: self.profile,
            outer: wz[lz] * wy[ly],
            patch_channel: self.values.len() / plan.channel_count(),
            tile_channel: tile.len(),
            patch_ahead: ROWS_AHEAD * self.patch_size[2],
            tile_ahead: ROWS_AHEAD * tile.size[2],
        }
    }
}

impl<'a, T: PatchValue> PatchRow<'a, T> {
    /// Voxels of the row in one channel.
    pub(super) fn len(&self) -> usize {
        self.profile.len()
    }

    /// The row in one plane of the tile, of which a channel may have several.
    pub(super) fn plane<'t, V: Pod>(&self, plane: usize, tile: &'t mut [V]) -> &'t mut [V] {
        &mut tile[self.to + plane * self.tile_channel..][..self.len()]
    }

    /// The row's elements in channel `c` and the voxels of the tile that they belong to; asks for
    /// the memory of both a few rows ahead.
    #[inline]
    pub(super) fn channel<'t, V: Pod>(
        &self,
        c: usize,
        tile: &'t mut [V],
    ) -> (&'a [T], &'t mut [V]) {
        let n = self.len();
        let (from, to) = (self.from + c * self.patch_channel, self.to + c * self.tile_channel);
        let (patch_ahead, tile_ahead) = (from + self.patch_ahead, to + self.tile_ahead);
        let values = self.values.get(patch_ahead..patch_ahead + n).unwrap_or_default();
        prefetch(bytemuck::cast_slice(values));
        let voxels = tile.get(tile_ahead..tile_ahead + n).unwrap_or_default();
        prefetch(bytemuck::cast_slice(voxels));
        (&self.values[from..from + n], &mut tile[to..to + n])
    }
}

/// Visits the rows of the parts of `patches` that count for `tile`, in the order of the tile's
/// rows, so that each row of the tile is brought into the cache once for all patches.
#[inline]
pub(super) fn for_each_row<'a, T: PatchValue>(
    plan: &'a BlendPlan,
    patches: &[&Patch<'a, T>],
    tile: &Region,
    mut visit: impl FnMut(&PatchRow<'a, T>),
) {
    let parts: Vec<PatchPart<'_, T>> =
        patches.iter().map(|patch| PatchPart::new(plan, patch, tile)).collect();
    let [nz, ny, nx] = tile.size;
    let [z0, y0, x0] = tile.start.map(|v| v as usize);
    for z in 0..nz {
        for y in 0..ny {
            let row = (z * ny + y) * nx;
            for part in &parts {
                if part.z.contains(&(z0 + z)) && part.y.contains(&(y0 + y)) {
                    visit(&part.row(plan, [z0 + z, y0 + y], tile, row + part.x.start - x0));
                }
            }
        }
    }
}
