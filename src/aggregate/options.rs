//! What is asked of an aggregator: how patches are blended, and what becomes of the blended voxels.

use std::fmt;

use super::window::Window;
use crate::{Dtype, Error, Result, Size3};

/// How patches are blended.
#[derive(Clone, Debug)]
pub struct AggregateOptions {
    /// Channels of every patch, or `None` if they have no such axis.
    pub channels: Option<usize>,
    /// Weights of a patch's voxels.
    pub window: Window,
    /// What becomes of blended voxels.
    pub finish: Finish,
    /// Voxels of the patches that come, where they differ from the grid's.
    pub scale: Scale,
    /// What to do with NaN and infinite values.
    pub non_finite: NonFinite,
    /// What to do with a patch of a location that had one before.
    pub duplicates: Duplicates,
    /// Keeps the unfinished work of a stored result when the process ends, however it ends, for an aggregator with the same
    /// arguments and this note.
    pub resume: Option<String>,
    /// Memory for unfinished voxels, and patches that may be replaced; beyond it a scratch file is used. An array that is the
    /// result is not counted.
    pub memory_bytes: u64,
    /// Threads that blend; `None`: as many as cores.
    pub threads: Option<usize>,
}

impl Default for AggregateOptions {
    fn default() -> Self {
        Self {
            channels: None,
            window: Window::default(),
            finish: Finish::default(),
            scale: Scale::default(),
            non_finite: NonFinite::default(),
            duplicates: Duplicates::default(),
            resume: None,
            memory_bytes: 1 << 30,
            threads: None,
        }
    }
}

impl AggregateOptions {
    /// Checks that there will be something to resume.
    pub(super) fn check_resume(&self) -> Result<()> {
        if self.resume.is_some() && self.duplicates == Duplicates::Replace {
            return Err(Error::usage(
                "resume and replace: patches that may be replaced are blended at the end, so no part of the result is there \
                 before; leave out one of the two",
            ));
        }
        Ok(())
    }
}

/// What becomes of blended voxels before they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Finish {
    /// They are stored; integers round half to even and saturate.
    #[default]
    None,
    /// The number of the channel with the largest value, the first of equal ones (NaN counts as largest, as in numpy).
    ///
    /// Sums are `f32`, a channel's weights are all channels' weights, and division by their sum is left out: rounding is
    /// monotonic, so channels that are equal in every patch stay equal.
    Argmax,
    /// Each patch's channels become probabilities (softmax), these are blended, then as `Argmax`.
    SoftmaxArgmax,
    /// 1 where the value is at least this, else 0.
    Threshold(f64),
    /// The nearest whole number of steps: `(value − intercept) / slope`; a stored volume notes both.
    Quantize {
        /// Real units of one step; positive or negative, finite.
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

    /// Checks that `dtype` can hold what comes out of `channels`.
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
                return Err(Error::usage(format!(
                    "finish {self}: {dtype} has room for {labels} labels, not for {channels}: choose a wider dtype"
                )));
            }
        }
        if let Self::Quantize { slope, intercept } = self
            && !(slope.is_finite() && slope != 0.0 && intercept.is_finite())
        {
            return Err(Error::usage(format!(
                "finish {self}: slope and intercept are finite, and slope is not 0"
            )));
        }
        if matches!(self, Self::Threshold(t) if t.is_nan()) {
            return Err(Error::usage("finish threshold: NaN separates nothing, give a number"));
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

/// The patches that come have another resolution than those that were read: on each axis of `(z, y, x)`, `up` voxels for each
/// `down` of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Voxels of the result …
    pub up: Size3,
    /// … for so many of the grid.
    pub down: Size3,
}

impl Default for Scale {
    fn default() -> Self {
        Self { up: [1; 3], down: [1; 3] }
    }
}

/// What to do with NaN and infinite values in a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// They are blended like any other.
    #[default]
    Keep,
    /// The patch is refused.
    Refuse,
}

/// What to do with a patch of a location that had one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Duplicates {
    /// It is refused: what the first was blended into may be written already.
    #[default]
    Refuse,
    /// It replaces the first: the result is that of the last patches alone, added in the grid's order, to the last bit.
    ///
    /// So all patches are kept as they came, in memory or scratch files, and blended when the result is finished. Where they
    /// overlap by half, they are eight times the result.
    Replace,
}
