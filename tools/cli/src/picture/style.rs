//! What a user chooses about a picture: the values that are black and white, and the side of the
//! patient's right.

use std::str::FromStr;

use voxquarry::Size3;

/// Where the slices of a picture lie and how they look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// The voxel `(z, y, x)` that the slices go through; by default the one in the middle.
    pub(crate) at: Option<Size3>,
    pub(crate) window: GreyWindow,
    pub(crate) convention: Convention,
}

/// The side on which axial and coronal views show the patient's right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Convention {
    /// The patient's right is on the left.
    #[default]
    Radiological,
    /// The patient's right is on the right.
    Neurological,
}

/// The values that are drawn as black and white.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum GreyWindow {
    /// Percentiles of the slices.
    #[default]
    Robust,
    /// Two real values, the first one smaller.
    Fixed([f64; 2]),
}

/// Of CT, in Hounsfield units: width 1500 at -600, 2000 at 400, 400 at 40, 80 at 40.
const PRESETS: [(&str, [f64; 2]); 4] = [
    ("lung", [-1350.0, 150.0]),
    ("bone", [-600.0, 1400.0]),
    ("soft", [-160.0, 240.0]),
    ("brain", [0.0, 80.0]),
];

impl FromStr for GreyWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, window)) = PRESETS.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Fixed(*window));
        }
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[low, high]) if low.is_finite() && high.is_finite() && low < high => {
                Ok(Self::Fixed([low, high]))
            }
            _ => Err("expected lung, bone, soft, brain, or LOW,HIGH as in -160,240".to_owned()),
        }
    }
}

impl GreyWindow {
    /// The values to draw as black and white, of all that is drawn.
    pub(super) fn of(self, drawn: impl Iterator<Item = f64>) -> [f64; 2] {
        match self {
            Self::Fixed(window) => window,
            Self::Robust => robust(drawn),
        }
    }
}

/// Percentiles that leave out extremes, and leave the brightest tissue its shades.
fn robust(drawn: impl Iterator<Item = f64>) -> [f64; 2] {
    const PERCENTILES: [f64; 2] = [0.005, 0.999];
    let mut values: Vec<f64> = drawn.filter(|v| v.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return [0.0, 1.0] };
    let window = PERCENTILES.map(|p| values[(last as f64 * p).round() as usize]);
    // With a few bright voxels on an even background both percentiles are equal: use the extremes.
    if window[0] < window[1] { window } else { [values[0], values[last]] }
}

/// The grey of a value: black for NaN, mid-grey if all values are equal.
pub(super) fn grey(value: f64, [black, white]: [f64; 2]) -> u8 {
    if value.is_nan() {
        0
    } else if black < white {
        (255.0 * (value - black) / (white - black)).round() as u8
    } else {
        128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_ignore_outliers_and_survive_constants() {
        let mut values: Vec<f64> = (0..1000).map(f64::from).collect();
        values[0] = -1e9;
        values[999] = 1e9;
        values[500] = f64::NAN;
        let bits = |values: &[f64]| robust(values.iter().copied()).map(f64::to_bits);
        assert_eq!(bits(&values), [5.0, 998.0].map(f64::to_bits));
        assert_eq!(bits(&[3.0; 9]), [3.0, 3.0].map(f64::to_bits));
        let mut spot = vec![0.0; 5000];
        spot[7] = 4.0;
        assert_eq!(bits(&spot), [0.0, 4.0].map(f64::to_bits));
        assert_eq!(bits(&[f64::NAN]), [0.0, 1.0].map(f64::to_bits));
    }

    #[test]
    fn greys_saturate() {
        let found = [-1.0, 0.0, 1.0, 2.0, 9.0, f64::NAN].map(|v| grey(v, [0.0, 2.0]));
        assert_eq!(found, [0, 0, 128, 255, 255, 0]);
        assert_eq!(grey(3.0, [3.0, 3.0]), 128);
    }

    #[test]
    fn windows_have_names_or_two_numbers() {
        let of = |text: &str| text.parse::<GreyWindow>();
        assert_eq!(of("brain"), Ok(GreyWindow::Fixed([0.0, 80.0])));
        assert_eq!(of("-160, 240.5"), Ok(GreyWindow::Fixed([-160.0, 240.5])));
        for text in ["liver", "1", "2,1", "1,1", "1,2,3", "nan,1", "0,inf", ""] {
            assert!(of(text).unwrap_err().contains("lung"), "{text}");
        }
    }
}
