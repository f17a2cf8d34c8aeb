//! A subject in its staging folder, and the renames that publish it or one volume of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::staging::{self, IfExists, StagingDir};
use crate::format::attributes;
use crate::format::document::{self, ZARR_JSON};
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
        document::write(&folder, &document::group(attributes::subject()))?;
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

    /// Makes the subject visible, and the store with its first subject.
    ///
    /// # Errors
    /// [`Error::Exists`] as `if_exists` says, [`Error::Io`].
    pub(super) fn publish(mut self, if_exists: IfExists) -> Result<()> {
        let store_json = self.store.join(ZARR_JSON);
        if !store_json.exists() {
            let staged = self.staging.path().join(ZARR_JSON);
            document::write(self.staging.path(), &document::group(attributes::dataset()))?;
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

    /// Makes the one volume of this subject visible at `target`, in a subject that may exist.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`].
    pub(super) fn publish_volume(mut self, name: &str, target: &Path) -> Result<()> {
        if !self.target().join(ZARR_JSON).exists() {
            return self.publish(IfExists::Error);
        }
        let content = self.content().join(name);
        staging::sync_tree(&content)?;
        staging::publish_new(&content, target)?;
        self.staging.release();
        Ok(())
    }
}
