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
}
