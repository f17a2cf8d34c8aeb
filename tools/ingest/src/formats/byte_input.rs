//! Reads the bytes of a file in order, plain or gzip with any number of members, and hashes the
//! bytes on disk.
//!
//! # Invariants
//! - Memory is two buffers, whatever the file claims. Gzip is decoded directly into the caller's
//!   buffer.
//! - The checksum of a gzip member is compared at its end, and [`ByteInput::finish`] reads to the
//!   end of every member.
//!
//! Not here: the meaning of the bytes.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};
use voxquarry::{Error, Result};

use crate::digest::hex;
use crate::files::{check_room, open_without_waiting};

/// Enough for the disk; a shorter file needs less.
const BUFFER_BYTES: u64 = 1 << 20;
/// The largest ratio of deflate: a match of 258 bytes takes two bits.
const MAX_EXPANSION: u64 = 1032;
/// More than a decompressor takes.
const INFLATE_BYTES: usize = 128 << 10;
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file that is read from its first byte to its last.
pub(crate) struct ByteInput {
    path: PathBuf,
    file_bytes: u64,
    /// Bytes returned so far, after decompression.
    position: u64,
    /// Bytes that the file must yield; 0 before [`ByteInput::expect`].
    expected: u64,
    body: ByteBody,
}

enum ByteBody {
    Plain(BufReader<HashingReader>),
    Gzip(Box<GzipMembers>),
}

