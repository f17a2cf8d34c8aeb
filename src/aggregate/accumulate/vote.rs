//! Vote: each voxel of a tile holds the class that every patch gives it; the class with the
//! greatest sum of the window's weights wins, the smallest of equal ones.
//!
//! # Invariants
//! - The result does not depend on the order in which patches are added: each has a place of its
//!   own among those that can count for a voxel.

use std::sync::Arc;

use super::accumulator::{Accumulator, RowScratch, TileConverter, tile_rows};
use crate::aggregate::coverage::AxisCoverage;
use crate::aggregate::patch::{Patch, PatchRow, for_each_row};
use crate::aggregate::plan::BlendPlan;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::format::grid::iter_box;
use crate::{Region, Size3, Voxel, with_voxel};

/// Holds the class of each patch in `f32`, which is exact up to [`MOST_CLASSES`].
#[derive(Debug)]
pub(in crate::aggregate) struct VoteAccumulator {
    plan: Arc<BlendPlan>,
    /// The most patches that count for a voxel, along each axis.
    most: Size3,
}

/// Classes have numbers up to this.
pub(in crate::aggregate) const MOST_CLASSES: f64 = (1 << 24) as f64;

impl VoteAccumulator {
    pub(super) fn new(plan: Arc<BlendPlan>) -> Self {
        let most = [0, 1, 2].map(|a| AxisCoverage::most(&plan.axes[a]).max(1));
        Self { plan, most }
    }

    /// Channels that are voted on, each alone.
    fn ballots(&self) -> usize {
        if self.plan.finish.is_argmax() { 1 } else { self.plan.channel_count() }
    }

    fn slots(&self) -> usize {
        self.most.iter().product()
    }

    /// Bytes of one voxel of a tile, over all channels.
    pub(in crate::aggregate) fn tile_voxel_bytes(&self) -> usize {
        self.ballots() * self.slots() * size_of::<f32>()
    }

    /// The place of a patch: those that count for one voxel follow each other along each axis.
    fn slot(&self, index: Size3) -> usize {
        let [z, y, x] = [0, 1, 2].map(|a| index[a] % self.most[a]);
        (z * self.most[1] + y) * self.most[2] + x
    }

    /// Writes the class of each voxel of a row with the largest value.
    fn classes<T: PatchValue>(&self, row: &PatchRow<'_, T>, votes: &mut [f32]) {
        for (x, vote) in votes.iter_mut().enumerate() {
            let value = |c: usize| row.values[row.from + x + c * row.patch_channel].to_f32();
            let mut label = 0;
            for c in 1..self.plan.channel_count() {
                let (new, old) = (value(c), value(label));
                if new > old || (new.is_nan() && !old.is_nan()) {
                    label = c;
                }
            }
            *vote = label as f32;
        }
    }

    /// The winner among the votes for a voxel of the result, which lies at `at` in each plane.
    fn winner(&self, voxel: Size3, planes: &[f32], plane_len: usize, at: usize) -> f64 {
        let (axes, weights) = (&self.plan.axes, &self.plan.weights);
        let meeting = [0, 1, 2].map(|a| axes[a].patches_at(voxel[a]));
        let weight = |index: Size3| {
            let along = |a: usize| {
                let inside = voxel[a] as i64 - axes[a].starts[index[a]];
                weights.profiles[a][inside as usize]
            };
            weights.product(along(0) * along(1), along(2))
        };
        let mut sums: Vec<(f32, f64)> = Vec::new();
        for index in iter_box(meeting) {
            let class = planes[self.slot(index) * plane_len + at];
            if class.is_nan() {
                continue;
            }
            match sums.iter_mut().find(|sum| sum.0 == class) {
                Some(sum) => sum.1 += weight(index),
                None => sums.push((class, weight(index))),
            }
        }
        let better = |a: (f32, f64), b: (f32, f64)| {
            if b.1 > a.1 || (b.1 == a.1 && b.0 < a.0) { b } else { a }
        };
        sums.into_iter().reduce(better).map_or(0.0, |winner| f64::from(winner.0))
    }
}

impl Accumulator for VoteAccumulator {
    fn voxel_bytes(&self) -> usize {
        self.slots() * size_of::<f32>()
    }

    fn clear(&self, tile: &mut [u8]) {
        // No vote.
        bytemuck::cast_slice_mut::<u8, f32>(tile).fill(f32::NAN);
    }

    fn add<T: PatchValue>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        _: &mut PatchSet,
        tile: &mut [u8],
        _: &mut RowScratch,
    ) {
        let (tile, slots): (&mut [f32], _) = (bytemuck::cast_slice_mut(tile), self.slots());
        for patch in patches {
            let slot = self.slot(patch.index);
            for_each_row(&self.plan, &[patch], region, |row| {
                for c in 0..self.ballots() {
                    let votes = row.plane(c * slots + slot, tile);
                    if self.plan.finish.is_argmax() {
                        self.classes(row, votes);
                        continue;
                    }
                    let values = &row.values[row.from + c * row.patch_channel..];
                    for (vote, value) in votes.iter_mut().zip(values) {
                        *vote = value.to_f32();
                    }
                }
            });
        }
    }

    fn converter(&self) -> Option<&dyn TileConverter> {
        Some(self)
    }
}

impl TileConverter for VoteAccumulator {
    fn convert(
        &self,
        region: &Region,
        tile: &[u8],
        out_region: &Region,
        out: &mut [u8],
        _: &mut RowScratch,
    ) {
        let (planes, x0) = (bytemuck::cast_slice::<u8, f32>(tile), region.start[2] as usize);
        let (plane_len, slots) = (region.len(), self.slots());
        with_voxel!(self.plan.dtype, Out => {
            let out: &mut [Out] = bytemuck::cast_slice_mut(out);
            for row in tile_rows(region, out_region) {
                for c in 0..self.ballots() {
                    let planes = &planes[c * slots * plane_len..][..slots * plane_len];
                    let to = row.to + c * out_region.len();
                    for (x, out) in out[to..to + region.size[2]].iter_mut().enumerate() {
                        let [z, y] = row.zy;
                        let winner = self.winner([z, y, x0 + x], planes, plane_len, row.from + x);
                        *out = <Out as Voxel>::from_f64_rounded(winner);
                    }
                }
            }
        });
    }
}
