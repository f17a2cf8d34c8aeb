//! What every kind of accumulation does: prepare a tile, add patches, convert the complete tile.

use std::fmt;

use crate::aggregate::patch::Patch;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::{Region, Size3};

/// Accumulates patches in the bytes of a tile, `(c, z, y, x)` in C order.
pub(in crate::aggregate) trait Accumulator {
    /// Bytes of one voxel of one channel of a tile.
    fn voxel_bytes(&self) -> usize;

    /// Prepares the bytes of a new tile.
    fn clear(&self, _: &mut [u8]) {}

    /// Adds the parts of `patches` that count for the tile over `region`. `added` holds the patches
    /// that were added to this tile before; only means need it.
    fn add<T: PatchValue>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        added: &mut PatchSet,
        tile: &mut [u8],
        scratch: &mut RowScratch,
    );

    /// Converts complete tiles; `None` if a complete tile already holds the result's voxels.
    fn converter(&self) -> Option<&dyn TileConverter>;
}

/// Converts complete tiles to voxels of the result.
pub(in crate::aggregate) trait TileConverter: fmt::Debug {
    /// Writes the voxels of the complete `tile` over `region` into `out`: `(c, z, y, x)` of the
    /// result's dtype over `out_region`, which contains `region`.
    fn convert(
        &self,
        region: &Region,
        tile: &[u8],
        out_region: &Region,
        out: &mut [u8],
        scratch: &mut RowScratch,
    );
}

/// Buffers of one task, used for one row after the other.
#[derive(Default)]
pub(in crate::aggregate) struct RowScratch {
    /// A row of 16-bit floats as `f32`.
    pub(super) widened: Vec<f32>,
    pub(super) weights: Vec<f32>,
    pub(super) sums: Vec<f32>,
    /// Probabilities, channel after channel.
    pub(super) channels: Vec<f32>,
    pub(super) largest: Vec<f32>,
    pub(super) labels: Vec<u32>,
    pub(super) totals: Vec<f64>,
}

/// One row of a tile, and of the box of the result that contains it.
pub(super) struct TileRow {
    /// The row's z and y in the result.
    pub(super) zy: [usize; 2],
    /// First voxel in channel 0 of the tile, and of the box.
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The rows of the tile over `region` inside a box over `out_region`.
pub(super) fn tile_rows(region: &Region, out_region: &Region) -> impl Iterator<Item = TileRow> {
    let ([nz, ny, nx], [_, out_ny, out_nx]) = (region.size, out_region.size);
    let [z0, y0, _] = region.start.map(|v| v as usize);
    let [dz, dy, dx]: Size3 = [0, 1, 2].map(|a| (region.start[a] - out_region.start[a]) as usize);
    (0..nz).flat_map(move |z| (0..ny).map(move |y| [z, y])).map(move |[z, y]| TileRow {
        zy: [z0 + z, y0 + y],
        from: (z * ny + y) * nx,
        to: ((dz + z) * out_ny + dy + y) * out_nx + dx,
    })
}
