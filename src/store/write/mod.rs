//! Writers: a subject is prepared whole, out of sight, and renamed into place (§9).
//!
//! # Invariants
//! - Whatever interrupts a writer, a reader sees all of a subject or none of it.
//! - A published file is never opened for writing.

mod chunk;
mod figures;
mod flush;
mod shard;
mod tiles;
mod volume;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use figures::{labels_in, rows};
use tiles::TileWriter;
pub use volume::{VolumeSpec, VolumeWriter};
use work::WorkFolder;

use super::context::OpenOptions;
use super::dataset::{Dataset, lasting};
use super::pool::Pool;
use super::volume::Volume;
use crate::format::array::ArrayLayout;
use crate::format::attributes::{self, check_features, check_version};
use crate::format::document::{self, Document, ZARR_JSON};
use crate::format::{PARTIAL_DIR, check_name};
use crate::{Affine, Error, Region, Result, Size3};

/// The journal of kept work: a line for each shard that is written.
const JOURNAL: &str = "journal";

/// What to do with a subject that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse.
    #[default]
    Refuse,
    /// Leave it as it is and go on.
    Skip,
    /// Replace it once the new one is whole.
    Overwrite,
}

impl Existing {
    /// What to do about a subject that is there, in the words of both faces.
    pub const REMEDY: &str = "replace it (--overwrite, overwrite=True) or leave it as it is \
                              (--skip-existing, skip_existing=True)";
}

/// A store that subjects are added to.
#[derive(Debug)]
pub struct StoreWriter {
    path: PathBuf,
    pool: Arc<Pool>,
}

/// A subject in preparation; dropped unpublished, it leaves nothing.
#[derive(Debug)]
pub struct SubjectWriter {
    store: PathBuf,
    name: String,
    work: WorkFolder,
    pool: Arc<Pool>,
    grid: Option<(String, Size3, Affine)>,
    volumes: Vec<String>,
}

/// Prepares a folder out of sight and renames it into a volume's folder as `name`, in the place of one that is there.
pub(super) fn keep_beside(
    volume: &Path,
    name: &str,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let store = volume.parent().and_then(Path::parent).expect("a volume lies in a subject");
    let work = WorkFolder::create(store)?;
    let content = work.content();
    write(&content)?;
    work::sync_tree(&content)?;
    work::publish_over(&content, &volume.join(name))
}

impl StoreWriter {
    /// The store at `path`, to be made there with the first published subject if there is none.
    ///
    /// # Errors
    /// [`Error::NotAStore`] if something else is there, [`Error::UnknownFeature`], [`Error::Io`] if it is not writable.
    pub fn open(path: impl AsRef<Path>, threads: Option<usize>) -> Result<Self> {
        let path = lasting(path.as_ref());
        match Document::read(&path)? {
            Some(document) => {
                let not_ours =
                    |e: Error| Error::NotAStore { path: path.clone(), reason: e.to_string() };
                let node = document.voxquarry().map_err(not_ours)?;
                check_version(&node, "dataset")?;
                check_features(&node, "writer")?;
            }
            None if path.exists() => {
                let is_ours = |e: std::io::Result<fs::DirEntry>| {
                    e.is_ok_and(|e| e.file_name() == PARTIAL_DIR)
                };
                let empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.all(is_ours));
                if !empty {
                    let reason =
                        "it exists and holds something else: choose another path, or remove it"
                            .to_owned();
                    return Err(Error::NotAStore { path, reason });
                }
            }
            None => {}
        }
        let store = Self { path, pool: Arc::new(Pool::new(threads)) };
        // Fails now where the target is read-only, not after hours of encoding.
        drop(WorkFolder::create(&store.path)?);
        Ok(store)
    }

    /// The store's folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a subject of that name is published.
    pub fn has_subject(&self, name: &str) -> bool {
        self.path.join(name).join(ZARR_JSON).exists()
    }

    /// Begins a subject.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name outside §2, [`Error::Io`].
    pub fn subject(&self, name: &str) -> Result<SubjectWriter> {
        check_name("subject", name)?;
        self.subject_in(name, WorkFolder::create(&self.path)?)
    }

    fn subject_in(&self, name: &str, work: WorkFolder) -> Result<SubjectWriter> {
        let folder = work.content();
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "cannot create"))?;
        document::write(&folder, &document::group(attributes::subject()))?;
        let (store, pool) = (self.path.clone(), self.pool.clone());
        Ok(SubjectWriter {
            store,
            name: name.to_owned(),
            work,
            pool,
            grid: None,
            volumes: Vec::new(),
        })
    }

    /// Begins one volume of a subject that may be there already; the subject is begun with it if it is not.
    ///
    /// # Errors
    /// [`Error::Exists`] if the subject has that volume; [`Error::Usage`] if `kept` work was begun with other arguments, or
    /// is another's; as [`SubjectWriter::volume`]; [`Error::Io`].
    pub fn add_volume(&self, subject: &str, spec: VolumeSpec, kept: &Kept) -> Result<AddedVolume> {
        check_name("subject", subject)?;
        check_name("volume", &spec.name)?;
        let target = self.path.join(subject).join(&spec.name);
        if target.exists() {
            let remedy = "choose another name, or remove it first".to_owned();
            return Err(Error::Exists { path: target, remedy });
        }
        let work = match kept {
            Kept::No => {
                WorkFolder::discard_kept(&self.path, subject, &spec.name)?;
                WorkFolder::create(&self.path)?
            }
            Kept::For(arguments) => WorkFolder::keep(&self.path, subject, &spec.name, arguments)?,
        };
        let journal = matches!(kept, Kept::For(_)).then(|| work.path().join(JOURNAL));
        let mut writer = self.subject_in(subject, work)?;
        if self.has_subject(subject) {
            let subject = Dataset::open(&self.path, &OpenOptions::default())?.subject(subject)?;
            if let Some(first) = subject.volumes().first() {
                let volume = subject.volume(first)?;
                writer.grid = Some((first.clone(), volume.size(), *volume.affine()));
            }
        }
        let folder = writer.admit(&spec)?;
        let volume = TileWriter::create(folder, spec, journal.as_deref())?;
        Ok(AddedVolume { volume, writer, target })
    }
}

