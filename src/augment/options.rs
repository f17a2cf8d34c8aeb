//! What may happen to a patch: ranges and probabilities.

use super::part::AugmentPart;
use crate::{Error, Order, Result};

/// Knots of an elastic displacement lie so many voxels apart, unless others are chosen.
const KNOT_VOXELS: usize = 16;

/// Random changes of the patches of a queue; nothing changes unless a part is set.
///
/// The spatial parts become one map, so that any number of them costs one interpolation.
/// `docs/augmentation.md` defines each part.
///
/// ```
/// use voxquarry::{Augment, AugmentPart, QueueOptions};
///
/// let augment = Augment::default()
///     .part(AugmentPart::Rotation, [(-30.0, 30.0); 3])?
///     .part(AugmentPart::Scale, [(0.7, 1.4); 3])?
///     .flip([true; 3])
///     .probability(AugmentPart::Rotation, 0.2)?;
/// let options = QueueOptions::default().volumes(["ct", "seg"]).augment(augment);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Augment {
    /// For each part the ranges along z, y and x, unless it is off.
    ranges: [Option<[(f64, f64); 3]>; AugmentPart::ALL.len()],
    probabilities: [f64; AugmentPart::ALL.len()],
    pub(super) flips: [bool; 3],
    pub(super) scales_per_axis: bool,
    pub(super) knot_voxels: usize,
    pub(super) order: Order,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            ranges: [None; AugmentPart::ALL.len()],
            probabilities: [1.0; AugmentPart::ALL.len()],
            flips: [false; 3],
            scales_per_axis: false,
            knot_voxels: KNOT_VOXELS,
            order: Order::Linear,
        }
    }
}

impl Augment {
    /// Sets the ranges of a part, from the lowest to the greatest number, along z, y and x; what
    /// has no axes uses the first.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a range that descends, that is not finite or that the part
    /// does not allow, and for [`AugmentPart::Flip`], which has none.
    pub fn part(mut self, part: AugmentPart, ranges: [(f64, f64); 3]) -> Result<Self> {
        if part == AugmentPart::Flip {
            return Err(Error::invalid("flip", format!("{ranges:?}"), "axes; it has no range"));
        }
        let (bounds, text) = part.bounds();
        for (low, high) in ranges {
            if !(bounds.contains(&low) && bounds.contains(&high) && low <= high) {
                let expected = format!("numbers of {text}, the lower one first");
                return Err(Error::invalid(part.name(), format!("({low}, {high})"), expected));
            }
        }
        self.ranges[part.index()] = Some(ranges);
        Ok(self)
    }

    /// The axes `(z, y, x)` that are mirrored, each in half of the patches.
    pub fn flip(mut self, axes: [bool; 3]) -> Self {
        self.flips = axes;
        self
    }

    /// The probability of a part, 1 by default. Parts are drawn independently; the spatial ones
    /// once for a patch, the others for each channel.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number that is none.
    pub fn probability(mut self, part: AugmentPart, probability: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&probability) {
            let found = format!("{probability} for {}", part.name());
            return Err(Error::invalid("p", found, "0 to 1"));
        }
        self.probabilities[part.index()] = probability;
        Ok(self)
    }

    /// Whether each axis has a scale of its own; by default all have the one of z.
    pub fn scales_per_axis(mut self, per_axis: bool) -> Self {
        self.scales_per_axis = per_axis;
        self
    }

    /// The distance of the knots of an elastic displacement, in voxels of the patch; 16 by default.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] below 2.
    pub fn knot_voxels(mut self, voxels: usize) -> Result<Self> {
        if voxels < 2 {
            return Err(Error::invalid("elastic_knots", voxels, "at least 2 voxels"));
        }
        self.knot_voxels = voxels;
        Ok(self)
    }

    /// The interpolation of images, linear by default; labels are those of the nearest voxel.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The interpolation of images.
    pub(crate) fn get_order(&self) -> Order {
        self.order
    }

    /// Whether any spatial part may happen.
    pub(crate) fn is_spatial(&self) -> bool {
        use AugmentPart as P;
        let parts = [P::Rotation, P::Scale, P::Shear, P::Translation, P::Elastic];
        self.flips.contains(&true) || parts.iter().any(|&part| self.ranges(part).is_some())
    }

    /// The ranges of a part, unless it is off.
    pub(super) fn ranges(&self, part: AugmentPart) -> Option<[(f64, f64); 3]> {
        self.ranges[part.index()]
    }

    /// The probability of a part.
    pub(super) fn chance(&self, part: AugmentPart) -> f64 {
        self.probabilities[part.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a queue names its augmentation by this text: a change of it refuses states that
    /// were stored before.
    #[test]
    fn debug_text_never_changes() {
        let augment = Augment::default().part(AugmentPart::Gamma, [(0.5, 2.0); 3]).unwrap();
        let text = "Augment { ranges: [None, None, None, None, None, None, None, None, None, None, \
                    None, None, None, Some([(0.5, 2.0), (0.5, 2.0), (0.5, 2.0)])], probabilities: \
                    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], flips: \
                    [false, false, false], scales_per_axis: false, knot_voxels: 16, order: \
                    Linear }";
        assert_eq!(format!("{augment:?}"), text);
    }

    #[test]
    fn bad_ranges_are_refused() {
        use AugmentPart as P;
        let bad = [
            (P::Rotation, (10.0, -10.0)),
            (P::Rotation, (f64::NAN, 1.0)),
            (P::Scale, (0.0, 1.0)),
            (P::Scale, (0.5, f64::INFINITY)),
            (P::Shear, (-0.5, 0.0)),
            (P::Elastic, (-1.0, 1.0)),
            (P::Noise, (-0.1, 0.0)),
            (P::Blur, (0.0, 33.0)),
            (P::LowResolution, (0.5, 1.5)),
            (P::Gamma, (0.0, 1.0)),
            (P::Flip, (0.0, 0.0)),
        ];
        for (part, range) in bad {
            let error = Augment::default().part(part, [range; 3]).unwrap_err();
            assert!(error.to_string().contains(part.name()), "{error}");
        }
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(Augment::default().probability(P::Flip, p).is_err());
        }
        assert!(Augment::default().knot_voxels(1).is_err());
    }
}
