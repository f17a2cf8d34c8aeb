//! What stays the same while patches are added: the grid, the window and each axis' coverage.

use std::ops::Range;

use super::coverage::AxisCoverage;
use super::mask::Outside;
use super::options::{AggregateOptions, Finish, Merge};
use super::window::{Window, WindowWeights};
use crate::sample::Grid;
use crate::sys::isa::Isa;
use crate::{Dtype, Error, Result, Size3};

/// What stays the same while patches are added.
#[derive(Debug)]
pub(super) struct BlendPlan {
    /// The grid of the volume that patches are read from.
    pub(super) grid: Grid,
    /// The same grid in voxels of the result.
    pub(super) target: Grid,
    pub(super) channels: Option<usize>,
    pub(super) dtype: Dtype,
    pub(super) finish: Finish,
    pub(super) merge: Merge,
    pub(super) outside: Option<Outside>,
    pub(super) window: Window,
    pub(super) weights: WindowWeights,
    pub(super) axes: [AxisCoverage; 3],
    pub(super) isa: Isa,
}

impl BlendPlan {
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Unsupported`] and [`Error::TooLarge`] for options that
    /// do not fit the grid.
    pub(super) fn new(
        grid: Grid,
        options: &AggregateOptions,
        dtype: Option<Dtype>,
    ) -> Result<Self> {
        if options.channels == Some(0) {
            return Err(Error::invalid("channels", 0, "at least 1"));
        }
        let (channels, finish) = (options.channels, options.finish);
        let dtype = dtype.unwrap_or_else(|| finish.default_dtype(channels.unwrap_or(1)));
        finish.check(channels.unwrap_or(1), dtype)?;
        let target = grid.scaled(options.scale.up, options.scale.down)?;
        let weights = options.window.weights(target.patch_size())?;
        let axis = |a| AxisCoverage::new(&target, a, &options.window, &weights);
        let axes = [axis(0)?, axis(1)?, axis(2)?];
        let window = options.window.clone();
        let isa = Isa::detect();
        let merge = options.merge;
        merge.check(finish)?;
        let outside = Outside::new(options, &grid, &target, dtype)?;
        let plan = Self {
            grid,
            target,
            channels,
            dtype,
            finish,
            merge,
            outside,
            window,
            weights,
            axes,
            isa,
        };
        let extents =
            plan.target.size().into_iter().chain([plan.channel_count(), size_of::<f64>()]);
        extents
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .ok_or_else(|| Error::TooLarge { what: "the result".to_owned() })?;
        Ok(plan)
    }

    /// Channels of a patch.
    pub(super) fn channel_count(&self) -> usize {
        self.channels.unwrap_or(1)
    }

    /// Channels of the result, or `None` if it has no channel axis.
    pub(super) fn out_channels(&self) -> Option<usize> {
        if self.finish.is_argmax() { None } else { self.channels }
    }

    /// Elements of one patch, all channels.
    pub(super) fn patch_len(&self) -> usize {
        self.channel_count() * self.target.patch_size().iter().product::<usize>()
    }

    /// Whether every patch of the grid comes.
    pub(super) fn skips_nothing(&self) -> bool {
        self.outside.as_ref().is_none_or(|outside| outside.numbers.is_empty())
    }

    /// Whether the patch at an index of the grid never comes.
    pub(super) fn is_skipped(&self, index: Size3) -> bool {
        let number = || self.grid.number_of(index);
        self.outside.as_ref().is_some_and(|outside| outside.is_skipped(number()))
    }

    /// Whether each voxel of the result comes from one patch alone.
    pub(super) fn is_crop(&self) -> bool {
        self.window == Window::Crop
    }

    /// Indices on each axis of the patches that count for any of `voxels`.
    pub(super) fn patches_meeting(&self, voxels: &[Range<usize>; 3]) -> [Range<usize>; 3] {
        [0, 1, 2].map(|a| self.axes[a].patches_meeting(&voxels[a]))
    }

    /// Extents of a tile: `least`, doubled along x, then y, while its `voxel_bytes` over all
    /// channels stay within `most_bytes`; long rows are contiguous in memory.
    pub(super) fn tile_size(&self, least: Size3, voxel_bytes: usize, most_bytes: usize) -> Size3 {
        let (mut tile, size) = (least, self.target.size());
        let bytes = |tile: Size3| tile.iter().product::<usize>() * voxel_bytes;
        while 2 * bytes(tile) <= most_bytes {
            let Some(a) = [2, 1].into_iter().find(|&a| tile[a] < size[a]) else { break };
            tile[a] *= 2;
        }
        tile
    }
}
