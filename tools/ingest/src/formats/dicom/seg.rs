//! Yields the voxels of a segmentation: labels, or a channel for each segment where they overlap or
//! are fractions.
//!
//! # Invariants
//! - Voxels that no frame covers are 0.
//! - Whether segments overlap is looked up in their pixels, whatever the file says.

use voxquarry::format::attributes::LabelName;
use voxquarry::{Dtype, Error, Result};

use super::bits::unpack_bits;
use super::codec;
use super::frame::Frame;
use super::frame_bytes::FrameFiles;
use super::instance::Instance;
use super::seg_grid::SegmentGrid;
use super::segments::{SegmentCoding, Segments};
use super::syntax::PixelCoding;
use crate::files::{resized, zeroed};
use crate::formats::format::OpenedVolume;
use crate::source::{SourceDigest, SourceVolume, VoxelStream};

/// A segmentation whose frames have their places.
pub(super) struct OpenedSegments {
    volume: SourceVolume,
    masks: MaskFrames,
    notes: Vec<String>,
    label_names: Vec<LabelName>,
}

/// The frames of a segmentation.
struct MaskFrames {
    files: FrameFiles,
    coding: SegmentCoding,
    frames: Vec<Frame>,
    /// The frames of each slice of each channel, as a range of `cells`.
    starts: Vec<usize>,
    cells: Vec<usize>,
    /// A buffer for what is encoded, and one for a frame.
    encoded: Vec<u8>,
    frame: Vec<u8>,
}

/// Opens a segmentation.
///
/// # Errors
/// [`Error::Data`] if it is damaged, [`Error::Unsupported`] if its pixels are encoded in a way that
/// is not read, [`Error::Io`].
pub(super) fn open(
    files: Vec<Instance>,
    grid: SegmentGrid,
    segments: &Segments,
    mut notes: Vec<String>,
) -> Result<OpenedSegments> {
    let SegmentGrid { frames: placed, slices, affine, notes: more } = grid;
    notes.extend(more);
    let first = files[0].clone();
    for file in &files {
        codec::check(file.syntax, &file.form).map_err(|(reason, remedy)| {
            Error::unsupported(format!("{}: {reason}", file.path.display()), remedy)
        })?;
    }
    check_frames(&first, &placed, segments.coding)?;
    let (slice_of, frames): (Vec<usize>, Vec<Frame>) = placed.into_iter().unzip();
    let files = FrameFiles::new(files)?;
    let mut masks = MaskFrames {
        files,
        coding: segments.coding,
        frames,
        starts: Vec::new(),
        cells: Vec::new(),
        encoded: Vec::new(),
        frame: zeroed(first.form.pixels() * first.form.stored_dtype().size())?,
    };
    let mut numbers: Vec<u16> = segments.named.iter().map(|(number, _)| *number).collect();
    numbers.extend(masks.frames.iter().map(|frame| frame.segment));
    numbers.sort_unstable();
    numbers.dedup();
    masks.arrange(&slice_of, slices, &[]);
    let is_apart = match segments.coding {
        SegmentCoding::LabelMap => false,
        SegmentCoding::Fractional => true,
        SegmentCoding::Binary => masks.overlaps()?,
    };
    if is_apart {
        masks.arrange(&slice_of, slices, &numbers);
        if segments.coding == SegmentCoding::Binary {
            notes.push("its segments overlap: each is a channel, which holds its number".into());
        } else {
            notes.push("its segments are fractions: each is a channel".into());
        }
    }
    let channels = if is_apart { numbers.len() } else { 1 };
    let dtype = match segments.coding {
        SegmentCoding::Binary if numbers.last().is_some_and(|number| *number > 255) => {
            Dtype::UInt16
        }
        SegmentCoding::Binary => Dtype::UInt8,
        _ => first.form.stored_dtype(),
    };
    let is_fraction = segments.coding == SegmentCoding::Fractional;
    let volume = SourceVolume {
        size: [slices, first.form.rows, first.form.columns],
        channels: (channels > 1).then_some(channels),
        interleaved: 1,
        dtype,
        affine,
        unit: None,
        slope: if is_fraction { 1.0 / f64::from(segments.maximum) } else { 1.0 },
        intercept: 0.0,
        origin: first.origin,
    };
    volume.affine.validate().map_err(|e| Error::data(&first.path, e))?;
    let label_names = if is_fraction { Vec::new() } else { segments.label_names() };
    Ok(OpenedSegments { volume, masks, notes, label_names })
}

