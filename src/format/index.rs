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

/// Bytes after the chunks of a shard: the checksum of its contents and the index.
pub const fn tail_bytes(chunks: usize) -> usize {
    CHECKSUM_BYTES + index_bytes(chunks)
}

/// The identity of a shard's bytes, which the volume lists (§8); never zero.
///
/// The low half is the checksum of the contents, the high half that of the index.
///
/// ```
/// use voxquarry::format::index::ShardIdentity;
///
/// assert_eq!(ShardIdentity::new(2, 1).value(), (1 << 32) + 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardIdentity(u64);

impl ShardIdentity {
    /// The identity of a shard with these checksums.
    pub fn new(contents_crc32c: u32, index_crc32c: u32) -> Self {
        Self((u64::from(contents_crc32c) | u64::from(index_crc32c) << 32).max(1))
    }

    /// The value in the volume's list, where 0 stands for a shard without a file.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// The checksum of a shard's contents: the crc32c of its chunks' checksums, in the order of the
/// slots.
///
/// ```
/// use voxquarry::format::index::ContentsChecksum;
///
/// let mut contents = ContentsChecksum::default();
/// contents.add(0x1234_5678);
/// assert_ne!(contents.value(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ContentsChecksum(u32);

impl ContentsChecksum {
    /// Adds the next chunk's checksum.
    pub fn add(&mut self, chunk_crc32c: u32) {
        self.0 = crc32c::crc32c_append(self.0, &chunk_crc32c.to_le_bytes());
    }

    /// The checksum of the chunks that were added.
    pub fn value(self) -> u32 {
        self.0
    }
}

/// The byte ranges of a shard's chunks.
///
/// ```
/// use std::path::Path;
/// use voxquarry::format::index::{IndexBuilder, ShardIndex};
///
/// let mut builder = IndexBuilder::new(2);
/// builder.set(1, 0, 30);
/// let tail = builder.encode(0x1234_5678);
/// let file_bytes = 30 + tail.len() as u64;
/// let index = ShardIndex::parse(Path::new("c/0/0/0"), &tail, file_bytes)?;
/// assert_eq!((index.range(0), index.range(1)), (None, Some(0..30)));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct ShardIndex {
    entries: Box<[(u64, u64)]>,
    contents_crc32c: u32,
    identity: ShardIdentity,
}

impl ShardIndex {
    /// Parses `bytes`, the last [`tail_bytes`] of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::ShardIndex`] for a wrong checksum or a range outside of the file.
    pub fn parse(path: &Path, bytes: &[u8], file_bytes: u64) -> Result<Self> {
        let error = |message: String| Error::ShardIndex { path: path.to_owned(), message };
        let data_bytes = file_bytes - bytes.len() as u64;
        let (contents, bytes) = bytes.split_at(CHECKSUM_BYTES);
        let (entries, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        let (found, expected) = (crc32c::crc32c(entries), u32_at(checksum, 0));
        if found != expected {
            return Err(error(format!(
                "crc32c {found:#010x}, expected {expected:#010x}: the file is damaged or unfinished"
            )));
        }
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
        let contents_crc32c = u32_at(contents, 0);
        let identity = ShardIdentity::new(contents_crc32c, expected);
        Ok(Self { entries, contents_crc32c, identity })
    }

    /// The byte range of the chunk in `slot`, including its checksum; `None` if the chunk is
    /// absent, so all zero.
    pub fn range(&self, slot: usize) -> Option<Range<u64>> {
        let (offset, nbytes) = self.entries[slot];
        (offset != ABSENT).then(|| offset..offset + nbytes)
    }

    /// The identity of the shard's bytes.
    pub fn identity(&self) -> ShardIdentity {
        self.identity
    }

    /// The checksum of the shard's contents that the file claims.
    pub fn contents_crc32c(&self) -> u32 {
        self.contents_crc32c
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

    /// The bytes after the chunks: the checksum of the contents, and the index with its own.
    pub fn encode(&self, contents_crc32c: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(tail_bytes(self.entries.len()));
        bytes.extend_from_slice(&contents_crc32c.to_le_bytes());
        for (offset, nbytes) in &self.entries {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&nbytes.to_le_bytes());
        }
        let index_crc32c = crc32c::crc32c(&bytes[CHECKSUM_BYTES..]);
        bytes.extend_from_slice(&index_crc32c.to_le_bytes());
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
        let bytes = builder.encode(7);
        assert_eq!(bytes.len(), tail_bytes(3));
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
            let bytes = builder.encode(7);
            let error =
                ShardIndex::parse(Path::new("s"), &bytes, 30 + bytes.len() as u64).unwrap_err();
            assert!(error.to_string().contains("claims"), "{error}");
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let mut builder = IndexBuilder::new(2);
        builder.set(0, 0, 16);
        let bytes = builder.encode(7);
        let parse =
            |bytes: &[u8]| ShardIndex::parse(Path::new("s"), bytes, 16 + bytes.len() as u64);
        let identity = parse(&bytes).unwrap().identity();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // The checksum of the contents is compared with the volume's list.
            assert!(parse(&bytes).is_ok_and(|index| index.identity() != identity) == (bit < 32));
        }
    }

    #[test]
    fn overlapping_chunks_are_named() {
        let mut builder = IndexBuilder::new(3);
        builder.set(0, 10, 10);
        builder.set(2, 0, 11);
        let bytes = builder.encode(7);
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
