//! The full walk: every document, index, checksum, frame and label count of a store.

use std::path::Path;

use rayon::prelude::*;

use super::context::{Access, OpenOptions};
use super::dataset::{Dataset, Subject};
use super::shards::Shard;
use super::summary::LabelCounts;
use super::volume::Volume;
use super::weights::ChunkSums;
use super::write::labels_in;
use crate::format::attributes::Kind;
use crate::format::grid::{ChunkId, ShardId};
use crate::{Error, Result};

/// What a walk found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Subjects walked.
    pub subjects: u64,
    /// Volumes walked.
    pub volumes: u64,
    /// Shard files walked.
    pub shards: u64,
    /// Chunks whose checksum and frame are right.
    pub chunks: u64,
    /// Bytes of the chunks as stored.
    pub encoded_bytes: u64,
    /// What is wrong, at most [`VerifyReport::SHOWN`] of them.
    pub errors: Vec<Error>,
    /// How many things are wrong.
    pub error_count: u64,
}

impl VerifyReport {
    /// Errors that are kept.
    pub const SHOWN: usize = 100;

    fn error(&mut self, error: Error) {
        self.error_count += 1;
        if self.errors.len() < Self::SHOWN {
            self.errors.push(error);
        }
    }

    fn add(&mut self, other: Self) {
        self.shards += other.shards;
        self.chunks += other.chunks;
        self.encoded_bytes += other.encoded_bytes;
        self.error_count += other.error_count;
        let room = Self::SHOWN - self.errors.len();
        self.errors.extend(other.errors.into_iter().take(room));
    }
}

/// Walks the store at `path`; `progress` is told a volume (`subject/volume`) before each of its shards.
///
/// Damage is listed in the report, not returned: one bad chunk does not hide another.
///
/// # Errors
/// What keeps the store from being opened at all.
pub fn verify(path: &Path, progress: &(dyn Fn(&str) + Sync)) -> Result<VerifyReport> {
    let options = OpenOptions { cache_bytes: 0, access: Access::Read, ..OpenOptions::default() };
    let dataset = Dataset::open(path, &options)?;
    let mut report = VerifyReport::default();
    for name in dataset.subjects() {
        report.subjects += 1;
        match dataset.subject(name) {
            Ok(subject) => verify_subject(&subject, progress, &mut report),
            Err(error) => report.error(error),
        }
    }
    Ok(report)
}

fn verify_subject(subject: &Subject, progress: &(dyn Fn(&str) + Sync), report: &mut VerifyReport) {
    let mut grid: Option<Volume> = None;
    for name in subject.volumes() {
        report.volumes += 1;
        let volume = match subject.volume(name) {
            Ok(volume) => volume,
            Err(error) => {
                report.error(error);
                continue;
            }
        };
        match &grid {
            Some(first)
                if first.size() != volume.size()
                    || !first.affine().agrees_with(volume.affine(), volume.size()) =>
            {
                let message =
                    format!("lies on another grid than {:?} of the same subject", first.name());
                report.error(Error::metadata(volume.path(), message));
            }
            Some(_) => {}
            None => grid = Some(volume.clone()),
        }
        let progress = || progress(&format!("{}/{name}", subject.name()));
        if let Err(error) = verify_volume(&volume, &progress, report) {
            report.error(error);
        }
    }
}

fn verify_volume(volume: &Volume, progress: &dyn Fn(), report: &mut VerifyReport) -> Result<()> {
    let counts = if volume.kind() == Kind::Labels { Some(volume.label_counts()?) } else { None };
    // Sums only save work: damaged ones do not hide what is wrong with the voxels.
    let sums = ChunkSums::read(volume).unwrap_or_else(|error| {
        report.error(error);
        None
    });
    let beside = Beside { counts: counts.as_ref(), sums: sums.as_ref() };
    let pool = &volume.context().shared().pool;
    let before = report.shards;
    for shard in volume.layout().shards() {
        progress();
        report.add(pool.install(|| verify_shard(volume, shard, beside))?);
    }
    let (found, expected) = (report.shards - before, volume.attributes().shard_files);
    if found != expected {
        report.error(Error::data(
            volume.path(),
            format!("{found} shard files, {expected} were written: some are missing"),
        ));
    }
    Ok(())
}

fn verify_shard(volume: &Volume, id: ShardId, beside: Beside<'_>) -> VerifyReport {
    let layout = volume.layout();
    let mut report = VerifyReport::default();
    let slots: usize = layout.shard_chunks().iter().product();
    let shard = match Shard::open(&volume.level().join(layout.shard_key(id)), slots, Access::Read) {
        Ok(shard) => shard,
        Err(error) => {
            report.shards += 1;
            report.error(error);
            return report;
        }
    };
    if let Some(shard) = &shard {
        report.shards += 1;
        if let Err(error) = shard.index().check_disjoint(shard.path()) {
            report.error(error);
        }
    }
    let chunk_grid = layout.chunk_grid();
    let walk = |slot: usize| -> Result<u64> {
        let chunk = layout.chunk_in(id, slot);
        let range = shard.as_ref().and_then(|s| s.index().range(slot));
        let voxels = match &shard {
            Some(shard) => volume.decode_chunk(shard, slot)?,
            None => None,
        };
        if (0..3).all(|a| chunk.at[a] < chunk_grid[a]) {
            beside.check(volume, chunk, voxels.as_deref())?;
        }
        Ok(range.map_or(0, |r| r.end - r.start))
    };
    let results: Vec<Result<u64>> = (0..slots).into_par_iter().map(walk).collect();
    for result in results {
        match result {
            Ok(0) => {}
            Ok(bytes) => {
                report.chunks += 1;
                report.encoded_bytes += bytes;
            }
            Err(error) => report.error(error),
        }
    }
    report
}

/// What stands beside a volume about its chunks.
#[derive(Clone, Copy)]
struct Beside<'a> {
    counts: Option<&'a LabelCounts>,
    sums: Option<&'a ChunkSums>,
}

impl Beside<'_> {
    /// Compares it with the voxels of one chunk; `None`: they are zero.
    fn check(&self, volume: &Volume, chunk: ChunkId, voxels: Option<&[u8]>) -> Result<()> {
        let (layout, inside) = (volume.layout(), volume.layout().chunk_region(chunk.at));
        let index = layout.chunk_index(chunk);
        let data = |message: String| Error::data(volume.path(), message);
        if let Some(counts) = self.counts {
            let found = match voxels {
                Some(voxels) => {
                    labels_in(voxels, layout.dtype, layout.chunk, inside).map_err(data)?
                }
                None => Vec::new(),
            };
            if !counts.chunk(index as usize).eq(found) {
                return Err(data(format!("label counts of chunk {index} are not its voxels'")));
            }
        }
        if let Some(sums) = self.sums {
            // An absent chunk is zeros, which weigh the intercept each.
            let zeros = if voxels.is_none() { vec![0; layout.chunk_bytes()] } else { Vec::new() };
            let voxels = voxels.unwrap_or(&zeros);
            let found = volume.weigher().sum(voxels, layout.chunk, inside);
            let sum = found.map_err(|bad| data(bad.message(inside.start)))?;
            if sum.to_bits() != sums.0[index as usize].to_bits() {
                return Err(data(format!("the chunk sum of chunk {index} is not its voxels'")));
            }
        }
        Ok(())
    }
}
