//! Extreme: each voxel of a tile is the largest or the smallest value of all patches, in `f64`.
//!
//! NaN counts as more extreme than any number, so that it stays visible.

use std::sync::Arc;

use super::accumulator::{Accumulator, RowScratch, TileConverter, tile_rows};
use super::argmax::softmax;
use crate::aggregate::options::Finish;
use crate::aggregate::patch::{Patch, for_each_row};
use crate::aggregate::plan::BlendPlan;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::{Region, Voxel, with_voxel};

/// Keeps the largest or the smallest value.
#[derive(Debug)]
pub(in crate::aggregate) struct ExtremeAccumulator {
    plan: Arc<BlendPlan>,
    is_largest: bool,
}

impl ExtremeAccumulator {
    pub(super) fn new(plan: Arc<BlendPlan>, is_largest: bool) -> Self {
        Self { plan, is_largest }
    }

    fn exceeds(&self, new: f64, old: f64) -> bool {
        let is_beyond = if self.is_largest { new > old } else { new < old };
        is_beyond || (new.is_nan() && !old.is_nan())
    }

    fn update(&self, extremes: &mut [f64], values: impl Iterator<Item = f64>) {
        for (extreme, value) in extremes.iter_mut().zip(values) {
            if self.exceeds(value, *extreme) {
                *extreme = value;
            }
        }
    }

    /// The finished voxels of one row of a channel.
    fn finish<Out: Voxel>(&self, extremes: &[f64], out: &mut [Out]) {
        for (out, &value) in out.iter_mut().zip(extremes) {
            *out = Out::from_f64_rounded(match self.plan.finish {
                Finish::Threshold(at) => f64::from(u8::from(value >= at)),
                Finish::Quantize { slope, intercept } => (value - intercept) / slope,
                _ => value,
            });
        }
    }

    /// The label of each voxel of a row: the channel with the largest value.
    fn label<Out: Voxel>(&self, tile: &[f64], from: usize, channel_len: usize, out: &mut [Out]) {
        for (x, out) in out.iter_mut().enumerate() {
            let value = |c: usize| tile[from + x + c * channel_len];
            let mut label = 0;
            for c in 1..self.plan.channel_count() {
                let (new, old) = (value(c), value(label));
                if new > old || (new.is_nan() && !old.is_nan()) {
                    label = c;
                }
            }
            *out = Out::from_f64_rounded(label as f64);
        }
    }
}

impl Accumulator for ExtremeAccumulator {
    fn voxel_bytes(&self) -> usize {
        size_of::<f64>()
    }

    fn clear(&self, tile: &mut [u8]) {
        let least = if self.is_largest { f64::NEG_INFINITY } else { f64::INFINITY };
        bytemuck::cast_slice_mut::<u8, f64>(tile).fill(least);
    }

    fn add<T: PatchValue>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        _: &mut PatchSet,
        tile: &mut [u8],
        scratch: &mut RowScratch,
    ) {
        let tile: &mut [f64] = bytemuck::cast_slice_mut(tile);
        let is_softmax = self.plan.finish == Finish::SoftmaxArgmax;
        for_each_row(&self.plan, patches, region, |row| {
            if is_softmax {
                let channels = &mut scratch.channels;
                softmax(row.values, row.patch_channel, row.from, row.len(), channels);
            }
            for c in 0..self.plan.channel_count() {
                let (values, extremes) = row.channel(c, tile);
                if is_softmax {
                    let values = &scratch.channels[c * row.len()..][..row.len()];
                    self.update(extremes, values.iter().map(|&v| f64::from(v)));
                } else {
                    self.update(extremes, values.iter().map(|v| v.to_f64()));
                }
            }
        });
    }

    fn converter(&self) -> Option<&dyn TileConverter> {
        Some(self)
    }
}

impl TileConverter for ExtremeAccumulator {
    fn convert(
        &self,
        region: &Region,
        tile: &[u8],
        out_region: &Region,
        out: &mut [u8],
        _: &mut RowScratch,
    ) {
        let (tile, nx): (&[f64], _) = (bytemuck::cast_slice(tile), region.size[2]);
        with_voxel!(self.plan.dtype, Out => {
            let out: &mut [Out] = bytemuck::cast_slice_mut(out);
            for row in tile_rows(region, out_region) {
                if self.plan.finish.is_argmax() {
                    self.label(tile, row.from, region.len(), &mut out[row.to..row.to + nx]);
                    continue;
                }
                for c in 0..self.plan.channel_count() {
                    let (from, to) = (row.from + c * region.len(), row.to + c * out_region.len());
                    self.finish(&tile[from..from + nx], &mut out[to..to + nx]);
                }
            }
        });
    }
}
