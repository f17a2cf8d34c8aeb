//! Sum: each voxel of a tile is a weighted sum in `f64`; the sum of weights divides it at the end.
//!
//! Under a crop a voxel is one patch's value and its sum of weights is 1.

use std::ops::Range;
use std::sync::Arc;

use super::accumulator::{Accumulator, RowScratch, TileConverter, tile_rows};
use super::kernels;
use crate::aggregate::options::Finish;
use crate::aggregate::patch::{Patch, for_each_row};
use crate::aggregate::plan::BlendPlan;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::{Dtype, Region, Voxel, with_voxel};

/// Sums weighted patches in `f64`.
#[derive(Debug)]
pub(in crate::aggregate) struct SumAccumulator {
    plan: Arc<BlendPlan>,
    is_crop: bool,
}

impl SumAccumulator {
    pub(super) fn new(plan: Arc<BlendPlan>) -> Self {
        let is_crop = plan.is_crop();
        Self { plan, is_crop }
    }

    /// Writes the finished voxels of one row.
    fn divide<Out: Voxel>(&self, sums: &[f64], totals: &[f64], out: &mut [Out]) {
        let means = sums.iter().zip(totals).map(|(sum, total)| sum / total);
        let pairs = out.iter_mut().zip(means);
        match self.plan.finish {
            Finish::Threshold(at) => pairs.for_each(|(out, mean)| {
                *out = Out::from_f64_rounded(if mean >= at { 1.0 } else { 0.0 });
            }),
            Finish::Quantize { slope, intercept } => pairs.for_each(|(out, mean)| {
                *out = Out::from_f64_rounded((mean - intercept) / slope);
            }),
            _ => match bytemuck::try_cast_slice_mut::<Out, f32>(out) {
                Ok(out) if Out::DTYPE == Dtype::Float32 => {
                    kernels::divide_f32(self.plan.isa, out, sums, totals);
                }
                _ => {
                    for ((out, sum), total) in out.iter_mut().zip(sums).zip(totals) {
                        *out = Out::from_f64_rounded(sum / total);
                    }
                }
            },
        }
    }

    /// Sums the weights of all patches along part of one row of the result.
    fn total_weights(&self, [z, y]: [usize; 2], x: Range<usize>, totals: &mut Vec<f64>) {
        let ([az, ay, ax], weights) = (&self.plan.axes, &self.plan.weights);
        totals.clear();
        if self.is_crop {
            totals.resize(x.len(), 1.0);
            return;
        }
        if weights.floor == 0.0 && self.plan.skips_nothing() {
            // The sum over a product grid is the product of the axes' sums.
            let outer = az.sums[z] * ay.sums[y];
            totals.extend(ax.sums[x].iter().map(|inner| outer * inner));
            return;
        }
        // A window with a floor is no product, and a grid without some patches is none either: so
        // the few patches over the row are summed.
        totals.resize(x.len(), 0.0);
        let [wz, wy, wx] = &weights.profiles;
        for pz in az.patches_at(z) {
            for py in ay.patches_at(y) {
                let outer = wz[(z as i64 - az.starts[pz]) as usize]
                    * wy[(y as i64 - ay.starts[py]) as usize];
                for px in ax.patches_meeting(&x) {
                    if self.plan.is_skipped([pz, py, px]) {
                        continue;
                    }
                    let used = ax.used[px].start.max(x.start)..ax.used[px].end.min(x.end);
                    let profile = &wx[(used.start as i64 - ax.starts[px]) as usize..];
                    let row = &mut totals[used.start - x.start..used.end - x.start];
                    for (total, inner) in row.iter_mut().zip(profile) {
                        *total += weights.product(outer, *inner);
                    }
                }
            }
        }
    }
}

impl Accumulator for SumAccumulator {
    fn voxel_bytes(&self) -> usize {
        size_of::<f64>()
    }

    fn clear(&self, tile: &mut [u8]) {
        // Every number added to −0.0 stays what it is; +0.0 would turn −0.0 into +0.0.
        if !self.is_crop {
            bytemuck::cast_slice_mut::<u8, f64>(tile).fill(-0.0);
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
        let tile: &mut [f64] = bytemuck::cast_slice_mut(tile);
        let (isa, floor) = (self.plan.isa, self.plan.weights.floor);
        for_each_row(&self.plan, patches, region, |row| {
            let (profile, outer) = (row.profile, row.outer);
            for c in 0..self.plan.channel_count() {
                let (values, sums) = row.channel(c, tile);
                match T::widened(values, &mut scratch.widened) {
                    _ if self.is_crop => kernels::put(sums, values, PatchValue::to_f64),
                    None => kernels::add_f64(isa, sums, values, profile, outer, floor),
                    Some(wide) => kernels::add_f64(isa, sums, wide, profile, outer, floor),
                }
            }
        });
    }

    fn converter(&self) -> Option<&dyn TileConverter> {
        Some(self)
    }
}

impl TileConverter for SumAccumulator {
    fn convert(
        &self,
        region: &Region,
        tile: &[u8],
        out_region: &Region,
        out: &mut [u8],
        scratch: &mut RowScratch,
    ) {
        let sums: &[f64] = bytemuck::cast_slice(tile);
        let nx = region.size[2];
        let x = region.start[2] as usize..region.end(2) as usize;
        with_voxel!(self.plan.dtype, Out => {
            let out: &mut [Out] = bytemuck::cast_slice_mut(out);
            for row in tile_rows(region, out_region) {
                self.total_weights(row.zy, x.clone(), &mut scratch.totals);
                for c in 0..self.plan.channel_count() {
                    let (from, to) = (row.from + c * region.len(), row.to + c * out_region.len());
                    let (sums, out) = (&sums[from..from + nx], &mut out[to..to + nx]);
                    self.divide(sums, &scratch.totals, out);
                }
            }
        });
    }
}
