//! Finds the bytes of a frame in its file, reads them, and hashes files on the way.
//!
//! A file with one frame is read once, from its first byte to its last; of others each frame is
//! read where it lies, and the digest is computed at the end. A deflated file is inflated into a
//! file without a name.
//!
//! # Invariants
//! - A file that has changed since its header was read is refused.
//! - Memory is a buffer, and the encoded bytes of a frame, which are at most as many as the file's.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use flate2::bufread::DeflateDecoder;
use sha2::{Digest, Sha256};
use voxquarry::{Error, Result};

use super::frame::Frame;
use super::instance::Instance;
use super::parse::PixelBytes;
use super::syntax::PixelCoding;
use crate::digest::{FilesDigest, hex, sha256};
use crate::files::{open_without_waiting, zeroed};
use crate::observer::NoopObserver;
use crate::source::SourceDigest;

/// Enough for the disk.
const BUFFER_BYTES: usize = 64 << 10;

/// The files of a volume, and what was read of them.
pub(super) struct FrameFiles {
    files: Vec<FrameFile>,
}

/// A file, and where its frames are.
struct FrameFile {
    instance: Instance,
    places: FramePlaces,
    /// The file, or what it was inflated to.
    opened: OnceLock<File>,
    digest: OnceLock<(String, u64)>,
}

/// Where the frames of a file are.
enum FramePlaces {
    /// One after the other from that offset on, each of so many bits.
    Whole { offset: u64, bits: u64 },
    /// The first fragment of each frame, and the number of fragments.
    Fragments(Vec<usize>),
}

/// Where the bytes of a frame are.
struct FrameRange {
    pieces: Vec<(u64, usize)>,
    /// Bits before the frame in the first byte.
    first_bit: usize,
}

impl FrameRange {
    fn bytes(&self) -> usize {
        self.pieces.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl FrameFiles {
    /// Files in order, that of each frame being its [`Frame::file`].
    ///
    /// # Errors
    /// [`Error::Data`] if the fragments of a file do not tell its frames, [`Error::Io`].
    pub(super) fn new(instances: Vec<Instance>) -> Result<Self> {
        let of = |instance: Instance| {
            let places = frame_places(&instance)?;
            let (opened, digest) = (OnceLock::new(), OnceLock::new());
            Ok(FrameFile { instance, places, opened, digest })
        };
        Ok(Self { files: instances.into_iter().map(of).collect::<Result<_>>()? })
    }

    pub(super) fn instance(&self, frame: &Frame) -> &Instance {
        &self.files[frame.file].instance
    }

    /// Bytes of a frame in its file.
    pub(super) fn encoded_bytes(&self, frame: &Frame) -> usize {
        let file = &self.files[frame.file];
        file.range(frame.number).bytes()
    }

    /// Reads the bytes of a frame; returns the bits before it in the first byte.
    ///
    /// # Errors
    /// [`Error::Data`] if the file has changed or ends too early, [`Error::Io`].
    pub(super) fn read(&self, frame: &Frame, out: &mut [u8]) -> Result<usize> {
        let file = &self.files[frame.file];
        let instance = &file.instance;
        let range = file.range(frame.number);
        if instance.frame_count == 1 && !instance.syntax.is_deflated {
            file.read_whole(&range, out)?;
            return Ok(range.first_bit);
        }
        let opened = if let Some(opened) = file.opened.get() {
            opened
        } else {
            let opened = file.open()?;
            file.opened.get_or_init(|| opened)
        };
        let mut rest = out;
        for &(offset, bytes) in &range.pieces {
            let (piece, after) = rest.split_at_mut(bytes);
            opened.read_exact_at(piece, offset).map_err(|e| instance.read_error(e))?;
            rest = after;
        }
        Ok(range.first_bit)
    }

    /// The digest of all files; those that were not read whole are.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn finish(self) -> Result<SourceDigest> {
        let mut all = FilesDigest::default();
        for file in self.files {
            let path = &file.instance.path;
            let (sha256, bytes) = match file.digest.into_inner() {
                Some(digest) => digest,
                None => sha256(path, &NoopObserver)?,
            };
            all.push(&sha256, bytes, path);
        }
        let (sha256, bytes) = all.finish();
        Ok(SourceDigest { sha256, bytes, origin: serde_json::Map::new() })
    }
}

impl FrameFile {
    fn range(&self, number: usize) -> FrameRange {
        match (&self.places, &self.instance.pixels.bytes) {
            (FramePlaces::Fragments(starts), PixelBytes::Fragments { fragments, .. }) => {
                let pieces = fragments[starts[number]..starts[number + 1]].iter();
                let pieces = pieces.map(|&(offset, bytes)| (offset, bytes as usize)).collect();
                FrameRange { pieces, first_bit: 0 }
            }
            (&FramePlaces::Whole { offset, bits }, _) => {
                // Whole bytes, or whole words, as those of big endian files are swapped.
                let unit = if self.instance.has_swapped_words() { 16 } else { 8 };
                let first = number as u64 * bits;
                let (start, end) = (first / unit * unit, (first + bits).next_multiple_of(unit));
                let end = (end / 8).min(self.instance.pixels_bytes());
                let piece = (offset + start / 8, (end - start / 8) as usize);
                FrameRange { pieces: vec![piece], first_bit: (first % unit) as usize }
            }
            _ => unreachable!("places are those of the pixels"),
        }
    }

