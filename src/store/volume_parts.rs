//! Volumes that several processes write, each its part of the shards, and the step that joins them.
//!
//! The work of each part outlives its process, in a resumable folder of its own with a journal. Of
//! a part whose shards are all on the disk, the folder also has the volume's documents and a mark,
//! which holds their checksums.
//!
//! # Invariants
//! - The parts of a volume have one count and the same arguments, and no shard in common.
//! - Nothing of a part is visible before all are joined; a joined part is linked, never moved, so
//!   that a process that was killed while it joined them loses nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use super::chunked_writer::ChunkedVolumeWriter;
use super::journal::{Journal, ShardRecord};
use super::listed::{checksum_in, is_absent, is_no_document};
use super::part::{Part, list_of};
use super::share::share_file;
use super::spec::VolumeSpec;
use super::staging::{StagingDir, resumable_name, sync_tree};
use super::volume_files::{VolumeFiles, part_of_shard};
use crate::array::shards::OpenShard;
use crate::format::PARTIAL_DIR;
use crate::format::attributes::DocumentChecksums;
use crate::format::levels::level_folder;
use crate::sys::file::Access;
use crate::sys::folder::{Folder, Links, refused};
use crate::{Error, Region, Result};

/// The file name of the journal of resumable work.
pub(super) const JOURNAL: &str = "journal";
/// The mark of a part all of whose shards are on the disk.
const DONE: &str = "done";
/// A mark is shorter.
const MARK_BYTES: u64 = 64;

/// One part of a volume in preparation, written chunk by chunk; see
/// [`crate::StoreWriter::add_volume_part`].
///
/// ```
/// use voxquarry::format::attributes::Kind;
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
/// use voxquarry::{Dtype, Part, Region, StoreWriter, VolumeSpec};
///
/// let shape =
///     VolumeShape { channels: None, size: [8, 16, 16], dtype: Dtype::UInt8, interleaved: 1 };
/// let layout = layout::choose(&shape, &[[8; 3]], Codec::Fast, 64 << 20)?;
/// # let folder = tempfile::tempdir().unwrap();
/// let store = StoreWriter::open(folder.path().join("store.zarr"), None)?;
/// // Each part is a process of its own.
/// for part in Part::all(2)? {
///     let spec = VolumeSpec::new("ct", Kind::Image, layout.clone());
///     let writer = store.add_volume_part("case01", spec, "a phantom", part)?;
///     let (whole, voxels) = (Region::whole([8, 16, 16]), [7; 8 * 16 * 16]);
///     for number in 0..writer.chunks().chunks_in(&whole) {
///         writer.chunks().put_chunk(&whole, &[&voxels], number)?;
///     }
///     writer.finish()?;
/// }
/// assert_eq!(store.finalize_volume("case01", "ct")?.size(), [8, 16, 16]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub struct VolumePartWriter {
    chunks: ChunkedVolumeWriter,
    /// Whether an earlier process finished it.
    is_done: bool,
}

impl VolumePartWriter {
    /// A part whose mark says whether it `is_done`.
    pub(super) fn new(chunks: ChunkedVolumeWriter, is_done: bool) -> Result<Self> {
        // Its files may have been damaged since: then it is done once more.
        let is_done = is_done && chunks.is_written(&Region::whole(chunks.layout().size));
        let writer = Self { chunks, is_done };
        if !is_done {
            writer.remove_mark()?;
        }
        Ok(writer)
    }

    /// Takes the chunks; those of other parts are left out.
    pub fn chunks(&self) -> &ChunkedVolumeWriter {
        &self.chunks
    }

