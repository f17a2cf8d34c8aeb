//! Datasets and subjects: opening is listing folders, nothing of a volume is read before it is asked for.

use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{self, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use rayon::prelude::*;

use super::context::{Context, OpenOptions};
use super::volume::Volume;
use crate::format::attributes::check_version;
use crate::format::document::{Document, ZARR_JSON};
use crate::format::{PARTIAL_DIR, check_name};
use crate::process::PerProcess;
use crate::{Error, Result};

/// Volumes whose metadata is kept parsed.
const OPEN_VOLUMES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// By subject and name.
type OpenVolumes = LruCache<(String, String), Volume>;

/// A store, opened for reading; clones share the cache and the threads.
#[derive(Clone, Debug)]
pub struct Dataset(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    options: OpenOptions,
    subjects: Vec<String>,
    context: Arc<Context>,
    volumes: PerProcess<Mutex<OpenVolumes>>,
}

/// Named volumes on one grid.
#[derive(Clone, Debug)]
pub struct Subject {
    dataset: Dataset,
    name: String,
    volumes: Vec<String>,
}

impl Dataset {
    /// Opens the store at `path` and lists its subjects; subjects that appear later are not seen.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::UnknownFeature`], [`Error::Metadata`], [`Error::Io`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = lasting(path.as_ref());
        let not_a_store =
            |reason: &str| Error::NotAStore { path: path.clone(), reason: reason.to_owned() };
        let Some(document) = Document::read(&path)? else {
            let reason = if !path.exists() {
                "there is nothing at that path"
            } else if path.join(PARTIAL_DIR).is_dir() {
                "an ingest or inference was interrupted before its first subject was finished: run it again"
            } else {
                "it has no zarr.json"
            };
            return Err(not_a_store(reason));
        };
        let node = document.voxquarry().map_err(|e| not_a_store(&e.to_string()))?;
        check_version(&node, "dataset")?;
        let inner = Inner {
            subjects: children(&path)?,
            context: Context::new(options),
            volumes: PerProcess::new(no_volumes()),
            options: options.clone(),
            path,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The store's folder, absolute.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// How it was opened.
    pub fn options(&self) -> &OpenOptions {
        &self.0.options
    }

    /// Names of the subjects, sorted by their bytes.
    pub fn subjects(&self) -> &[String] {
        &self.0.subjects
    }

    /// Bytes of decoded chunks that the cache holds now.
    pub fn cached_bytes(&self) -> usize {
        self.0.context.shared().cache.bytes()
    }

    /// The subject of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Metadata`], [`Error::Io`].
    pub fn subject(&self, name: &str) -> Result<Subject> {
        if self.0.subjects.binary_search_by(|s| s.as_str().cmp(name)).is_err() {
            return Err(not_found("subject", name, &self.0.path, &self.0.subjects));
        }
        let folder = self.0.path.join(name);
        let document = Document::read(&folder)?
            .ok_or_else(|| not_found("subject", name, &self.0.path, &[]))?;
        document.voxquarry()?.expect("node", &"subject".into())?;
        Ok(Subject { dataset: self.clone(), name: name.to_owned(), volumes: children(&folder)? })
    }

    /// What `work` gives for each number, in order; shared among the data set's threads where there is enough of it.
    pub(crate) fn in_parallel<R: Send>(
        &self,
        numbers: Range<u64>,
        work: impl Fn(u64) -> Result<R> + Send + Sync,
    ) -> Result<Vec<R>> {
        /// Below so many a second thread costs more than it saves.
        const PARALLEL: u64 = 8;
        if numbers.end - numbers.start < PARALLEL || self.0.context.shared().pool.threads() == 1 {
            return numbers.map(work).collect();
        }
        self.0.context.shared().pool.install(|| numbers.into_par_iter().map(work).collect())?
    }

    fn volume(&self, subject: &str, volume: &str) -> Result<Volume> {
        let key = (subject.to_owned(), volume.to_owned());
        let lock = || self.0.volumes.get(no_volumes).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = lock().get(&key) {
            return Ok(open.clone());
        }
        let opened =
            Volume::open(self.0.path.join(subject).join(volume), volume, self.0.context.clone())?;
        Ok(lock().get_or_insert(key, || opened).clone())
    }
}

impl Subject {
    /// Its name in the dataset.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data set that it belongs to.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Its folder.
    pub fn path(&self) -> PathBuf {
        self.dataset.path().join(&self.name)
    }

    /// Names of the volumes, sorted by their bytes.
    pub fn volumes(&self) -> &[String] {
        &self.volumes
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Metadata`], [`Error::UnknownFeature`], [`Error::Io`].
    pub fn volume(&self, name: &str) -> Result<Volume> {
        if self.volumes.binary_search_by(|v| v.as_str().cmp(name)).is_err() {
            return Err(not_found("volume", name, &self.path(), &self.volumes));
        }
        self.dataset.volume(&self.name, name)
    }

    /// The first of its volumes, whose extents and affine all share.
    ///
    /// # Errors
    /// As [`Subject::volume`]; [`Error::Metadata`] if the subject has no volume.
    pub fn first_volume(&self) -> Result<Volume> {
        let no_volume = || Error::metadata(self.path(), "the subject has no volume");
        self.volume(self.volumes.first().ok_or_else(no_volume)?)
    }

    /// Extents in `(z, y, x)` that all its volumes share.
    ///
    /// # Errors
    /// As [`Subject::first_volume`].
    pub fn size(&self) -> Result<crate::Size3> {
        self.first_volume().map(|volume| volume.size())
    }
}

/// The path that means the same wherever the process stands later: most of a store is opened when it is first asked for.
pub(super) fn lasting(path: &Path) -> PathBuf {
    // An empty path, or one in a folder that is gone, names nothing: opening it says so.
    path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn no_volumes() -> Mutex<OpenVolumes> {
    Mutex::new(LruCache::new(OPEN_VOLUMES))
}

fn not_found(kind: &'static str, name: &str, place: &Path, names: &[String]) -> Error {
    const SHOWN: usize = 8;
    let mut available: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect();
    if names.len() > SHOWN {
        available.push(format!("… ({} in all)", names.len()));
    }
    Error::NotFound { kind, name: name.to_owned(), place: place.to_owned(), available }
}

/// Names of the groups in a folder, sorted.
pub(super) fn children(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let entry = entry.map_err(Error::io(folder, "cannot list"))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if check_name("", &name).is_ok() && entry.path().join(ZARR_JSON).is_file() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
