//! Verifies a store: every document, index, checksum, frame, label count and weight sum, of all
//! levels.
//!
//! # Invariants
//! - Damage is reported and never ends the verification; only the caller's function does.

use std::path::Path;

use rustix::fs::FileType;

use super::dataset::{Dataset, Subject};
use super::options::OpenOptions;
use super::sidecar::label_counts::LabelCounts;
use super::sidecar::weight_sums::{self, WeightSums};
use super::verify_progress::{Steps, VerifyProgress};
use super::volume::Volume;
use crate::array::decode_chunk;
use crate::array::labels::count_labels;
use crate::array::shards::OpenShard;
use crate::format::attributes::parse_subjects;
use crate::format::check_name;
use crate::format::document::{Document, ZARR_JSON};
use crate::format::grid::{ChunkId, ShardId, iter_box};
use crate::memory::zeroed;
use crate::sys::executor::groups;
use crate::sys::file::Access;
use crate::sys::folder::Folder;
use crate::sys::remote::refuse_url;
use crate::{Error, Result};

/// Bytes of voxels that a thread checks before the caller's function is called again: some tens of
/// milliseconds of work.
const GROUP_BYTES: usize = 4 << 20;

/// The result of [`verify`].
///
/// # Examples
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("no store");
/// // A path without a store is an error; damage inside of a store is listed in the report.
/// assert!(voxquarry::verify(&path, &mut |_| Ok(())).is_err());
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
}

