//! A file of a series: its pixels, its frames, and what it belongs to.
//!
//! # Invariants
//! - What a file promises was compared with its length, so that nothing that is allocated later
//!   depends on a header alone.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};
use voxquarry::{Error, Result};

use super::bits::Rescale;
use super::dataset::DataSet;
use super::enhanced::{diffusion_of, frames_of, kind_of, rescale_of};
use super::frame::{Frame, FramePlane, Phase};
use super::origin::origin;
use super::parse::{ParsedFile, PixelBlock, PixelBytes, parse};
use super::pixel_form::PixelForm;
use super::segments::{Segments, segments_of};
use super::syntax::{PixelCoding, TransferSyntax};
use super::tags;

/// Most frames of a file.
const MAX_FRAMES: i64 = 1 << 18;
/// The largest ratio of deflate.
const MAX_EXPANSION: u64 = 1032;

/// A file with frames.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) path: PathBuf,
    pub(super) file_bytes: u64,
    pub(super) modified: Option<SystemTime>,
    pub(super) syntax: TransferSyntax,
    /// Bytes before the deflated part, if there is one.
    pub(super) plain_bytes: u64,
    pub(super) form: PixelForm,
    pub(super) pixels: PixelBlock,
    /// Frames in the file.
    pub(super) frame_count: usize,
    /// SOPInstanceUID, which names the file's content.
    pub(super) uid: String,
    pub(super) series: String,
    pub(super) series_number: Option<i64>,
    /// The series that a segmentation was made on.
    pub(super) referenced_series: String,
    /// What its frames are divided into; those of single images are one series.
    pub(super) part: String,
    pub(super) modality: String,
    pub(super) is_localizer: bool,
    /// A table of values that is not applied.
    pub(super) has_lut: bool,
    pub(super) segments: Option<Segments>,
    pub(super) origin: Map<String, Value>,
}

/// What a DICOM file is.
pub(super) enum FileContent {
    Image(Box<Instance>, Vec<Frame>),
    /// No image, and the words that say so.
    Other(String),
}

/// Reads the header of a file; its frames get the number `file`.
///
/// # Errors
/// [`Error::Data`] if it is damaged, or no frames that can be understood; [`Error::Unsupported`],
/// [`Error::Io`].
pub(super) fn read_instance(path: &Path, file: usize) -> Result<FileContent> {
    let ParsedFile { data, syntax, plain_bytes, pixels } = parse(path)?;
    let Some(pixels) = pixels else {
        if is_image(&data) {
            let message = "it ends before its pixels: copy or download it again";
            return Err(Error::data(path, message));
        }
        return Ok(FileContent::Other(what_it_is(&data)));
    };
    let metadata = path.metadata().map_err(Error::io(path, "cannot look at"))?;
    let located = |message: String| Error::data(path, message);
    let form = PixelForm::of(&data, pixels.tag).map_err(located)?;
    let frame_count = match data.integer(tags::NUMBER_OF_FRAMES) {
        None => 1,
        Some(count @ 1..=MAX_FRAMES) => count as usize,
        Some(count) => return Err(located(format!("it has {count} frames"))),
    };
    let image_type = data.words(tags::IMAGE_TYPE);
    let has = |word: &str| image_type.iter().any(|found| found == word);
    if has("MOSAIC") {
        let reason = format!("{}: a mosaic of slices in one image", path.display());
        return Err(Error::unsupported(reason, "convert the series with dcm2niix"));
    }
    let uid = data.word(tags::SOP_INSTANCE_UID);
    let concatenation = data.word(tags::CONCATENATION_UID);
    let part = match () {
        () if !concatenation.is_empty() => concatenation,
        () if frame_count > 1 || data.has(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE) => {
            uid.clone()
        }
        () => String::new(),
    };
    let segments = segments_of(&data).map_err(located)?;
    let instance = Instance {
        path: path.to_owned(),
        file_bytes: metadata.len(),
        modified: metadata.modified().ok(),
        syntax,
        plain_bytes,
        form,
        frame_count,
        uid,
        series: data.word(tags::SERIES_INSTANCE_UID),
        series_number: data.integer(tags::SERIES_NUMBER),
        referenced_series: data
            .item(tags::REFERENCED_SERIES_SEQUENCE)
            .map(|item| item.word(tags::SERIES_INSTANCE_UID))
            .unwrap_or_default(),
        part,
        modality: data.word(tags::MODALITY),
        is_localizer: has("LOCALIZER"),
        has_lut: data.has(tags::MODALITY_LUT_SEQUENCE),
        segments,
        origin: origin(&data, syntax),
        pixels,
    };
    instance.check_length()?;
    let frames = frames_of(&data, frame_count, &base_frame(&data, file)).map_err(located)?;
    Ok(FileContent::Image(Box::new(instance), frames))
}