/// Refuses frames without a segment, and two of one segment on a slice.
fn check_frames(file: &Instance, placed: &[(usize, Frame)], coding: SegmentCoding) -> Result<()> {
    let is_map = coding == SegmentCoding::LabelMap;
    let nameless = placed.iter().find(|(_, frame)| !is_map && frame.segment == 0);
    if let Some((_, frame)) = nameless {
        let message = format!("frame {} states no segment", frame.number + 1);
        return Err(Error::data(&file.path, message));
    }
    if file.form.samples != 1 {
        return Err(Error::data(&file.path, "its segments have colours"));
    }
    let is_twice = |pair: &&[(usize, Frame)]| {
        pair[0].0 == pair[1].0 && (is_map || pair[0].1.segment == pair[1].1.segment)
    };
    match placed.windows(2).find(is_twice) {
        None => Ok(()),
        Some(pair) => {
            let [a, b] = [&pair[0].1, &pair[1].1].map(|frame| frame.number + 1);
            Err(Error::data(&file.path, format!("frames {a} and {b} are of one segment and slice")))
        }
    }
}

impl OpenedVolume for OpenedSegments {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, _steps: usize) -> u64 {
        let of = |frame: &Frame| {
            let Instance { syntax, form, .. } = self.masks.files.instance(frame);
            let encoded = self.masks.files.encoded_bytes(frame) as u64;
            encoded + form.frame_bytes() as u64 + codec::working_bytes(*syntax, form)
        };
        let largest = self.masks.frames.iter().map(of).max().unwrap_or(0);
        largest + 8 * self.masks.starts.len() as u64
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn label_names(&self) -> Vec<LabelName> {
        self.label_names.clone()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let Self { volume, masks, .. } = *self;
        Ok(Box::new(MaskStream { volume, masks, next: 0 }))
    }
}

impl MaskFrames {
    /// Lists the frames of each slice, for each of `channels`; of all segments if there are none.
    fn arrange(&mut self, slice_of: &[usize], slices: usize, channels: &[u16]) {
        let channel_of = |frame: &Frame| {
            channels.iter().position(|number| *number == frame.segment).unwrap_or(0)
        };
        let cell = |i: usize| channel_of(&self.frames[i]) * slices + slice_of[i];
        let mut cells: Vec<usize> = (0..self.frames.len()).collect();
        cells.sort_by_key(|&i| cell(i));
        let mut starts = vec![0; slices * channels.len().max(1) + 1];
        for &i in &cells {
            starts[cell(i) + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        (self.starts, self.cells) = (starts, cells);
    }

    /// Reads a frame: a byte for each pixel, or a sample.
    fn read(&mut self, number: usize) -> Result<()> {
        let frame = &self.frames[number];
        let (instance, pixels) = (self.files.instance(frame), &mut self.frame);
        let bytes = self.files.encoded_bytes(frame);
        let encoded = resized(&mut self.encoded, bytes)?;
        let first = self.files.read(frame, encoded)?;
        let wrong = |message: String| Error::data(&instance.path, message);
        if instance.syntax.pixels != PixelCoding::Native {
            let decoded = codec::decode(instance.syntax, &instance.form, encoded, pixels);
            return decoded.map_err(|m| wrong(format!("frame {}: {m}", frame.number + 1)));
        }
        super::stream::in_order(instance, encoded);
        if instance.form.sample.bits() == 1 {
            unpack_bits(encoded, first, pixels);
        } else if encoded.len() >= first / 8 + pixels.len() {
            let whole = pixels.len();
            pixels.copy_from_slice(&encoded[first / 8..][..whole]);
        } else {
            return Err(wrong("its frames are too short".to_owned()));
        }
        Ok(())
    }

    /// Whether a pixel belongs to several segments.
    fn overlaps(&mut self) -> Result<bool> {
        let mut seen = zeroed(self.frame.len())?;
        for slice in 0..self.starts.len() - 1 {
            let cells = self.starts[slice]..self.starts[slice + 1];
            if cells.len() < 2 {
                continue;
            }
            seen.fill(0);
            for i in cells {
                self.read(self.cells[i])?;
                for (seen, pixel) in seen.iter_mut().zip(&self.frame) {
                    let both = *seen & u8::from(*pixel != 0);
                    *seen |= u8::from(*pixel != 0) | both << 1;
                }
                if seen.iter().any(|seen| *seen > 1) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Puts the frames of a cell into `out`.
    fn fill(&mut self, cell: usize, dtype: Dtype, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        for i in self.starts[cell]..self.starts[cell + 1] {
            let number = self.cells[i];
            self.read(number)?;
            if self.coding != SegmentCoding::Binary {
                out.copy_from_slice(&self.frame);
                continue;
            }
            let label = self.frames[number].segment.to_le_bytes();
            for (place, pixel) in out.chunks_exact_mut(dtype.size()).zip(&self.frame) {
                if *pixel != 0 {
                    place.copy_from_slice(&label[..dtype.size()]);
                }
            }
        }
        Ok(())
    }
}

struct MaskStream {
    volume: SourceVolume,
    masks: MaskFrames,
    next: usize,
}

impl VoxelStream for MaskStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        for plane in out.chunks_exact_mut(out.len() / steps) {
            self.masks.fill(self.next, self.volume.dtype, plane)?;
            self.next += 1;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        self.masks.files.finish()
    }
}
