//! Mean: each voxel of a tile is the weighted mean of the patches that were added so far, in `f32`.
//!
//! `mean ← mean − (mean − value) · w / (W + w)`, where `w` is the patch's weight and `W` the weight
//! of earlier patches. Against sums in `f64` this halves the memory traffic, which bounds the speed
//! of blending, and nothing is left to divide. Where all values are equal, the mean equals them.
//!
//! # Invariants
//! - A mean is read only where an earlier patch has written one: new tiles need no clearing.

use std::ops::Range;
use std::sync::Arc;

use super::accumulator::{Accumulator, RowScratch, TileConverter, tile_rows};
use super::kernels;
use crate::aggregate::patch::{Patch, PatchPart, ROWS_AHEAD};
use crate::aggregate::plan::BlendPlan;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::format::grid::iter_box;
use crate::sys::isa::Isa;
use crate::sys::prefetch::prefetch;
use crate::{Dtype, Region, Size3, f16};

/// Keeps the weighted mean in `f32`.
#[derive(Debug)]
pub(in crate::aggregate) struct MeanAccumulator {
    plan: Arc<BlendPlan>,
}

/// Numbers the patches that count for a tile, by their indices on each axis.
struct TilePatches([Range<usize>; 3]);

impl TilePatches {
    fn new(plan: &BlendPlan, region: &Region) -> Self {
        let voxels = [0, 1, 2].map(|a| region.start[a] as usize..region.end(a) as usize);
        Self(plan.patches_meeting(&voxels))
    }

    fn number(&self, index: Size3) -> usize {
        let [z, y, x] = [0, 1, 2].map(|a| index[a] - self.0[a].start);
        (z * self.0[1].len() + y) * self.0[2].len() + x
    }
}

/// Weights in a box of voxels for which the same patches count on z and y, as multiples of the new
/// patch's weight on z and y.
struct BoxWeights {
    /// The new patch's, along x.
    own: Vec<f32>,
    /// Summed over the new patch and earlier ones of the same z and y, along x.
    same_column: Vec<f32>,
    /// Those of earlier patches of other z and y.
    other_columns: Vec<ColumnWeights>,
}

/// Weights of columns of patches, each of one z and y, whose patches have the same x.
struct ColumnWeights {
    /// Summed over the patches of one column, along x.
    sums: Vec<f32>,
    /// For each column its weights divided by the new patch's, along z and along y.
    quotients: Vec<[Vec<f64>; 2]>,
}

impl ColumnWeights {
    /// The sum of quotients in a row of the box.
    fn quotient(&self, z: usize, y: usize) -> f32 {
        self.quotients.iter().map(|[along_z, along_y]| along_z[z] * along_y[y]).sum::<f64>() as f32
    }
}

impl MeanAccumulator {
    pub(super) fn new(plan: Arc<BlendPlan>) -> Self {
        Self { plan }
    }

    /// Adds one part, box by box; the same `earlier` patches count for all voxels of a box on z and
    /// y.
    fn add_part<T: PatchValue>(
        &self,
        part: &PatchPart<'_, T>,
        earlier: &[Size3],
        region: &Region,
        means: &mut [f32],
        scratch: &mut RowScratch,
    ) {
        let covers = |axis: usize, patch: Size3, voxel: usize| {
            self.plan.axes[axis].used[patch[axis]].contains(&voxel)
        };
        for z in self.segments(0, &part.z, earlier) {
            for y in self.segments(1, &part.y, earlier) {
                let mut here = earlier.to_vec();
                here.retain(|&e| covers(0, e, z.start) && covers(1, e, y.start));
                let mut segments: Vec<(Range<usize>, bool)> = Vec::new();
                for x in self.segments(2, &part.x, &here) {
                    let is_first = !here.iter().any(|&e| covers(2, e, x.start));
                    match segments.last_mut() {
                        Some((last, same)) if *same == is_first => last.end = x.end,
                        _ => segments.push((x, is_first)),
                    }
                }
                for (x, is_first) in segments {
                    let voxels = [z.clone(), y.clone(), x];
                    let weights = (!is_first).then(|| self.weights(part.index, &here, &voxels));
                    self.add_box(part, &voxels, weights.as_ref(), region, means, scratch);
                }
            }
        }
    }