    /// Opens the file, and compares it with the one whose header was read.
    fn open_as_it_was(&self) -> Result<File> {
        let Instance { path, file_bytes, modified, .. } = &self.instance;
        let file = open_without_waiting(path)?;
        let metadata = file.metadata().map_err(Error::io(path, "cannot open"))?;
        if metadata.len() != *file_bytes || metadata.modified().ok() != *modified {
            return Err(Error::data(
                path,
                "it changed while it was being ingested: run the ingest again",
            ));
        }
        Ok(file)
    }

    /// Opens the file for reading at any offset.
    fn open(&self) -> Result<File> {
        let file = self.open_as_it_was()?;
        if !self.instance.syntax.is_deflated {
            return Ok(file);
        }
        let FramePlaces::Whole { offset, bits } = self.places else {
            let message = "it is deflated, and its pixels are encoded as well";
            return Err(Error::data(&self.instance.path, message));
        };
        let needed = offset + (bits * self.instance.frame_count as u64).div_ceil(8);
        self.inflate(file, needed).map_err(|e| self.instance.read_error(e))
    }

    /// The first `bytes` of the inflated file, in a file without a name.
    fn inflate(&self, file: File, bytes: u64) -> io::Result<File> {
        // What precedes the deflated part keeps its place, so that offsets are those of the header.
        let plain = self.instance.plain_bytes;
        let mut inflated = tempfile::tempfile()?;
        let copied = io::copy(&mut (&file).take(plain), &mut inflated)?;
        let decoder = DeflateDecoder::new(io::BufReader::with_capacity(BUFFER_BYTES, file));
        let rest = io::copy(&mut decoder.take(bytes.saturating_sub(copied)), &mut inflated)?;
        if copied + rest < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        inflated.flush()?;
        inflated.rewind()?;
        Ok(inflated)
    }

    /// Reads the whole file in order, its only frame into `out`, and hashes it.
    fn read_whole(&self, range: &FrameRange, out: &mut [u8]) -> Result<()> {
        let failed = |e| self.instance.read_error(e);
        let mut file = self.open_as_it_was()?;
        let (mut sha256, mut position, mut rest) = (Sha256::new(), 0, out);
        let mut buffer = zeroed(BUFFER_BYTES)?;
        for &(offset, bytes) in &range.pieces {
            hash_up_to(&mut file, offset - position, &mut buffer, &mut sha256).map_err(failed)?;
            let (piece, after) = rest.split_at_mut(bytes);
            file.read_exact(piece).map_err(failed)?;
            sha256.update(&*piece);
            (position, rest) = (offset + bytes as u64, after);
        }
        let tail = hash_up_to(&mut file, u64::MAX, &mut buffer, &mut sha256).map_err(failed)?;
        // A frame may be read a second time.
        let _ = self.digest.set((hex(sha256), position + tail));
        Ok(())
    }
}

impl Instance {
    /// Whether samples of up to 8 bits lie in words of 16 bits that are big endian.
    pub(super) fn has_swapped_words(&self) -> bool {
        self.syntax.is_big && self.pixels.is_words && self.form.sample.bits() <= 8
    }