/// Verifies the store at `path`.
///
/// `progress` is called on the caller's thread: for every subject while the volumes are counted,
/// then for every volume and between chunks, at least once for each 4 MiB a thread (or for one
/// chunk a thread, if a chunk is larger). Its error ends the verification.
///
/// Damage is listed in the report, not returned: one damaged chunk does not hide another.
///
/// # Errors
/// Those of [`Dataset::open`]; that of `progress`.
///
/// # Examples
/// ```
/// # let store = "format-spec/golden/v1";
/// let mut done = 0;
/// let report = voxquarry::verify(store.as_ref(), &mut |step| {
///     done = step.done;
///     Ok(())
/// })?;
/// assert_eq!((report.error_count, report.subjects), (0, 2));
/// assert!(done > 0);
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub fn verify(
    path: &Path,
    progress: &mut dyn FnMut(VerifyProgress<'_>) -> Result<()>,
) -> Result<VerifyReport> {
    let options = OpenOptions::default().cache_bytes(0).access(Access::Read);
    refuse_url(path)?;
    let dataset = Dataset::open(path, &options)?;
    let mut steps = Steps::count(&dataset, progress)?;
    let mut report = VerifyReport::default();
    for name in dataset.subjects() {
        report.subjects += 1;
        match dataset.subject(name) {
            Ok(subject) => verify_subject(&subject, &mut steps, &mut report)?,
            Err(error) => report.error(error),
        }
    }
    verify_strays(&dataset, &mut report)?;
    verify_list(&dataset, &mut report)?;
    steps.end()?;
    Ok(report)
}

/// Reports a list of the subjects that is none, or lacks one. One that names a subject whose folder
/// was removed is right: readers without the folders find out.
fn verify_list(dataset: &Dataset, report: &mut VerifyReport) -> Result<()> {
    let Some(folder) = dataset.folder() else { return Ok(()) };
    let Some(document) = Document::read_in(folder)? else { return Ok(()) };
    let listed = match parse_subjects(&document.voxquarry()?) {
        Ok(Some(listed)) => listed,
        Ok(None) => return Ok(()),
        Err(error) => {
            report.error(error);
            return Ok(());
        }
    };
    for name in dataset.subjects() {
        // It may have been removed, and the list written anew.
        if listed.binary_search(name).is_err() && has(folder, name)? {
            let message = format!(
                "the list of subjects lacks {name:?}, which readers on other machines miss: write \
                 it anew (voxquarry.list_subjects)"
            );
            report.error(Error::metadata(document.path(), message));
        }
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

/// # Errors
/// That of the caller's function.
fn verify_subject(
    subject: &Subject,
    steps: &mut Steps<'_>,
    report: &mut VerifyReport,
) -> Result<()> {
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
        steps.begin(subject.name(), &volume)?;
        for level in 0..volume.levels().len() {
            match volume.level(level) {
                Ok(level) => verify_volume(&level, steps, report)?,
                Err(error) => report.error(error),
            }
        }
        steps.end_volume();
    }
    Ok(())
}

/// # Errors
/// That of the caller's function.
fn verify_volume(volume: &Volume, steps: &mut Steps<'_>, report: &mut VerifyReport) -> Result<()> {
    let sidecars = match Sidecars::read(volume, report) {
        Ok(sidecars) => sidecars,
        Err(error) => {
            report.error(error);
            return Ok(());
        }
    };
    let before = report.shards;
    for shard in volume.layout().shards() {
        verify_shard(volume, shard, &sidecars, steps, report)?;
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

/// # Errors
/// That of the caller's function, which is called between groups of chunks.
fn verify_shard(
    volume: &Volume,
    id: ShardId,
    sidecars: &Sidecars,
    steps: &mut Steps<'_>,
    report: &mut VerifyReport,
) -> Result<()> {
    let layout = volume.layout();
    let slots: usize = layout.shard_chunks().iter().product();
    let voxel_bytes = layout.dtype.size() as u64;
    let shard = match open_shard(volume, id, slots, report) {
        Ok(shard) => shard,
        Err(error) => {
            report.error(error);
            let cells = iter_box(layout.shard_cells(id));
            let voxels: usize = cells.map(|at| layout.chunk_region(at).len()).sum();
            return steps.add(voxels as u64 * voxel_bytes);
        }
    };
    let chunk_grid = layout.chunk_grid();
    // What of a chunk lies in the file and in the volume, in bytes.
    let walk = |slot: usize| -> (Result<u64>, u64) {
        let chunk = layout.chunk_in(id, slot);
        let is_inside = (0..3).all(|a| chunk.at[a] < chunk_grid[a]);
        let voxels = if is_inside { layout.chunk_region(chunk.at).len() as u64 } else { 0 };
        let checked = || -> Result<u64> {
            let range = shard.as_ref().and_then(|s| s.index().range(slot));
            let voxels = match &shard {
                Some(shard) => decode_chunk(layout, shard, slot)?,
                None => None,
            };
            if is_inside {
                sidecars.check(volume, chunk, voxels.as_deref())?;
            }
            Ok(range.map_or(0, |r| r.end - r.start))
        };
        (checked(), voxels * voxel_bytes)
    };
    let executor = &volume.array().resources().executor;
    let most = executor.threads() * (GROUP_BYTES / layout.chunk_bytes()).max(1);
    for group in groups(slots, most) {
        let results = executor.map(group.len(), || (), |(), n| Ok(walk(group.start + n)))?;
        let mut bytes = 0;
        for (checked, voxel_bytes) in results {
            bytes += voxel_bytes;
            match checked {
                Ok(0) => {}
                Ok(encoded) => {
                    report.chunks += 1;
                    report.encoded_bytes += encoded;
                }
                Err(error) => report.error(error),
            }
        }
        steps.add(bytes)?;
    }
    Ok(())
}

/// Opens a shard, and reports what is wrong with the file as a whole; `None` if it has none.
///
/// # Errors
/// If nothing of it can be read.
fn open_shard(
    volume: &Volume,
    id: ShardId,
    slots: usize,
    report: &mut VerifyReport,
) -> Result<Option<OpenShard>> {
    let (layout, folder) = (volume.layout(), volume.array().folder());
    let key = layout.shard_key(id);
    let identity = volume.array().shard_list().map(|list| list.0[layout.shard_number(id)]);
    let opened = identity
        .and_then(|identity| OpenShard::listed(folder, &key, slots, Access::Read, identity));
    if !matches!(opened, Ok(None)) {
        report.shards += 1;
    }
    let shard = opened?;
    if let Some(shard) = &shard {
        for checked in [shard.index().check_disjoint(shard.path()), shard.check_contents()] {
            checked.unwrap_or_else(|error| report.error(error));
        }
    } else if has(folder, &key)? {
        let path = folder.path().join(&key);
        report.error(Error::data(path, "the volume lists no file for this shard"));
    }
    Ok(shard)
}

/// The sidecars of a volume, as far as it has them.
struct Sidecars {
    counts: Option<LabelCounts>,
    sums: Option<WeightSums>,
}

impl Sidecars {
    /// Reads those of `volume`.
    ///
    /// # Errors
    /// If the voxels cannot be compared with what should be there.
    fn read(volume: &Volume, report: &mut VerifyReport) -> Result<Self> {
        // Counts that were left out would be counted from the very voxels that they are compared
        // with.
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
        Ok(Self { counts, sums })
    }

    /// Compares the sidecars with the voxels of one chunk; `None` stands for zeros.
    fn check(&self, volume: &Volume, chunk: ChunkId, voxels: Option<&[u8]>) -> Result<()> {
        let (layout, inside) = (volume.layout(), volume.layout().chunk_region(chunk.at));
        let index = layout.chunk_index(chunk);
        let data = |message: String| Error::data(volume.path(), message);
        if let Some(counts) = &self.counts {
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
        if let Some(sums) = &self.sums {
            // The voxels of an absent chunk are zero; each weighs the intercept.
            let bytes = if voxels.is_none() { layout.chunk_bytes() } else { 0 };
            let zeros = zeroed(bytes, || format!("a chunk of {}", volume.path().display()))?;
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
