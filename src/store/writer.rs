//! Writers of stores: a subject is prepared out of sight, and renamed into place complete (§9).
//!
//! # Invariants
//! - A reader sees all of a subject or none of it, whatever interrupts a writer.
//! - A published file is never opened for writing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::chunked_writer::ChunkedVolumeWriter;
use super::dataset::{Dataset, Subject};
use super::options::OpenOptions;
use super::part::Part;
use super::spec::VolumeSpec;
use super::staged_subject::StagedSubject;
use super::staging::{IfExists, StagingDir, absolute};
use super::subject_list::write_list;
use super::volume::Volume;
use super::volume_parts::{JOURNAL, PartsPlace, VolumePartWriter};
use super::volume_writer::{FinishedVolume, VolumeWriter};
use crate::format::attributes::{Kind, VolumeList, check_features, check_version};
use crate::format::document::{Document, ZARR_JSON};
use crate::format::levels::Levels;
use crate::format::{PARTIAL_DIR, check_name};
use crate::sys::executor::Executor;
use crate::sys::folder::{Folder, Links};
use crate::sys::remote::refuse_url;
use crate::{Affine, Error, Result, Size3};

/// A store that subjects are added to.
///
/// # Examples
/// ```
/// use voxquarry::format::attributes::Kind;
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
/// use voxquarry::{Dtype, IfExists, StoreWriter, VolumeSpec};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let store = StoreWriter::open(folder.path().join("store.zarr"), None)?;
/// let shape =
///     VolumeShape { channels: None, size: [8, 16, 16], dtype: Dtype::UInt8, interleaved: 1 };
/// let layout = layout::choose(&shape, &[[8; 3]], Codec::Fast, 64 << 20)?;
/// let mut subject = store.subject("case01")?;
/// let mut volume = subject.volume(VolumeSpec::new("ct", Kind::Image, layout))?;
/// while volume.next_planes() > 0 {
///     volume.write_layer(&vec![7; volume.next_planes() * 16 * 16])?;
/// }
/// let finished = volume.finish()?;
/// subject.publish([finished], IfExists::Error)?;
/// assert!(store.has_subject("case01")?);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct StoreWriter {
    path: PathBuf,
    executor: Arc<Executor>,
}

/// A subject in preparation; dropped unpublished, it leaves nothing.
///
/// ```
/// use voxquarry::{IfExists, StoreWriter};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let store = StoreWriter::open(folder.path().join("store.zarr"), None)?;
/// let subject = store.subject("case01")?;
/// assert!(!store.has_subject("case01")?, "it is not visible yet");
/// subject.publish([], IfExists::Error)?;
/// assert!(store.has_subject("case01")?);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct SubjectWriter {
    staged: StagedSubject,
    executor: Arc<Executor>,
    /// The first image, which label maps that are begun later belong to.
    image: Option<String>,
    /// The first volume's name, extents and affine, which the others share.
    grid: Option<NamedGrid>,
    volumes: Vec<String>,
    /// Whether the published subject's other volumes stay.
    is_extension: bool,
}

/// A volume's name, extents and affine.
type NamedGrid = (String, Size3, Affine);

/// Whether unfinished work outlives its process.
///
/// ```
/// use voxquarry::Resume;
///
/// let resume = Resume::With("model 7, window gaussian".to_owned());
/// assert_ne!(resume, Resume::Never);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resume {
    /// It is removed with the writer; resumable work of an earlier writer is removed at once.
    Never,
    /// It stays until the volume is published. A later writer with the same arguments, which this
    /// text describes, continues it.
    With(String),
}

