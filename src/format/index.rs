//! The index of a shard (§5, "Shard bytes").
//!
//! # Invariants
//! - Every range of a [`ShardIndex`] lies in its file, before the index, and holds at least one
//!   byte and a checksum.

use std::ops::Range;
use std::path::Path;

use crate::{Error, Result};

const ENTRY_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const ABSENT: u64 = u64::MAX;

/// Bytes of the index of a shard with `chunks` chunks, including its checksum.
pub const fn index_bytes(chunks: usize) -> usize {
    chunks * ENTRY_BYTES + CHECKSUM_BYTES
}

/// The byte ranges of a shard's chunks.
///
/// ```
/// use std::path::Path;
/// use voxquarry::format::index::{IndexBuilder, ShardIndex};
///
/// let mut builder = IndexBuilder::new(2);
/// builder.set(1, 0, 30);
/// let index = builder.encode();
/// let file_bytes = 30 + index.len() as u64;
/// let index = ShardIndex::parse(Path::new("c/0/0/0"), &index, file_bytes)?;
/// assert_eq!((index.range(0), index.range(1)), (None, Some(0..30)));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct ShardIndex {
    entries: Box<[(u64, u64)]>,
}

impl ShardIndex {
    /// Parses `bytes`, the last [`index_bytes`] of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::ShardIndex`] for a wrong checksum or a range outside of the file.
    pub fn parse(path: &Path, bytes: &[u8], file_bytes: u64) -> Result<Self> {
        let error = |message: String| Error::ShardIndex { path: path.to_owned(), message };
        let (entries, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        let (found, expected) = (crc32c::crc32c(entries), u32_at(checksum, 0));
        if found != expected {
            return Err(error(format!(
                "crc32c {found:#010x}, expected {expected:#010x}: the file is damaged or unfinished"
            )));
        }
        let data_bytes = file_bytes - bytes.len() as u64;
        let parse = |(chunk, entry): (usize, &[u8])| {
            let (offset, nbytes) = (u64_at(entry, 0), u64_at(entry, 8));
            let absent = offset == ABSENT && nbytes == ABSENT;
            let inside = nbytes > CHECKSUM_BYTES as u64
                && offset.checked_add(nbytes).is_some_and(|end| end <= data_bytes);
            if absent || inside {
                return Ok((offset, nbytes));
            }
            Err(error(format!(
                "chunk {chunk} claims {nbytes} bytes at {offset}, the file has {data_bytes} before \
                 its index"
            )))
        };
        let entries =
            entries.chunks_exact(ENTRY_BYTES).enumerate().map(parse).collect::<Result<_>>()?;
        Ok(Self { entries })
    }

    /// The byte range of the chunk in `slot`, including its checksum; `None` if the chunk is
    /// absent, so all zero.
    pub fn range(&self, slot: usize) -> Option<Range<u64>> {
        let (offset, nbytes) = self.entries[slot];
        (offset != ABSENT).then(|| offset..offset + nbytes)
    }

    /// Slots of the shard, including absent chunks.
    pub fn slots(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of this index in memory.
    pub fn memory_bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }

    /// Checks that chunks do not overlap.
    ///
    /// # Errors
    /// [`Error::ShardIndex`] with the first two that do.
    pub fn check_disjoint(&self, path: &Path) -> Result<()> {
        let mut ranges: Vec<_> =
            (0..self.slots()).filter_map(|slot| Some((self.range(slot)?, slot))).collect();
        ranges.sort_by_key(|(range, _)| range.start);
        for pair in ranges.windows(2) {
            let [(a, first), (b, second)] = pair else { unreachable!("windows of two") };
            if a.end > b.start {
                let message = format!("chunks {first} and {second} overlap at byte {}", b.start);
                return Err(Error::ShardIndex { path: path.to_owned(), message });
            }
        }
        Ok(())
    }
}

/// The index of a shard that is being written; see [`ShardIndex`] for an example.
#[derive(Debug)]
pub struct IndexBuilder {
    entries: Vec<(u64, u64)>,
}

impl IndexBuilder {
    /// An index of `chunks` absent chunks.
    pub fn new(chunks: usize) -> Self {
        Self { entries: vec![(ABSENT, ABSENT); chunks] }
    }

    /// Sets the byte range of the chunk in `slot`.
    pub fn set(&mut self, slot: usize, offset: u64, nbytes: usize) {
        self.entries[slot] = (offset, nbytes as u64);
    }

    /// The bytes of the index, including its checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(index_bytes(self.entries.len()));
        for (offset, nbytes) in &self.entries {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&nbytes.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }
}

/// The little-endian `u32` at byte `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_present_chunks_round_trip() {
        let mut builder = IndexBuilder::new(3);
        builder.set(1, 10, 20);
        let bytes = builder.encode();
        assert_eq!(bytes.len(), index_bytes(3));
        let index = ShardIndex::parse(Path::new("s"), &bytes, 30 + bytes.len() as u64).unwrap();
        assert_eq!([0, 1, 2].map(|s| index.range(s)), [None, Some(10..30), None]);
    }

    #[test]
    fn ranges_outside_the_file_are_refused() {
        for (offset, nbytes) in
            [(10, 21), (31, 5), (u64::MAX - 4, 5), (u64::MAX, 5), (0, 0), (0, 4), (5, u64::MAX)]
        {
            let mut builder = IndexBuilder::new(1);
            builder.entries[0] = (offset, nbytes);
            let bytes = builder.encode();
            let error =
                ShardIndex::parse(Path::new("s"), &bytes, 30 + bytes.len() as u64).unwrap_err();
            assert!(error.to_string().contains("claims"), "{error}");
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let mut builder = IndexBuilder::new(2);
        builder.set(0, 0, 16);
        let bytes = builder.encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(ShardIndex::parse(Path::new("s"), &bytes, 16 + bytes.len() as u64).is_err());
        }
    }

    #[test]
    fn overlapping_chunks_are_named() {
        let mut builder = IndexBuilder::new(3);
        builder.set(0, 10, 10);
        builder.set(2, 0, 11);
        let bytes = builder.encode();
        let index = ShardIndex::parse(Path::new("s"), &bytes, 30 + bytes.len() as u64).unwrap();
        assert!(
            index
                .check_disjoint(Path::new("s"))
                .unwrap_err()
                .to_string()
                .contains("chunks 2 and 0")
        );
    }
}
