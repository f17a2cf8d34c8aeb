//! Datasets and subjects. Opening them lists folders; a volume's metadata is read at first use.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use rustix::fs::FileType;

use super::derived_cache::DerivedCache;
use super::options::OpenOptions;
use super::staging::absolute;
use super::volume::Volume;
#[cfg(feature = "remote")]
use crate::RemoteOptions;
use crate::array::cache::LruChunkCache;
use crate::array::context::ArrayContext;
#[cfg(feature = "remote")]
use crate::format::attributes::parse_subjects;
use crate::format::attributes::{
    DocumentChecksums, VolumeList, check_version, parse_splits, parse_subject,
};
use crate::format::document::{Document, ZARR_JSON};
use crate::format::{PARTIAL_DIR, check_name};
use crate::memory::{collected, try_collected};
use crate::sys::folder::Folder;
use crate::sys::fork::PerProcess;
#[cfg(feature = "remote")]
use crate::sys::remote::RemoteFiles;
use crate::sys::remote::url_of;
use crate::{Error, Result};

/// Volumes whose parsed metadata stays in memory.
const OPEN_VOLUMES: usize = 4096;

/// By subject and name.
type OpenVolumes = LruCache<(String, String), Volume>;

/// A store, opened for reading; clones share the cache and the threads.
///
/// # Examples
/// ```no_run
/// let dataset = voxquarry::open("store.zarr")?;
/// for name in dataset.subjects() {
///     println!("{name}: {:?}", dataset.subject(name)?.volumes());
/// }
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dataset(pub(super) Arc<OpenDataset>);

#[derive(Debug)]
pub(super) struct OpenDataset {
    contents: Contents,
    options: OpenOptions,
    subjects: Vec<String>,
    context: Arc<ArrayContext>,
    derived: Arc<PerProcess<DerivedCache>>,
    volumes: PerProcess<Mutex<OpenVolumes>>,
    /// Of a store behind a URL.
    #[cfg(feature = "remote")]
    url: Option<OpenUrl>,
}

/// Where a store was opened, and how.
#[cfg(feature = "remote")]
struct OpenUrl {
    url: String,
    options: RemoteOptions,
}

#[cfg(feature = "remote")]
impl std::fmt::Debug for OpenUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the URL, which may hold a token.
        self.options.fmt(f)
    }
}

/// What a dataset holds.
#[derive(Debug)]
pub(super) enum Contents {
    /// The folders of a store.
    Store(Folder),
    /// Open volumes by subject and name; `path` is the place of the first.
    Volumes { path: PathBuf, subjects: BTreeMap<String, BTreeMap<String, Volume>> },
}

/// A subject of a dataset: named volumes on one grid.
///
/// ```
/// # let store = "format-spec/golden/v1";
/// let subject = voxquarry::open(store)?.subject("grid")?;
/// assert_eq!(subject.size()?, [6, 10, 20]);
/// assert!(subject.volumes().iter().any(|name| name == "labels-i32"));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Subject {
    dataset: Dataset,
    name: String,
    volumes: Vec<String>,
    splits: Vec<String>,
    listed: VolumeList,
}

/// Opens the store at `path` with the default [`OpenOptions`].
///
/// # Errors
/// As [`Dataset::open`].
pub fn open(path: impl AsRef<Path>) -> Result<Dataset> {
    Dataset::open(path, &OpenOptions::default())
}

