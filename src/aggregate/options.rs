//! Options of an aggregator: how patches are blended, and what happens to blended voxels.

use std::fmt;
use std::sync::Arc;

use super::voxel_mask::VoxelMask;
use super::window::Window;
use crate::{Dtype, Error, LengthUnit, Result, Size3};

/// Options of an [`Aggregator`](crate::Aggregator); every setter has the name of its option.
///
/// ```
/// use voxquarry::{AggregateOptions, Finish, Window};
///
/// let options = AggregateOptions::default()
///     .channels(3)
///     .window(Window::Gaussian)
///     .finish(Finish::SoftmaxArgmax)
///     .memory_bytes(256 << 20);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct AggregateOptions {
    pub(super) channels: Option<usize>,
    pub(super) window: Window,
    pub(super) finish: Finish,
    pub(super) scale: OutputScale,
    pub(super) non_finite: NonFinite,
    pub(super) duplicates: Duplicates,
    pub(super) resume: Option<String>,
    pub(super) memory_bytes: u64,
    pub(super) threads: Option<usize>,
    pub(super) unit: Option<LengthUnit>,
    pub(super) merge: Merge,
    pub(super) mask: Option<Arc<VoxelMask>>,
    pub(super) skipped: Vec<[i64; 3]>,
    pub(super) outside: f64,
}

impl Default for AggregateOptions {
    fn default() -> Self {
        Self {
            channels: None,
            window: Window::default(),
            finish: Finish::default(),
            scale: OutputScale::default(),
            non_finite: NonFinite::default(),
            duplicates: Duplicates::default(),
            resume: None,
            memory_bytes: 1 << 30,
            threads: None,
            unit: None,
            merge: Merge::default(),
            mask: None,
            skipped: Vec::new(),
            outside: 0.0,
        }
    }
}

impl AggregateOptions {
    /// Channels of every patch; `None`, the default: patches and result have no channel axis.
    #[must_use]
    pub fn channels(mut self, channels: impl Into<Option<usize>>) -> Self {
        self.channels = channels.into();
        self
    }

    /// The weights of a patch's voxels; [`Window::Hann`] by default.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// What happens to blended voxels before they are stored; nothing by default.
    #[must_use]
    pub fn finish(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self
    }

    /// The resolution of the patches, where it is not the grid's.
    #[must_use]
    pub fn scale(mut self, scale: OutputScale) -> Self {
        self.scale = scale;
        self
    }

    /// What happens to NaN and infinite values; they are kept by default.
    #[must_use]
    pub fn non_finite(mut self, non_finite: NonFinite) -> Self {
        self.non_finite = non_finite;
        self
    }

    /// What happens to a patch of a location that has one; an error by default.
    #[must_use]
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.duplicates = duplicates;
        self
    }

    /// Keeps the unfinished work of a stored result when the process ends, however it ends; an
    /// aggregator with the same arguments and the same text, such as the model's name, continues
    /// it. `None`, the default: unfinished work is removed.
    #[must_use]
    pub fn resume(mut self, note: impl Into<Option<String>>) -> Self {
        self.resume = note.into();
        self
    }

    /// Bytes of memory for unfinished voxels and for patches that may be replaced, 1 GiB by
    /// default; what exceeds it lies in a scratch file. An array that is the result does not count.
    #[must_use]
    pub fn memory_bytes(mut self, memory_bytes: u64) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// Threads that blend and encode; `None`, the default: as many as the machine has cores.
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// How the values of overlapping patches become one; their weighted mean by default.
    #[must_use]
    pub fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// The voxels of the grid's volume that are predicted; by default all. Patches without a voxel
    /// of it are not missing, and what lies outside gets the value of
    /// [`AggregateOptions::outside`].
    #[must_use]
    pub fn mask(mut self, mask: impl Into<Option<Arc<VoxelMask>>>) -> Self {
        self.mask = mask.into();
        self
    }

    /// Starts of patches that never come; voxels for which no other patch counts get the value of
    /// [`AggregateOptions::outside`]. By default none.
    #[must_use]
    pub fn skipped(mut self, starts: Vec<[i64; 3]>) -> Self {
        self.skipped = starts;
        self
    }

    /// The value of voxels that are not predicted, as the result shows it; 0 by default.
    #[must_use]
    pub fn outside(mut self, value: f64) -> Self {
        self.outside = value;
        self
    }

    /// The unit of the affine that [`Aggregator::to_store`](super::Aggregator::to_store) is given;
    /// `None`, the default: millimetres.
    #[must_use]
    pub fn unit(mut self, unit: Option<LengthUnit>) -> Self {
        self.unit = unit;
        self
    }

    /// Checks that there will be something to resume.
    pub(super) fn check_resume(&self) -> Result<()> {
        if self.resume.is_some() && self.duplicates == Duplicates::Replace {
            return Err(Error::unsupported(
                "resume and replace: patches that may be replaced are blended at the end, so no \
                 part of the result is there before",
                "leave out one of the two",
            ));
        }
        Ok(())
    }
}

