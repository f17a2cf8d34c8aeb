//! Yields the frames of an image in order: reads, decodes, settles bits and converts them.
//!
//! # Invariants
//! - A thread holds one frame at a time; [`OpenedImage::working_bytes`] counts them.
//!
//! Not here: segmentations (`seg`).

use std::sync::{Mutex, PoisonError};
use std::thread;

use voxquarry::{Dtype, Error, Result};

use super::bits::{Rescale, convert, rgb_of_ybr, settle_bits, spread_422, unpack_bits};
use super::codec;
use super::frame::Frame;
use super::frame_bytes::FrameFiles;
use super::instance::Instance;
use super::pixel_form::Photometric;
use super::syntax::PixelCoding;
use crate::files::{resized, zeroed};
use crate::formats::format::OpenedVolume;
use crate::formats::voxels;
use crate::source::{SourceDigest, SourceVolume, VoxelStream};

/// Threads that decode frames at one time.
const MAX_WORKERS: usize = 4;

/// Frames in order, as a volume.
pub(super) struct OpenedImage {
    pub(super) volume: SourceVolume,
    pub(super) files: FrameFiles,
    pub(super) frames: Vec<Frame>,
    /// Whether voxels are real values, as slices have slopes of their own.
    pub(super) is_real: bool,
    pub(super) notes: Vec<String>,
}

impl OpenedVolume for OpenedImage {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, steps: usize) -> u64 {
        let of = |frame: &Frame| {
            let Instance { syntax, form, .. } = self.files.instance(frame);
            let whole = self.files.encoded_bytes(frame) as u64 + 3 * form.frame_bytes() as u64;
            whole + codec::working_bytes(*syntax, form) + (1 << 20)
        };
        let each = self.frames.iter().map(of).max().unwrap_or(0);
        each * workers(steps) as u64
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let Self { volume, files, frames, is_real, .. } = *self;
        Ok(Box::new(FrameStream { volume, files, frames, is_real, next: 0 }))
    }
}

fn workers(steps: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(MAX_WORKERS).min(steps).max(1)
}

struct FrameStream {
    volume: SourceVolume,
    files: FrameFiles,
    frames: Vec<Frame>,
    is_real: bool,
    next: usize,
}

impl VoxelStream for FrameStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let frames = &self.frames[self.next..self.next + steps];
        self.next += steps;
        let samples = self.volume.interleaved;
        let plane = out.len() / steps / samples;
        // The planes of each frame, one of each sample.
        let mut planes: Vec<Vec<&mut [u8]>> = (0..steps).map(|_| Vec::new()).collect();
        for (i, bytes) in out.chunks_exact_mut(plane).enumerate() {
            planes[i % steps].push(bytes);
        }
        let (count, this) = (workers(steps), &*self);
        let mut parts: Vec<FramesAndPlanes<'_, '_>> = (0..count).map(|_| Vec::new()).collect();
        for (i, work) in frames.iter().zip(planes).enumerate() {
            parts[i % count].push(work);
        }
        let each = |part: FramesAndPlanes<'_, '_>| -> Result<()> {
            let mut scratch = Scratch::default();
            part.into_iter().try_for_each(|(frame, out)| this.frame(frame, out, &mut scratch))
        };
        let parts = Mutex::new(parts);
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let decode = || std::iter::from_fn(next).try_for_each(each);
        thread::scope(|scope| {
            let begin = |_| {
                let named = thread::Builder::new().name("voxquarry-decode".into());
                named.spawn_scoped(scope, decode).ok()
            };
            // Where the system grants fewer threads, those do all the work.
            let threads: Vec<_> = (1..count).map_while(begin).collect();
            let own = decode();
            let join = |thread: thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().expect("decoding does not panic")
            };
            threads.into_iter().map(join).fold(own, Result::and)
        })
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        self.files.finish()
    }
}

/// Frames, each with the planes that its samples belong into.
type FramesAndPlanes<'a, 'b> = Vec<(&'a Frame, Vec<&'b mut [u8]>)>;

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    encoded: Vec<u8>,
    samples: Vec<u8>,
}

impl FrameStream {
    /// Puts the voxels of a frame into its planes.
    fn frame(&self, frame: &Frame, mut out: Vec<&mut [u8]>, scratch: &mut Scratch) -> Result<()> {
        let instance = self.files.instance(frame);
        let form = &instance.form;
        let (stored, dtype) = (form.stored_dtype(), self.volume.dtype);
        let is_direct = form.samples == 1 && stored == dtype && !self.is_real;
        if let (true, [plane]) = (is_direct, &mut out[..]) {
            return self.samples(frame, plane, &mut scratch.encoded);
        }
        let samples = resized(&mut scratch.samples, form.frame_bytes())?;
        self.samples(frame, samples, &mut scratch.encoded)?;
        let same = Rescale { slope: 1.0, intercept: 0.0 };
        let rescale = if self.is_real { frame.rescale } else { same };
        for (plane, samples) in
            out.iter_mut().zip(samples.chunks_exact(samples.len() / form.samples))
        {
            convert(samples, stored, rescale, dtype, plane);
        }
        Ok(())
    }

