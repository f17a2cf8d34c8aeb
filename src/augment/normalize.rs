//! Normalisation: from the values of a volume to those that a model gets.

use crate::format::attributes::Statistics;
use crate::sys::isa::{Isa, for_isas};
use crate::{Error, Result};

/// How the values of images are brought into one range.
///
/// ```
/// use voxquarry::{Normalization, QueueOptions};
///
/// let window = Normalization::Window(-160.0, 240.0);
/// let options = QueueOptions::default().volumes(["ct"]).normalize(window);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Normalization {
    /// `(v − mean) / std`, with the statistics of the whole volume, over all channels, that the
    /// store holds; where all voxels are equal, `v − mean`.
    ZScore,
    /// The two values become 0 and 1; what lies outside becomes the nearer one.
    Window(f64, f64),
}

impl Normalization {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub fn check(self) -> Result<()> {
        match self {
            Self::Window(low, high) if !(low < high && (high - low).is_finite()) => {
                let expected = "two finite numbers, the lower one first";
                Err(Error::invalid("normalize", format!("({low}, {high})"), expected))
            }
            _ => Ok(()),
        }
    }
}

/// A normalisation of one volume: `(v − from) · factor`, perhaps within 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ValueMap {
    from: f64,
    factor: f64,
    is_window: bool,
}

impl ValueMap {
    /// The map of a volume with these statistics of its stored values.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it has no mean.
    pub(crate) fn new(
        normalization: Normalization,
        statistics: &Statistics,
        (slope, intercept): (f64, f64),
    ) -> Result<Self> {
        if let Normalization::Window(low, high) = normalization {
            return Ok(Self { from: low, factor: 1.0 / (high - low), is_window: true });
        }
        let (Some(mean), Some(std)) = (statistics.mean, statistics.std) else {
            return Err(Error::unsupported(
                "the volume has no mean: none of its voxels is finite, or their sum is not",
                "normalize by a window, two numbers",
            ));
        };
        let (mean, std) = (mean * slope + intercept, std * slope.abs());
        let factor = if std > 0.0 { 1.0 / std } else { 1.0 };
        Ok(Self { from: mean, factor, is_window: false })
    }

    /// Maps values.
    pub(super) fn apply(&self, values: &mut [f32]) {
        map_values(Isa::detect(), values, *self);
    }
}

for_isas! {
    /// Maps values as [`ValueMap`] says; NaN stays NaN.
    map_values<>(values: &mut [f32], map: ValueMap), map_values_loop
}

#[inline(always)]
fn map_values_loop(values: &mut [f32], map: ValueMap) {
    let ValueMap { from, factor, is_window } = map;
    if is_window {
        for value in values {
            *value = ((f64::from(*value) - from) * factor).clamp(0.0, 1.0) as f32;
        }
    } else {
        for value in values {
            *value = ((f64::from(*value) - from) * factor) as f32;
        }
    }
}
