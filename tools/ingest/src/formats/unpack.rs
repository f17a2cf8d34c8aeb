//! Unpacks bytes as they are read: gzip with any number of members, zlib, deflate, bzip2; and
//! hashes the bytes on disk.
//!
//! # Invariants
//! - Memory is one buffer and a decoder, whatever the bytes claim. A decoder writes directly into
//!   the caller's buffer.
//! - Every checksum of a packed stream is compared when its end is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use sha2::{Digest, Sha256};

use crate::files::check_room;

/// More than a decompressor of deflate takes.
const INFLATE_BYTES: usize = 128 << 10;
/// More than a decompressor of bzip2 takes: four bytes for each of the 900,000 of a block.
const BZIP2_BYTES: usize = 4 << 20;
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zlib,
    /// Without header and checksum.
    Deflate,
    Bzip2,
}

impl Packing {
    /// The name, for messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
            Self::Deflate => "deflate",
            Self::Bzip2 => "bzip2",
        }
    }

    /// Upper bound of the bytes that one packed byte becomes.
    pub(crate) const fn max_expansion(self) -> u64 {
        match self {
            Self::Plain => 1,
            // A match of 258 bytes takes two bits.
            Self::Gzip | Self::Zlib | Self::Deflate => 1032,
            // A block of 900,000 bytes takes 37 at least, and five of them may stand for 255 + 4.
            Self::Bzip2 => 900_000 / 37 * 52,
        }
    }

    /// Upper bound of the memory that a decoder takes beside the buffer of the file.
    pub(crate) const fn working_bytes(self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Gzip | Self::Zlib | Self::Deflate => INFLATE_BYTES as u64,
            Self::Bzip2 => BZIP2_BYTES as u64,
        }
    }
}

/// The bytes of a file, hashed as they are read.
pub(crate) type HashedFile = BufReader<HashingReader>;

/// A file that hashes its bytes as they are read.
pub(crate) struct HashingReader {
    pub(crate) file: File,
    pub(crate) sha256: Sha256,
    pub(crate) bytes: u64,
}

impl HashingReader {
    pub(crate) fn new(file: File) -> Self {
        Self { file, sha256: Sha256::new(), bytes: 0 }
    }
}

impl Read for HashingReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.sha256.update(&out[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// A file, and what unpacks it.
pub(crate) enum Unpacker {
    Plain(HashedFile),
    Gzip(Box<GzipMembers>),
    Zlib(Box<Inflate>),
    Deflate(Box<Inflate>),
    Bzip2(Box<MultiBzDecoder<HashedFile>>),
}

impl Unpacker {
    /// Unpacks from where the file is.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn new(file: HashedFile, packing: Packing) -> io::Result<Self> {
        // The decoders themselves panic.
        check_room(packing.working_bytes() as usize)?;
        Ok(match packing {
            Packing::Plain => Self::Plain(file),
            Packing::Gzip => Self::Gzip(Box::new(GzipMembers::new(file)?)),
            Packing::Zlib => Self::Zlib(Box::new(Inflate::new(file, true))),
            Packing::Deflate => Self::Deflate(Box::new(Inflate::new(file, false))),
            Packing::Bzip2 => Self::Bzip2(Box::new(MultiBzDecoder::new(file))),
        })
    }

    pub(crate) fn packing(&self) -> Packing {
        match self {
            Self::Plain(_) => Packing::Plain,
            Self::Gzip(_) => Packing::Gzip,
            Self::Zlib(_) => Packing::Zlib,
            Self::Deflate(_) => Packing::Deflate,
            Self::Bzip2(_) => Packing::Bzip2,
        }
    }

    /// The file, at a place behind what was unpacked.
    pub(crate) fn into_file(self) -> HashedFile {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(members) => members.into_file(),
            Self::Zlib(inflate) | Self::Deflate(inflate) => inflate.file,
            Self::Bzip2(decoder) => decoder.into_inner(),
        }
    }
}

impl Read for Unpacker {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(out),
            Self::Gzip(members) => members.read(out),
            Self::Zlib(inflate) | Self::Deflate(inflate) => inflate.read(out),
            Self::Bzip2(decoder) => decoder.read(out),
        }
    }
}

/// A stream of deflate, with the header and checksum of zlib or without. One that ends early is an
/// error, which the decoders of `flate2` take for the end.
pub(crate) struct Inflate {
    file: HashedFile,
    state: Decompress,
    has_ended: bool,
}

impl Inflate {
    fn new(file: HashedFile, is_zlib: bool) -> Self {
        Self { file, state: Decompress::new(is_zlib), has_ended: false }
    }
}

impl Read for Inflate {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // Terminates: each turn that does not return consumes input.
        while !self.has_ended && !out.is_empty() {
            let input = self.file.fill_buf()?;
            let is_at_end = input.is_empty();
            let (taken, made) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(input, out, FlushDecompress::None);
            let status = status.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let taken = (self.state.total_in() - taken) as usize;
            self.file.consume(taken);
            self.has_ended = status == Status::StreamEnd;
            match (self.state.total_out() - made) as usize {
                0 if is_at_end && !self.has_ended => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                0 if taken == 0 && !self.has_ended => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a stream that stands"));
                }
                0 => {}
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

/// The members of a gzip file as one stream.
pub(crate) struct GzipMembers {
    /// `None` only between two members.
    state: Option<GzipMember>,
}

enum GzipMember {
    Within(Box<GzDecoder<HashedFile>>),
    Ended(HashedFile),
}

impl GzipMember {
    /// The decoder of a member, or the file and an error where there is no memory for one.
    fn of(file: HashedFile) -> (Self, io::Result<()>) {
        // The decoder itself panics.
        match check_room(INFLATE_BYTES) {
            Ok(()) => (Self::Within(Box::new(GzDecoder::new(file))), Ok(())),
            lacking => (Self::Ended(file), lacking),
        }
    }
}

impl GzipMembers {
    fn new(file: HashedFile) -> io::Result<Self> {
        let (state, room) = GzipMember::of(file);
        room.map(|()| Self { state: Some(state) })
    }

    fn into_file(self) -> HashedFile {
        match self.state.expect("there is a member outside of `read`") {
            GzipMember::Within(decoder) => decoder.into_inner(),
            GzipMember::Ended(file) => file,
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
            let mut file = decoder.into_inner();
            let follows = member_follows(&mut file);
            // The state is valid again before an error returns.
            let (state, room) = match follows {
                Ok(true) => GzipMember::of(file),
                _ => (GzipMember::Ended(file), Ok(())),
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
fn member_follows(file: &mut HashedFile) -> io::Result<bool> {
    loop {
        let rest = file.fill_buf()?;
        let zeros = rest.iter().take_while(|&&b| b == 0).count();
        let (end, found) = (rest.is_empty(), rest.get(zeros).copied());
        file.consume(zeros);
        if end || found.is_some() {
            return Ok(found == Some(GZIP_MAGIC[0]));
        }
    }
}
