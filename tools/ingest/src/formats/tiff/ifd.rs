//! The directories of a TIFF file: one for each page, in a chain.
//!
//! # Invariants
//! - A chain ends: each directory is read once, and there are at most [`MOST_PAGES`].
//! - Of each page only positions are kept; the offsets of its strips are read when its voxels are.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use voxquarry::{Error, Result};

use crate::files::open_without_waiting;

/// More pages than any stack has.
const MOST_PAGES: usize = 1 << 20;
/// More entries than any directory has.
const MOST_ENTRIES: u64 = 4096;
/// Longer descriptions are cut; those of large OME files have some megabytes.
const DESCRIPTION_BYTES: u64 = 64 << 20;

pub(super) mod tag {
    pub(crate) const SUBFILE: u16 = 254;
    pub(crate) const WIDTH: u16 = 256;
    pub(crate) const HEIGHT: u16 = 257;
    pub(crate) const BITS: u16 = 258;
    pub(crate) const COMPRESSION: u16 = 259;
    pub(crate) const PHOTOMETRIC: u16 = 262;
    pub(crate) const FILL_ORDER: u16 = 266;
    pub(crate) const DESCRIPTION: u16 = 270;
    pub(crate) const STRIP_OFFSETS: u16 = 273;
    pub(crate) const SAMPLES: u16 = 277;
    pub(crate) const ROWS_PER_STRIP: u16 = 278;
    pub(crate) const STRIP_COUNTS: u16 = 279;
    pub(crate) const X_RESOLUTION: u16 = 282;
    pub(crate) const Y_RESOLUTION: u16 = 283;
    pub(crate) const PLANAR: u16 = 284;
    pub(crate) const RESOLUTION_UNIT: u16 = 296;
    pub(crate) const PREDICTOR: u16 = 317;
    pub(crate) const TILE_WIDTH: u16 = 322;
    pub(crate) const TILE_HEIGHT: u16 = 323;
    pub(crate) const TILE_OFFSETS: u16 = 324;
    pub(crate) const TILE_COUNTS: u16 = 325;
    pub(crate) const SAMPLE_FORMAT: u16 = 339;
    pub(crate) const JPEG_TABLES: u16 = 347;
    pub(crate) const IMAGE_DEPTH: u16 = 32997;
}

/// A file, and how its numbers are written.
pub(super) struct TiffFile {
    pub(super) path: PathBuf,
    file: File,
    pub(super) bytes: u64,
    pub(super) is_big_endian: bool,
    /// Whether offsets have 64 bits.
    is_big: bool,
    first: u64,
}

/// A value of a directory, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    kind: u16,
    pub(super) count: u64,
    at: u64,
}

/// The values of a directory that matter here.
pub(super) struct Directory {
    entries: Vec<(u16, Entry)>,
}

