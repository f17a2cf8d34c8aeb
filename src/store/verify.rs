//! Verifies a store: every document, index, checksum, frame, label count and weight sum, of all
//! levels.

use std::path::Path;

use rustix::fs::FileType;

use super::dataset::{Dataset, Subject};
use super::options::OpenOptions;
use super::sidecar::label_counts::LabelCounts;
use super::sidecar::weight_sums::{self, WeightSums};
use super::volume::Volume;
use crate::array::decode_chunk;
use crate::array::labels::count_labels;
use crate::array::shards::OpenShard;
use crate::format::attributes::parse_subjects;
use crate::format::check_name;
use crate::format::document::{Document, ZARR_JSON};
use crate::format::grid::{ChunkId, ShardId};
use crate::sys::executor::Executor;
use crate::sys::file::Access;
use crate::sys::folder::Folder;
use crate::sys::remote::refuse_url;
use crate::{Error, Result};

/// The result of [`verify`].
///
/// # Examples
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("no store");
/// // A path without a store is an error; damage inside of a store is listed in the report.
/// assert!(voxquarry::verify(&path, &|_volume| ()).is_err());
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Subjects visited.
    pub subjects: u64,
    /// Volumes visited.
    pub volumes: u64,
    /// Shard files visited.
    pub shards: u64,
    /// Chunks whose checksum and frame are correct.
    pub chunks: u64,
    /// Bytes of the chunks as stored.
    pub encoded_bytes: u64,
    /// The first [`VerifyReport::SHOWN`] errors.
    pub errors: Vec<Error>,
    /// The number of all errors.
    pub error_count: u64,
}

impl VerifyReport {
    /// The number of errors in [`VerifyReport::errors`].
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

/// Verifies the store at `path`; calls `progress` with the volume (`subject/volume`) before each of
/// its shards.
///
/// Damage is listed in the report, not returned: one damaged chunk does not hide another.
///
/// # Errors
/// Those of [`Dataset::open`].
pub fn verify(path: &Path, progress: &(dyn Fn(&str) + Sync)) -> Result<VerifyReport> {
    let options = OpenOptions::default().cache_bytes(0).access(Access::Read);
    refuse_url(path)?;
    let dataset = Dataset::open(path, &options)?;
    let mut report = VerifyReport::default();
    for name in dataset.subjects() {
        report.subjects += 1;
        match dataset.subject(name) {
            Ok(subject) => verify_subject(&subject, progress, &mut report),
            Err(error) => report.error(error),
        }
    }
    verify_strays(&dataset, &mut report)?;
    verify_list(&dataset, &mut report)?;
    Ok(report)
}

/// Reports a list of the subjects that is none. One that names a subject whose folder was removed
/// is right: readers without the folders find out.
fn verify_list(dataset: &Dataset, report: &mut VerifyReport) -> Result<()> {
    let Some(folder) = dataset.folder() else { return Ok(()) };
    let Some(document) = Document::read_in(folder)? else { return Ok(()) };
    if let Err(error) = parse_subjects(&document.voxquarry()?) {
        report.error(error);
    }
    Ok(())
}

/// Reports what lies among the subjects and is none of them: links and special files.
fn verify_strays(dataset: &Dataset, report: &mut VerifyReport) -> Result<()> {
    let Some(store) = dataset.folder() else { return Ok(()) };
    for (name, kind) in store.entries().map_err(Error::io(store.path(), "cannot list"))? {
        // No subject can have another name.
        let Ok(name) = name.into_string() else { continue };
        let is_known = check_name("", &name).is_err() || dataset.subjects().contains(&name);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) && !is_known {
            let message = "it is a link or a special file, which no writer made: remove it";
            report.error(Error::data(store.path().join(&name), message));
        }
    }
    Ok(())
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
        for level in 0..volume.levels().len() {
            let level = volume.level(level);
            let verified = level.and_then(|level| verify_volume(&level, &progress, report));
            if let Err(error) = verified {
                report.error(error);
            }
        }
    }
}