impl Dataset {
    /// Opens the store at `path` and lists its subjects; subjects that appear later are not seen.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::UnknownFeature`], [`Error::Metadata`], [`Error::Io`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        match url_of(path.as_ref()) {
            Some(url) => Self::open_url(&url, options),
            None => Self::open_folder(path.as_ref(), options),
        }
    }

    /// As [`Dataset::open`]; a store behind a URL is opened with `remote`.
    ///
    /// # Errors
    /// As [`Dataset::open`] and [`Dataset::open_remote`].
    #[cfg(feature = "remote")]
    pub fn open_with(
        path: impl AsRef<Path>,
        options: &OpenOptions,
        remote: &RemoteOptions,
    ) -> Result<Self> {
        match url_of(path.as_ref()) {
            Some(url) => Self::open_remote(&url, options, remote),
            None => Self::open_folder(path.as_ref(), options),
        }
    }

    fn open_folder(path: &Path, options: &OpenOptions) -> Result<Self> {
        let path = absolute(path);
        let not_a_store = |reason: &str| not_a_store(&path, reason);
        let folder = match Folder::open(&path, options.links()) {
            Ok(folder) => folder,
            Err(e) if e.kind() == NotFound => {
                return Err(not_a_store(NOTHING));
            }
            Err(e) if e.kind() == NotADirectory => return Err(not_a_store("it is no folder")),
            Err(e) => return Err(Error::io(path, "cannot open")(e)),
        };
        let Some(document) = Document::read_in(&folder)? else {
            let partial = folder.has(PARTIAL_DIR);
            let reason = if partial.map_err(Error::io(&path, "cannot look into"))? {
                "an ingest or inference was interrupted before its first subject was finished: \
                 run it again"
            } else {
                "it has no zarr.json"
            };
            return Err(not_a_store(reason));
        };
        check_root(&document)?;
        let subjects = names_of_subjects(&folder)?;
        let contents = Contents::Store(folder);
        Ok(Self(Arc::new(OpenDataset::new(contents, subjects, options))))
    }

    #[cfg(not(feature = "remote"))]
    fn open_url(_: &str, _: &OpenOptions) -> Result<Self> {
        let reason = "this build opens no URLs";
        Err(Error::unsupported(reason, "build it with the feature \"remote\", or copy the store"))
    }

    #[cfg(feature = "remote")]
    fn open_url(url: &str, options: &OpenOptions) -> Result<Self> {
        Self::open_remote(url, options, &RemoteOptions::default())
    }

    /// Opens the store behind a URL: `https://HOST/STORE`, `s3://BUCKET/STORE`, `gs://…` or
    /// `az://…`. [`Dataset::open`] does so with the default [`RemoteOptions`].
    ///
    /// What a read needs is fetched in exact byte ranges, checked, and kept in a folder on this
    /// machine's disk. Documents and indices are fetched once while the store is open; chunks stay
    /// in the folder for the next time, too. Credentials come from the environment, as those of
    /// Amazon's, Google's and Microsoft's own tools do.
    ///
    /// ```no_run
    /// use voxquarry::{Dataset, OpenOptions, RemoteOptions};
    ///
    /// let remote = RemoteOptions::default().cache_disk_bytes(100 << 30);
    /// let dataset =
    ///     Dataset::open_remote("s3://bucket/store.zarr", &OpenOptions::default(), &remote)?;
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Unsupported`] for URLs that are not understood, and for
    /// an HTTP server whose store lists no subjects ([`list_subjects`](crate::list_subjects));
    /// [`Error::Io`] of the server, the network and the cache; as [`Dataset::open`].
    #[cfg(feature = "remote")]
    pub fn open_remote(url: &str, options: &OpenOptions, remote: &RemoteOptions) -> Result<Self> {
        let url = url_of(Path::new(url)).unwrap_or_else(|| url.to_owned());
        let folder = crate::remote::open(&url, remote)?;
        let document = match Document::read_in(&folder) {
            Ok(Some(document)) => document,
            Ok(None) => return Err(not_a_store(folder.path(), NOTHING)),
            // A page for people, as many servers send it in place of an error.
            Err(Error::Metadata { message, .. }) if message.starts_with("not ") => {
                return Err(not_a_store(folder.path(), &format!("its zarr.json is {message}")));
            }
            Err(error) => return Err(error),
        };
        check_root(&document)?;
        let subjects = match parse_subjects(&document.voxquarry()?)? {
            Some(subjects) => subjects,
            None => listed_folders(&folder)?,
        };
        let url = Some(OpenUrl { url, options: remote.clone() });
        let contents = Contents::Store(folder);
        Ok(Self(Arc::new(OpenDataset { url, ..OpenDataset::new(contents, subjects, options) })))
    }

    /// The URL that the store was opened at, with the token that it may hold, and its options;
    /// `None` for a store on a disk.
    #[cfg(feature = "remote")]
    pub fn url(&self) -> Option<(&str, &RemoteOptions)> {
        self.0.url.as_ref().map(|open| (open.url.as_str(), &open.options))
    }

    /// Whether what is read comes from a server.
    pub(crate) fn is_remote(&self) -> bool {
        self.folder().is_some_and(|folder| folder.remote().is_some())
    }

    /// The store's folder, absolute; of a dataset of open volumes, the place of the first.
    pub fn path(&self) -> &Path {
        match &self.0.contents {
            Contents::Store(folder) => folder.path(),
            Contents::Volumes { path, .. } => path,
        }
    }

    /// The store's folder, if it is one.
    pub(super) fn folder(&self) -> Option<&Folder> {
        match &self.0.contents {
            Contents::Store(folder) => Some(folder),
            Contents::Volumes { .. } => None,
        }
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &OpenOptions {
        &self.0.options
    }

    /// Names of the subjects, sorted by their bytes.
    pub fn subjects(&self) -> &[String] {
        &self.0.subjects
    }

    /// Bytes of the decoded chunks that the cache holds now; of a dataset of open volumes, those
    /// that their caches hold.
    pub fn cached_bytes(&self) -> usize {
        let Contents::Volumes { subjects, .. } = &self.0.contents else {
            return self.0.context.resources().cache.bytes();
        };
        let all = subjects.values().flat_map(BTreeMap::values);
        let mut caches: Vec<_> = all.map(|volume| &volume.array().resources().cache).collect();
        caches.sort_unstable_by_key(|cache| ptr::from_ref(*cache));
        caches.dedup_by(|a, b| ptr::eq(*a, *b));
        caches.into_iter().map(LruChunkCache::bytes).sum()
    }

    /// The subject of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Metadata`], [`Error::Io`].
    pub fn subject(&self, name: &str) -> Result<Subject> {
        if self.0.subjects.binary_search_by(|s| s.as_str().cmp(name)).is_err() {
            return Err(not_found("subject", name, self.path(), &self.0.subjects));
        }
        let folder = match &self.0.contents {
            Contents::Store(folder) => folder.join(name),
            Contents::Volumes { subjects, .. } => {
                let volumes = subjects[name].keys().cloned().collect();
                let (dataset, name) = (self.clone(), name.to_owned());
                let (splits, listed) = (Vec::new(), VolumeList::new());
                return Ok(Subject { dataset, name, volumes, splits, listed });
            }
        };
        let document = match Document::read_in(&folder)? {
            Some(document) => document,
            None if !self.is_remote()
                && holds_volumes(&folder).map_err(Error::io(folder.path(), "cannot list"))? =>
            {
                let message = "missing, beside volumes: the subject has lost its document; copy \
                               or ingest it again";
                return Err(Error::metadata(folder.path().join(ZARR_JSON), message));
            }
            None => return Err(not_found("subject", name, self.path(), &[])),
        };
        let listed = parse_subject(&document.voxquarry()?, name)?;
        let splits = parse_splits(&document.voxquarry()?)?;
        document.check_seal()?;
        let volumes = listed.keys().cloned().collect();
        Ok(Subject { dataset: self.clone(), name: name.to_owned(), volumes, splits, listed })
    }

    /// The subjects of each split, such as `train`, by the names of the splits; reads the document
    /// of every subject.
    ///
    /// ```
    /// use voxquarry::{IfExists, StoreWriter};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("store.zarr");
    /// let mut subject = StoreWriter::open(&path, None)?.subject("case01")?;
    /// subject.set_splits(["train".to_owned()])?;
    /// subject.publish([], IfExists::Error)?;
    /// assert_eq!(voxquarry::open(&path)?.splits()?["train"], ["case01"]);
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Dataset::subject`].
    pub fn splits(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut splits = BTreeMap::<String, Vec<String>>::new();
        for name in self.subjects() {
            for split in self.subject(name)?.splits {
                splits.entry(split).or_default().push(name.clone());
            }
        }
        Ok(splits)
    }

    /// The results of `map` for each number, in order; divided among the dataset's threads if there
    /// are enough numbers.
    ///
    /// # Errors
    /// Those of `map`; [`Error::OutOfMemory`].
    pub(crate) fn in_parallel<R: Send>(
        &self,
        numbers: Range<u64>,
        map: impl Fn(u64) -> Result<R> + Send + Sync,
    ) -> Result<Vec<R>> {
        /// With fewer numbers a second thread costs more than it saves.
        const PARALLEL: u64 = 8;
        /// Threads collect their results in memory that is not reserved.
        const BLOCK: u64 = 1 << 16;
        let executor = &self.0.context.resources().executor;
        let count = numbers.end - numbers.start;
        let what = || format!("{count} results");
        if count < PARALLEL || executor.threads() == 1 {
            return try_collected(numbers.map(map), count, what);
        }
        let mut results = collected([], count, what)?;
        for start in numbers.clone().step_by(BLOCK as usize) {
            let length = BLOCK.min(numbers.end - start) as usize;
            results.append(&mut executor.map(length, || (), |(), n| map(start + n as u64))?);
        }
        Ok(results)
    }

    /// A volume of a store.
    fn volume(&self, subject: &Folder, volume: &str, listed: DocumentChecksums) -> Result<Volume> {
        let subject_name = subject.path().file_name().unwrap_or_default().to_string_lossy();
        let key = (subject_name.into_owned(), volume.to_owned());
        let lock = || self.0.volumes.get(no_volumes).lock().unwrap_or_else(PoisonError::into_inner);
        // A subject that was replaced and opened again may have a volume of the same name with
        // other documents.
        let is_listed = |open: &&Volume| open.stored().is_some_and(|stored| stored.1 == listed);
        if let Some(open) = lock().get(&key).filter(is_listed) {
            return Ok(open.clone());
        }
        let folder = subject.join(volume);
        let opened =
            Volume::open(folder, volume, listed, self.0.context.clone(), self.0.derived.clone())?;
        let mut volumes = lock();
        volumes.put(key, opened.clone());
        if volumes.len() > OPEN_VOLUMES {
            volumes.pop_lru();
        }
        Ok(opened)
    }
}

impl OpenDataset {
    pub(super) fn new(contents: Contents, subjects: Vec<String>, options: &OpenOptions) -> Self {
        Self {
            contents,
            subjects,
            context: ArrayContext::new(options.array_options()),
            derived: Arc::new(PerProcess::new(DerivedCache::new())),
            volumes: PerProcess::new(no_volumes()),
            options: *options,
            #[cfg(feature = "remote")]
            url: None,
        }
    }
}

impl Subject {
    /// Its name in the dataset.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dataset that it belongs to.
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

    /// Names of the splits that it belongs to, such as `train`, sorted.
    pub fn splits(&self) -> &[String] {
        &self.splits
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Metadata`], [`Error::UnknownFeature`], [`Error::Io`];
    /// [`Error::InvalidArgument`] if it has not the level that the dataset was opened at.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let unknown = || not_found("volume", name, &self.path(), &self.volumes);
        let folder = match &self.dataset.0.contents {
            Contents::Store(folder) => folder.join(&self.name),
            Contents::Volumes { subjects, .. } => {
                return subjects[&self.name].get(name).cloned().ok_or_else(unknown);
            }
        };
        let &listed = self.listed.get(name).ok_or_else(unknown)?;
        if folder.kind(name).is_ok_and(|kind| kind.is_none()) {
            return Err(not_found("volume", name, &self.path(), &[]));
        }
        self.dataset.volume(&folder, name, listed)?.level(self.dataset.0.options.get_level())
    }

    /// The first of its volumes; all have the same extents and affine.
    ///
    /// # Errors
    /// As [`Subject::volume`]; [`Error::Metadata`] if the subject has no volume.
    pub fn first_volume(&self) -> Result<Volume> {
        let no_volume = || Error::metadata(self.path(), "the subject has no volume");
        self.volume(self.volumes.first().ok_or_else(no_volume)?)
    }

    /// The extents of its volumes, `(z, y, x)`.
    ///
    /// # Errors
    /// As [`Subject::first_volume`].
    pub fn size(&self) -> Result<crate::Size3> {
        self.first_volume().map(|volume| volume.size())
    }
}