impl StoreWriter {
    /// Opens the store at `path` for writing with `threads`, or one thread for each core if `None`.
    /// If there is no store, the first published subject creates it.
    ///
    /// # Errors
    /// [`Error::NotAStore`] if something else is there, [`Error::UnknownFeature`],
    /// [`Error::Unsupported`] for a URL, [`Error::Io`] if it is not writable.
    pub fn open(path: impl AsRef<Path>, threads: Option<usize>) -> Result<Self> {
        refuse_url(path.as_ref())?;
        let path = absolute(path.as_ref());
        match Document::read(&path)? {
            Some(document) => {
                let not_ours =
                    |e: Error| Error::NotAStore { path: path.clone(), reason: e.to_string() };
                let node = document.voxquarry().map_err(not_ours)?;
                check_version(&node, "dataset")?;
                check_features(&node, "writer")?;
                document.check_seal()?;
            }
            None if exists(&path)? => {
                let entries = match Folder::open(&path, Links::Refuse).and_then(|f| f.entries()) {
                    Ok(entries) => Some(entries),
                    Err(e) if e.kind() == io::ErrorKind::NotADirectory => None,
                    Err(e) => return Err(Error::io(&path, "cannot list")(e)),
                };
                let is_partial = |(name, _): &(OsString, FileType)| name == PARTIAL_DIR;
                if !entries.as_ref().is_some_and(|entries| entries.iter().all(is_partial)) {
                    let was_begun = entries.is_some_and(|entries| entries.iter().any(is_partial));
                    let reason = if was_begun {
                        "it has no zarr.json: finalizing an ingest in parts was interrupted, \
                         finalize it again"
                    } else {
                        "it exists and holds something else: choose another path, or remove it"
                    };
                    return Err(Error::NotAStore { path, reason: reason.to_owned() });
                }
            }
            None => {}
        }
        let store = Self { path, executor: Arc::new(Executor::new(threads)) };
        // A read-only target fails here, not after hours of encoding.
        drop(StagingDir::create(&store.path)?);
        Ok(store)
    }