    /// Reads the samples of a frame, those of each plane together.
    fn samples(&self, frame: &Frame, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<()> {
        let instance = self.files.instance(frame);
        let form = &instance.form;
        let (is_packed, width) = (form.sample.bits() == 1, form.stored_dtype().size());
        let is_plain = (form.samples == 1 || form.is_planar) && !is_packed;
        if instance.syntax.pixels == PixelCoding::Native {
            let bytes = self.files.encoded_bytes(frame);
            if is_plain && bytes == out.len() {
                self.files.read(frame, out)?;
                in_order(instance, out);
            } else {
                let packed = resized(scratch, bytes)?;
                let first = self.files.read(frame, packed)?;
                in_order(instance, packed);
                match form.photometric {
                    _ if is_packed => unpack_bits(packed, first, out),
                    Photometric::YbrFull422 => {
                        let mut pixels = zeroed(out.len())?;
                        spread_422(packed, form, &mut pixels);
                        codec::split(&pixels, 1, out);
                    }
                    // Encapsulated frames have an even number of bytes.
                    _ if is_plain && packed.len() >= first / 8 + out.len() => {
                        out.copy_from_slice(&packed[first / 8..][..out.len()]);
                    }
                    _ if form.samples == 3 && packed.len() >= first / 8 + out.len() => {
                        codec::split(&packed[first / 8..][..out.len()], width, out);
                    }
                    _ => return Err(wrong_length(instance, bytes, out.len())),
                }
            }
        } else {
            let encoded = resized(scratch, self.files.encoded_bytes(frame))?;
            self.files.read(frame, encoded)?;
            let failed = |message: String| {
                let number = frame.number + 1;
                Error::data(&instance.path, format!("frame {number}: {message}"))
            };
            codec::decode(instance.syntax, form, encoded, out).map_err(failed)?;
        }
        let is_coded = matches!(instance.syntax.pixels, PixelCoding::Native | PixelCoding::Rle);
        if is_coded && matches!(form.photometric, Photometric::YbrFull | Photometric::YbrFull422) {
            rgb_of_ybr(out);
        }
        settle_bits(out, form.sample);
        Ok(())
    }
}

fn wrong_length(instance: &Instance, found: usize, expected: usize) -> Error {
    let message = format!("a frame of its pixels has {found} bytes, expected {expected}");
    Error::data(&instance.path, message)
}

/// Makes the samples of a big endian file little endian.
pub(super) fn in_order(instance: &Instance, samples: &mut [u8]) {
    if !instance.syntax.is_big {
        return;
    }
    let width = if instance.has_swapped_words() { 2 } else { instance.form.stored_dtype().size() };
    voxels::swap(samples, width);
}

/// The dtype that holds the samples of all frames.
pub(super) fn common_dtype(dtypes: impl Iterator<Item = Dtype>) -> Dtype {
    dtypes.reduce(joined).unwrap_or(Dtype::UInt8)
}

fn joined(a: Dtype, b: Dtype) -> Dtype {
    let is_signed = |dtype| matches!(dtype, Dtype::Int8 | Dtype::Int16 | Dtype::Int32);
    let is_float = |dtype| matches!(dtype, Dtype::Float32 | Dtype::Float64);
    let (small, large) = if a.size() <= b.size() { (a, b) } else { (b, a) };
    match () {
        () if a == b => a,
        () if is_float(a) || is_float(b) => Dtype::Float64,
        () if is_signed(a) == is_signed(b) => large,
        () if is_signed(large) && small.size() < large.size() => large,
        // Both signs: the next larger signed type.
        () => match large.size() {
            1 => Dtype::Int16,
            2 => Dtype::Int32,
            _ => Dtype::Int64,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_dtype_holds_both() {
        for (a, b, expected) in [
            (Dtype::Int16, Dtype::Int16, Dtype::Int16),
            (Dtype::UInt16, Dtype::Int16, Dtype::Int32),
            (Dtype::UInt8, Dtype::Int16, Dtype::Int16),
            (Dtype::Int8, Dtype::UInt16, Dtype::Int32),
            (Dtype::UInt8, Dtype::UInt16, Dtype::UInt16),
            (Dtype::UInt8, Dtype::Int8, Dtype::Int16),
            (Dtype::UInt32, Dtype::Int32, Dtype::Int64),
            (Dtype::Float32, Dtype::Int16, Dtype::Float64),
        ] {
            assert_eq!(common_dtype([a, b].into_iter()), expected);
            assert_eq!(common_dtype([b, a].into_iter()), expected);
        }
    }
}
