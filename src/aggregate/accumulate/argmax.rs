//! Argmax: each voxel of a tile is a weighted sum in `f32` for every channel; the largest becomes
//! the label.
//!
//! Division by the sum of weights is left out, for it is the same for all channels. Under a crop a
//! voxel is one patch's value and not a sum.

use std::sync::Arc;

use super::accumulator::{Accumulator, RowScratch, TileConverter, tile_rows};
use super::kernels;
use crate::aggregate::options::Finish;
use crate::aggregate::patch::{Patch, for_each_row};
use crate::aggregate::plan::BlendPlan;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::{Region, Voxel, with_voxel};

/// Sums each channel, or its probability, in `f32`.
#[derive(Debug)]
pub(in crate::aggregate) struct ArgmaxAccumulator {
    plan: Arc<BlendPlan>,
    is_softmax: bool,
    is_crop: bool,
}

impl ArgmaxAccumulator {
    pub(super) fn new(plan: Arc<BlendPlan>) -> Self {
        let (is_softmax, is_crop) = (plan.finish == Finish::SoftmaxArgmax, plan.is_crop());
        Self { plan, is_softmax, is_crop }
    }

    /// Adds a row to sums, or under crop puts it there.
    fn add_row<T: PatchValue>(&self, sums: &mut [f32], values: &[T], weights: &[f32]) {
        if self.is_crop {
            kernels::put(sums, values, PatchValue::to_f32);
        } else {
            kernels::add_f32(self.plan.isa, sums, values, weights);
        }
    }

    /// Writes the label of each voxel of a row that begins at `from` in each channel of
    /// `channel_len` voxels.
    fn label<Out: Voxel>(
        &self,
        sums: &[f32],
        from: usize,
        channel_len: usize,
        scratch: &mut RowScratch,
        out: &mut [Out],
    ) {
        let nx = out.len();
        scratch.largest.clear();
        scratch.largest.extend_from_slice(&sums[from..from + nx]);
        scratch.labels.clear();
        scratch.labels.resize(nx, 0);
        for c in 1..self.plan.channel_count() {
            let (values, label) = (&sums[from + c * channel_len..][..nx], c as u32);
            let RowScratch { largest, labels, .. } = &mut *scratch;
            kernels::update_largest(self.plan.isa, largest, labels, values, label);
        }
        for (out, label) in out.iter_mut().zip(&scratch.labels) {
            *out = Out::from_f64_rounded(f64::from(*label));
        }
    }
}

impl Accumulator for ArgmaxAccumulator {
    fn voxel_bytes(&self) -> usize {
        size_of::<f32>()
    }

    fn clear(&self, tile: &mut [u8]) {
        // Every number added to −0.0 stays what it is; +0.0 would turn −0.0 into +0.0.
        if !self.is_crop {
            bytemuck::cast_slice_mut::<u8, f32>(tile).fill(-0.0);
        }
    }

    fn add<T: PatchValue>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        _: &mut PatchSet,
        tile: &mut [u8],
        scratch: &mut RowScratch,
    ) {
        let tile: &mut [f32] = bytemuck::cast_slice_mut(tile);
        let RowScratch { widened, weights, channels, .. } = scratch;
        for_each_row(&self.plan, patches, region, |row| {
            if !self.is_crop {
                let (isa, floor) = (self.plan.isa, self.plan.weights.floor);
                weights.resize(row.len(), 0.0);
                kernels::row_weights(isa, weights, row.profile, row.outer, floor);
            }
            if self.is_softmax {
                softmax(row.values, row.patch_channel, row.from, row.len(), channels);
            }
            for c in 0..self.plan.channel_count() {
                let (values, sums) = row.channel(c, tile);
                if self.is_softmax {
                    self.add_row(sums, &channels[c * row.len()..][..row.len()], weights);
                    continue;
                }
                match T::widened(values, widened) {
                    None => self.add_row(sums, values, weights),
                    Some(wide) => self.add_row(sums, wide, weights),
                }
            }
        });
    }

    fn converter(&self) -> Option<&dyn TileConverter> {
        Some(self)
    }
}

impl TileConverter for ArgmaxAccumulator {
    fn convert(
        &self,
        region: &Region,
        tile: &[u8],
        out_region: &Region,
        out: &mut [u8],
        scratch: &mut RowScratch,
    ) {
        let sums: &[f32] = bytemuck::cast_slice(tile);
        with_voxel!(self.plan.dtype, Out => {
            let out: &mut [Out] = bytemuck::cast_slice_mut(out);
            for row in tile_rows(region, out_region) {
                let out = &mut out[row.to..row.to + region.size[2]];
                self.label(sums, row.from, region.len(), scratch, out);
            }
        });
    }
}

/// Softmax over the channels of one row of a patch: `exp(v − max) / Σ exp(v − max)`, into `out`,
/// channel after channel. Infinite values have the limit; NaN makes all channels NaN.
pub(super) fn softmax<T: PatchValue>(
    values: &[T],
    channel_len: usize,
    from: usize,
    nx: usize,
    out: &mut Vec<f32>,
) {
    out.clear();
    for row in values.chunks_exact(channel_len) {
        out.extend(row[from..from + nx].iter().map(|value| value.to_f32()));
    }
    let out = &mut out[..];
    for x in 0..nx {
        let at = (x..out.len()).step_by(nx);
        let largest = at.clone().fold(f32::NEG_INFINITY, |max, i| max.max(out[i]));
        let mut sum = 0.0;
        for i in at.clone() {
            // Channels that are infinite alike share what there is; their difference would be NaN.
            let shifted = if out[i] == largest { 0.0 } else { out[i] - largest };
            out[i] = shifted.exp();
            sum += out[i];
        }
        at.for_each(|i| out[i] /= sum);
    }
}
