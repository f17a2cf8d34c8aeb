//! The journal of unfinished work: one line for each shard that is on the disk.
//!
//! # Invariants
//! - A line is written after the shard's file was flushed.
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
        let damaged = |_| Error::data(&path, "a line of the journal is damaged: start again");
        let lines = text[..whole].split(|&b| b == b'\n').filter(|line| !line.is_empty());
        let records = lines.map(|line| serde_json::from_slice(line).map_err(damaged));
        let records = records.collect::<Result<Vec<ShardRecord>>>()?;
        file.set_len(whole as u64).map_err(Error::io(&path, "cannot cut"))?;
        Ok((Self(Mutex::new(file)), records))
    }

    /// Appends a record and waits until the disk has it.
    pub(super) fn append(&self, record: &ShardRecord) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(record).map_err(std::io::Error::other)?;
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        file.sync_data()
    }
}
