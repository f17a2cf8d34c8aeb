//! The arrays of a `.npz`: the central directory of a ZIP archive, with Zip64, and the bytes of
//! its members.
//!
//! # Invariants
//! - At most [`MAX_DIRECTORY_BYTES`] are read to list an archive.
//! - The checksum of a member is compared at its end.
//!
//! Not here: archives in several parts, encrypted ones.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::Crc;
use voxquarry::{Error, Result};

use crate::files::open_without_waiting;
use crate::formats::byte_input::{ByteInput, check_length};
use crate::formats::raster::{BytesEnd, VoxelBytes};
use crate::formats::unpack::Packing;

/// The end of the directory, with the longest comment.
const MAX_END_BYTES: u64 = 22 + 65_535;
/// More belongs to no file of arrays.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// More bytes behind the voxels of a member are refused: unpacking them takes time.
const MAX_TRAILING_BYTES: u64 = 16 << 20;

/// A member of an archive whose name ends in `.npy`.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its name without that ending.
    pub(super) name: String,
    method: u16,
    is_encrypted: bool,
    crc: u32,
    packed_bytes: u64,
    bytes: u64,
    /// Where its own header begins.
    offset: u64,
}

/// The arrays of an archive.
///
/// # Errors
/// [`Error::Data`] if it is damaged, [`Error::Io`].
pub(super) fn members(path: &Path) -> Result<Vec<Member>> {
    let file = open_without_waiting(path)?;
    let length = file.metadata().map_err(Error::io(path, "cannot open"))?.len();
    let damaged = |what: &str| {
        Error::data(path, format!("{what}: it is damaged, copy or download the file again"))
    };
    let tail_at = length.saturating_sub(MAX_END_BYTES);
    let tail = read_at(path, &file, tail_at, (length - tail_at) as usize)?;
    let end =
        (0..tail.len().saturating_sub(21)).rev().find(|&at| tail[at..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or_else(|| damaged("it has no directory of an archive"))?;
    let (mut bytes, mut offset) =
        (u64::from(u32_at(&tail, end + 12)), u64::from(u32_at(&tail, end + 16)));
    let locator = end.checked_sub(20).filter(|&at| tail[at..].starts_with(b"PK\x06\x07"));
    if let Some(at) = locator {
        let wide = read_at(path, &file, u64_at(&tail, at + 8), 56)?;
        if wide.len() < 56 || !wide.starts_with(b"PK\x06\x06") {
            return Err(damaged("its directory is not where it says"));
        }
        (bytes, offset) = (u64_at(&wide, 40), u64_at(&wide, 48));
    }
    if bytes > MAX_DIRECTORY_BYTES || offset.checked_add(bytes).is_none_or(|at| at > length) {
        return Err(damaged("its directory is longer than the file"));
    }
    let directory = read_at(path, &file, offset, bytes as usize)?;
    let (mut members, mut rest) = (Vec::new(), &directory[..]);
    while !rest.is_empty() {
        let (member, used) =
            entry(rest).ok_or_else(|| damaged("its directory has a wrong entry"))?;
        members.extend(member);
        rest = &rest[used..];
    }
    Ok(members)
}

/// An entry of the directory, if it is an array, and its length.
fn entry(bytes: &[u8]) -> Option<(Option<Member>, usize)> {
    if bytes.len() < 46 || !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(bytes, at)));
    let used = 46 + name + extra + comment;
    let text = bytes.get(46..46 + name)?;
    let mut fields = bytes.get(46 + name..46 + name + extra)?;
    bytes.get(..used)?;
    let [mut packed_bytes, mut whole, mut offset] =
        [20, 24, 42].map(|at| u64::from(u32_at(bytes, at)));
    while fields.len() >= 4 {
        let (id, length) = (u16_at(fields, 0), usize::from(u16_at(fields, 2)));
        let mut field = fields.get(4..4 + length)?;
        if id == 1 {
            // Only numbers that do not fit above are here, in this order.
            for number in [&mut whole, &mut packed_bytes, &mut offset] {
                if *number == u64::from(u32::MAX) {
                    *number = u64_at(field.get(..8)?, 0);
                    field = &field[8..];
                }
            }
        }
        fields = &fields[4 + length..];
    }
    let name = String::from_utf8_lossy(text).into_owned();
    let member = name.strip_suffix(".npy").map(|name| Member {
        name: name.to_owned(),
        method: u16_at(bytes, 10),
        is_encrypted: u16_at(bytes, 8) & 1 == 1,
        crc: u32_at(bytes, 16),
        packed_bytes,
        bytes: whole,
        offset,
    });
    Some((member, used))
}