/// The reason why nothing is opened where nothing is.
const NOTHING: &str = "there is nothing at that path";

fn not_a_store(path: &Path, reason: &str) -> Error {
    Error::NotAStore { path: path.to_owned(), reason: reason.to_owned() }
}

/// Checks the document of a store.
fn check_root(document: &Document) -> Result<()> {
    let path = document.path().parent().unwrap_or(document.path());
    let node = document.voxquarry().map_err(|e| not_a_store(path, &e.to_string()))?;
    check_version(&node, "dataset")?;
    document.check_seal()
}

/// Names of the folders that a server lists, those that subjects may have, sorted.
#[cfg(feature = "remote")]
fn listed_folders(store: &Folder) -> Result<Vec<String>> {
    let mut names = store.remote().map_or(Ok(Vec::new()), RemoteFiles::folders)?;
    names.retain(|name| check_name("", name).is_ok());
    names.sort_unstable();
    Ok(names)
}

fn no_volumes() -> Mutex<OpenVolumes> {
    // A bounded one would reserve its table at once.
    Mutex::new(LruCache::unbounded())
}

fn not_found(kind: &'static str, name: &str, place: &Path, names: &[String]) -> Error {
    const SHOWN: usize = 8;
    let mut available: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect();
    if names.len() > SHOWN {
        available.push(format!("… ({} in all)", names.len()));
    }
    Error::NotFound { kind, name: name.to_owned(), place: place.to_owned(), available }
}

/// Names of the subjects in a store's folder, sorted.
///
/// A subject whose document is lost or no file, or that may not be entered, is listed too: opening
/// it reports the reason.
pub(super) fn names_of_subjects(store: &Folder) -> Result<Vec<String>> {
    let entries = store.entries().map_err(Error::io(store.path(), "cannot list"))?;
    let is_subject = |(name, kind): (OsString, FileType)| {
        let name = name.into_string().ok().filter(|name| check_name("", name).is_ok())?;
        let folder = store.join(&name);
        let is_listed = match folder.kind(ZARR_JSON) {
            Ok(None) => kind == FileType::Directory && holds_volumes(&folder).unwrap_or(true),
            Ok(Some(_)) | Err(_) => true,
        };
        is_listed.then_some(name)
    };
    let mut names: Vec<String> = entries.into_iter().filter_map(is_subject).collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether a folder without a document holds folders with one: then it was a subject.
fn holds_volumes(folder: &Folder) -> io::Result<bool> {
    let entries = match folder.entries() {
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => return Ok(false),
        entries => entries?,
    };
    for (name, kind) in entries {
        if kind == FileType::Directory && folder.join(name).has(ZARR_JSON)? {
            return Ok(true);
        }
    }
    Ok(false)
}
