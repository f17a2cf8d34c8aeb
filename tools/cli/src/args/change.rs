//! The arguments of `voxquarry ingest` that change voxels.

use clap::Args;
use voxquarry::{Dtype, Normalization};
use voxquarry_ingest::IngestOptions;

// Not a documentation comment, which would become that of the command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Change voxels, in this order")]
pub(crate) struct ChangeArgs {
    /// Crop each subject to the box of the voxels of its images that are not 0.
    #[arg(long)]
    pub(crate) crop_foreground: bool,
    /// The least and the largest real value of images, as in -1000,1000; inf for none.
    #[arg(long, value_name = "LO,HI", value_parser = parse_bounds, allow_hyphen_values = true)]
    pub(crate) clip: Option<(f64, f64)>,
    /// Exchange and mirror axes so that they ascend as RAS+; voxels stay as they are.
    #[arg(long)]
    pub(crate) canonical: bool,
    /// Resample to voxels of this size, in the unit of the affine (millimetres): images linearly,
    /// labels to the nearest voxel.
    #[arg(long, value_name = "Z,Y,X", value_parser = parse_spacing, allow_hyphen_values = true)]
    pub(crate) spacing: Option<[f64; 3]>,
    /// Normalise images: zscore (mean 0, deviation 1), or LO,HI, which become 0 and 1 and bound
    /// what lies outside. They become float32 unless --dtype says otherwise.
    #[arg(
        long,
        value_name = "zscore|LO,HI",
        value_parser = parse_normalization,
        allow_hyphen_values = true
    )]
    pub(crate) normalize: Option<Normalization>,
    /// The element type of images, as int16 or float32. A value that it does not hold is an error.
    #[arg(long, value_name = "T", value_parser = parse_dtype)]
    pub(crate) dtype: Option<Dtype>,
}

impl ChangeArgs {
    /// The options with these changes.
    pub(crate) fn apply(&self, options: IngestOptions) -> IngestOptions {
        options
            .crop_foreground(self.crop_foreground)
            .clip(self.clip)
            .canonical(self.canonical)
            .target_spacing(self.spacing)
            .normalize(self.normalize)
            .dtype(self.dtype)
    }
}

/// Parses an element type: `uint16`.
pub(super) fn parse_dtype(text: &str) -> Result<Dtype, String> {
    Dtype::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Dtype::ALL.iter().map(|dtype| dtype.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Parses numbers that commas separate.
fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split(',').map(|n| n.trim().parse().ok().filter(|n: &f64| !n.is_nan())).collect()
}

/// Parses a spacing: `5,0.8,0.8`, or one number for all axes.
fn parse_spacing(text: &str) -> Result<[f64; 3], String> {
    let spacing = match numbers(text).as_deref() {
        Some(&[mm]) => [mm; 3],
        Some(&[z, y, x]) => [z, y, x],
        _ => [f64::NAN; 3],
    };
    if spacing.iter().all(|&mm| mm > 0.0 && mm.is_finite()) {
        return Ok(spacing);
    }
    Err("expected finite numbers above 0 along z,y,x, or one for all, as in 1,0.8,0.8".into())
}

/// Parses the bounds of values: `-1000,400`.
fn parse_bounds(text: &str) -> Result<(f64, f64), String> {
    match numbers(text).as_deref() {
        Some(&[low, high]) if low < high => Ok((low, high)),
        _ => Err("expected LO,HI, the lower one first, as in -1000,400".into()),
    }
}

/// Parses a normalisation: `zscore`, or a window as `-160,240`.
fn parse_normalization(text: &str) -> Result<Normalization, String> {
    if text == "zscore" {
        return Ok(Normalization::ZScore);
    }
    let window = parse_bounds(text).map(|(low, high)| Normalization::Window(low, high));
    match window {
        Ok(window) if window.check().is_ok() => Ok(window),
        _ => Err("expected zscore, or LO,HI, the lower one first, as in -160,240".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked_as_they_are_read() {
        assert_eq!(parse_spacing("1").unwrap(), [1.0; 3]);
        assert_eq!(parse_spacing("5, 0.8,0.7").unwrap(), [5.0, 0.8, 0.7]);
        for text in ["0", "-1,1,1", "1,2", "nan", "1,inf,1", "a", ""] {
            assert!(parse_spacing(text).is_err(), "{text}");
        }
        assert_eq!(parse_bounds("-1000,400").unwrap(), (-1000.0, 400.0));
        assert_eq!(parse_bounds("0,inf").unwrap(), (0.0, f64::INFINITY));
        for text in ["1,0", "1,1", "1", "nan,2", "1,2,3"] {
            assert!(parse_bounds(text).is_err(), "{text}");
        }
        assert_eq!(parse_normalization("zscore").unwrap(), Normalization::ZScore);
        let window = Normalization::Window(-160.0, 240.0);
        assert_eq!(parse_normalization("-160,240").unwrap(), window);
        for text in ["z", "0,inf", "2,1"] {
            assert!(parse_normalization(text).is_err(), "{text}");
        }
    }
}
