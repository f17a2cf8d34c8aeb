//! The list of a store's subjects in its own document, for readers that cannot list a folder (§3).
//!
//! # Invariants
//! - Whoever publishes a subject holds the lock of the store's folder, and a list that lacks the
//!   subject is gone before the subject can be seen: a list that is there is complete.
//! - A damaged document is refused; sealed again, it would pass for a whole one.

use std::fs::File;
use std::path::Path;

use rustix::fs::RenameFlags;
use serde_json::{Value, json};

use super::dataset::{Dataset, names_of_subjects};
use super::options::OpenOptions;
use super::staging::{self, StagingDir};
use crate::format::attributes::parse_subjects;
use crate::format::document::{self, Document, ZARR_JSON};
use crate::sys::folder::{Folder, refused};
use crate::sys::remote::refuse_url;
use crate::{Error, Result};

const KEY: &str = "subjects";
/// A list that takes longer to write than a subject is not kept up to date.
const KEPT_SUBJECTS: usize = 256;
/// More would be too many values for a document (§10).
const MAX_SUBJECTS: usize = 100_000;

/// The list of a store, locked until it is dropped.
#[derive(Debug)]
pub(super) struct SubjectList<'a> {
    store: &'a Folder,
    staging: &'a Folder,
    _lock: File,
}

impl<'a> SubjectList<'a> {
    /// Locks the list; `staging` takes a document until it is published.
    pub(super) fn lock(store: &'a Folder, staging: &'a Folder) -> Result<Self> {
        Ok(Self { store, staging, _lock: staging::lock_folder(store)? })
    }

    /// Removes the list if it lacks `subject`; returns whether it did and the list is so short that
    /// it is to be written again.
    pub(super) fn withdraw_without(&self, subject: &str) -> Result<bool> {
        let Some(document) = Document::read_sealed_in(self.store)? else { return Ok(false) };
        match parse_subjects(&document.voxquarry()?)? {
            Some(names) if names.binary_search_by(|name| name.as_str().cmp(subject)).is_err() => {
                self.publish(&document, None)?;
                Ok(names.len() < KEPT_SUBJECTS)
            }
            _ => Ok(false),
        }
    }

    /// Writes the list of all subjects, if the store has one yet; returns whether there are so few
    /// that they can be listed.
    pub(super) fn write(&self) -> Result<bool> {
        let Some(document) = Document::read_sealed_in(self.store)? else { return Ok(true) };
        let names = names_of_subjects(self.store)?;
        if names.len() > MAX_SUBJECTS {
            return Ok(false);
        }
        if parse_subjects(&document.voxquarry()?)?.is_none_or(|listed| listed != names) {
            self.publish(&document, Some(&names))?;
        }
        Ok(true)
    }

    /// Publishes the store's document with another list; its other keys stay.
    fn publish(&self, document: &Document, subjects: Option<&[String]>) -> Result<()> {
        let parsed = serde_json::from_slice::<Value>(document.text());
        let mut document =
            parsed.map_err(|e| Error::metadata(document.path(), format!("not JSON: {e}")))?;
        let node = document["attributes"]["voxquarry"].as_object_mut();
        if let Some(node) = node {
            match subjects {
                Some(names) => node.insert(KEY.to_owned(), json!(names)),
                None => node.remove(KEY),
            };
        }
        publish_document(self.staging, document, self.store)?;
        staging::sync_folder(self.store)
    }
}

/// Writes a sealed document into a staging folder and renames it into `folder`, in place of one
/// that is there.
pub(super) fn publish_document(staging: &Folder, document: Value, folder: &Folder) -> Result<()> {
    document::write_sealed_in(staging, document)?;
    let (staged, target) = (staging.join(ZARR_JSON), folder.join(ZARR_JSON));
    let renamed = staged.rename(&target, RenameFlags::empty());
    renamed.map_err(refused(target.path(), "cannot publish"))
}

/// Lists the subjects of the store at `path` in its `zarr.json`, so that an HTTP server can serve
/// it; [`Dataset::open`](crate::Dataset::open) does without on a disk. An ingest does so at its
/// end.
///
/// Subjects that are published later are added, one after the other up to 256; after that the list
/// is removed until it is written anew. Whoever removes a subject's folder writes the list anew.
///
/// ```
/// use voxquarry::{IfExists, StoreWriter};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("store.zarr");
/// StoreWriter::open(&path, None)?.subject("case01")?.publish([], IfExists::Error)?;
/// voxquarry::list_subjects(&path)?;
/// let document = std::fs::read_to_string(path.join("zarr.json")).unwrap();
/// assert!(document.contains("case01"));
/// # Ok::<(), voxquarry::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotAStore`]; [`Error::Unsupported`] for more than 100,000 subjects; [`Error::Io`].
pub fn list_subjects(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    refuse_url(path)?;
    let store = Dataset::open(path, &OpenOptions::default())?;
    if write_list(store.path())? {
        return Ok(());
    }
    let reason = format!("{}: it has more than {MAX_SUBJECTS} subjects", store.path().display());
    Err(Error::unsupported(reason, "serve it from a bucket, which can list them"))
}

/// Writes the list of the store in the folder `store`; returns whether there are so few subjects
/// that they can be listed.
pub(super) fn write_list(store: &Path) -> Result<bool> {
    let staging = StagingDir::create(store)?;
    SubjectList::lock(staging.store(), staging.folder())?.write()
}
