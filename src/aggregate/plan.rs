//! What stays the same while patches come: the grid, the weights, and which tiles each patch meets.
//!
//! # Invariants
//! - A tile awaits exactly the patches that count for one of its voxels.

use std::ops::Range;

use super::coverage::AxisCoverage;
use super::options::{AggregateOptions, Finish};
use super::window::{Weights, Window};
use crate::sample::Grid;
use crate::sys::isa::Isa;
use crate::{Dtype, Error, Region, Result, Size3};

/// What stays the same while patches come.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where patches are read.
    pub(super) grid: Grid,
    /// The same in voxels of the result.
    pub(super) target: Grid,
    pub(super) channels: Option<usize>,
    pub(super) dtype: Dtype,
    pub(super) finish: Finish,
    pub(super) window: Window,
    pub(super) weights: Weights,
    pub(super) axes: [AxisCoverage; 3],
    pub(super) level: Isa,
    pub(super) kept: Kept,
}

/// What a tile holds of each voxel until its last patch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// The voxel of one patch, in the result's dtype.
    Voxels,
    /// The weighted mean of the patches that have come, in `f32`.
    Means,
    /// A weighted sum, or one patch's value, in `f64`.
    Wide,
    /// The same in `f32`: enough to find the largest.
    Narrow,
}

impl Plan {
    pub(super) fn new(
        grid: Grid,
        options: &AggregateOptions,
        dtype: Option<Dtype>,
    ) -> Result<Self> {
        if options.channels == Some(0) {
            return Err(Error::usage("channels 0: a patch has at least one"));
        }
        let (channels, finish) = (options.channels, options.finish);
        let dtype = dtype.unwrap_or_else(|| finish.default_dtype(channels.unwrap_or(1)));
        finish.check(channels.unwrap_or(1), dtype)?;
        let target = grid.scaled(options.scale.up, options.scale.down)?;
        let weights = options.window.weights(target.patch_size())?;
        let axis = |a| AxisCoverage::new(&target, a, &options.window, &weights);
        let axes = [axis(0)?, axis(1)?, axis(2)?];
        let window = options.window.clone();
        let level = Isa::detect();
        let kept = match (&window, finish) {
            (Window::Crop, Finish::None) => Kept::Voxels,
            (_, Finish::Argmax | Finish::SoftmaxArgmax) => Kept::Narrow,
            (_, Finish::None) if can_be_means(dtype, &weights, &axes) => Kept::Means,
            _ => Kept::Wide,
        };
        let plan =
            Self { grid, target, channels, dtype, finish, window, weights, axes, level, kept };
        let extents =
            plan.target.size().into_iter().chain([plan.channel_count(), size_of::<f64>()]);
        extents
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .ok_or_else(|| Error::usage("the result exceeds the address space"))?;
        Ok(plan)
    }

    /// Channels of a patch.
    pub(super) fn channel_count(&self) -> usize {
        self.channels.unwrap_or(1)
    }

    /// Channels of the result, or `None` if it has no such axis.
    pub(super) fn out_channels(&self) -> Option<usize> {
        if self.finish.is_argmax() { None } else { self.channels }
    }

    /// Patches, by their places on each axis, that reach any of `voxels`.
    pub(super) fn patches_meeting(&self, voxels: &[Range<usize>; 3]) -> [Range<usize>; 3] {
        [0, 1, 2].map(|a| self.axes[a].patches_meeting(&voxels[a]))
    }

    /// Elements of one patch.
    pub(super) fn patch_len(&self) -> usize {
        self.channel_count() * self.target.patch_size().iter().product::<usize>()
    }

    /// Whether a tile whose patches are all there holds the result's voxels.
    pub(super) fn keeps_results(&self) -> bool {
        self.kept == Kept::Voxels || (self.kept == Kept::Means && self.dtype == Dtype::Float32)
    }

    /// Bytes of a tile's voxel of one channel.
    pub(super) fn kept_bytes(&self) -> usize {
        match self.kept {
            Kept::Voxels => self.dtype.size(),
            Kept::Wide => size_of::<f64>(),
            Kept::Means | Kept::Narrow => size_of::<f32>(),
        }
    }
}

/// Most patches of a voxel whose mean is kept: it is rounded once for each.
const MOST_MEANT: usize = 32;

/// Least share that a patch's weight may be of another's where means are kept: quotients stay far within `f32`.
const LEAST_SHARE: f64 = 1e-30;

/// Whether `f32` means are as good as sums: they are rounded to it anyway, after few patches, and weights are a product.
fn can_be_means(dtype: Dtype, weights: &Weights, axes: &[AxisCoverage; 3]) -> bool {
    let most: usize = axes.iter().map(AxisCoverage::most).product();
    let least_share = |profile: &Vec<f64>| {
        let largest = profile.iter().copied().fold(0.0, f64::max);
        profile.iter().copied().fold(f64::INFINITY, f64::min) / largest
    };
    matches!(dtype, Dtype::Float16 | Dtype::Float32)
        && weights.floor == 0.0
        && most <= MOST_MEANT
        && weights.profiles.iter().map(least_share).product::<f64>() >= LEAST_SHARE
}

