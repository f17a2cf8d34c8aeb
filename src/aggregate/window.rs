//! Windows: how much each voxel of a patch counts.

use std::f64::consts::PI;

use crate::memory::collected;
use crate::{Error, Result, Size3};

/// The weights of a patch's voxels.
///
/// ```
/// use voxquarry::Window;
///
/// assert_eq!(Window::from_name("gaussian-nnunet")?, Window::GaussianNnunet);
/// // Weights of a patch of 2 × 2 × 4 voxels that fall towards both ends of x.
/// let window = Window::Custom([vec![1.0; 2], vec![1.0; 2], vec![0.5, 1.0, 1.0, 0.5]]);
/// # assert_ne!(window, Window::default());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Window {
    /// One patch counts for each voxel. Half the overlap is cut from faces inside the volume (from
    /// every face of a padded grid); where patches overlap even then, the later one counts. This is
    /// TorchIO's `crop`.
    Crop,
    /// All weights are equal: TorchIO's `average`, MONAI's `constant`.
    Average,
    /// `½ (1 − cos(2π (n + 1) / (p + 1)))` for voxel `n` of `p` on each axis: TorchIO's `hann`.
    #[default]
    Hann,
    /// `exp(−d² / 2σ²)`, σ = p / 8, at distance `d` from the middle; the product over the axes is
    /// at least 1e-3. This is MONAI's `gaussian`.
    Gaussian,
    /// As `Gaussian`, with σ = p × these numbers on the axes `(z, y, x)`, which are positive:
    /// MONAI's `sigma_scale`.
    GaussianOf([f64; 3]),
    /// `exp(−d² / 2σ²)`, σ = p / 8, at distance `d` from voxel p / 2: nnU-Net's.
    GaussianNnunet,
    /// These weights for each axis `(z, y, x)`, one for each voxel, positive; the window is their
    /// product.
    Custom([Vec<f64>; 3]),
}

/// A window for one patch size: the product of three profiles, but at least `floor`.
#[derive(Debug)]
pub(super) struct WindowWeights {
    pub(super) profiles: [Vec<f64>; 3],
    pub(super) floor: f64,
    /// The profile of x divided by its largest weight.
    pub(super) along_x: Vec<f32>,
}

/// The least product of weights in MONAI's Gaussian.
const GAUSSIAN_FLOOR: f64 = 1e-3;

impl Window {
    /// The window of a name: `crop`, `average`, `hann`, `gaussian` or `gaussian-nnunet`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another name.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "crop" => Self::Crop,
            "average" => Self::Average,
            "hann" => Self::Hann,
            "gaussian" => Self::Gaussian,
            "gaussian-nnunet" => Self::GaussianNnunet,
            _ => {
                let expected = "crop, average, hann, gaussian or gaussian-nnunet";
                return Err(Error::invalid("window", format!("{name:?}"), expected));
            }
        })
    }

    /// The weights for patches of one size.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for weights that are not positive and finite, or do not fit.
    pub(super) fn weights(&self, patch_size: Size3) -> Result<WindowWeights> {
        let profiles = match self {
            Self::Custom(profiles) => {
                for (profile, p) in profiles.iter().zip(patch_size) {
                    let bad = profile.iter().find(|w| !(w.is_finite() && **w > 0.0));
                    if profile.len() != p || bad.is_some() {
                        let found = bad.map_or(String::new(), |w| format!(", one of them {w}"));
                        return Err(Error::invalid(
                            "window",
                            format!("of {} weights{found}", profile.len()),
                            format!("{p} positive and finite weights: every voxel needs one"),
                        ));
                    }
                }
                profiles.clone()
            }
            Self::GaussianOf(scales) if scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) => {
                return Err(Error::invalid(
                    "window",
                    format!("gaussian of sigma {scales:?} (z, y, x)"),
                    "positive and finite parts of the patch's extents",
                ));
            }
            _ => {
                let profile = |axis: usize| {
                    let p = patch_size[axis];
                    let weights = (0..p).map(|n| self.weight(axis, n as f64, p as f64));
                    collected(weights, p as u64, || format!("a window of {p} weights"))
                };
                [profile(0)?, profile(1)?, profile(2)?]
            }
        };
        let least = |profile: &Vec<f64>| profile.iter().copied().fold(f64::INFINITY, f64::min);
        let floor = match self {
            Self::Gaussian | Self::GaussianOf(_) => {
                profiles.iter().map(least).product::<f64>().max(GAUSSIAN_FLOOR)
            }
            _ => 0.0,
        };
        let largest = profiles[2].iter().copied().fold(0.0, f64::max);
        let along_x = profiles[2].iter().map(|weight| (weight / largest) as f32);
        let what = || format!("a window of {} weights", profiles[2].len());
        let along_x = collected(along_x, profiles[2].len() as u64, what)?;
        Ok(WindowWeights { profiles, floor, along_x })
    }

    /// The weight of voxel `n` of `p` on `axis`.
    fn weight(&self, axis: usize, n: f64, p: f64) -> f64 {
        let scale = if let Self::GaussianOf(scales) = self { scales[axis] } else { 0.125 };
        let gaussian = |centre: f64| (-(n - centre).powi(2) / (2.0 * (scale * p).powi(2))).exp();
        match self {
            Self::Hann => 0.5 * (1.0 - (2.0 * PI * (n + 1.0) / (p + 1.0)).cos()),
            Self::Gaussian | Self::GaussianOf(_) => gaussian((p - 1.0) / 2.0),
            Self::GaussianNnunet => gaussian((p / 2.0).floor()),
            _ => 1.0,
        }
    }
}

