//! Reads the bytes of a file in order, plain or packed, and hashes the bytes on disk.
//!
//! # Invariants
//! - Memory is a buffer and a decoder, whatever the file claims. Packed bytes are decoded directly
//!   into the caller's buffer.
//! - The checksums of packed bytes are compared, and [`ByteInput::finish`] reads to the end of the
//!   file.
//!
//! Not here: the meaning of the bytes; several files one after the other (`file_chain`).

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use voxquarry::{Error, Result};

use super::unpack::{GZIP_MAGIC, HashingReader, Packing, Unpacker};
use crate::digest::hex;
use crate::files::{check_room, open_without_waiting};

/// Enough for the disk; a shorter file needs less.
const BUFFER_BYTES: u64 = 1 << 20;

/// A file that is read from its first byte to its last.
pub(crate) struct ByteInput {
    path: PathBuf,
    file_bytes: u64,
    /// Bytes of the file before those that are unpacked.
    packed_from: u64,
    /// Bytes returned so far, after decompression.
    position: u64,
    /// Bytes that the file must yield; 0 before [`ByteInput::expect`].
    expected: u64,
    body: Unpacker,
}

impl ByteInput {
    /// Opens a regular file without waiting, as opening a pipe would. Its first bytes decide
    /// whether it is gzip, not its name.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Unsupported`] if it is not a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut input = Self::open_plain(path)?;
        if input.peek()?.starts_with(&GZIP_MAGIC) { input.unpack(Packing::Gzip) } else { Ok(input) }
    }

    /// As [`open`](Self::open), for the bytes on disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_plain(path: &Path) -> Result<Self> {
        Self::open_at(path, 0)
    }

    /// As [`open_plain`](Self::open_plain), from byte `offset` on; those before are not hashed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_at(path: &Path, offset: u64) -> Result<Self> {
        let mut file = open_without_waiting(path)?;
        let metadata = file.metadata().map_err(Error::io(path, "cannot open"))?;
        if !metadata.is_file() {
            let reason = format!("{} is not a regular file", path.display());
            return Err(Error::unsupported(reason, "name an image file"));
        }
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(Error::io(path, "cannot read"))?;
        }
        let buffer_bytes = metadata.len().clamp(1, BUFFER_BYTES) as usize;
        check_room(buffer_bytes).map_err(Error::io(path, "cannot open"))?;
        let body =
            Unpacker::Plain(BufReader::with_capacity(buffer_bytes, HashingReader::new(file)));
        let (path, file_bytes) = (path.to_owned(), metadata.len());
        Ok(Self { path, file_bytes, packed_from: offset, position: 0, expected: 0, body })
    }

    /// Unpacks the bytes from here on; those before were plain. Counts them from here.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no memory.
    pub(crate) fn unpack(self, packing: Packing) -> Result<Self> {
        let Self { path, file_bytes, packed_from, position, body, .. } = self;
        let body = Unpacker::new(body.into_file(), packing);
        let body = body.map_err(Error::io(&path, "cannot unpack"))?;
        let packed_from = packed_from + position;
        Ok(Self { path, file_bytes, packed_from, position: 0, expected: 0, body })
    }

    /// The next bytes of a plain file, as many as are in memory; none at its end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn peek(&mut self) -> Result<&[u8]> {
        match &mut self.body {
            Unpacker::Plain(file) => file.fill_buf().map_err(Error::io(&self.path, "cannot read")),
            _ => unreachable!("only plain bytes are looked at"),
        }
    }

    /// Takes the next line of a plain file without its line end (`\n` or `\r\n`); `None` at the end
    /// of the file.
    ///
    /// # Errors
    /// [`Error::Data`] if the line has more than `max_bytes`, [`Error::Io`].
    pub(crate) fn read_line(&mut self, max_bytes: usize) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            let rest = self.peek()?;
            if rest.is_empty() {
                return Ok((!line.is_empty()).then_some(line));
            }
            let end = rest.iter().position(|&b| b == b'\n');
            let taken = end.map_or(rest.len(), |end| end + 1);
            if line.len() + taken > max_bytes {
                let message = format!("a line of its header has more than {max_bytes} bytes");
                return Err(Error::data(&self.path, message));
            }
            line.extend_from_slice(&rest[..taken]);
            self.consume(taken);
            if end.is_some() {
                line.pop();
                line.pop_if(|last| *last == b'\r');
                return Ok(Some(line));
            }
        }
    }

    /// Skips so many lines of a plain file.
    ///
    /// # Errors
    /// [`Error::Data`] if the file has fewer, [`Error::Io`].
    pub(crate) fn skip_lines(&mut self, lines: u64) -> Result<()> {
        let mut left = lines;
        while left > 0 {
            let rest = self.peek()?;
            if rest.is_empty() {
                return Err(self.damaged(format!("it has fewer than {lines} lines")));
            }
            let end = rest.iter().position(|&b| b == b'\n');
            let taken = end.map_or(rest.len(), |end| end + 1);
            self.consume(taken);
            left -= u64::from(end.is_some());
        }
        Ok(())
    }

    fn consume(&mut self, bytes: usize) {
        if let Unpacker::Plain(file) = &mut self.body {
            file.consume(bytes);
            self.position += bytes as u64;
        }
    }

    /// Upper bound of the memory that unpacking takes.
    pub(crate) fn working_bytes(&self) -> u64 {
        self.body.packing().working_bytes()
    }

    /// Whether its bytes are those on disk.
    pub(crate) fn is_plain(&self) -> bool {
        self.body.packing() == Packing::Plain
    }

    /// The bytes of the file on disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes returned so far, from where they are unpacked.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Checks whether a file of this length can yield `bytes`, from where they are unpacked.
    ///
    /// # Errors
    /// [`Error::Data`] with both numbers.
    pub(crate) fn expect(&mut self, bytes: u64) -> Result<()> {
        self.expected = bytes;
        check_length(
            &self.path,
            self.file_bytes.saturating_sub(self.packed_from),
            self.body.packing(),
            bytes,
        )
    }

    fn damaged(&self, message: impl Display) -> Error {
        Error::data(&self.path, format!("{message}: copy or download the file again"))
    }

    fn error(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match (self.body.packing(), error.kind()) {
            (_, UnexpectedEof) => self.cut_short(),
            (Packing::Plain, _) => Error::io(&self.path, "cannot read")(error),
            (packing, InvalidData | InvalidInput) => self.damaged(format!(
                "the {} stream is damaged after byte {} of its decompressed {} ({error})",
                packing.name(),
                self.position,
                self.expected
            )),
            _ => Error::io(&self.path, "cannot read")(error),
        }
    }

    fn cut_short(&self) -> Error {
        let (found, expected) = (self.position, self.expected);
        let stream = match self.body.packing() {
            Packing::Plain => "file".to_owned(),
            packing => format!("{} stream", packing.name()),
        };
        self.damaged(match expected {
            0 => format!("the {stream} ends after {found} bytes"),
            _ if found < expected => {
                format!("the {stream} ends after {found} bytes, its header promises {expected}")
            }
            _ => format!("the {stream} ends before the checksum of its last member"),
        })
    }

    /// Reads at least one byte, or 0 at the end.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            match self.body.read(out) {
                Ok(n) => {
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error(e)),
            }
        }
    }

    /// Fills `out`.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is too short or damaged, and [`Error::Io`].
    pub(crate) fn read_exact(&mut self, out: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            match self.read(&mut out[filled..])? {
                0 => return Err(self.cut_short()),
                n => filled += n,
            }
        }
        Ok(())
    }

    /// Appends to `out` until it has `bytes` bytes or the file ends.
    ///
    /// # Errors
    /// As [`ByteInput::read_exact`].
    pub(crate) fn read_up_to(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<()> {
        let mut piece = [0; 4096];
        while out.len() < bytes {
            let want = piece.len().min(bytes - out.len());
            match self.read(&mut piece[..want])? {
                0 => break,
                n => out.extend_from_slice(&piece[..n]),
            }
        }
        Ok(())
    }

    /// Skips to byte `offset`, which was not passed yet.
    ///
    /// # Errors
    /// As [`ByteInput::read_exact`].
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<()> {
        let mut piece = vec![0; 1 << 16];
        while self.position < offset {
            let want = (offset - self.position).min(piece.len() as u64) as usize;
            self.read_exact(&mut piece[..want])?;
        }
        Ok(())
    }

    /// Reads to the end, which compares every checksum and hashes every byte, and returns the bytes
    /// that were not read before, if they are at most `max_bytes`.
    ///
    /// # Errors
    /// As [`ByteInput::read_exact`].
    pub(crate) fn finish(mut self, max_bytes: usize) -> Result<Trailer> {
        let (mut piece, mut trailer) = (vec![0; 1 << 16], Some(Vec::new()));
        loop {
            let count = self.read(&mut piece)?;
            if count == 0 {
                break;
            }
            trailer = trailer.filter(|bytes| bytes.len() + count <= max_bytes);
            if let Some(bytes) = &mut trailer {
                bytes.extend_from_slice(&piece[..count]);
            }
        }
        let mut file = self.body.into_file();
        // Bytes after the last packed one are part of the file, and of its digest.
        io::copy(&mut file, &mut io::sink()).map_err(Error::io(&self.path, "cannot read"))?;
        let HashingReader { sha256, bytes, .. } = file.into_inner();
        Ok(Trailer { bytes: trailer, sha256: hex(sha256), file_bytes: bytes })
    }
}

/// The end of a file.
pub(crate) struct Trailer {
    /// The bytes that were not read before; `None` if they are too many.
    pub(crate) bytes: Option<Vec<u8>>,
    /// SHA-256 of the bytes on disk, in hexadecimal.
    pub(crate) sha256: String,
    /// Length of the file on disk.
    pub(crate) file_bytes: u64,
}

/// Checks whether `found` bytes of a file can yield `bytes`.
///
/// # Errors
/// [`Error::Data`] with both numbers.
pub(crate) fn check_length(path: &Path, found: u64, packing: Packing, bytes: u64) -> Result<()> {
    if found.saturating_mul(packing.max_expansion()) >= bytes {
        return Ok(());
    }
    let message = match packing {
        Packing::Plain => format!("the file has {found} bytes, its header promises {bytes}"),
        _ => format!(
            "{found} bytes of {} cannot hold the {bytes} bytes that its header promises",
            packing.name()
        ),
    };
    Err(Error::data(path, format!("{message}: copy or download the file again")))
}
