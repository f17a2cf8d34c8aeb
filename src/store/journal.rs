//! The journal of unfinished work: one line for each shard that is on the disk.
//!
//! # Invariants
//! - A line is written after the shard's file was flushed. It begins with the checksum of its rest.
//! - A last line that was cut off is dropped when the journal is opened again.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::array::statistics::RunningStatistics;
use crate::format::array::ArrayLayout;
use crate::format::grid::ChunkId;
use crate::sys::folder::{Folder, refused};
use crate::{Error, Result};

/// Label counts of chunks: a chunk's index, and the voxels of each label in it.
pub(super) type ChunkLabelCounts = Vec<(u64, Vec<(i64, u32)>)>;

/// A shard that is on the disk, and the facts about its voxels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ShardRecord {
    /// The number of the shard in C order, channel slowest.
    pub(super) shard: usize,
    /// The identity of its bytes, or 0 if all its chunks are the fill value.
    pub(super) identity: u64,
    pub(super) statistics: RunningStatistics,
    pub(super) label_counts: ChunkLabelCounts,
    /// The sum of weights of each chunk, by its index.
    pub(super) weight_sums: Vec<(u64, f64)>,
}

impl ShardRecord {
    /// Whether what it says can be of this shard of an array: a forged line has a right checksum.
    pub(super) fn is_of(&self, layout: &ArrayLayout) -> bool {
        let chunks = self.label_counts.iter().map(|(chunk, _)| *chunk);
        let chunks = chunks.chain(self.weight_sums.iter().map(|(chunk, _)| *chunk));
        let voxels = layout.shard.iter().map(|&n| n as u64).product();
        (self.shard as u64) < layout.shard_count()
            && self.statistics.voxels().is_some_and(|counted| counted <= voxels)
            && chunks.into_iter().all(|chunk| self.holds(chunk, layout))
    }

    /// Whether a chunk, by its index in the array, lies in the shard.
    fn holds(&self, chunk: u64, layout: &ArrayLayout) -> bool {
        if chunk >= layout.chunk_count() {
            return false;
        }
        let (grid, mut rest, mut at) = (layout.chunk_grid(), chunk as usize, [0; 3]);
        for axis in [2, 1, 0] {
            (rest, at[axis]) = (rest / grid[axis], rest % grid[axis]);
        }
        layout.shard_number(layout.shard_of(ChunkId { channel: rest, at }).0) == self.shard
    }
}

/// An open journal.
pub(super) struct Journal(Mutex<File>);

impl Journal {
    /// Opens the journal `name` in `folder`, which need not exist, and returns the records in it.
    ///
    /// # Errors
    /// [`Error::Data`] if a line is damaged, [`Error::Io`].
    pub(super) fn open(folder: &Folder, name: &str) -> Result<(Self, Vec<ShardRecord>)> {
        let path = folder.path().join(name);
        let mut file = folder.append_file(name).map_err(refused(&path, "cannot open"))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(Error::io(&path, "cannot read"))?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let damaged = || Error::data(&path, "a line of the journal is damaged: start again");
        let lines = text[..whole].split(|&b| b == b'\n').filter(|line| !line.is_empty());
        let records = lines.map(|line| parse(line).ok_or_else(damaged));
        let records = records.collect::<Result<Vec<ShardRecord>>>()?;
        file.set_len(whole as u64).map_err(Error::io(&path, "cannot cut"))?;
        Ok((Self(Mutex::new(file)), records))
    }

    /// Appends a record and waits until the disk has it.
    pub(super) fn append(&self, record: &ShardRecord) -> std::io::Result<()> {
        let record = serde_json::to_vec(record).map_err(std::io::Error::other)?;
        let line = [&seal(&record)[..], &record, b"\n"].concat();
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        file.sync_data()
    }
}

/// The checksum of a record, before it in its line.
fn seal(record: &[u8]) -> [u8; 9] {
    let text = format!("{:08x} ", crc32c::crc32c(record));
    text.into_bytes().try_into().expect("eight digits and a space")
}

/// The record of a line; `None` if it is damaged.
fn parse(line: &[u8]) -> Option<ShardRecord> {
    let (found, record) = line.split_first_chunk()?;
    if *found != seal(record) {
        return None;
    }
    serde_json::from_slice(record).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::format::array::ChunkCodec;

    #[test]
    fn every_flipped_bit_of_a_line_is_noticed() {
        let record = ShardRecord {
            shard: 3,
            identity: 1 << 40,
            statistics: RunningStatistics::NONE,
            label_counts: vec![(7, vec![(-1, 20)])],
            weight_sums: vec![(7, 0.5)],
        };
        let record = serde_json::to_vec(&record).unwrap();
        let line = [&seal(&record)[..], &record].concat();
        assert_eq!(parse(&line).unwrap().label_counts, [(7, vec![(-1, 20)])]);
        for bit in 0..8 * line.len() {
            let mut damaged = line.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&damaged).is_none(), "bit {bit}");
        }
        assert!((0..line.len()).all(|cut| parse(&line[..cut]).is_none()));
    }

    /// Fuzzing found it: a forged line that names a chunk beyond the array ended in a panic.
    #[test]
    fn records_of_another_shard_are_told() {
        let layout = ArrayLayout {
            channels: Some(2),
            size: [8, 8, 9],
            dtype: Dtype::UInt8,
            chunk: [4; 3],
            shard: [4, 8, 8],
            codec: ChunkCodec::Raw,
        };
        let record = |shard, chunk| ShardRecord {
            shard,
            identity: 1,
            statistics: RunningStatistics::NONE,
            label_counts: vec![(chunk, vec![(1, 1)])],
            weight_sums: vec![],
        };
        for number in 0..layout.chunk_count() {
            let of = |shard| record(shard, number).is_of(&layout);
            let own: Vec<usize> = (0..9).filter(|&shard| of(shard)).collect();
            let grid = [2, 2, 3];
            let [z, x] = [number as usize / (grid[1] * grid[2]), number as usize % grid[2]];
            assert_eq!(own, [z * 2 + x / 2], "chunk {number}");
            let sums = vec![(number, 0.5)];
            let sums = ShardRecord { weight_sums: sums, label_counts: vec![], ..record(own[0], 0) };
            assert!(sums.is_of(&layout));
        }
        assert!(!record(0, layout.chunk_count()).is_of(&layout));
        assert!(!record(0, u64::MAX).is_of(&layout));
        assert!(!record(8, 0).is_of(&layout) && !record(usize::MAX, 0).is_of(&layout));
    }
}