    /// Notes that the part is complete.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if chunks of the part are missing, [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        if self.is_done {
            return Ok(());
        }
        let (files, staged) = self.chunks.into_staged();
        let checksums = files.finish_part()?;
        sync_tree(&staged.content())?;
        staged.staging().mark(DONE, &mark_of(checksums))
    }

    fn remove_mark(&self) -> Result<()> {
        let folder = self.chunks.staged_folder();
        match folder.remove_tree(DONE) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(refused(folder.path().join(DONE), "cannot remove")(e))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for VolumePartWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chunks, is_done } = self;
        f.debug_struct("VolumePartWriter")
            .field("chunks", chunks)
            .field("is_done", is_done)
            .finish()
    }
}

/// How far a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartState {
    Begun,
    /// Its documents are those that its mark names.
    Done,
    Damaged,
}

/// Of a part that has to be run again.
const DAMAGED: &str = ": files of it are damaged";

/// What the mark of a part with these documents holds.
fn mark_of(documents: DocumentChecksums) -> String {
    format!("{:08x} {:08x}\n", documents.group_crc32c, documents.level_crc32c)
}

/// Where the parts of a volume are.
#[derive(Clone, Copy)]
pub(super) struct PartsPlace<'a> {
    pub(super) store: &'a Path,
    pub(super) subject: &'a str,
    pub(super) volume: &'a str,
}

/// All parts of a volume that have shards, complete.
pub(super) struct CompleteParts {
    pub(super) spec: VolumeSpec,
    /// By number: the folder of the part's array, and the shard as its journal has it.
    shards: BTreeMap<usize, (Folder, ShardRecord)>,
}