    /// Cuts `voxels` of an axis where one of `patches` begins or ends.
    fn segments(&self, axis: usize, voxels: &Range<usize>, patches: &[Size3]) -> Vec<Range<usize>> {
        let used = patches.iter().map(|index| &self.plan.axes[axis].used[index[axis]]);
        let mut cuts: Vec<usize> = used.flat_map(|used| [used.start, used.end]).collect();
        cuts.retain(|&cut| voxels.start < cut && cut < voxels.end);
        cuts.extend([voxels.start, voxels.end]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|ends| ends[0]..ends[1]).collect()
    }

    /// Weights of the patch at `index` and of `earlier` ones, in a box of `(z, y, x)`.
    fn weights(
        &self,
        index: Size3,
        earlier: &[Size3],
        [z, y, x]: &[Range<usize>; 3],
    ) -> BoxWeights {
        let axis = &self.plan.axes[2];
        let used = |at: usize| {
            let used = &axis.used[at];
            used.start.max(x.start)..used.end.min(x.end)
        };
        let add = |sums: &mut [f32], at: usize| {
            let (used, start) = (used(at), axis.starts[at]);
            let weights = &self.plan.weights.along_x[(used.start as i64 - start) as usize..];
            let sums = &mut sums[used.start - x.start..used.end - x.start];
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        };
        let mut own = vec![0.0; x.len()];
        add(&mut own, index[2]);
        let mut same_column = own.clone();
        let mut others: Vec<(Vec<usize>, ColumnWeights)> = Vec::new();
        // The patches of a column follow one another.
        for column in earlier.chunk_by(|a, b| a[..2] == b[..2]) {
            let xs: Vec<usize> =
                column.iter().map(|e| e[2]).filter(|&at| !used(at).is_empty()).collect();
            if xs.is_empty() {
                continue;
            }
            if column[0][..2] == index[..2] {
                for at in xs {
                    add(&mut same_column, at);
                }
                continue;
            }
            let quotients = [(0, z), (1, y)].map(|(axis, voxels)| {
                let weight = |patch: Size3, i: usize| self.weight(axis, patch[axis], i);
                voxels.clone().map(|i| weight(column[0], i) / weight(index, i)).collect()
            });
            if let Some((_, columns)) = others.iter_mut().find(|(same, _)| *same == xs) {
                columns.quotients.push(quotients);
            } else {
                let mut sums = vec![0.0; x.len()];
                for &at in &xs {
                    add(&mut sums, at);
                }
                others.push((xs, ColumnWeights { sums, quotients: vec![quotients] }));
            }
        }
        let other_columns = others.into_iter().map(|(_, columns)| columns).collect();
        BoxWeights { own, same_column, other_columns }
    }

    /// The weight on an axis of the patch at index `at`, for a voxel that it covers.
    fn weight(&self, axis: usize, at: usize, voxel: usize) -> f64 {
        let start = self.plan.axes[axis].starts[at];
        self.plan.weights.profiles[axis][(voxel as i64 - start) as usize]
    }

    /// Adds a box `(z, y, x)` of a part; without `weights` no earlier patch counts there.
    fn add_box<T: PatchValue>(
        &self,
        part: &PatchPart<'_, T>,
        [zs, ys, xs]: &[Range<usize>; 3],
        weights: Option<&BoxWeights>,
        region: &Region,
        means: &mut [f32],
        scratch: &mut RowScratch,
    ) {
        // The compiler cannot know that the means do not alias the plan, so nothing is read from it
        // in the loops.
        let (channels, isa) = (self.plan.channel_count(), self.plan.isa);
        let (patch_channel, tile_channel) = (part.values.len() / channels, region.len());
        let nx = xs.len();
        for z in zs.clone() {
            for y in ys.clone() {
                let ahead = match y + ROWS_AHEAD {
                    ahead if ahead < ys.end => [z, ahead, xs.start],
                    // The next plane's first rows; in a box of fewer rows, a later one.
                    beyond => [z + 1, (beyond - ys.len()).clamp(ys.start, ys.end - 1), xs.start],
                };
                let from = part.offset([z, y, xs.start]);
                let to = offset_in(region, [z, y, xs.start]);
                if let Some(weights) = weights {
                    row_shares(isa, weights, [z - zs.start, y - ys.start], scratch);
                }
                for c in 0..channels {
                    let (from, to) = (from + c * patch_channel, to + c * tile_channel);
                    let row = &part.values[from..from + nx];
                    if ahead[0] < zs.end {
                        let from = part.offset(ahead) + c * patch_channel;
                        prefetch(bytemuck::cast_slice(&part.values[from..from + nx]));
                        let to = offset_in(region, ahead) + c * tile_channel;
                        prefetch(bytemuck::cast_slice(&means[to..to + nx]));
                    }
                    let means = &mut means[to..to + nx];
                    let shares = &scratch.weights;
                    match (weights, T::widened(row, &mut scratch.widened)) {
                        (None, None) => kernels::put(means, row, PatchValue::to_f32),
                        (None, Some(wide)) => means.copy_from_slice(wide),
                        (Some(_), None) => kernels::update_means(isa, means, row, shares),
                        (Some(_), Some(wide)) => kernels::update_means(isa, means, wide, shares),
                    }
                }
            }
        }
    }
}

