//! Chooses the kind of accumulation that an aggregator uses.

use std::sync::Arc;

use super::accumulator::{Accumulator, RowScratch, TileConverter};
use super::argmax::ArgmaxAccumulator;
use super::crop::CropAccumulator;
use super::extreme::ExtremeAccumulator;
use super::mean::MeanAccumulator;
use super::sum::SumAccumulator;
use super::vote::VoteAccumulator;
use crate::aggregate::coverage::AxisCoverage;
use crate::aggregate::options::{Finish, Merge};
use crate::aggregate::patch::Patch;
use crate::aggregate::plan::BlendPlan;
use crate::aggregate::tracker::PatchSet;
use crate::aggregate::value::PatchValue;
use crate::{Dtype, Region};

/// The accumulator of one aggregator.
#[derive(Debug)]
pub(in crate::aggregate) enum AccumulatorKind {
    Crop(CropAccumulator),
    Mean(MeanAccumulator),
    Sum(SumAccumulator),
    Argmax(ArgmaxAccumulator),
    Extreme(ExtremeAccumulator),
    Vote(VoteAccumulator),
}

/// Most patches of a voxel for which means are kept: a mean is rounded once for each.
const MOST_AVERAGED: usize = 32;

/// Least quotient of two weights for which means are kept: quotients stay far within `f32`.
const LEAST_QUOTIENT: f64 = 1e-30;

impl AccumulatorKind {
    /// The kind that holds least memory without rounding more than the result's dtype does.
    pub(in crate::aggregate) fn choose(plan: &Arc<BlendPlan>) -> Self {
        let shared = plan.clone();
        match plan.merge {
            Merge::Mean => {}
            Merge::Max => return Self::Extreme(ExtremeAccumulator::new(shared, true)),
            Merge::Min => return Self::Extreme(ExtremeAccumulator::new(shared, false)),
            Merge::Vote => return Self::Vote(VoteAccumulator::new(shared)),
        }
        match plan.finish {
            Finish::Argmax | Finish::SoftmaxArgmax => Self::Argmax(ArgmaxAccumulator::new(shared)),
            Finish::None if plan.is_crop() => Self::Crop(CropAccumulator::new(shared)),
            Finish::None if can_be_means(plan) => Self::Mean(MeanAccumulator::new(shared)),
            _ => Self::Sum(SumAccumulator::new(shared)),
        }
    }
}

impl AccumulatorKind {
    /// Bytes of one voxel of a tile, over all `channels` of a patch.
    pub(in crate::aggregate) fn tile_voxel_bytes(&self, channels: usize) -> usize {
        match self {
            Self::Vote(votes) => votes.tile_voxel_bytes(),
            _ => channels * self.voxel_bytes(),
        }
    }
}

/// Whether `f32` means are as good as sums: the result is rounded to `f32` or less anyway, few
/// patches count for a voxel, and the window is a product.
fn can_be_means(plan: &BlendPlan) -> bool {
    let most: usize = plan.axes.iter().map(AxisCoverage::most).product();
    let least_quotient = |profile: &Vec<f64>| {
        let largest = profile.iter().copied().fold(0.0, f64::max);
        profile.iter().copied().fold(f64::INFINITY, f64::min) / largest
    };
    let weights = &plan.weights;
    matches!(plan.dtype, Dtype::Float16 | Dtype::Float32)
        && weights.floor == 0.0
        && plan.skips_nothing()
        && most <= MOST_AVERAGED
        && weights.profiles.iter().map(least_quotient).product::<f64>() >= LEAST_QUOTIENT
}

/// Calls a method of whichever accumulator there is.
macro_rules! dispatch {
    ($kind:expr, $accumulator:ident => $call:expr) => {
        match $kind {
            AccumulatorKind::Crop($accumulator) => $call,
            AccumulatorKind::Mean($accumulator) => $call,
            AccumulatorKind::Sum($accumulator) => $call,
            AccumulatorKind::Argmax($accumulator) => $call,
            AccumulatorKind::Extreme($accumulator) => $call,
            AccumulatorKind::Vote($accumulator) => $call,
        }
    };
}

impl Accumulator for AccumulatorKind {
    fn voxel_bytes(&self) -> usize {
        dispatch!(self, a => a.voxel_bytes())
    }

    fn clear(&self, tile: &mut [u8]) {
        dispatch!(self, a => a.clear(tile));
    }

    fn add<T: PatchValue>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        added: &mut PatchSet,
        tile: &mut [u8],
        scratch: &mut RowScratch,
    ) {
        dispatch!(self, a => a.add(patches, region, added, tile, scratch));
    }

    fn converter(&self) -> Option<&dyn TileConverter> {
        dispatch!(self, a => a.converter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::options::AggregateOptions;
    use crate::aggregate::window::Window;
    use crate::sample::GridSampler;

    fn kind(overlap: usize, window: Window, dtype: Dtype, finish: Finish) -> &'static str {
        let sampler = GridSampler::new([8; 3], overlap).unwrap();
        let options = AggregateOptions::default().channels(2).window(window).finish(finish);
        let plan = BlendPlan::new(sampler.grid([40; 3]).unwrap(), &options, Some(dtype)).unwrap();
        match AccumulatorKind::choose(&Arc::new(plan)) {
            AccumulatorKind::Crop(_) => "crop",
            AccumulatorKind::Mean(_) => "mean",
            AccumulatorKind::Sum(_) => "sum",
            AccumulatorKind::Argmax(_) => "argmax",
            AccumulatorKind::Extreme(_) => "extreme",
            AccumulatorKind::Vote(_) => "vote",
        }
    }

    #[test]
    fn means_are_kept_where_they_are_as_good_as_sums() {
        let floats = |window| kind(4, window, Dtype::Float32, Finish::None);
        assert_eq!(floats(Window::Hann), "mean");
        assert_eq!(floats(Window::GaussianNnunet), "mean");
        assert_eq!(floats(Window::Gaussian), "sum", "no product");
        assert_eq!(floats(Window::Crop), "crop");
        let ramp =
            |least: f64| Window::Custom([1, 1, 1].map(|_| [&[least][..], &[1.0; 7]].concat()));
        assert_eq!((floats(ramp(1e-9)), floats(ramp(1e-11))), ("mean", "sum"));
        let hann = |overlap, dtype, finish| kind(overlap, Window::Hann, dtype, finish);
        assert_eq!(hann(4, Dtype::Float16, Finish::None), "mean");
        assert_eq!(hann(4, Dtype::Float64, Finish::None), "sum");
        assert_eq!(hann(4, Dtype::Int16, Finish::None), "sum");
        assert_eq!(hann(4, Dtype::Float32, Finish::Threshold(0.5)), "sum");
        assert_eq!(hann(4, Dtype::UInt8, Finish::Argmax), "argmax");
        // 27 patches a voxel, and 64.
        assert_eq!(hann(5, Dtype::Float32, Finish::None), "mean");
        assert_eq!(hann(6, Dtype::Float32, Finish::None), "sum");
    }
}