    /// The store's folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the subjects in the store's document, as [`list_subjects`](crate::list_subjects) does;
    /// returns whether there are so few that they can be listed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list_subjects(&self) -> Result<bool> {
        write_list(&self.path)
    }

    /// Whether a subject of that name is published.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk does not say: the subject may be there.
    pub fn has_subject(&self, name: &str) -> Result<bool> {
        exists(&self.path.join(name).join(ZARR_JSON))
    }

    /// Begins a subject.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that §2 does not allow, [`Error::Io`].
    pub fn subject(&self, name: &str) -> Result<SubjectWriter> {
        check_name("subject", name)?;
        self.subject_in(name, StagingDir::create(&self.path)?)
    }

    /// Begins an extension of a published subject: its other volumes stay, and readers see all new
    /// ones at once.
    ///
    /// The files of volumes that stay are shared by hard links where the disk has them, and copied
    /// elsewhere.
    ///
    /// ```
    /// use voxquarry::{IfExists, StoreWriter};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = StoreWriter::open(folder.path().join("store.zarr"), None)?;
    /// store.subject("case01")?.publish([], IfExists::Error)?;
    /// let extension = store.extend_subject("case01")?;
    /// // Write volumes with `extension.volume(…)`, and publish those that are finished.
    /// extension.publish([], IfExists::Error)?;
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such subject; as [`StoreWriter::subject`].
    pub fn extend_subject(&self, name: &str) -> Result<SubjectWriter> {
        Dataset::open(&self.path, &OpenOptions::default())?.subject(name)?;
        Ok(SubjectWriter { is_extension: true, ..self.subject(name)? })
    }

    /// Adds a published subject to splits, such as `train`, in which it stays until it is replaced.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for names that the format does not allow; [`Error::Metadata`],
    /// [`Error::Io`].
    pub fn add_to_splits(
        &self,
        subject: &str,
        splits: impl IntoIterator<Item = String>,
    ) -> Result<()> {
        let mut writer = self.subject(subject)?;
        writer.set_splits(splits)?;
        writer.staged.publish_splits()
    }

    fn subject_in(&self, name: &str, staging: StagingDir) -> Result<SubjectWriter> {
        let staged = StagedSubject::create(name, staging)?;
        let executor = self.executor.clone();
        let volumes = Vec::new();
        Ok(SubjectWriter {
            staged,
            executor,
            grid: None,
            image: None,
            volumes,
            is_extension: false,
        })
    }

    /// Begins one volume of a subject that may exist already; if it does not, it is published with
    /// the volume.
    ///
    /// # Errors
    /// [`Error::Exists`] if the subject has that volume; [`Error::ResumeMismatch`] if resumable
    /// work was begun with other arguments, [`Error::Busy`] if another writer holds it; as
    /// [`SubjectWriter::volume`]; [`Error::Io`].
    pub fn add_volume(
        &self,
        subject: &str,
        spec: VolumeSpec,
        resume: &Resume,
    ) -> Result<ChunkedVolumeWriter> {
        let known = self.check_absent(subject, &spec.name)?;
        let staging = match resume {
            Resume::Never => {
                StagingDir::discard_resumable(&self.path, subject, &spec.name)?;
                StagingDir::create(&self.path)?
            }
            Resume::With(arguments) => {
                StagingDir::resume(&self.path, subject, &spec.name, arguments)?
            }
        };
        let journal = matches!(resume, Resume::With(_)).then_some(JOURNAL);
        let mut writer = self.subject_beside(subject, staging, known.as_ref())?;
        let folder = writer.admit(&spec)?;
        ChunkedVolumeWriter::create(folder, spec, journal, None, writer.staged)
    }

    /// Begins, or continues, one part of a volume of a subject that may exist already. The part
    /// stays when its process ends, however it ends; [`StoreWriter::finalize_volume`] joins all.
    ///
    /// `arguments` describe everything that decides the voxels: they are the same for all parts.
    ///
    /// # Errors
    /// [`Error::ResumeMismatch`] if this or another part was begun with other arguments,
    /// [`Error::Unsupported`] if parts of another count were begun, or if the volume is to have
    /// coarser levels; as
    /// [`StoreWriter::add_volume`].
    pub fn add_volume_part(
        &self,
        subject: &str,
        spec: VolumeSpec,
        arguments: &str,
        part: Part,
    ) -> Result<VolumePartWriter> {
        if spec.levels != Levels::default() {
            let reason =
                format!("volume {:?} is to have levels and is written in parts", spec.name);
            return Err(Error::unsupported(reason, "write it in one process"));
        }
        let place = PartsPlace { store: &self.path, subject, volume: &spec.name };
        if let Err(error) = self.check_absent(subject, &spec.name) {
            // Finalized meanwhile: nobody needs what is left.
            let _ = place.discard(part);
            return Err(error);
        }
        let (staging, is_done) = place.resume(part, arguments)?;
        let known = self.known_subject(subject)?;
        let mut writer = self.subject_beside(subject, staging, known.as_ref())?;
        let folder = writer.admit(&spec)?;
        let staged = writer.staged;
        let chunks = ChunkedVolumeWriter::create(folder, spec, Some(JOURNAL), Some(part), staged)?;
        VolumePartWriter::new(chunks, is_done)
    }

    /// Joins the parts of a volume and makes it visible in one step: every file is that of one
    /// process that wrote the volume alone. A volume that was finalized before is opened.
    ///
    /// Files of shards get a second name by hard links, and are copied where the disk has none.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with the parts that are missing or damaged, [`Error::Unsupported`] if
    /// none was begun, [`Error::Busy`] while a process works on one, [`Error::Io`].
    pub fn finalize_volume(&self, subject: &str, volume: &str) -> Result<Volume> {
        check_name("subject", subject)?;
        check_name("volume", volume)?;
        let place = PartsPlace { store: &self.path, subject, volume };
        let known = self.known_subject(subject)?;
        if let Some(known) = known.as_ref().filter(|k| k.volumes().iter().any(|v| v == volume)) {
            place.discard_all()?;
            return known.volume(volume);
        }
        let parts = place.complete()?;
        let mut writer = self.subject_beside(subject, place.begin_join()?, known.as_ref())?;
        let folder = writer.admit(&parts.spec)?;
        let checksums = parts.join(folder)?;
        writer.staged.publish_volume(volume, checksums)?;
        place.discard_all()?;
        Dataset::open(&self.path, &OpenOptions::default())?.subject(subject)?.volume(volume)
    }

    /// Removes the unfinished parts of a volume, and returns how many there were.
    ///
    /// # Errors
    /// [`Error::Busy`] while a process works on one, [`Error::Io`].
    pub fn discard_volume_parts(&self, subject: &str, volume: &str) -> Result<usize> {
        PartsPlace { store: &self.path, subject, volume }.discard_all()
    }

    /// The published subject, if there is one.
    fn known_subject(&self, name: &str) -> Result<Option<Subject>> {
        if !self.has_subject(name)? {
            return Ok(None);
        }
        Dataset::open(&self.path, &OpenOptions::default())?.subject(name).map(Some)
    }

    /// Checks that a subject has no volume of that name yet, and returns the subject if it exists.
    fn check_absent(&self, subject: &str, volume: &str) -> Result<Option<Subject>> {
        check_name("subject", subject)?;
        check_name("volume", volume)?;
        let known = self.known_subject(subject)?;
        if known.as_ref().is_some_and(|known| known.volumes().iter().any(|name| name == volume)) {
            // Work on it that is kept was published by a process that was killed before it could
            // remove the rest; nobody can continue it. Another writer that is busy removes its own.
            let _ = StagingDir::discard_resumable(&self.path, subject, volume);
            let remedy = "choose another name, or remove it first".to_owned();
            return Err(Error::Exists { path: self.path.join(subject).join(volume), remedy });
        }
        Ok(known)
    }

    /// Begins a subject whose volumes lie on the grid of the published one.
    fn subject_beside(
        &self,
        name: &str,
        staging: StagingDir,
        known: Option<&Subject>,
    ) -> Result<SubjectWriter> {
        let mut writer = self.subject_in(name, staging)?;
        if let Some((known, first)) = known.and_then(|k| Some((k, k.volumes().first()?))) {
            let volume = known.volume(first)?;
            writer.grid = Some((first.clone(), volume.size(), *volume.affine()));
        }
        Ok(writer)
    }
}