/// Computes the new patch's shares of all weights along a row of a box, into `scratch.weights`.
fn row_shares(isa: Isa, weights: &BoxWeights, [z, y]: [usize; 2], scratch: &mut RowScratch) {
    let BoxWeights { own, same_column, other_columns } = weights;
    scratch.weights.resize(own.len(), 0.0);
    match &other_columns[..] {
        [] => kernels::weight_shares(isa, &mut scratch.weights, own, same_column, own, 0.0),
        [columns] => {
            let (shares, quotient) = (&mut scratch.weights, columns.quotient(z, y));
            kernels::weight_shares(isa, shares, own, same_column, &columns.sums, quotient);
        }
        several => {
            let RowScratch { weights: shares, sums, .. } = scratch;
            sums.clear();
            sums.resize(own.len(), 0.0);
            for columns in several {
                let quotient = columns.quotient(z, y);
                sums.iter_mut().zip(&columns.sums).for_each(|(sum, of)| *sum += quotient * of);
            }
            kernels::weight_shares(isa, shares, own, same_column, sums, 1.0);
        }
    }
}

impl Accumulator for MeanAccumulator {
    fn voxel_bytes(&self) -> usize {
        size_of::<f32>()
    }

    fn add<T: PatchValue>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        added: &mut PatchSet,
        tile: &mut [u8],
        scratch: &mut RowScratch,
    ) {
        let means: &mut [f32] = bytemuck::cast_slice_mut(tile);
        let numbers = TilePatches::new(&self.plan, region);
        for patch in patches {
            let part = PatchPart::new(&self.plan, patch, region);
            let voxels = [part.z.clone(), part.y.clone(), part.x.clone()];
            let near = self.plan.patches_meeting(&voxels);
            let earlier: Vec<Size3> =
                iter_box(near).filter(|&index| added.contains(numbers.number(index))).collect();
            self.add_part(&part, &earlier, region, means, scratch);
            added.insert(numbers.number(patch.index));
        }
    }

    fn converter(&self) -> Option<&dyn TileConverter> {
        (self.plan.dtype == Dtype::Float16).then_some(self as &dyn TileConverter)
    }
}

/// Rounds means to `f16`; of an `f32` result a complete tile holds the voxels.
impl TileConverter for MeanAccumulator {
    fn convert(
        &self,
        region: &Region,
        tile: &[u8],
        out_region: &Region,
        out: &mut [u8],
        _: &mut RowScratch,
    ) {
        let (means, out): (&[f32], &mut [f16]) =
            (bytemuck::cast_slice(tile), bytemuck::cast_slice_mut(out));
        let nx = region.size[2];
        for row in tile_rows(region, out_region) {
            for c in 0..self.plan.channel_count() {
                let (from, to) = (row.from + c * region.len(), row.to + c * out_region.len());
                kernels::assign(&means[from..from + nx], &mut out[to..to + nx]);
            }
        }
    }
}

/// The voxel of channel 0 of a tile for a voxel of the result.
fn offset_in(tile: &Region, voxel: Size3) -> usize {
    let [z, y, x] = [0, 1, 2].map(|a| voxel[a] - tile.start[a] as usize);
    (z * tile.size[1] + y) * tile.size[2] + x
}