    /// Bytes of pixels that are in one piece.
    fn pixels_bytes(&self) -> u64 {
        match self.pixels.bytes {
            PixelBytes::Whole { bytes, .. } => bytes,
            PixelBytes::Fragments { .. } => 0,
        }
    }

    fn read_error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Error::data(&self.path, "it ends within its pixels: copy or download it again")
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Error::data(&self.path, format!("its deflated pixels are damaged: {error}"))
            }
            _ => Error::io(&self.path, "cannot read")(error),
        }
    }
}

/// Hashes the next bytes, to the end of the file at most, and returns how many there were.
fn hash_up_to(
    file: &mut File,
    bytes: u64,
    buffer: &mut [u8],
    sha256: &mut Sha256,
) -> io::Result<u64> {
    let mut done = 0;
    while done < bytes {
        let want = buffer.len().min(usize::try_from(bytes - done).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..want]) {
            Ok(0) if bytes == u64::MAX => break,
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                sha256.update(&buffer[..n]);
                done += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Where the frames of a file are.
fn frame_places(instance: &Instance) -> Result<FramePlaces> {
    let PixelBytes::Fragments { fragments, frame_offsets } = &instance.pixels.bytes else {
        let PixelBytes::Whole { offset, .. } = instance.pixels.bytes else { unreachable!() };
        return Ok(FramePlaces::Whole { offset, bits: instance.form.file_bits() });
    };
    let (count, found) = (instance.frame_count, fragments.len());
    let wrong = |message: &str| Error::data(&instance.path, message.to_owned());
    let mut starts: Vec<usize> = if count == 1 {
        vec![0]
    } else if frame_offsets.len() == count {
        let base = fragments[0].0;
        let at = |frame: &u64| fragments.binary_search_by_key(frame, |(o, _)| o - base).ok();
        let starts: Option<Vec<_>> = frame_offsets.iter().map(at).collect();
        starts.ok_or_else(|| wrong("its table of frames points between fragments"))?
    } else if found == count {
        (0..count).collect()
    } else {
        starts_by_marks(instance, fragments)?
    };
    if starts.len() != count || starts[0] != 0 || starts.windows(2).any(|w| w[0] >= w[1]) {
        let message = format!("its {found} fragments of pixels do not tell {count} frames");
        return Err(wrong(&message));
    }
    starts.push(found);
    Ok(FramePlaces::Fragments(starts))
}

/// The fragments that begin as an image of JPEG or JPEG 2000 does.
fn starts_by_marks(instance: &Instance, fragments: &[(u64, u32)]) -> Result<Vec<usize>> {
    if !matches!(
        instance.syntax.pixels,
        PixelCoding::Jpeg | PixelCoding::JpegLs | PixelCoding::Jpeg2000
    ) {
        return Ok(Vec::new());
    }
    let file = open_without_waiting(&instance.path)?;
    let mut starts = Vec::new();
    for (i, &(offset, bytes)) in fragments.iter().enumerate() {
        let mut mark = [0; 2];
        if bytes >= 2 {
            file.read_exact_at(&mut mark, offset).map_err(|e| instance.read_error(e))?;
        }
        if matches!(mark, [0xff, 0xd8 | 0x4f]) {
            starts.push(i);
        }
    }
    Ok(starts)
}

/// Whether two frames of different files have the same bytes.
///
/// # Errors
/// As [`FrameFiles::read`].
pub(super) fn same_pixels(files: &[Instance], a: &Frame, b: &Frame) -> Result<bool> {
    let [a_file, b_file] = [a, b].map(|frame| &files[frame.file]);
    if (a_file.form, a_file.syntax) != (b_file.form, b_file.syntax) || a.rescale != b.rescale {
        return Ok(false);
    }
    let both = FrameFiles::new(vec![a_file.clone(), b_file.clone()])?;
    let [a, b] = [(0, a), (1, b)].map(|(file, frame)| Frame { file, ..frame.clone() });
    let bytes = both.encoded_bytes(&a);
    if bytes != both.encoded_bytes(&b) {
        return Ok(false);
    }
    let (mut first, mut second) = (zeroed(bytes)?, zeroed(bytes)?);
    both.read(&a, &mut first)?;
    both.read(&b, &mut second)?;
    Ok(first == second)
}

/// The paths of files in order.
pub(super) fn paths(instances: &[Instance]) -> Vec<PathBuf> {
    instances.iter().map(|instance| instance.path.clone()).collect()
}
