//! Crop: each voxel of a tile is a copy of one patch's voxel, in the result's dtype.

use std::sync::Arc;

use super::accumulator::{Accumulator, RowScratch, TileConverter};
use super::kernels;
use crate::aggregate::patch::{Patch, for_each_row};
use crate::aggregate::plan::BlendPlan;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::{Region, with_voxel};

/// Copies the one patch that counts for each voxel.
#[derive(Debug)]
pub(in crate::aggregate) struct CropAccumulator {
    plan: Arc<BlendPlan>,
}

impl CropAccumulator {
    pub(super) fn new(plan: Arc<BlendPlan>) -> Self {
        Self { plan }
    }
}

impl Accumulator for CropAccumulator {
    fn voxel_bytes(&self) -> usize {
        self.plan.dtype.size()
    }

    fn add<T: PatchValue>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        _: &mut PatchSet,
        tile: &mut [u8],
        _: &mut RowScratch,
    ) {
        with_voxel!(self.plan.dtype, Out => {
            let tile: &mut [Out] = bytemuck::cast_slice_mut(tile);
            for_each_row(&self.plan, patches, region, |row| {
                for c in 0..self.plan.channel_count() {
                    let (values, voxels) = row.channel(c, tile);
                    kernels::assign(values, voxels);
                }
            });
        });
    }

    fn converter(&self) -> Option<&dyn TileConverter> {
        None
    }
}