/// How the values of overlapping patches become one.
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler, Merge};
///
/// let grid = GridSampler::new([1, 1, 2], [0, 0, 1])?.grid([1, 1, 3])?;
/// let options = AggregateOptions::default().merge(Merge::Max);
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &options)?;
/// aggregator.add(&[1f32, 2.0, 5.0, 0.0], &[[0, 0, 0], [0, 0, 1]])?;
/// assert_eq!(aggregator.finish()?.into_raw_vec_and_offset().0, [1.0, 5.0, 0.0]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Merge {
    /// Their mean, weighted by the window.
    #[default]
    Mean,
    /// The largest; NaN counts as largest. The window's weights do not matter.
    Max,
    /// The smallest; NaN counts as smallest. The window's weights do not matter.
    Min,
    /// The class that has the greatest sum of the window's weights, the smallest of equal ones.
    /// Values are numbers of classes, up to 2²⁴; with [`Finish::Argmax`] each patch votes for the
    /// channel with its largest value.
    Vote,
}

impl Merge {
    /// The name of the rule, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Min => "min",
            Self::Vote => "vote",
        }
    }

    /// Checks that votes are neither compared with a threshold nor divided into steps.
    pub(super) fn check(self, finish: Finish) -> Result<()> {
        match finish {
            Finish::Threshold(_) | Finish::Quantize { .. } if self == Self::Vote => {
                Err(Error::unsupported(
                    format!("finish {finish} of a vote, whose result are classes"),
                    "leave out the finish, or take the argmax of scores",
                ))
            }
            _ => Ok(()),
        }
    }
}

/// What happens to blended voxels before they are stored.
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, Finish, GridSampler};
///
/// let grid = GridSampler::new([2, 2, 2], 0)?.grid([2, 2, 2])?;
/// let options = AggregateOptions::default().channels(2).finish(Finish::Argmax);
/// let aggregator = Aggregator::<ArraySink<u8>>::to_array(grid, &options)?;
/// let scores = [[0.2f32; 8], [0.8; 8]];
/// aggregator.add(scores.as_flattened(), &[[0, 0, 0]])?;
/// let labels = aggregator.finish()?;
/// assert_eq!(labels.shape(), [1, 2, 2, 2]);
/// assert!(labels.iter().all(|&label| label == 1));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Finish {
    /// They are stored; integers round half to even and saturate.
    #[default]
    None,
    /// The number of the channel with the largest value, the first of equal ones. NaN counts as
    /// largest, as in numpy.
    ///
    /// Sums are `f32` and are not divided by the sum of weights, which is the same for all
    /// channels. Rounding is monotonic, so channels that are equal in every patch stay equal.
    Argmax,
    /// The softmax over the channels of each patch is blended, then as `Argmax`.
    SoftmaxArgmax,
    /// 1 where the value is at least this, else 0.
    Threshold(f64),
    /// The nearest whole number of steps, `(value − intercept) / slope`; a stored volume records
    /// both numbers.
    Quantize {
        /// The size of one step in real units; not 0, finite.
        slope: f64,
        /// The value that is stored as 0.
        intercept: f64,
    },
}

impl Finish {
    /// Whether channels become one label.
    pub fn is_argmax(self) -> bool {
        matches!(self, Self::Argmax | Self::SoftmaxArgmax)
    }

    /// The dtype of the result where none is asked for.
    pub fn default_dtype(self, channels: usize) -> Dtype {
        match self {
            Self::None => Dtype::Float32,
            Self::Argmax | Self::SoftmaxArgmax if channels > 256 => Dtype::UInt16,
            _ => Dtype::UInt8,
        }
    }