impl PartsPlace<'_> {
    /// Opens the folder of a part, and says whether the part bears the mark of a complete one.
    pub(super) fn resume(&self, part: Part, arguments: &str) -> Result<(StagingDir, bool)> {
        let name = self.folder_name(part);
        let mut staging = StagingDir::resume_named(self.store, &name, self.work(part), arguments)?;
        // After the own folder is there: of two that begin at one time, one sees the other.
        if let Err(error) = self.check_others(part, arguments) {
            // A part that has nothing yet leaves nothing.
            if !staging.folder().has(JOURNAL).unwrap_or(true) {
                staging.release();
            }
            return Err(error);
        }
        let is_done = self.state(staging.folder())? == PartState::Done;
        Ok((staging, is_done))
    }

    /// Checks that the other parts that were begun are of the same count and arguments.
    fn check_others(&self, part: Part, arguments: &str) -> Result<()> {
        for (other, folder) in self.begun()? {
            if other.count() != part.count() {
                return Err(self.other_count(other, &format!("this is part {part}")));
            }
            let found = StagingDir::arguments_in(&folder)?;
            if let Some(found) = found.filter(|found| found != arguments.as_bytes()) {
                let found = String::from_utf8_lossy(&found).into_owned();
                let (volume, requested) = (self.work(other), arguments.to_owned());
                return Err(Error::ResumeMismatch { volume, found, requested });
            }
        }
        Ok(())
    }

    /// Removes what there is of a part.
    pub(super) fn discard(&self, part: Part) -> Result<()> {
        StagingDir::discard_named(self.store, &self.folder_name(part))
    }

    /// Removes what there is of all parts, and returns how many there were.
    pub(super) fn discard_all(&self) -> Result<usize> {
        let begun = self.begun()?;
        begun.iter().try_for_each(|(part, _)| self.discard(*part))?;
        // A join that was killed just after it had published leaves its folder; one that goes on
        // holds it, and removes it itself.
        match StagingDir::discard_named(self.store, &self.join_name()) {
            Ok(()) | Err(Error::Busy { .. }) => Ok(begun.len()),
            Err(error) => Err(error),
        }
    }

    /// A folder to join the parts in; one process at a time has it.
    pub(super) fn begin_join(&self) -> Result<StagingDir> {
        let name = self.join_name();
        let work = format!("{}/{}, its parts being joined", self.subject, self.volume);
        let mut staging = StagingDir::resume_named(self.store, &name, work, "")?;
        staging.release();
        // What a killed process left is only links.
        let content = staging.content();
        if content.exists().map_err(Error::io(content.path(), "cannot look at"))? {
            let removed = content.above().remove_tree("content");
            removed.map_err(refused(content.path(), "cannot remove"))?;
        }
        Ok(staging)
    }

    /// Looks at every part, and collects its shards.
    ///
    /// # Errors
    /// As [`crate::StoreWriter::finalize_volume`].
    pub(super) fn complete(&self) -> Result<CompleteParts> {
        let begun = self.begun()?;
        let Some(&(first, _)) = begun.first() else {
            let reason = format!(
                "no part of {}/{} was begun in {}",
                self.subject,
                self.volume,
                self.store.display()
            );
            return Err(Error::unsupported(reason, "run its parts first"));
        };
        if let Some((other, _)) = begun.iter().find(|(part, _)| part.count() != first.count()) {
            return Err(self.other_count(first, &format!("part {other} too")));
        }
        let mut done = Vec::with_capacity(begun.len());
        for (part, folder) in begun {
            match self.state(&folder)? {
                PartState::Begun => {}
                PartState::Done => done.push((part, folder)),
                PartState::Damaged => return Err(self.incomplete(&[part], DAMAGED)),
            }
        }
        let Some((_, folder)) = done.first() else {
            return Err(self.incomplete(&Part::all(first.count())?.collect::<Vec<_>>(), ""));
        };
        let spec = VolumeSpec::of_part(self.volume, &folder.join("content").join(self.volume))?;
        let cells = spec.layout.shard_grid().iter().product();
        let is_missing = |part: &Part| {
            !part.share(cells).is_empty() && done.iter().all(|(other, _)| other != part)
        };
        let missing: Vec<Part> = Part::all(first.count())?.filter(is_missing).collect();
        if !missing.is_empty() {
            return Err(self.incomplete(&missing, ""));
        }
        let mut parts = CompleteParts { spec, shards: BTreeMap::new() };
        let arguments = StagingDir::arguments_in(folder)?;
        for (part, folder) in &done {
            if StagingDir::arguments_in(folder)? != arguments {
                return Err(self.incomplete(&[*part], ": it was begun with other arguments"));
            }
            let Some(_lock) = StagingDir::lock_named(self.store, &self.folder_name(*part))? else {
                return Err(self.incomplete(&[*part], ": it was removed meanwhile"));
            };
            parts.add(*part, folder, self)?;
        }
        Ok(parts)
    }

    /// How far the part in `folder` is.
    fn state(&self, folder: &Folder) -> Result<PartState> {
        let mark = match folder.read_file(DONE, MARK_BYTES) {
            Ok(mark) => mark,
            Err(e) if is_absent(&e) => return Ok(PartState::Begun),
            Err(e) if is_no_document(&e) => return Ok(PartState::Damaged),
            Err(e) => return Err(Error::io(folder.path().join(DONE), "cannot read")(e)),
        };
        let volume = folder.join("content").join(self.volume);
        let level = volume.join(level_folder(0));
        let checksums = (checksum_in(&volume)?, checksum_in(&level)?);
        let (Some(group_crc32c), Some(level_crc32c)) = checksums else {
            return Ok(PartState::Damaged);
        };
        let expected = mark_of(DocumentChecksums { group_crc32c, level_crc32c });
        Ok(if mark == expected.as_bytes() { PartState::Done } else { PartState::Damaged })
    }

    /// The parts that were begun, by their numbers, and their folders.
    fn begun(&self) -> Result<Vec<(Part, Folder)>> {
        let store = match Folder::open(self.store, Links::Refuse) {
            Ok(store) => store,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(self.store, "cannot open")(e)),
        };
        let partial = store.join(PARTIAL_DIR);
        let entries = match partial.entries() {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(refused(partial.path(), "cannot list")(e)),
        };
        let prefix = format!("{}.", resumable_name(self.subject, self.volume));
        let part_of = |name: &str| -> Option<Part> {
            let (number, count) = name.strip_prefix(&prefix)?.split_once("-of-")?;
            Part::new(number.parse().ok()?, count.parse().ok()?).ok()
        };
        let folders = entries.into_iter().filter(|(_, kind)| *kind == FileType::Directory);
        let parts = folders.filter_map(|(name, _)| Some((part_of(name.to_str()?)?, name)));
        let mut parts: Vec<_> = parts.map(|(part, name)| (part, partial.join(name))).collect();
        parts.sort_by_key(|(part, _)| (part.count(), part.number()));
        Ok(parts)
    }

    fn folder_name(&self, part: Part) -> String {
        let volume = resumable_name(self.subject, self.volume);
        format!("{volume}.{}-of-{}", part.number(), part.count())
    }

    fn join_name(&self) -> String {
        format!("{}.joined", resumable_name(self.subject, self.volume))
    }

    fn work(&self, part: Part) -> String {
        format!("{}/{}, part {part},", self.subject, self.volume)
    }

    fn other_count(&self, begun: Part, now: &str) -> Error {
        let reason = format!("{}/{}: part {begun} was begun, and {now}", self.subject, self.volume);
        Error::unsupported(reason, "run the parts of one count, or discard those of the other")
    }

    fn incomplete(&self, parts: &[Part], why: &str) -> Error {
        let what = format!("{}/{}", self.subject, self.volume);
        let again = "again with the same arguments, and finalize then";
        let missing = match parts {
            [part] => format!("part {part} is missing{why}: run it {again}"),
            _ => format!("{} are missing{why}: run them {again}", list_of(parts)),
        };
        Error::Incomplete { what, missing }
    }
}

