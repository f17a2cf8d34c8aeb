//! Unfinished parts of the result: tiles that patches are added to, and the sink's boxes that
//! complete tiles go to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::accumulate::{Accumulator, AccumulatorKind, RowScratch};
use super::buffer::{BufferPool, PooledBuffer};
use super::patch::Patch;
use super::plan::BlendPlan;
use super::tracker::PatchSet;
use super::value::PatchValue;
use crate::{Region, Result};

/// What all tiles and boxes of an aggregator share.
#[derive(Debug)]
pub(super) struct TileContext {
    pub(super) plan: Arc<BlendPlan>,
    pub(super) accumulator: AccumulatorKind,
    pub(super) buffers: Arc<BufferPool>,
}

/// Part of the result that is accumulated under one lock.
#[derive(Debug)]
pub(super) struct Tile {
    /// Patches that are still to be added; 0 from the start if an earlier run has written the tile.
    missing: usize,
    /// What is accumulated; allocated for the first patch, taken after the last.
    accumulated: Option<PooledBuffer>,
    added: PatchSet,
}

impl Tile {
    pub(super) fn new(missing: usize) -> Self {
        Self { missing, accumulated: None, added: PatchSet::default() }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Drops what was accumulated: the tile's voxels came from elsewhere.
    pub(super) fn complete(&mut self) {
        (self.missing, self.accumulated) = (0, None);
    }

    /// Adds patches to the tile over `region`; returns what was accumulated when it is complete.
    pub(super) fn add<T: PatchValue>(
        &mut self,
        context: &TileContext,
        region: &Region,
        patches: &[&Patch<'_, T>],
        scratch: &mut RowScratch,
    ) -> Result<Option<PooledBuffer>> {
        if self.is_complete() {
            return Ok(None);
        }
        let TileContext { plan, accumulator, buffers } = context;
        let accumulated = match &mut self.accumulated {
            Some(accumulated) => accumulated,
            none => {
                let bytes = region.len() * accumulator.tile_voxel_bytes(plan.channel_count());
                let mut new = PooledBuffer::new(bytes, buffers)?;
                accumulator.clear(new.bytes());
                none.insert(new)
            }
        };
        accumulator.add(patches, region, &mut self.added, accumulated.bytes(), scratch);
        self.missing -= patches.len();
        Ok(if self.is_complete() { self.accumulated.take() } else { None })
    }
}

/// A box of the sink whose tiles are completed one by one.
#[derive(Debug)]
pub(super) struct SinkBox {
    /// Voxels of one channel whose tiles are incomplete.
    missing: usize,
    /// By first plane: complete tiles that hold the result's voxels; otherwise one slab of the
    /// whole box, allocated for its first tile, which all tiles are converted into.
    slabs: BTreeMap<i64, PooledBuffer>,
    /// Its tiles that no patch counts for, filled after all others.
    empty: Vec<Region>,
}

impl SinkBox {
    pub(super) fn new(missing: usize, empty: Vec<Region>) -> Self {
        Self { missing, slabs: BTreeMap::new(), empty }
    }

    /// Drops what it has, because the whole box came from elsewhere. Returns whether it was
    /// incomplete.
    pub(super) fn complete(&mut self) -> bool {
        self.slabs.clear();
        self.empty.clear();
        std::mem::take(&mut self.missing) > 0
    }

    /// Whether all that is missing are tiles that no patch counts for, of which there are some.
    pub(super) fn has_only_empty_tiles(&self) -> bool {
        self.missing > 0 && self.missing == self.empty.iter().map(Region::len).sum::<usize>()
    }

    /// Fills the tiles that no patch counts for, and returns the box's slabs.
    pub(super) fn add_empty_tiles(
        &mut self,
        context: &TileContext,
        box_region: &Region,
        scratch: &mut RowScratch,
    ) -> Result<Option<Vec<PooledBuffer>>> {
        let mut slabs = None;
        for region in std::mem::take(&mut self.empty) {
            let TileContext { plan, accumulator, buffers } = context;
            let bytes = region.len() * accumulator.tile_voxel_bytes(plan.channel_count());
            let mut tile = PooledBuffer::new(bytes, buffers)?;
            accumulator.clear(tile.bytes());
            slabs = self.add_tile(context, box_region, &region, tile, scratch)?;
        }
        Ok(slabs)
    }

    /// Takes the complete tile over `region`; returns the box's slabs when it was the last one.
    pub(super) fn add_tile(
        &mut self,
        context: &TileContext,
        box_region: &Region,
        region: &Region,
        mut tile: PooledBuffer,
        scratch: &mut RowScratch,
    ) -> Result<Option<Vec<PooledBuffer>>> {
        let TileContext { plan, accumulator, buffers } = context;
        if let Some(converter) = accumulator.converter() {
            let slab = if let Some(slab) = self.slabs.first_entry() {
                slab.into_mut()
            } else {
                let voxel_bytes = plan.out_channels().unwrap_or(1) * plan.dtype.size();
                let slab = PooledBuffer::new(box_region.len() * voxel_bytes, buffers)?;
                self.slabs.entry(box_region.start[0]).or_insert(slab)
            };
            converter.convert(region, tile.bytes(), box_region, slab.bytes(), scratch);
            fill_outside(plan, region, box_region, slab.bytes());
        } else {
            fill_outside(plan, region, region, tile.bytes());
            self.slabs.insert(region.start[0], tile);
        }
        self.missing -= region.len();
        let is_complete = self.missing == 0;
        Ok(is_complete.then(|| std::mem::take(&mut self.slabs).into_values().collect()))
    }
}

/// Writes the stated value over the voxels of `region` that are not predicted.
pub(super) fn fill_outside(plan: &BlendPlan, region: &Region, out_region: &Region, out: &mut [u8]) {
    if let Some(outside) = &plan.outside {
        let channels = plan.out_channels().unwrap_or(1);
        outside.fill((&plan.axes, &plan.grid), region, (out_region, channels), out);
    }
}