impl TiffFile {
    /// Opens a file and reads its first bytes.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not TIFF, [`Error::Io`].
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_without_waiting(path)?;
        let metadata = file.metadata().map_err(Error::io(path, "cannot open"))?;
        let path = path.to_owned();
        let mut this = Self {
            path,
            file,
            bytes: metadata.len(),
            is_big_endian: false,
            is_big: false,
            first: 0,
        };
        let mut head = [0; 4];
        this.read(0, &mut head)?;
        let (is_big_endian, is_big) = form(&head).ok_or_else(|| this.damaged("no TIFF header"))?;
        this.is_big_endian = is_big_endian;
        this.is_big = is_big;
        this.first = if is_big { this.u64_at(8)? } else { u64::from(this.u32_at(4)?) };
        Ok(this)
    }

    pub(super) fn damaged(&self, message: impl std::fmt::Display) -> Error {
        Error::data(&self.path, message.to_string())
    }

    /// Fills `out` from byte `at` on.
    ///
    /// # Errors
    /// [`Error::Data`] if the file ends before, [`Error::Io`].
    pub(super) fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let end = at.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            let (wanted, found) = (out.len(), self.bytes);
            return Err(self.damaged(format!(
                "the file has {found} bytes, it refers to {wanted} bytes at {at}: copy or download \
                 it again"
            )));
        }
        self.file.read_exact_at(out, at).map_err(Error::io(&self.path, "cannot read"))
    }

    fn array<const N: usize>(&self, at: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        if self.is_big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    fn u16_at(&self, at: u64) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32_at(&self, at: u64) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64_at(&self, at: u64) -> Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// The position of the first directory.
    ///
    /// # Errors
    /// [`Error::Data`] if there is none.
    pub(super) fn first_page(&self) -> Result<u64> {
        if self.first == 0 { Err(self.damaged("it has no page")) } else { Ok(self.first) }
    }

    /// The positions of all directories, in order.
    ///
    /// # Errors
    /// [`Error::Data`] for a chain without end.
    pub(super) fn chain(&self) -> Result<Vec<u64>> {
        let (mut known, mut order) = (HashSet::new(), Vec::new());
        let mut at = self.first_page()?;
        while at != 0 {
            if !known.insert(at) {
                return Err(self.damaged("its pages form a circle: it is damaged"));
            }
            if order.len() == MOST_PAGES {
                return Err(self.damaged(format!("it has more than {MOST_PAGES} pages")));
            }
            order.push(at);
            let (entries, first, width) = self.entries_at(at)?;
            let next = first + entries * width;
            at = if self.is_big { self.u64_at(next)? } else { u64::from(self.u32_at(next)?) };
        }
        Ok(order)
    }

    /// The number of a directory's entries, the position of the first, and the bytes of each.
    fn entries_at(&self, at: u64) -> Result<(u64, u64, u64)> {
        let (count, head, width) = if self.is_big {
            (self.u64_at(at)?, 8, 20)
        } else {
            (u64::from(self.u16_at(at)?), 2, 12)
        };
        if count > MOST_ENTRIES {
            return Err(self.damaged(format!("the page at byte {at} has {count} entries")));
        }
        Ok((count, at.saturating_add(head), width))
    }

    /// Reads the directory at `at`.
    ///
    /// # Errors
    /// [`Error::Data`] if it reaches beyond the end of the file.
    pub(super) fn directory(&self, at: u64) -> Result<Directory> {
        let (count, first, width) = self.entries_at(at)?;
        let mut bytes = vec![0; (count * width) as usize];
        self.read(first, &mut bytes)?;
        let number = |bytes: &[u8]| {
            let fold = |n: u64, &b: &u8| n << 8 | u64::from(b);
            if self.is_big_endian {
                bytes.iter().fold(0, fold)
            } else {
                bytes.iter().rev().fold(0, fold)
            }
        };
        let mut entries = Vec::with_capacity(count as usize);
        for (i, entry) in bytes.chunks_exact(width as usize).enumerate() {
            let (tag, kind) = (number(&entry[..2]) as u16, number(&entry[2..4]) as u16);
            let wide = if self.is_big { 8 } else { 4 };
            let (count, value) = (number(&entry[4..4 + wide]), &entry[4 + wide..]);
            let Some(bytes) = size_of_kind(kind).and_then(|size| size.checked_mul(count)) else {
                continue;
            };
            let inside = first + i as u64 * width + 4 + wide as u64;
            let at = if bytes <= wide as u64 { inside } else { number(value) };
            entries.push((tag, Entry { kind, count, at }));
        }
        Ok(Directory { entries })
    }

    /// An unsigned number of an entry.
    ///
    /// # Errors
    /// [`Error::Data`] if it has no such number.
    pub(super) fn number(&self, entry: Entry, i: u64) -> Result<u64> {
        if i >= entry.count {
            return Err(self.damaged(format!("a list has {} entries, {i} is asked", entry.count)));
        }
        let size = size_of_kind(entry.kind).unwrap_or(1);
        let at = entry.at.saturating_add(i * size);
        Ok(match entry.kind {
            3 => u64::from(self.u16_at(at)?),
            4 | 13 => u64::from(self.u32_at(at)?),
            16 | 18 => self.u64_at(at)?,
            1 | 6 => u64::from(self.array::<1>(at)?[0]),
            kind => return Err(self.damaged(format!("a list has entries of the kind {kind}"))),
        })
    }

    /// A fraction; `None` if it is none.
    pub(super) fn fraction(&self, entry: Entry) -> Option<f64> {
        if entry.kind != 5 {
            return None;
        }
        let above = self.u32_at(entry.at).ok()?;
        let below = self.u32_at(entry.at.saturating_add(4)).ok()?;
        Some(f64::from(above) / f64::from(below)).filter(|value| value.is_finite())
    }

    /// The bytes of an entry, at most `most`.
    ///
    /// # Errors
    /// [`Error::Data`] if they reach beyond the end of the file.
    pub(super) fn bytes_of(&self, entry: Entry, most: u64) -> Result<Vec<u8>> {
        let size = size_of_kind(entry.kind).unwrap_or(1);
        let count = entry.count.saturating_mul(size).min(most).min(self.bytes);
        let mut bytes = crate::files::zeroed(count as usize)?;
        self.read(entry.at, &mut bytes)?;
        Ok(bytes)
    }
}

impl Directory {
    pub(super) fn get(&self, wanted: u16) -> Option<Entry> {
        self.entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, entry)| *entry)
    }

    /// The first number of an entry, or `default` where there is none.
    ///
    /// # Errors
    /// As [`TiffFile::number`].
    pub(super) fn number(&self, file: &TiffFile, wanted: u16, default: u64) -> Result<u64> {
        self.get(wanted).map_or(Ok(default), |entry| file.number(entry, 0))
    }

    /// The description, as text.
    ///
    /// # Errors
    /// As [`TiffFile::bytes_of`].
    pub(super) fn description(&self, file: &TiffFile) -> Result<String> {
        let Some(entry) = self.get(tag::DESCRIPTION) else { return Ok(String::new()) };
        let bytes = file.bytes_of(entry, DESCRIPTION_BYTES)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        // Old programs write Latin-1, of which only the micro sign matters.
        Ok(match std::str::from_utf8(&bytes[..end]) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes[..end].iter().map(|&b| char::from(b)).collect(),
        })
    }
}

/// Byte order and width of offsets, from the first four bytes.
pub(super) fn form(head: &[u8]) -> Option<(bool, bool)> {
    match head.get(..4)? {
        b"II\x2a\0" => Some((false, false)),
        b"II\x2b\0" => Some((false, true)),
        b"MM\0\x2a" => Some((true, false)),
        b"MM\0\x2b" => Some((true, true)),
        _ => None,
    }
}

/// Bytes of a value of a kind of TIFF 6.0 and BigTIFF.
fn size_of_kind(kind: u16) -> Option<u64> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}