/// Whether unfinished work outlives its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It goes with the writer, and what an earlier one kept goes at once.
    No,
    /// It stays until the volume is published, and is continued by whoever comes with the same arguments: this text.
    For(String),
}

/// One volume in preparation; dropped unpublished, it leaves nothing, but for work that is [`Kept`].
#[derive(Debug)]
pub struct AddedVolume {
    // Dropped first: it waits for what is being written into the writer's folder.
    volume: TileWriter,
    writer: SubjectWriter,
    target: PathBuf,
}

impl AddedVolume {
    /// The volume's layout.
    pub fn layout(&self) -> &ArrayLayout {
        &self.volume.spec().layout
    }

    /// A folder on the store's disk that goes away with the work.
    pub fn work_folder(&self) -> PathBuf {
        self.writer.work.path().to_owned()
    }

    /// Whether every shard that meets `region` was written by an earlier process.
    pub fn is_written(&self, region: &Region) -> bool {
        self.volume.is_written(region)
    }

    /// How many chunks, of all channels, lie in a box that begins and ends with chunks.
    pub fn chunks_in(&self, region: &Region) -> usize {
        self.volume.chunks_in(region)
    }

    /// Takes the `number`-th chunk of such a box, which is `slabs` one behind the other along z, each `(c, z, y, x)` in C order,
    /// every channel; in any order, from any thread, each chunk once.
    ///
    /// # Errors
    /// [`Error::BufferLength`]; [`Error::Data`] if a label map holds something else; [`Error::Io`].
    pub fn put_chunk(&self, region: &Region, slabs: &[&[u8]], number: usize) -> Result<()> {
        self.volume.put_chunk(region, slabs, number)
    }

    /// Makes the volume visible, whole, and opens it.
    ///
    /// # Errors
    /// [`Error::Usage`] if voxels are missing, [`Error::Exists`] if another was published meanwhile, [`Error::Io`].
    pub fn publish(self) -> Result<Volume> {
        let Self { volume, mut writer, target } = self;
        let (store, subject, name) =
            (writer.store.clone(), writer.name.clone(), volume.spec().name.clone());
        volume.finish()?;
        if target.parent().is_some_and(|subject| subject.join(ZARR_JSON).exists()) {
            let content = writer.work.content().join(&name);
            work::sync_tree(&content)?;
            work::publish_new(&content, &target)?;
            writer.work.let_go();
        } else {
            writer.publish(Existing::Refuse)?;
        }
        Dataset::open(store, &OpenOptions::default())?.subject(&subject)?.volume(&name)
    }
}

impl SubjectWriter {
    /// Begins a volume; it has to lie on the grid of the subject's other volumes.
    ///
    /// # Errors
    /// [`Error::Usage`] for names and sizes that cannot be, [`Error::Data`] for another grid, [`Error::Io`].
    pub fn volume(&mut self, spec: VolumeSpec) -> Result<VolumeWriter> {
        let folder = self.admit(&spec)?;
        VolumeWriter::create(folder, spec, self.pool.clone())
    }

    /// Checks that a volume can join the subject, and says where it is to grow.
    fn admit(&mut self, spec: &VolumeSpec) -> Result<PathBuf> {
        check_name("volume", &spec.name)?;
        if self.volumes.contains(&spec.name) {
            return Err(Error::usage(format!(
                "subject {:?} has two volumes {:?}",
                self.name, spec.name
            )));
        }
        let (size, affine) = (spec.layout.size, spec.affine);
        match &self.grid {
            Some((first, first_size, first_affine)) => {
                if *first_size != size || !first_affine.agrees_with(&affine, size) {
                    let message = format!(
                        "volume {:?} of {size:?} voxels, affine {:?}, lies on another grid than {first:?} of {first_size:?}, affine {:?}: \
                         resample it, or make it a subject of its own",
                        spec.name, affine.0, first_affine.0
                    );
                    return Err(Error::data(self.store.join(&self.name), message));
                }
            }
            None => self.grid = Some((spec.name.clone(), size, affine)),
        }
        self.volumes.push(spec.name.clone());
        Ok(self.work.content().join(&spec.name))
    }

    /// Writes the volume's last shards, counts and metadata.
    ///
    /// # Errors
    /// [`Error::Usage`] if layers are missing, [`Error::Io`].
    pub fn finish_volume(&mut self, volume: VolumeWriter) -> Result<()> {
        volume.finish()
    }

    /// Makes the subject visible, whole.
    ///
    /// # Errors
    /// [`Error::Exists`] as `existing` says, [`Error::Io`].
    pub fn publish(mut self, existing: Existing) -> Result<()> {
        let store_json = self.store.join(ZARR_JSON);
        if !store_json.exists() {
            let staged = self.work.path().join(ZARR_JSON);
            document::write(self.work.path(), &document::group(attributes::dataset()))?;
            fs::rename(&staged, &store_json).map_err(Error::io(&store_json, "cannot publish"))?;
        }
        let (content, target) = (self.work.content(), self.store.join(&self.name));
        work::sync_tree(&content)?;
        match existing {
            Existing::Refuse | Existing::Skip => work::publish_new(&content, &target)?,
            Existing::Overwrite => work::publish_over(&content, &target)?,
        }
        // Not before: what could not be published can be resumed.
        self.work.let_go();
        Ok(())
    }
}