impl SubjectWriter {
    /// Begins a volume, which lies on the grid of the subject's other volumes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Unsupported`] for names and layouts that are not
    /// allowed, [`Error::Data`] for another grid, [`Error::Io`].
    pub fn volume(&mut self, mut spec: VolumeSpec) -> Result<VolumeWriter> {
        let folder = self.admit(&spec)?;
        match spec.kind {
            Kind::Image => self.image = self.image.take().or_else(|| Some(spec.name.clone())),
            Kind::Labels => spec.image.clone_from(&self.image),
        }
        VolumeWriter::create(folder, spec, self.executor.clone())
    }

    /// A folder on the store's disk that is removed with the work.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = voxquarry::StoreWriter::open(folder.path().join("store.zarr"), None)?;
    /// let subject = store.subject("case01")?;
    /// assert!(subject.work_folder().starts_with(store.path()));
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    pub fn work_folder(&self) -> PathBuf {
        self.staged.work_folder().path().to_owned()
    }

    /// Puts the subject into splits, such as `train`; an extension stays in those of the subject,
    /// too.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for names that the format does not allow.
    pub fn set_splits(&mut self, splits: impl IntoIterator<Item = String>) -> Result<()> {
        let splits = splits.into_iter().collect::<BTreeSet<_>>();
        splits.iter().try_for_each(|split| check_name("split", split))?;
        self.staged.set_splits(splits);
        Ok(())
    }

    /// Checks that a volume can join the subject, and returns its folder.
    fn admit(&mut self, spec: &VolumeSpec) -> Result<Folder> {
        check_name("volume", &spec.name)?;
        if self.volumes.contains(&spec.name) {
            let reason =
                format!("subject {:?} has two volumes {:?}", self.staged.name(), spec.name);
            return Err(Error::unsupported(reason, "rename one of them"));
        }
        let (size, affine) = (spec.layout.size, spec.affine);
        match &self.grid {
            Some(first) => {
                let other = (spec.name.clone(), size, affine);
                check_grid(self.staged.target().path(), first, &other)?;
            }
            None => self.grid = Some((spec.name.clone(), size, affine)),
        }
        self.volumes.push(spec.name.clone());
        Ok(self.staged.content().join(&spec.name))
    }

    /// Makes the subject visible, complete, with the `volumes` that were begun.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if a volume that was begun is not among `volumes`, [`Error::Exists`]
    /// as `if_exists` says, [`Error::Data`] if an extension lies on another grid than the volumes
    /// that stay, [`Error::Io`].
    pub fn publish(
        self,
        volumes: impl IntoIterator<Item = FinishedVolume>,
        if_exists: IfExists,
    ) -> Result<()> {
        let finished: VolumeList =
            volumes.into_iter().map(|volume| (volume.name, volume.checksums)).collect();
        if let Some(name) = self.volumes.iter().find(|name| !finished.contains_key(*name)) {
            let what = format!("subject {:?}", self.staged.name());
            let missing = format!("volume {name:?} was begun and not finished");
            return Err(Error::Incomplete { what, missing });
        }
        if !self.is_extension {
            return self.staged.publish(&finished, if_exists);
        }
        let new = self.grid.clone();
        let store = self.staged.store().path().to_owned();
        let (subject, target) = (self.staged.name().to_owned(), self.staged.target());
        let check = |kept: &VolumeList| -> Result<()> {
            let (Some(new), Some(name)) = (&new, kept.keys().next()) else { return Ok(()) };
            let subject = Dataset::open(&store, &OpenOptions::default())?.subject(&subject)?;
            let volume = subject.volume(name)?;
            check_grid(target.path(), &(name.clone(), volume.size(), *volume.affine()), new)
        };
        self.staged.publish_extended(finished, if_exists, check)
    }
}