impl ByteInput {
    /// Opens a regular file without waiting, as opening a pipe would. Its first bytes decide
    /// whether it is gzip, not its name.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Unsupported`] if it is not a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = open_without_waiting(path)?;
        let metadata = file.metadata().map_err(Error::io(path, "cannot open"))?;
        if !metadata.is_file() {
            let reason = format!("{} is not a regular file", path.display());
            return Err(Error::unsupported(reason, "name an image file"));
        }
        let buffer_bytes = metadata.len().clamp(1, BUFFER_BYTES) as usize;
        check_room(buffer_bytes).map_err(Error::io(path, "cannot open"))?;
        let hashing = HashingReader { file, sha256: Sha256::new(), bytes: 0 };
        let mut reader = BufReader::with_capacity(buffer_bytes, hashing);
        let start = reader.fill_buf().map_err(Error::io(path, "cannot read"))?;
        let gzip = start.starts_with(&GZIP_MAGIC);
        let body = if gzip {
            let members = GzipMembers::new(reader);
            ByteBody::Gzip(Box::new(members.map_err(Error::io(path, "cannot unpack"))?))
        } else {
            ByteBody::Plain(reader)
        };
        let path = path.to_owned();
        Ok(Self { path, file_bytes: metadata.len(), position: 0, expected: 0, body })
    }

    /// Checks whether a file of this length can yield `bytes`.
    ///
    /// # Errors
    /// [`Error::Data`] with both numbers.
    pub(crate) fn expect(&mut self, bytes: u64) -> Result<()> {
        self.expected = bytes;
        let found = self.file_bytes;
        match self.body {
            ByteBody::Plain(_) if found < bytes => {
                Err(self
                    .damaged(format!("the file has {found} bytes, its header promises {bytes}")))
            }
            ByteBody::Gzip(_) if found.saturating_mul(MAX_EXPANSION) < bytes => {
                Err(self.damaged(format!(
                    "{found} bytes of gzip cannot hold the {bytes} bytes that its header promises"
                )))
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, message: impl Display) -> Error {
        Error::data(&self.path, format!("{message}: copy or download the file again"))
    }

    fn error(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match (&self.body, error.kind()) {
            (_, UnexpectedEof) => self.cut_short(),
            (ByteBody::Gzip(_), InvalidData | InvalidInput) => self.damaged(format!(
                "the gzip stream is damaged after byte {} of its decompressed {} ({error})",
                self.position, self.expected
            )),
            _ => Error::io(&self.path, "cannot read")(error),
        }
    }

    fn cut_short(&self) -> Error {
        let (found, expected) = (self.position, self.expected);
        let is_gzip = matches!(self.body, ByteBody::Gzip(_));
        let stream = if is_gzip { "gzip stream" } else { "file" };
        self.damaged(match expected {
            0 => format!("the {stream} ends after {found} bytes"),
            _ if found < expected => {
                format!("the {stream} ends after {found} bytes, its header promises {expected}")
            }
            _ => format!("the {stream} ends before the checksum of its last member"),
        })
    }

    /// Reads at least one byte, or 0 at the end.
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            let result = match &mut self.body {
                ByteBody::Plain(reader) => reader.read(out),
                ByteBody::Gzip(members) => members.read(out),
            };
            match result {
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
        let mut reader = match self.body {
            ByteBody::Plain(reader) => reader,
            ByteBody::Gzip(members) => members.into_reader(),
        };
        // Bytes after the last gzip member are part of the file, and of its digest.
        io::copy(&mut reader, &mut io::sink()).map_err(Error::io(&self.path, "cannot read"))?;
        let HashingReader { sha256, bytes, .. } = reader.into_inner();
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

/// A file that hashes its bytes as they are read.
struct HashingReader {
    file: File,
    sha256: Sha256,
    bytes: u64,
}

impl Read for HashingReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.sha256.update(&out[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// The members of a gzip file as one stream.
struct GzipMembers {
    /// `None` only between two members.
    state: Option<GzipMember>,
}

enum GzipMember {
    Within(Box<GzDecoder<BufReader<HashingReader>>>),
    Ended(BufReader<HashingReader>),
}

impl GzipMember {
    /// The decoder of a member, or the reader and an error where there is no memory for one.
    fn of(reader: BufReader<HashingReader>) -> (Self, io::Result<()>) {
        // The decoder itself panics.
        match check_room(INFLATE_BYTES) {
            Ok(()) => (Self::Within(Box::new(GzDecoder::new(reader))), Ok(())),
            lacking => (Self::Ended(reader), lacking),
        }
    }
}

impl GzipMembers {
    fn new(reader: BufReader<HashingReader>) -> io::Result<Self> {
        let (state, room) = GzipMember::of(reader);
        room.map(|()| Self { state: Some(state) })
    }

    fn into_reader(self) -> BufReader<HashingReader> {
        match self.state.expect("there is a member outside of `read`") {
            GzipMember::Within(decoder) => decoder.into_inner(),
            GzipMember::Ended(reader) => reader,
        }
    }
}

impl Read for GzipMembers {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        // Terminates: each turn that does not return consumes a member, which has at least 18
        // bytes.
        loop {
            let Some(GzipMember::Within(decoder)) = &mut self.state else { return Ok(0) };
            let n = decoder.read(out)?;
            if n > 0 {
                return Ok(n);
            }
            let Some(GzipMember::Within(decoder)) = self.state.take() else {
                unreachable!("matched above")
            };
            let mut reader = decoder.into_inner();
            let follows = member_follows(&mut reader);
            // The state is valid again before an error returns.
            let (state, room) = match follows {
                Ok(true) => GzipMember::of(reader),
                _ => (GzipMember::Ended(reader), Ok(())),
            };
            self.state = Some(state);
            follows.and(room)?;
        }
    }
}

/// Skips zeros after a member, as gzip does (tapes are padded with them), and returns whether
/// another member follows.
///
/// Like gzip we ignore other bytes: the members before them are whole, and the caller knows whether
/// they suffice.
fn member_follows(reader: &mut BufReader<HashingReader>) -> io::Result<bool> {
    loop {
        let rest = reader.fill_buf()?;
        let zeros = rest.iter().take_while(|&&b| b == 0).count();
        let (end, found) = (rest.is_empty(), rest.get(zeros).copied());
        reader.consume(zeros);
        if end || found.is_some() {
            return Ok(found == Some(GZIP_MAGIC[0]));
        }
    }
}
