//! Reads the voxels of one or several files one after the other, each behind lines and bytes that
//! are skipped, packed or not, binary or as text; and hashes all bytes of all files.
//!
//! # Invariants
//! - One file is open at a time, and memory is that of [`ByteInput`].
//! - Before the first voxel is read, every file was found long enough for what it has to yield.
//!
//! Not here: the order of voxels in the bytes (`raster`).

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use voxquarry::{Error, Result};

use super::byte_input::{ByteInput, check_length};
use super::raster::{BytesEnd, VoxelBytes};
use super::text_numbers::{TextEncoding, TextNumbers};
use super::unpack::{GZIP_MAGIC, Packing};
use crate::digest::FilesDigest;

/// More bytes behind the voxels of a packed stream are refused: unpacking them takes time, and no
/// writer makes them.
const MAX_TRAILING_BYTES: u64 = 16 << 20;

/// Where the voxels of a file begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Behind so many bytes, after decompression.
    Bytes(u64),
    /// So that they end where the file ends.
    Tail,
}

/// The voxels that one file yields.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    pub(crate) path: PathBuf,
    /// Lines to skip, before decompression.
    pub(crate) lines: u64,
    /// Where the voxels begin behind the lines.
    pub(crate) start: Start,
    pub(crate) packing: Packing,
    /// How numbers are written; `None` for binary.
    pub(crate) text: Option<TextEncoding>,
    /// Bytes of voxels, as binary.
    pub(crate) bytes: u64,
}

impl FilePart {
    /// Bytes that the file has to yield at least after decompression and skipping.
    fn needed(&self) -> u64 {
        self.text.map_or(self.bytes, |text| text.least_bytes(self.bytes))
    }

    /// Checks the length of a file that is not open yet; `header` names it.
    fn check(&self, header: &Path) -> Result<()> {
        let metadata = self.path.metadata().map_err(|error| {
            let missing = error.kind() == ErrorKind::NotFound;
            let message = || format!("missing beside {}: copy all its files", header.display());
            if missing {
                Error::data(&self.path, message())
            } else {
                cannot_open(&self.path, error)
            }
        })?;
        if !metadata.is_file() {
            let message = format!("{} names it, and it is no regular file", header.display());
            return Err(Error::data(&self.path, message));
        }
        let before = if let Start::Bytes(bytes) = self.start { bytes } else { 0 };
        let needed = self.needed().saturating_add(before);
        check_length(&self.path, metadata.len(), self.packing, needed)
    }

    /// Goes to the first voxel of a file that is open.
    fn begin(&self, mut input: ByteInput) -> Result<OpenPart> {
        input.skip_lines(self.lines)?;
        let needed = self.needed();
        let offset = match self.start {
            Start::Bytes(bytes) => bytes,
            Start::Tail => {
                let here = input.position();
                let before =
                    input.file_bytes().checked_sub(needed).and_then(|n| n.checked_sub(here));
                before.ok_or_else(|| {
                    let message = format!("it has fewer than {needed} bytes behind its header");
                    Error::data(&self.path, message)
                })?
            }
        };
        if self.packing != Packing::Plain {
            // Writers of zlib are known to write gzip.
            let is_gzip = self.packing == Packing::Zlib && input.peek()?.starts_with(&GZIP_MAGIC);
            input = input.unpack(if is_gzip { Packing::Gzip } else { self.packing })?;
        }
        let offset = offset.saturating_add(input.position());
        input.expect(offset.saturating_add(needed))?;
        input.skip_to(offset)?;
        let numbers = self.text.map(TextNumbers::new);
        Ok(OpenPart { path: self.path.clone(), input, numbers, left: self.bytes })
    }
}

fn cannot_open(path: &Path, error: std::io::Error) -> Error {
    Error::io(path, "cannot open")(error)
}

/// A file whose voxels are being read.
struct OpenPart {
    path: PathBuf,
    input: ByteInput,
    numbers: Option<TextNumbers>,
    /// Bytes of voxels that were not read yet.
    left: u64,
}

/// The voxels of several files as one stream of bytes.
pub(crate) struct FileChain {
    current: Option<OpenPart>,
    waiting: VecDeque<FilePart>,
    digest: FilesDigest,
}

impl FileChain {
    /// The voxels are the next `bytes` of a file that is open.
    pub(crate) fn continuing(path: &Path, input: ByteInput, bytes: u64) -> Self {
        let current = OpenPart { path: path.to_owned(), input, numbers: None, left: bytes };
        Self { current: Some(current), waiting: VecDeque::new(), digest: FilesDigest::default() }
    }

