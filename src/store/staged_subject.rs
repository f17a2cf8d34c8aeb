//! A subject in its staging folder, and the renames that publish it or one volume of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::staging::{self, IfExists, StagingDir};
use crate::format::attributes::{self, DocumentChecksums, VolumeList, parse_subject};
use crate::format::document::{self, Document, ZARR_JSON};
use crate::{Error, Result};

/// A subject that no reader sees yet.
#[derive(Debug)]
pub(super) struct StagedSubject {
    store: PathBuf,
    name: String,
    staging: StagingDir,
}

impl StagedSubject {
    /// Begins subject `name` of `store` in a staging folder.
    pub(super) fn create(store: &Path, name: &str, staging: StagingDir) -> Result<Self> {
        let folder = staging.content();
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "cannot create"))?;
        Ok(Self { store: store.to_owned(), name: name.to_owned(), staging })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// The folder that the subject will have.
    pub(super) fn target(&self) -> PathBuf {
        self.store.join(&self.name)
    }

    /// The folder that is published.
    pub(super) fn content(&self) -> PathBuf {
        self.staging.content()
    }

    /// A folder on the store's disk that is removed with the work.
    pub(super) fn staging_path(&self) -> &Path {
        self.staging.path()
    }

    /// Makes the subject visible with these volumes, and the store with its first subject.
    ///
    /// # Errors
    /// [`Error::Exists`] as `if_exists` says, [`Error::Io`].
    pub(super) fn publish(mut self, volumes: &VolumeList, if_exists: IfExists) -> Result<()> {
        document::write_sealed(&self.content(), attributes::subject(volumes))?;
        let store_json = self.store.join(ZARR_JSON);
        if !store_json.exists() {
            let staged = self.staging.path().join(ZARR_JSON);
            document::write_sealed(self.staging.path(), attributes::dataset())?;
            fs::rename(&staged, &store_json).map_err(Error::io(&store_json, "cannot publish"))?;
        }
        let (content, target) = (self.content(), self.target());
        staging::sync_tree(&content)?;
        match if_exists {
            IfExists::Error | IfExists::Skip => staging::publish_new(&content, &target)?,
            IfExists::Replace => staging::publish_over(&content, &target)?,
        }
        // Not earlier: work that could not be published can be resumed.
        self.staging.release();
        Ok(())
    }

    /// Makes the one volume of this subject visible, in a subject that may exist.
    ///
    /// # Errors
    /// [`Error::Exists`] if the subject has such a volume, [`Error::Io`].
    pub(super) fn publish_volume(mut self, name: &str, checksums: DocumentChecksums) -> Result<()> {
        let subject = self.target();
        if !subject.join(ZARR_JSON).exists() {
            return self
                .publish(&VolumeList::from([(name.to_owned(), checksums)]), IfExists::Error);
        }
        // Two writers that add volumes to one subject list them one after the other.
        let _lock = staging::lock_folder(&subject)?;
        let document = Document::read(&subject)?.ok_or_else(|| {
            Error::metadata(subject.join(ZARR_JSON), "missing: the subject was removed meanwhile")
        })?;
        document.check_seal()?;
        let mut volumes = parse_subject(&document.voxquarry()?)?;
        let target = subject.join(name);
        if volumes.contains_key(name) {
            let remedy = "another writer published it meanwhile: choose another name".to_owned();
            return Err(Error::Exists { path: target, remedy });
        }
        let content = self.content().join(name);
        staging::sync_tree(&content)?;
        // A folder that the subject does not list was left by a writer that was killed here.
        staging::publish_over(&content, &target)?;
        volumes.insert(name.to_owned(), checksums);
        document::write_sealed(self.staging.path(), attributes::subject(&volumes))?;
        let (staged, listed) = (self.staging.path().join(ZARR_JSON), subject.join(ZARR_JSON));
        fs::rename(&staged, &listed).map_err(Error::io(&listed, "cannot publish"))?;
        // Only this folder has changed: the volume was flushed when it was staged.
        staging::sync_folder(&subject)?;
        self.staging.release();
        Ok(())
    }
}
