//! Pictures of volumes for the Python package: what `preview` draws, as the bytes of a PNG file.

use std::str::FromStr;

use voxquarry::{Error, Result, Subject, Volume};

use super::preview;
use crate::meeting::Meeting;
use crate::picture::{self, Convention, GreyWindow, Scene, Style};

/// How a volume is drawn.
#[derive(Clone, Debug, Default)]
pub struct PictureOptions {
    /// Where the slices meet, as `--at` of `voxquarry preview`; by default in the middle.
    pub at: Option<String>,
    /// The values that are black and white, as `--window`; by default percentiles.
    pub window: Option<String>,
    /// `radiological` (the default) or `neurological`.
    pub convention: Option<String>,
    /// Whether the subject's first label map is not drawn over an image.
    pub without_labels: bool,
}

/// Draws three slices of a volume, with labels and a legend; returns the bytes of a PNG file.
///
/// # Errors
/// [`Error::InvalidArgument`] for an option of another form, [`Error::Unsupported`] for a position
/// outside of the volume; those of reading.
pub fn picture_png(
    subject: &Subject,
    volume: &Volume,
    options: &PictureOptions,
) -> Result<Vec<u8>> {
    let at = parsed::<Meeting>("at", options.at.as_deref())?.unwrap_or(Meeting::Middle);
    let window = parsed::<GreyWindow>("window", options.window.as_deref())?.unwrap_or_default();
    let convention = match options.convention.as_deref() {
        None | Some("radiological") => Convention::Radiological,
        Some("neurological") => Convention::Neurological,
        Some(other) => {
            return Err(Error::invalid("convention", other, "radiological or neurological"));
        }
    };
    let style = Style { at: at.voxel(subject, volume)?, window, convention };
    let labels = if options.without_labels { None } else { preview::first_labels(subject)? };
    let scene = Scene {
        title: format!("{}/{}", subject.name(), volume.name()),
        volume,
        labels: labels.as_ref(),
        patches: &[],
        caption: String::new(),
        coverage: &[],
        style,
    };
    picture::draw(&scene)?.png().map_err(Error::io("a picture", "cannot encode"))
}

/// An option of that name, if it is given.
fn parsed<T: FromStr<Err = String>>(name: &'static str, text: Option<&str>) -> Result<Option<T>> {
    let invalid = |text: &str, expected: String| {
        Error::invalid(name, text, expected.trim_start_matches("expected ").to_owned())
    };
    text.map(|text| text.parse().map_err(|expected| invalid(text, expected))).transpose()
}