    /// The voxels are in the file whose header was read, behind it.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is too short, [`Error::Io`].
    pub(crate) fn behind_header(input: ByteInput, part: &FilePart) -> Result<Self> {
        let (current, digest) = (Some(part.begin(input)?), FilesDigest::default());
        Ok(Self { current, waiting: VecDeque::new(), digest })
    }

    /// The voxels are in other files than the header, which is the first file of the digest.
    ///
    /// # Errors
    /// [`Error::Data`] if a file is missing or too short, [`Error::Io`].
    pub(crate) fn beside_header(
        path: &Path,
        header: ByteInput,
        parts: Vec<FilePart>,
    ) -> Result<Self> {
        let mut digest = FilesDigest::default();
        let end = header.finish(0)?;
        digest.push(&end.sha256, end.file_bytes, path);
        parts.iter().try_for_each(|part| part.check(path))?;
        let mut chain = Self { current: None, waiting: parts.into(), digest };
        chain.open_next()?;
        Ok(chain)
    }

    /// Finishes the current file, and opens the next one.
    fn open_next(&mut self) -> Result<Option<Vec<u8>>> {
        let trailer = match self.current.take() {
            Some(part) => self.close(part)?,
            None => None,
        };
        if let Some(part) = self.waiting.pop_front() {
            self.current = Some(part.begin(ByteInput::open_plain(&part.path)?)?);
        }
        Ok(trailer)
    }

    /// Reads a file to its end, and returns the bytes behind its voxels.
    fn close(&mut self, part: OpenPart) -> Result<Option<Vec<u8>>> {
        let OpenPart { path, mut input, numbers, .. } = part;
        let mut trailer = Vec::new();
        if numbers.is_none() {
            input.read_up_to(&mut trailer, MAX_TRAILER_BYTES + 1)?;
        }
        if !input.is_plain() {
            let mut piece = vec![0; 1 << 16];
            let limit = input.position() + MAX_TRAILING_BYTES;
            while input.read(&mut piece)? > 0 {
                if input.position() > limit {
                    let message = "it holds far more voxels than its header promises: correct the \
                                   header, or write the file again";
                    return Err(Error::data(&path, message));
                }
            }
        }
        let end = input.finish(0)?;
        self.digest.push(&end.sha256, end.file_bytes, &path);
        Ok((trailer.len() <= MAX_TRAILER_BYTES).then_some(trailer))
    }
}

impl VoxelBytes for FileChain {
    fn fill(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            let part = self.current.as_mut().expect("the parts have as many bytes as the volume");
            if part.left == 0 {
                self.open_next()?;
                continue;
            }
            let count = part.left.min(out.len() as u64) as usize;
            let (now, later) = out.split_at_mut(count);
            match &mut part.numbers {
                None => part.input.read_exact(now)?,
                Some(numbers) => numbers.fill(&part.path, &mut part.input, now)?,
            }
            part.left -= count as u64;
            out = later;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<BytesEnd> {
        let mut trailer = None;
        while self.current.is_some() {
            trailer = self.open_next()?;
        }
        let (sha256, file_bytes) = self.digest.finish();
        Ok(BytesEnd { sha256, file_bytes, trailer })
    }

    fn working_bytes(&self) -> u64 {
        let waiting = self.waiting.iter();
        let paths = waiting.clone().map(|part| part.path.as_os_str().len() as u64 + 256);
        let packing = waiting.map(|part| part.packing.working_bytes()).max().unwrap_or(0);
        let current = self.current.as_ref().map_or(0, |part| part.input.working_bytes());
        // The digest has a line of 65 characters and a name for each file.
        2 * paths.sum::<u64>() + packing.max(current)
    }
}

/// Longer ends of files are of no use.
const MAX_TRAILER_BYTES: usize = 1 << 16;

/// The file that a header names, which must not lie outside of the header's folder.
///
/// # Errors
/// [`Error::Data`].
pub(crate) fn beside(header: &Path, name: &str) -> Result<PathBuf> {
    let folder = header.parent().unwrap_or(Path::new(""));
    let relative = Path::new(name);
    let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if name.is_empty() || name.contains('\0') || !relative.components().all(stays) {
        let message = format!(
            "its voxels are in {name:?}: expected a file in the header's folder or below it; move \
             it there and correct the header"
        );
        return Err(Error::data(header, message));
    }
    Ok(folder.join(relative))
}