fn verify_volume(volume: &Volume, progress: &dyn Fn(), report: &mut VerifyReport) -> Result<()> {
    // Counts that were left out would be counted from the very voxels that they are compared with.
    let has_counts = volume.attributes().summary_crc32c.is_some();
    let counts = if has_counts { Some(volume.label_counts()?) } else { None };
    // Sums only save work: damaged ones must not keep the voxels from being verified.
    let sums = volume.weight_sums().unwrap_or_else(|error| {
        report.error(error);
        None
    });
    if let Err(error) = volume.check_nifti_header() {
        report.error(error);
    }
    if let Some(folder) = volume.folder()
        && has(folder, weight_sums::FOLDER)?
        && !has(&folder.join(weight_sums::FOLDER), ZARR_JSON)?
    {
        let message = "it holds no weight sums that can be used: remove it";
        report.error(Error::data(folder.path().join(weight_sums::FOLDER), message));
    }
    let sidecars = Sidecars { counts: counts.as_ref(), sums: sums.as_ref() };
    let executor = &volume.array().resources().executor;
    let before = report.shards;
    for shard in volume.layout().shards() {
        progress();
        report.add(verify_shard(volume, shard, sidecars, executor)?);
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

/// Whether something in `folder` has this name.
fn has(folder: &Folder, name: impl AsRef<Path>) -> Result<bool> {
    let path = folder.path().join(&name);
    folder.has(name).map_err(Error::io(path, "cannot look at"))
}

/// What one shard holds; its chunks are divided among the threads.
///
/// # Errors
/// None but those of [`Executor::map`]: what is wrong with the shard is in the report.
fn verify_shard(
    volume: &Volume,
    id: ShardId,
    sidecars: Sidecars<'_>,
    executor: &Executor,
) -> Result<VerifyReport> {
    let layout = volume.layout();
    let mut report = VerifyReport::default();
    let slots: usize = layout.shard_chunks().iter().product();
    let folder = volume.array().folder();
    let key = layout.shard_key(id);
    let listed = volume.array().shard_list().map(|list| list.0[layout.shard_number(id)]);
    let opened =
        listed.and_then(|identity| OpenShard::listed(folder, &key, slots, Access::Read, identity));
    let shard = match opened {
        Ok(shard) => shard,
        Err(error) => {
            report.shards += 1;
            report.error(error);
            return Ok(report);
        }
    };
    if let Some(shard) = &shard {
        report.shards += 1;
        if let Err(error) = shard.index().check_disjoint(shard.path()) {
            report.error(error);
        }
        if let Err(error) = shard.check_contents() {
            report.error(error);
        }
    } else {
        match has(folder, &key) {
            Ok(false) => {}
            Ok(true) => report.error(Error::data(
                folder.path().join(&key),
                "the volume lists no file for this shard",
            )),
            Err(error) => report.error(error),
        }
    }
    let chunk_grid = layout.chunk_grid();
    let walk = |slot: usize| -> Result<u64> {
        let chunk = layout.chunk_in(id, slot);
        let range = shard.as_ref().and_then(|s| s.index().range(slot));
        let voxels = match &shard {
            Some(shard) => decode_chunk(layout, shard, slot)?,
            None => None,
        };
        if (0..3).all(|a| chunk.at[a] < chunk_grid[a]) {
            sidecars.check(volume, chunk, voxels.as_deref())?;
        }
        Ok(range.map_or(0, |r| r.end - r.start))
    };
    for result in executor.map(slots, || (), |(), slot| Ok(walk(slot)))? {
        match result {
            Ok(0) => {}
            Ok(bytes) => {
                report.chunks += 1;
                report.encoded_bytes += bytes;
            }
            Err(error) => report.error(error),
        }
    }
    Ok(report)
}

/// The sidecars of a volume, as far as it has them.
#[derive(Clone, Copy)]
struct Sidecars<'a> {
    counts: Option<&'a LabelCounts>,
    sums: Option<&'a WeightSums>,
}

impl Sidecars<'_> {
    /// Compares the sidecars with the voxels of one chunk; `None` stands for zeros.
    fn check(&self, volume: &Volume, chunk: ChunkId, voxels: Option<&[u8]>) -> Result<()> {
        let (layout, inside) = (volume.layout(), volume.layout().chunk_region(chunk.at));
        let index = layout.chunk_index(chunk);
        let data = |message: String| Error::data(volume.path(), message);
        if let Some(counts) = self.counts {
            let found = match voxels {
                Some(voxels) => count_labels(voxels, layout.dtype, layout.chunk, inside)
                    .map_err(|voxel| data(voxel.message(inside.start)))?,
                None => Vec::new(),
            };
            if !counts.chunk(index as usize).eq(found) {
                return Err(data(format!(
                    "the label counts of chunk {index} differ from its voxels"
                )));
            }
        }
        if let Some(sums) = self.sums {
            // The voxels of an absent chunk are zero; each weighs the intercept.
            let zeros = if voxels.is_none() { vec![0; layout.chunk_bytes()] } else { Vec::new() };
            let voxels = voxels.unwrap_or(&zeros);
            let found = volume.weight_function().sum(voxels, layout.chunk, inside);
            let sum = found.map_err(|voxel| data(voxel.message(inside.start)))?;
            if sum.to_bits() != sums.0[index as usize].to_bits() {
                return Err(data(format!(
                    "the weight sum of chunk {index} differs from its voxels"
                )));
            }
        }
        Ok(())
    }
}