fn read_at(path: &Path, file: &File, offset: u64, bytes: usize) -> Result<Vec<u8>> {
    if i64::try_from(offset).is_err() {
        // No file is so long.
        return Ok(Vec::new());
    }
    let mut found = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        let read = file.read_at(&mut found[filled..], offset.saturating_add(filled as u64));
        match read.map_err(Error::io(path, "cannot read"))? {
            0 => break,
            count => filled += count,
        }
    }
    found.truncate(filled);
    Ok(found)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Member {
    /// Goes to the first byte of the member.
    ///
    /// # Errors
    /// [`Error::Data`] if it cannot be unpacked, [`Error::Io`].
    pub(super) fn open(&self, path: &Path) -> Result<MemberBytes> {
        let located = |what: &str| Error::data(path, format!("array {}: {what}", self.name));
        let packing = match self.method {
            _ if self.is_encrypted => return Err(located("it is encrypted: save it again")),
            0 => Packing::Plain,
            8 => Packing::Deflate,
            _ => return Err(located("it is packed by another method than deflate: save it again")),
        };
        let file = open_without_waiting(path)?;
        let length = file.metadata().map_err(Error::io(path, "cannot open"))?.len();
        let own = read_at(path, &file, self.offset, 30)?;
        if own.len() < 30 || !own.starts_with(b"PK\x03\x04") {
            return Err(located("it is not where the directory says: download the file again"));
        }
        let before = 30 + u64::from(u16_at(&own, 26)) + u64::from(u16_at(&own, 28));
        let start = self.offset.saturating_add(before);
        if start > length {
            return Err(located("it lies behind the end of the file: download the file again"));
        }
        check_length(path, length - start, Packing::Plain, self.packed_bytes)?;
        check_length(path, self.packed_bytes, packing, self.bytes)?;
        let input = ByteInput::open_at(path, start)?;
        let input = if packing == Packing::Plain { input } else { input.unpack(packing)? };
        let (name, crc) = (self.name.clone(), Crc::new());
        Ok(MemberBytes {
            name,
            path: path.to_owned(),
            input,
            left: self.bytes,
            crc,
            expected: self.crc,
        })
    }
}

/// The bytes of a member, in order.
pub(super) struct MemberBytes {
    name: String,
    path: std::path::PathBuf,
    input: ByteInput,
    /// Bytes of the member that were not read.
    left: u64,
    crc: Crc,
    expected: u32,
}

impl MemberBytes {
    /// Checks whether so many bytes are left.
    ///
    /// # Errors
    /// [`Error::Data`] with both numbers.
    pub(super) fn expect(&self, bytes: u64) -> Result<()> {
        if bytes <= self.left && self.left - bytes <= MAX_TRAILING_BYTES {
            return Ok(());
        }
        let (left, remedy) = (self.left, "save the array again");
        Err(self.error(&format!("{left} bytes follow its header, which needs {bytes}: {remedy}")))
    }

    fn error(&self, message: &str) -> Error {
        Error::data(&self.path, format!("array {}: {message}", self.name))
    }
}

impl VoxelBytes for MemberBytes {
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        if out.len() as u64 > self.left {
            return Err(self.error("it ends early: save the array again"));
        }
        self.input.read_exact(out)?;
        self.crc.update(out);
        self.left -= out.len() as u64;
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<BytesEnd> {
        let mut piece = vec![0; 1 << 16];
        while self.left > 0 {
            let count = self.left.min(piece.len() as u64) as usize;
            self.fill(&mut piece[..count])?;
        }
        if self.crc.sum() != self.expected {
            return Err(self.error("its checksum differs: copy or download the file again"));
        }
        Ok(BytesEnd { sha256: format!("{:08x}", self.expected), ..BytesEnd::default() })
    }

    fn working_bytes(&self) -> u64 {
        self.input.working_bytes()
    }
}