/// Whether there is something at `path`; a link to nothing counts as something.
fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(e) => Err(Error::io(path, "cannot look at")(e)),
    }
}

/// Checks that two volumes of the subject at `path` lie on one grid.
fn check_grid(path: &Path, first: &NamedGrid, other: &NamedGrid) -> Result<()> {
    let ((first, first_size, first_affine), (name, size, affine)) = (first, other);
    if first_size == size && first_affine.agrees_with(affine, *size) {
        return Ok(());
    }
    let message = format!(
        "volume {name:?} of {size:?} voxels, affine {:?}, lies on another grid than {first:?} of \
         {first_size:?}, affine {:?}: resample it, or make it a subject of its own",
        affine.0, first_affine.0
    );
    Err(Error::data(path, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::PARTIAL_DIR;
    use crate::format::array::{ArrayLayout, ChunkCodec};
    use crate::format::layout::{self, Codec, VolumeShape};
    use crate::{Dtype, Region};

    /// Issue 19: a volume writer that was dropped unfinished left its volume out of the subject
    /// without a word. Its siblings: writers of planes and of chunks, one layer short or untouched.
    #[test]
    fn a_volume_that_was_begun_is_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreWriter::open(folder.path().join("store"), Some(1)).unwrap();
        let size = [16, 8, 8];
        let shape = VolumeShape { channels: None, size, dtype: Dtype::UInt8, interleaved: 1 };
        let layout = layout::choose(&shape, &[[8; 3]], Codec::None, 64 << 20).unwrap();
        let spec = |name| VolumeSpec::new(name, Kind::Image, layout.clone());
        for layers in [0, 1] {
            let mut subject = store.subject("s").unwrap();
            let mut whole = subject.volume(spec("whole")).unwrap();
            while whole.next_planes() > 0 {
                whole.write_layer(&vec![1; whole.next_planes() * 64]).unwrap();
            }
            let whole = whole.finish().unwrap();
            let mut part = subject.volume(spec("part")).unwrap();
            for _ in 0..layers {
                part.write_layer(&vec![1; part.next_planes() * 64]).unwrap();
            }
            drop(part);
            let error = subject.publish([whole], IfExists::Error).unwrap_err();
            assert!(
                matches!(&error, Error::Incomplete { missing, .. } if missing.contains("part"))
            );
            assert!(!store.has_subject("s").unwrap());
        }
        let chunks = store.add_volume("s", spec("chunks"), &Resume::Never).unwrap();
        drop(chunks);
        assert!(!store.has_subject("s").unwrap() && !store.path().exists());
    }

    /// Its journal names such a shard twice, and its label counts came twice.
    #[test]
    fn a_shard_that_was_damaged_and_written_again_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let layout = ArrayLayout {
            channels: None,
            size: [4, 4, 8],
            dtype: Dtype::UInt8,
            chunk: [4; 3],
            shard: [4; 3],
            codec: ChunkCodec::Raw,
        };
        let voxels: Vec<u8> = (0..128).map(|i| (i % 5) as u8).collect();
        let at = |name: &str| folder.path().join(name);
        let begin = |store: &Path| {
            let spec = VolumeSpec::new("v", Kind::Labels, layout.clone());
            let store = StoreWriter::open(store, Some(1)).unwrap();
            store.add_volume("s", spec, &Resume::With(String::new())).unwrap()
        };
        let put = |volume: &ChunkedVolumeWriter, chunks: std::ops::Range<usize>| {
            let whole = Region::whole(layout.size);
            chunks.for_each(|n| volume.put_chunk(&whole, &[&voxels], n).unwrap());
        };
        let whole = begin(&at("whole"));
        put(&whole, 0..2);
        let whole = whole.publish().unwrap();

        let damaged = at("damaged");
        put(&begin(&damaged), 0..1);
        let kept = damaged.join(PARTIAL_DIR).read_dir().unwrap().next().unwrap().unwrap().path();
        std::fs::write(kept.join("content/v/0/c/0/0/0"), b"cut").unwrap();
        put(&begin(&damaged), 0..1);
        let again = begin(&damaged);
        put(&again, 1..2);
        let again = again.publish().unwrap();
        assert_eq!(again.content_id(), whole.content_id());
        assert_eq!(again.label_counts().unwrap().totals(), whole.label_counts().unwrap().totals());
    }
}