impl WindowWeights {
    /// The weight of a voxel: `outer` comes from two axes, `inner` from the third.
    pub(super) fn product(&self, outer: f64, inner: f64) -> f64 {
        (outer * inner).max(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hann_is_positive_and_symmetric() {
        let weights = Window::Hann.weights([1, 2, 5]).unwrap().profiles;
        assert_eq!(weights[0], [1.0]);
        assert!((weights[1][0] - 0.75).abs() < 1e-15 && (weights[1][1] - 0.75).abs() < 1e-15);
        for (found, expected) in weights[2].iter().zip([0.25, 0.75, 1.0, 0.75, 0.25]) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn gaussians_have_their_centres_and_floor() {
        let monai = Window::Gaussian.weights([8; 3]).unwrap();
        // exp(−0.5² / 2) at the middle, exp(−3.5² / 2) at the ends, and a product of at least 1e-3.
        assert!((monai.profiles[0][3] - (-0.125f64).exp()).abs() < 1e-15);
        assert!((monai.profiles[0][7] - (-6.125f64).exp()).abs() < 1e-15);
        assert_eq!(monai.floor.to_bits(), 1e-3f64.to_bits());
        assert_eq!(monai.product(1e-2, 1e-2).to_bits(), 1e-3f64.to_bits());
        let nnunet = Window::GaussianNnunet.weights([8, 7, 1]).unwrap();
        assert_eq!([nnunet.profiles[0][4], nnunet.profiles[1][3], nnunet.profiles[2][0]], [1.0; 3]);
        assert!((nnunet.profiles[0][0] - (-8f64).exp()).abs() < 1e-15);
    }

    #[test]
    fn a_gaussian_of_other_sigmas() {
        let eighths = Window::GaussianOf([0.125; 3]).weights([8, 5, 1]).unwrap();
        let gaussian = Window::Gaussian.weights([8, 5, 1]).unwrap();
        assert_eq!((eighths.profiles, eighths.floor), (gaussian.profiles, gaussian.floor));
        let other = Window::GaussianOf([0.5, 0.25, 0.125]).weights([4, 4, 4]).unwrap();
        // exp(−1.5² / 2σ²), σ = 2, 1 and ½.
        for (profile, exponent) in other.profiles.iter().zip([-0.28125f64, -1.125, -4.5]) {
            assert!((profile[0] - exponent.exp()).abs() < 1e-15);
        }
        for wrong in [0.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(Window::GaussianOf([0.125, wrong, 0.125]).weights([4; 3]).is_err());
        }
    }

    #[test]
    fn custom_windows_are_checked() {
        let custom = |w: Vec<f64>| Window::Custom([vec![1.0], vec![1.0], w]).weights([1, 1, 2]);
        assert!(custom(vec![1.0, 2.0]).is_ok());
        assert!(custom(vec![1.0]).is_err());
        assert!(custom(vec![1.0, 0.0]).is_err());
        assert!(custom(vec![1.0, f64::NAN]).is_err());
    }
}