impl CompleteParts {
    /// Adds the shards of a part, whose files were written and are as its journal says.
    fn add(&mut self, part: Part, folder: &Folder, place: &PartsPlace<'_>) -> Result<()> {
        let layout = &self.spec.layout;
        let level = folder.join("content").join(place.volume).join(level_folder(0));
        let slots = layout.shard_chunks().iter().product();
        let mut whole = BTreeMap::new();
        for record in Journal::open(folder, JOURNAL)?.1 {
            let shard = record.shard;
            if !record.is_of(layout) || part_of_shard(layout, shard, part.count()) != part {
                let message = format!("the journal of part {part} names shard {shard} of another");
                return Err(Error::data(folder.path().join(JOURNAL), message));
            }
            let key = layout.shard_key(layout.shard_at(shard));
            match OpenShard::listed(&level, &key, slots, Access::Read, record.identity) {
                Ok(_) => drop(whole.insert(shard, record)),
                Err(error) if error.fault() == crate::Fault::Environment => return Err(error),
                Err(_) => {}
            }
        }
        let cells: usize = layout.shard_grid().iter().product();
        if whole.len() != part.share(cells).len() * layout.channel_count() {
            return Err(place.incomplete(&[part], DAMAGED));
        }
        self.shards.extend(whole.into_iter().map(|(n, record)| (n, (level.clone(), record))));
        Ok(())
    }

    /// Links all shards into `folder`, and writes what belongs beside them.
    pub(super) fn join(self, folder: Folder) -> Result<DocumentChecksums> {
        let (level, layout) = (folder.join(level_folder(0)), self.spec.layout.clone());
        let files = VolumeFiles::create(folder, self.spec, None, None)?;
        for (shard, (from, record)) in self.shards {
            if record.identity != 0 {
                let key = layout.shard_key(layout.shard_at(shard));
                let (from, to) = (from.join(&key), level.join(&key));
                to.above().create_all().map_err(refused(to.path(), "cannot create"))?;
                share_file(&from, &to)?;
            }
            files.take_written(record)?;
        }
        let shards = files.finish_shards()?;
        files.finish(shards, None, None, Vec::new())
    }
}