/// A regular grid of boxes over the result.
#[derive(Clone, Debug)]
pub(super) struct Tiling {
    size: Size3,
    tile: Size3,
}

impl Tiling {
    pub(super) fn new(size: Size3, tile: Size3) -> Self {
        Self { size, tile }
    }

    /// Extents of what is tiled.
    pub(super) fn size(&self) -> Size3 {
        self.size
    }

    /// Extents of a tile that the end does not cut off.
    pub(super) fn tile(&self) -> Size3 {
        self.tile
    }

    fn counts(&self) -> Size3 {
        [0, 1, 2].map(|a| self.size[a].div_ceil(self.tile[a]))
    }

    pub(super) fn len(&self) -> usize {
        self.counts().iter().product()
    }

    /// The number of the tile at that place.
    pub(super) fn number(&self, [z, y, x]: Size3) -> usize {
        let [_, ny, nx] = self.counts();
        (z * ny + y) * nx + x
    }

    fn place(&self, number: usize) -> Size3 {
        let [_, ny, nx] = self.counts();
        [number / (ny * nx), number / nx % ny, number % nx]
    }

    /// The voxels of a tile.
    pub(super) fn region(&self, number: usize) -> Region {
        let place = self.place(number);
        let start = [0, 1, 2].map(|a| (place[a] * self.tile[a]) as i64);
        Region::new(start, self.tile).clip(self.size)
    }

    /// The tile that holds a voxel.
    pub(super) fn holding(&self, start: [i64; 3]) -> usize {
        self.number([0, 1, 2].map(|a| start[a] as usize / self.tile[a]))
    }

    /// Tiles on `axis` that hold any of `voxels`.
    fn meeting(&self, axis: usize, voxels: &Range<usize>) -> Range<usize> {
        if voxels.is_empty() {
            return 0..0;
        }
        voxels.start / self.tile[axis]..voxels.end.div_ceil(self.tile[axis])
    }

    /// Tiles that the patch at `places` counts for, on each axis.
    pub(super) fn met_by(&self, plan: &Plan, places: Size3) -> [Range<usize>; 3] {
        [0, 1, 2].map(|a| self.meeting(a, &plan.axes[a].used[places[a]]))
    }

    /// How many patches count for each tile, by number.
    pub(super) fn awaited(&self, plan: &Plan) -> Vec<usize> {
        let counts = self.counts();
        let [z, y, x] = [0, 1, 2].map(|a| {
            let mut meet = vec![0; counts[a]];
            for used in &plan.axes[a].used {
                meet[self.meeting(a, used)].iter_mut().for_each(|n| *n += 1);
            }
            meet
        });
        (0..self.len())
            .map(|number| {
                let place = self.place(number);
                z[place[0]] * y[place[1]] * x[place[2]]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::GridSampler;

    fn kept(overlap: usize, window: Window, dtype: Dtype, finish: Finish) -> Kept {
        let sampler = GridSampler::new([8; 3], overlap).unwrap();
        let options = AggregateOptions { channels: Some(2), window, finish, ..Default::default() };
        Plan::new(sampler.grid([40; 3]).unwrap(), &options, Some(dtype)).unwrap().kept
    }

    #[test]
    fn means_are_kept_where_they_are_as_good_as_sums() {
        let floats = |window| kept(4, window, Dtype::Float32, Finish::None);
        assert_eq!(floats(Window::Hann), Kept::Means);
        assert_eq!(floats(Window::GaussianNnunet), Kept::Means);
        assert_eq!(floats(Window::Gaussian), Kept::Wide, "no product");
        assert_eq!(floats(Window::Crop), Kept::Voxels);
        let ramp =
            |least: f64| Window::Custom([1, 1, 1].map(|_| [&[least][..], &[1.0; 7]].concat()));
        assert_eq!((floats(ramp(1e-9)), floats(ramp(1e-11))), (Kept::Means, Kept::Wide));
        let hann = |overlap, dtype, finish| kept(overlap, Window::Hann, dtype, finish);
        assert_eq!(hann(4, Dtype::Float16, Finish::None), Kept::Means);
        assert_eq!(hann(4, Dtype::Float64, Finish::None), Kept::Wide);
        assert_eq!(hann(4, Dtype::Int16, Finish::None), Kept::Wide);
        assert_eq!(hann(4, Dtype::Float32, Finish::Threshold(0.5)), Kept::Wide);
        assert_eq!(hann(4, Dtype::UInt8, Finish::Argmax), Kept::Narrow);
        // 27 patches a voxel, and 64.
        assert_eq!(hann(5, Dtype::Float32, Finish::None), Kept::Means);
        assert_eq!(hann(6, Dtype::Float32, Finish::None), Kept::Wide);
    }
}
