//! A subject in its staging folder, and the renames that publish it or one volume of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::share::share_tree;
use super::staging::{self, IfExists, StagingDir};
use super::subject_list::{SubjectList, publish_document};
use crate::format::attributes::{self, DocumentChecksums, VolumeList, parse_splits, parse_subject};
use crate::format::document::{self, Document, ZARR_JSON};
use crate::sys::folder::{Folder, refused};
use crate::{Error, Result};

/// A subject that no reader sees yet.
#[derive(Debug)]
pub(super) struct StagedSubject {
    name: String,
    staging: StagingDir,
    splits: BTreeSet<String>,
}

impl StagedSubject {
    /// Begins subject `name` in a staging folder.
    pub(super) fn create(name: &str, staging: StagingDir) -> Result<Self> {
        let folder = staging.content();
        folder.create_all().map_err(refused(folder.path(), "cannot create"))?;
        Ok(Self { name: name.to_owned(), staging, splits: BTreeSet::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn store(&self) -> &Folder {
        self.staging.store()
    }

    /// The folder that the subject will have.
    pub(super) fn target(&self) -> Folder {
        self.store().join(&self.name)
    }

    /// The folder that is published.
    pub(super) fn content(&self) -> Folder {
        self.staging.content()
    }

    pub(super) fn staging(&self) -> &StagingDir {
        &self.staging
    }

    /// A folder on the store's disk that is removed with the work.
    pub(super) fn work_folder(&self) -> &Folder {
        self.staging.folder()
    }

    /// Puts the subject into splits.
    pub(super) fn set_splits(&mut self, splits: BTreeSet<String>) {
        self.splits = splits;
    }

    /// Makes the subject visible with these volumes, and the store with its first subject.
    ///
    /// # Errors
    /// [`Error::Exists`] as `if_exists` says, [`Error::Io`].
    pub(super) fn publish(mut self, volumes: &VolumeList, if_exists: IfExists) -> Result<()> {
        let subject = document::group(self.attributes(volumes));
        document::write_sealed_in(&self.content(), subject)?;
        if !has_document(self.store())? {
            self.publish_document(attributes::dataset(), self.store())?;
        }
        let (content, target) = (self.content(), self.target());
        staging::sync_tree(&content)?;
        // Until the subject can be seen, the list of the subjects does not change.
        let list = SubjectList::lock(self.store(), self.staging.folder())?;
        let is_listed = list.withdraw_without(&self.name)?;
        match if_exists {
            IfExists::Error | IfExists::Skip => staging::publish_new(&content, &target)?,
            IfExists::Replace if has_document(&target)? => {
                // Nobody may add a volume to the old subject in the meantime.
                let _lock = staging::lock_folder(&target)?;
                staging::publish_over(&content, &target)?;
            }
            IfExists::Replace => staging::publish_over(&content, &target)?,
        }
        if is_listed {
            list.write()?;
        }
        // Not earlier: work that could not be published can be resumed.
        self.staging.release();
        Ok(())
    }

    /// Puts a new subject in the place of the published one, in one step: it has these volumes,
    /// and those that the published one has beside them, whose files it shares.
    ///
    /// `check` is called with the volumes that stay.
    ///
    /// # Errors
    /// [`Error::Exists`] if the subject has one of the volumes, unless `if_exists` is `Replace`;
    /// that of `check`; [`Error::Io`].
    pub(super) fn publish_extended(
        mut self,
        volumes: VolumeList,
        if_exists: IfExists,
        check: impl FnOnce(&VolumeList) -> Result<()>,
    ) -> Result<()> {
        let (content, target) = (self.content(), self.target());
        let _lock = staging::lock_folder(&target)?;
        let (mut kept, splits) = self.published()?;
        self.splits.extend(splits);
        kept.retain(|name, _| !volumes.contains_key(name) || if_exists != IfExists::Replace);
        if let Some(name) = kept.keys().find(|name| volumes.contains_key(*name)) {
            let remedy = "replace it, or choose another name".to_owned();
            return Err(Error::Exists { path: target.path().join(name), remedy });
        }
        check(&kept)?;
        for name in kept.keys() {
            share_tree(&target.join(name), &content.join(name))?;
        }
        kept.extend(volumes);
        document::write_sealed_in(&content, document::group(self.attributes(&kept)))?;
        staging::sync_tree(&content)?;
        staging::publish_over(&content, &target)?;
        self.staging.release();
        Ok(())
    }

    /// Adds the published subject to the splits; its volumes stay as they are.
    ///
    /// # Errors
    /// [`Error::Metadata`] if the subject is damaged, [`Error::Io`].
    pub(super) fn publish_splits(mut self) -> Result<()> {
        let _lock = staging::lock_folder(&self.target())?;
        let (volumes, splits) = self.published()?;
        self.splits.extend(splits);
        self.replace_document(&volumes)
    }

    fn attributes(&self, volumes: &VolumeList) -> Value {
        attributes::subject(&self.name, volumes, &self.splits.iter().cloned().collect::<Vec<_>>())
    }

    /// The volumes that the published subject lists, and its splits.
    fn published(&self) -> Result<(VolumeList, Vec<String>)> {
        let subject = self.target();
        let document = Document::read_sealed_in(&subject)?.ok_or_else(|| {
            let path = subject.path().join(ZARR_JSON);
            Error::metadata(path, "missing: the subject was removed meanwhile")
        })?;
        let node = document.voxquarry()?;
        Ok((parse_subject(&node, &self.name)?, parse_splits(&node)?))
    }

    /// Makes the one volume of this subject visible, in a subject that may exist.
    ///
    /// # Errors
    /// [`Error::Exists`] if the subject has such a volume, [`Error::Io`].
    pub(super) fn publish_volume(mut self, name: &str, checksums: DocumentChecksums) -> Result<()> {
        let subject = self.target();
        if !has_document(&subject)? {
            return self
                .publish(&VolumeList::from([(name.to_owned(), checksums)]), IfExists::Error);
        }
        // Two writers that add volumes to one subject list them one after the other.
        let _lock = staging::lock_folder(&subject)?;
        let (mut volumes, splits) = self.published()?;
        self.splits.extend(splits);
        let target = subject.join(name);
        if volumes.contains_key(name) {
            let remedy = "another writer published it meanwhile: choose another name".to_owned();
            return Err(Error::Exists { path: target.path().to_owned(), remedy });
        }
        let content = self.content().join(name);
        staging::sync_tree(&content)?;
        // A folder that the subject does not list was left by a writer that was killed here.
        staging::publish_over(&content, &target)?;
        volumes.insert(name.to_owned(), checksums);
        self.replace_document(&volumes)
    }

    /// Renames a new document into the place of the published subject's.
    fn replace_document(&mut self, volumes: &VolumeList) -> Result<()> {
        let subject = self.target();
        self.publish_document(self.attributes(volumes), &subject)?;
        // Only this folder has changed: what else there is was flushed when it was staged.
        staging::sync_folder(&subject)?;
        self.staging.release();
        Ok(())
    }

    fn publish_document(&self, attributes: Value, folder: &Folder) -> Result<()> {
        publish_document(self.staging.folder(), document::group(attributes), folder)
    }
}

/// Whether a folder of a store has its document, which makes it visible.
fn has_document(folder: &Folder) -> Result<bool> {
    let path = folder.path().join(ZARR_JSON);
    folder.has(ZARR_JSON).map_err(Error::io(path, "cannot look at"))
}
