//! Runs the commands, one file each, and resolves paths into a store.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod components;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod finalize;
pub(crate) mod fingerprint;
pub(crate) mod info;
pub(crate) mod ingest;
pub(crate) mod man;
pub(crate) mod picture;
pub(crate) mod plan_layout;
pub(crate) mod preview;
pub(crate) mod sample;
pub(crate) mod verify;

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use voxquarry::format::document::ZARR_JSON;
use voxquarry::{Dataset, Error, Fault, OpenOptions, Result, Size3, Subject, Volume};

/// The dataset, subject or volume that a path such as `STORE/SUBJECT/VOLUME` names.
pub(crate) enum StoreItem {
    Dataset(Dataset),
    Subject(Subject),
    Volume(Subject, Volume),
}

impl StoreItem {
    /// Opens the item at `path`. The store is the innermost of its last three folders that is a
    /// dataset.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &OpenOptions::default())
    }

    pub(crate) fn open_with(path: &Path, options: &OpenOptions) -> Result<Self> {
        if is_url(path) {
            return Self::open_url(path, options);
        }
        let trimmed: PathBuf = path.components().collect();
        let mut names: Vec<String> = Vec::new();
        let mut store = trimmed.as_path();
        loop {
            let document = store.join(ZARR_JSON);
            let exists = match document.symlink_metadata() {
                Ok(_) => true,
                Err(e) if matches!(e.kind(), NotFound | NotADirectory) => false,
                // On a disk that fails it does not count as missing.
                Err(e) => return Err(Error::io(&document, "cannot look at")(e)),
            };
            let opened = if exists {
                match Dataset::open(store, options) {
                    // A store on a disk that fails, not the folder of a subject.
                    Err(error) if error.fault() == Fault::Environment => return Err(error),
                    opened => opened.ok(),
                }
            } else {
                None
            };
            if let Some(dataset) = opened {
                return Self::of(dataset, &names);
            }
            match (store.file_name(), store.parent()) {
                (Some(name), Some(parent)) if names.len() < 2 => {
                    names.push(name.to_string_lossy().into_owned());
                    store = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                }
                // No store on the way up: opening the path itself gives the best error.
                _ => return Dataset::open(&trimmed, options).map(Self::Dataset),
            }
        }
    }

    /// The item that `names`, the innermost first, name in a dataset.
    fn of(dataset: Dataset, names: &[String]) -> Result<Self> {
        match names {
            [] => Ok(Self::Dataset(dataset)),
            [subject] => dataset.subject(subject).map(Self::Subject),
            [volume, subject, ..] => {
                let subject = dataset.subject(subject)?;
                let volume = subject.volume(volume)?;
                Ok(Self::Volume(subject, volume))
            }
        }
    }

    /// Opens the item at a URL; a token that follows it goes to every request.
    fn open_url(path: &Path, options: &OpenOptions) -> Result<Self> {
        let url = path.to_string_lossy();
        // A token may hold slashes. Keys of a bucket may hold question marks.
        let is_http = url.starts_with("http");
        let mark = if is_http { url.find('?').unwrap_or(url.len()) } else { url.len() };
        let (place, token) = url.split_at(mark);
        let (mut store, mut names) = (place.trim_end_matches('/'), Vec::new());
        let mut first_error = None;
        loop {
            let error = match Dataset::open(format!("{store}{token}"), options) {
                Ok(dataset) => return Self::of(dataset, &names),
                Err(error) if error.fault() == Fault::Environment => return Err(error),
                Err(error) => error,
            };
            let is_last = names.len() == 2;
            match store.rsplit_once('/') {
                Some((above, name)) if !is_last && !above.ends_with('/') => {
                    names.push(name.to_owned());
                    store = above;
                    first_error.get_or_insert(error);
                }
                // No store on the way up: opening the URL itself gave the best error.
                _ => return Err(first_error.unwrap_or(error)),
            }
        }
    }
}

/// Store, subject and volume of a path.
pub(crate) fn split(path: &Path) -> Option<(&Path, &str, &str)> {
    let subject = path.parent()?;
    let store = subject.parent().filter(|store| !store.as_os_str().is_empty())?;
    Some((store, subject.file_name()?.to_str()?, path.file_name()?.to_str()?))
}

/// Whether a path is the URL of a store on a server.
pub(crate) fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains("://"))
}

/// The patch size that the volume was ingested for, clipped to the volume.
pub(crate) fn ingested_for(volume: &Volume) -> Size3 {
    let size = volume.size();
    let patch = volume.attributes().patch_sizes.first().copied().unwrap_or([96; 3]);
    [0, 1, 2].map(|a| patch[a].min(size[a]))
}