impl Instance {
    /// Compares the pixels that the header promises with the file's length.
    fn check_length(&self) -> Result<()> {
        let located = |message: String| Error::data(&self.path, message);
        let bits = self.form.file_bits().checked_mul(self.frame_count as u64);
        let promised = bits.map_or(u64::MAX, |bits| bits.div_ceil(8));
        match &self.pixels.bytes {
            PixelBytes::Whole { bytes, .. } => {
                if self.syntax.pixels != PixelCoding::Native {
                    let name = self.syntax.name;
                    return Err(located(format!(
                        "its pixels are in one piece, which {name} has not"
                    )));
                }
                if *bytes < promised {
                    return Err(located(format!(
                        "it has {bytes} bytes of pixels, its header promises {promised}"
                    )));
                }
                let most = self.file_bytes.saturating_mul(MAX_EXPANSION);
                if self.pixels.is_cut || (self.syntax.is_deflated && promised > most) {
                    return Err(located(format!(
                        "it ends within its pixels, of which its header promises {promised} \
                         bytes: copy or download it again"
                    )));
                }
            }
            PixelBytes::Fragments { fragments, .. } => {
                if self.pixels.is_cut {
                    let message = "it ends within its pixels: copy or download it again";
                    return Err(located(message.to_owned()));
                }
                if fragments.len() < self.frame_count {
                    return Err(located(format!(
                        "it has {} fragments of pixels for {} frames",
                        fragments.len(),
                        self.frame_count
                    )));
                }
            }
        }
        if usize::try_from(promised).is_err() || promised > isize::MAX as u64 {
            return Err(located("its frames are larger than the address space".to_owned()));
        }
        Ok(())
    }
}

/// The frame that a file with a single one has.
fn base_frame(data: &DataSet, file: usize) -> Frame {
    // Nuclear medicine has positions of the detector.
    let place = data.item(tags::DETECTOR_INFORMATION_SEQUENCE);
    let place = place.filter(|_| !data.has(tags::IMAGE_POSITION_PATIENT)).unwrap_or(data);
    let spacing = data.spacing(tags::PIXEL_SPACING);
    let plane = FramePlane {
        position: place.decimals_of(tags::IMAGE_POSITION_PATIENT),
        orientation: place.decimals_of(tags::IMAGE_ORIENTATION_PATIENT),
        spacing: spacing.or_else(|| data.spacing(tags::IMAGER_PIXEL_SPACING)),
        thickness: data.decimal(tags::SLICE_THICKNESS),
        step: data.decimal(tags::SPACING_BETWEEN_SLICES),
    };
    let scaling = data.decimal(tags::DOSE_GRID_SCALING);
    let rescale = scaling.map(|slope| Rescale { slope, intercept: 0.0 });
    let echo = data.decimal(tags::ECHO_NUMBERS).or_else(|| data.decimal(tags::ECHO_TIME));
    Frame {
        file,
        number: 0,
        plane,
        rescale: rescale.unwrap_or_else(|| rescale_of(data)),
        kind: kind_of(data, tags::IMAGE_TYPE).into(),
        echo,
        order: data.integer(tags::INSTANCE_NUMBER),
        phase: Phase {
            dimensions: Vec::new(),
            temporal: data.integer(tags::TEMPORAL_POSITION_IDENTIFIER),
            diffusion: diffusion_of(data, data),
            trigger: data.decimal(tags::TRIGGER_TIME),
            acquisition: data.integer(tags::ACQUISITION_NUMBER),
        },
        segment: 0,
    }
}

/// Whether a file without pixels is the beginning of one with pixels: it has extents, or belongs to
/// a class of images, or ends before that is said.
fn is_image(data: &DataSet) -> bool {
    /// Classes of images: CR, CT, US, MR, NM, PET, RT images and doses, segmentations; and others
    /// that begin so.
    const IMAGES: [&str; 9] = ["1", "2", "3", "4", "6", "20", "128", "130", "66.4"];
    let class = data.word(tags::SOP_CLASS_UID);
    let storage = class.strip_prefix("1.2.840.10008.5.1.4.1.1.");
    let is_of_images = storage.is_some_and(|storage| {
        let is = |image: &&str| {
            let rest = storage.strip_prefix(*image);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        IMAGES.iter().any(is) || matches!(storage, "481.1" | "481.2")
    });
    let says_nothing = class.is_empty() && !data.has(tags::FIRST_DIRECTORY_RECORD);
    data.has(tags::ROWS) || is_of_images || says_nothing
}

/// Words for a file without pixels.
fn what_it_is(data: &DataSet) -> String {
    let modality = data.word(tags::MODALITY);
    match modality.as_str() {
        "RTSTRUCT" => "an RTSTRUCT, which holds contours: convert it to a mask, with 3D Slicer, \
                       plastimatch or rt-utils"
            .to_owned(),
        "" => "a DICOM object without pixels".to_owned(),
        _ => {
            let code: String =
                modality.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
            format!("a DICOM object ({code}) without pixels")
        }
    }
}
