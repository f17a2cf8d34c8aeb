//! The parts of an augmentation.

/// One random change of a patch.
///
/// ```
/// use voxquarry::AugmentPart;
///
/// assert_eq!(AugmentPart::LowResolution.name(), "low_resolution");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AugmentPart {
    /// A turn about each of z, y and x, in degrees.
    Rotation,
    /// Magnification: 2 shows everything twice as large.
    Scale,
    /// What each axis moves along each other one, as a factor.
    Shear,
    /// A shift along z, y and x, in voxels.
    Translation,
    /// Mirroring of axes.
    Flip,
    /// The farthest displacement of a knot, in voxels.
    Elastic,
    /// The standard deviation of Gaussian noise.
    Noise,
    /// The standard deviation of a Gaussian filter along z, y and x, in voxels.
    Blur,
    /// A factor of all values.
    Brightness,
    /// A summand of all values.
    Shift,
    /// A factor of the distances to the patch's mean.
    Contrast,
    /// The part of the voxels along each axis that a coarser image has.
    LowResolution,
    /// The exponent of a gamma curve of the negative.
    InvertedGamma,
    /// The exponent of a gamma curve.
    Gamma,
}

impl AugmentPart {
    /// All parts, in the order in which they change a patch.
    pub const ALL: [Self; 14] = [
        Self::Rotation,
        Self::Scale,
        Self::Shear,
        Self::Translation,
        Self::Flip,
        Self::Elastic,
        Self::Noise,
        Self::Blur,
        Self::Brightness,
        Self::Shift,
        Self::Contrast,
        Self::LowResolution,
        Self::InvertedGamma,
        Self::Gamma,
    ];

    /// The name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::Scale => "scale",
            Self::Shear => "shear",
            Self::Translation => "translation",
            Self::Flip => "flip",
            Self::Elastic => "elastic",
            Self::Noise => "noise",
            Self::Blur => "blur",
            Self::Brightness => "brightness",
            Self::Shift => "shift",
            Self::Contrast => "contrast",
            Self::LowResolution => "low_resolution",
            Self::InvertedGamma => "inverted_gamma",
            Self::Gamma => "gamma",
        }
    }

    /// Its place in [`AugmentPart::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// What a number of this part may be: the bounds, and a text that says them.
    pub(super) fn bounds(self) -> (std::ops::RangeInclusive<f64>, &'static str) {
        match self {
            Self::Rotation => (-360.0..=360.0, "-360 to 360 degrees"),
            Self::Shear => (-0.49..=0.49, "-0.49 to 0.49"),
            Self::Translation => (-65_536.0..=65_536.0, "-65536 to 65536 voxels"),
            Self::Flip => (0.0..=0.0, "axes"),
            Self::Elastic => (0.0..=65_536.0, "0 to 65536 voxels"),
            Self::Noise => (0.0..=1e30, "0 to 1e30"),
            Self::Blur => (0.0..=32.0, "0 to 32 voxels"),
            Self::Brightness | Self::Contrast => (0.0..=1e6, "0 to 1000000"),
            Self::Shift => (-1e30..=1e30, "-1e30 to 1e30"),
            Self::LowResolution => (0.01..=1.0, "0.01 to 1"),
            Self::Scale | Self::InvertedGamma | Self::Gamma => (0.01..=100.0, "0.01 to 100"),
        }
    }

    /// Whether half of the draws lie below 1, and half above, where the range allows both.
    pub(super) const fn is_balanced(self) -> bool {
        matches!(self, Self::Brightness | Self::Contrast | Self::InvertedGamma | Self::Gamma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_place() {
        for (i, part) in AugmentPart::ALL.into_iter().enumerate() {
            assert_eq!(part.index(), i, "{part:?}");
        }
    }
}