    /// Checks the parameters, and that `dtype` can hold the labels of `channels`.
    pub(super) fn check(self, channels: usize, dtype: Dtype) -> Result<()> {
        if self.is_argmax() {
            let labels = match dtype {
                Dtype::Int8 => 1 << 7,
                Dtype::UInt8 => 1 << 8,
                Dtype::Int16 => 1 << 15,
                Dtype::UInt16 => 1 << 16,
                Dtype::Float16 => 1 << 11,
                _ => 1 << 24,
            };
            if channels > labels {
                return Err(Error::unsupported(
                    format!("finish {self}: {dtype} has room for {labels} labels, not {channels}"),
                    "choose a wider dtype",
                ));
            }
        }
        if let Self::Quantize { slope, intercept } = self
            && !(slope.is_finite() && slope != 0.0 && intercept.is_finite())
        {
            return Err(Error::invalid(
                "finish",
                self,
                "finite numbers, of which the slope is not 0",
            ));
        }
        if matches!(self, Self::Threshold(t) if t.is_nan()) {
            return Err(Error::invalid("finish", self, "a number, for NaN separates nothing"));
        }
        Ok(())
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Argmax => f.write_str("argmax"),
            Self::SoftmaxArgmax => f.write_str("softmax+argmax"),
            Self::Threshold(at) => write!(f, "threshold {at:?}"),
            Self::Quantize { slope, intercept } => {
                write!(f, "quantize slope {slope:?} intercept {intercept:?}")
            }
        }
    }
}

/// The resolution of patches and result beside the grid's: on each axis of `(z, y, x)`, `up` voxels
/// of the result for each `down` voxels of the grid.
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler, OutputScale};
///
/// // The model predicts at half the resolution.
/// let grid = GridSampler::new([4, 4, 4], 2)?.grid([8, 8, 8])?;
/// let options = AggregateOptions::default().scale(OutputScale { up: [1; 3], down: [2; 3] });
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &options)?;
/// assert_eq!((aggregator.patch_size(), aggregator.size()), ([2, 2, 2], [4, 4, 4]));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputScale {
    /// Voxels of the result for each `down` of the grid.
    pub up: Size3,
    /// Voxels of the grid.
    pub down: Size3,
}

impl Default for OutputScale {
    fn default() -> Self {
        Self { up: [1; 3], down: [1; 3] }
    }
}

/// What happens to NaN and infinite values in a patch.
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, Error, GridSampler, NonFinite};
///
/// let grid = GridSampler::new([2, 2, 2], 0)?.grid([2, 2, 2])?;
/// let options = AggregateOptions::default().non_finite(NonFinite::Error);
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &options)?;
/// let refused = aggregator.add(&[f32::NAN; 8], &[[0, 0, 0]]);
/// assert!(matches!(refused, Err(Error::NonFinite { index: [0, 0, 0], .. })));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NonFinite {
    /// They are blended like any other value.
    #[default]
    Keep,
    /// As `Keep`, and [`Aggregator::first_nan`](crate::Aggregator::first_nan) names the first NaN.
    Report,
    /// The patch is refused with [`Error::NonFinite`].
    Error,
}

/// What happens to a patch of a location that has one.
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, Duplicates, GridSampler};
///
/// let grid = GridSampler::new([2, 2, 2], 0)?.grid([2, 2, 2])?;
/// let options = AggregateOptions::default().duplicates(Duplicates::Replace);
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &options)?;
/// aggregator.add(&[1.0f32; 8], &[[0, 0, 0]])?;
/// aggregator.add(&[2.0f32; 8], &[[0, 0, 0]])?;
/// assert!(aggregator.finish()?.iter().all(|&voxel| voxel == 2.0));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Duplicates {
    /// The patch is refused with [`Error::AddedTwice`], for voxels that the first was blended into
    /// may be written already.
    #[default]
    Error,
    /// The patch replaces the first; the result is that of the last patches alone, added in the
    /// grid's order, to the last bit.
    ///
    /// All patches are stored as they were added, in memory or scratch files, and blended when the
    /// result is finished. With half an overlap they take eight times the memory of the result.
    Replace,
}
