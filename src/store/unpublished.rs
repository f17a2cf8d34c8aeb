//! Subjects that are finished before anybody may see them: those of an ingest in parts.
//!
//! They lie in a store of their own within the folder of unfinished work, where the processes that
//! write them need to know nothing of each other, and are renamed into their store together.
//!
//! # Invariants
//! - Of a new store nothing is visible before its last subject is in place: the store's document,
//!   without which a folder is no store, comes last.
//! - A subject is published only if its document is the one that its writer noted.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, RenameFlags};

use super::listed::{checksum_in, is_absent};
use super::staging::{self, IfExists};
use super::subject_list::{self, SubjectList};
use super::writer::StoreWriter;
use crate::format::attributes;
use crate::format::document::{self, Document, ZARR_JSON};
use crate::format::{PARTIAL_DIR, check_name};
use crate::sys::folder::{Folder, Links, refused};
use crate::{Error, Result};

/// Before the names of the folders.
const PREFIX: &str = "kept-subjects-";
/// The store of the subjects in the folder.
const SUBJECTS: &str = "subjects";
/// A folder that is not empty is nobody's leftover.
const KEEPER: &str = "kept";
/// More than the writers that may remove the folder while it is empty.
const ATTEMPTS: u32 = 1000;

/// Finished subjects of a store that are not visible yet.
///
/// ```
/// use voxquarry::{IfExists, UnpublishedSubjects};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("store.zarr");
/// let unpublished = UnpublishedSubjects::create(&path, "monday")?;
/// unpublished.writer(None)?.subject("case01")?.publish([], IfExists::Error)?;
/// let checksum = unpublished.checksum("case01")?.expect("it is there");
/// assert!(voxquarry::open(&path).is_err(), "there is no store yet");
/// unpublished.publish(&[("case01".to_owned(), checksum)], IfExists::Error)?;
/// unpublished.remove()?;
/// assert_eq!(voxquarry::open(&path)?.subjects(), ["case01"]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct UnpublishedSubjects {
    store: Folder,
    pub(super) folder: Folder,
}

impl UnpublishedSubjects {
    /// The folder called `name` in the store at `path`; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that no subject may have, [`Error::Io`].
    pub fn open(path: impl AsRef<Path>, name: &str) -> Result<Option<Self>> {
        check_name("folder", name)?;
        let path = staging::absolute(path.as_ref());
        let store = match Folder::open(&path, Links::Refuse) {
            Ok(store) => store,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => return Ok(None),
            Err(e) => return Err(Error::io(path, "cannot open")(e)),
        };
        let folder = store.join(PARTIAL_DIR).join(format!("{PREFIX}{name}"));
        let there = folder.has(KEEPER).map_err(Error::io(folder.path(), "cannot look into"))?;
        Ok(there.then_some(Self { store, folder }))
    }

    /// As [`open`](Self::open); makes the folder where it is missing, and writes the document of
    /// the unpublished subjects' store anew if it is damaged.
    ///
    /// # Errors
    /// As [`StoreWriter::open`] and [`open`](Self::open).
    pub fn create(path: impl AsRef<Path>, name: &str) -> Result<Self> {
        if let Some(found) = Self::open(&path, name)? {
            found.mend_document()?;
            return Ok(found);
        }
        let path = StoreWriter::open(path, Some(1))?.path().to_owned();
        let mut attempts = 1..ATTEMPTS;
        loop {
            std::fs::create_dir_all(&path).map_err(Error::io(&path, "cannot create"))?;
            let store = match Folder::open(&path, Links::Refuse) {
                Ok(store) => store,
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempts.next().is_some() => {
                    continue;
                }
                Err(e) => return Err(Error::io(path, "cannot open")(e)),
            };
            let folder = store.join(PARTIAL_DIR).join(format!("{PREFIX}{name}"));
            let made = folder.create_all().and_then(|()| folder.append_file(KEEPER));
            match made.and_then(|file| file.sync_all()) {
                Ok(()) => {
                    staging::sync_folder(&folder)?;
                    staging::sync_folder(&folder.above())?;
                    return Ok(Self { store, folder });
                }
                // Another writer removed an empty folder on the way.
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempts.next().is_some() => {}
                Err(e) => return Err(refused(folder.path(), "cannot create")(e)),
            }
        }
    }

    /// The names of all such folders in a store, sorted; none of what is no store.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn names(path: impl AsRef<Path>) -> Result<Vec<String>> {
        let path = staging::absolute(path.as_ref());
        let store = match Folder::open(&path, Links::Refuse) {
            Ok(store) => store,
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(path, "cannot open")(e)),
        };
        let partial = store.join(PARTIAL_DIR);
        let entries = match partial.entries() {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(refused(partial.path(), "cannot list")(e)),
        };
        let folders = entries.into_iter().filter(|(_, kind)| *kind == FileType::Directory);
        let names = folders.filter_map(|(name, _)| name.into_string().ok());
        let mut names: Vec<_> =
            names.filter_map(|name| Some(name.strip_prefix(PREFIX)?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// The store that the subjects will be in, absolute.
    pub fn store(&self) -> &Path {
        self.store.path()
    }

    /// The folder, for messages. The caller's own notes lie in it ([`note`](Self::note)).
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The store of the unpublished subjects.
    pub fn path(&self) -> PathBuf {
        self.hidden().path().to_owned()
    }

    /// Writes subjects, with `threads` as for [`StoreWriter::open`].
    ///
    /// # Errors
    /// As [`StoreWriter::open`].
    pub fn writer(&self, threads: Option<usize>) -> Result<StoreWriter> {
        StoreWriter::open(self.path(), threads)
    }

    /// The crc32c of the bytes of an unpublished subject's document, which lead to checksums of all
    /// its files; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn checksum(&self, subject: &str) -> Result<Option<u32>> {
        checksum_in(&self.hidden().join(subject))
    }

    /// As [`checksum`](Self::checksum), of a subject that is published.
    ///
    /// # Errors
    /// As [`checksum`](Self::checksum).
    pub fn published_checksum(&self, subject: &str) -> Result<Option<u32>> {
        checksum_in(&self.store.join(subject))
    }

    /// Removes an unpublished subject, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_subject(&self, subject: &str) -> Result<()> {
        check_name("subject", subject)?;
        let hidden = self.hidden();
        match hidden.remove_tree(subject) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(refused(hidden.path().join(subject), "cannot remove")(e))
            }
            _ => Ok(()),
        }
    }

    /// Takes an unpublished subject out of another folder of the same store.
    ///
    /// # Errors
    /// [`Error::Exists`] if it is here already, [`Error::Io`].
    pub fn take_subject(&self, from: &Self, subject: &str) -> Result<()> {
        check_name("subject", subject)?;
        let (hidden, others) = (self.hidden(), from.hidden());
        if !has_document(&hidden)? {
            // A store's document is the same in all of them.
            hidden.create_all().map_err(refused(hidden.path(), "cannot create"))?;
            let document = others.join(ZARR_JSON);
            let renamed = document.rename(&hidden.join(ZARR_JSON), RenameFlags::empty());
            renamed.map_err(refused(document.path(), "cannot move"))?;
        }
        staging::publish_new(&others.join(subject), &hidden.join(subject))
    }

    /// Renames subjects, each with its checksum, into their store. Those that an earlier call
    /// published, which was interrupted, are left as they are.
    ///
    /// # Errors
    /// [`Error::Incomplete`] for a subject that is missing or has another checksum;
    /// [`Error::Exists`] as `if_exists` says; [`Error::Metadata`] for a damaged document of their
    /// store, which [`create`](Self::create) mends; [`Error::Io`].
    pub fn publish(&self, subjects: &[(String, u32)], if_exists: IfExists) -> Result<()> {
        let list = SubjectList::lock(&self.store, &self.folder)?;
        let is_new = !has_document(&self.store)?;
        if is_new && Document::read_sealed_in(&self.hidden())?.is_none() && !subjects.is_empty() {
            // Lost: without it the subjects would be in a folder that is no store.
            self.write_document()?;
        }
        let mut is_listed = is_new;
        for (name, crc) in subjects {
            // Until the subject can be seen, the list of the subjects does not change.
            is_listed |= list.withdraw_without(name)?;
            self.publish_subject(name, *crc, if_exists)?;
        }
        if is_new && has_document(&self.hidden())? {
            let document = self.hidden().join(ZARR_JSON);
            let renamed = document.rename(&self.store.join(ZARR_JSON), RenameFlags::empty());
            renamed.map_err(refused(self.store.path(), "cannot publish the document of"))?;
        }
        if is_listed {
            list.write()?;
        }
        staging::sync_folder(&self.store)
    }

    fn publish_subject(&self, name: &str, expected: u32, if_exists: IfExists) -> Result<()> {
        check_name("subject", name)?;
        let (content, target) = (self.hidden().join(name), self.store.join(name));
        if checksum_in(&content)? != Some(expected) {
            if checksum_in(&target)? == Some(expected) {
                return Ok(());
            }
            let what = format!("subject {name:?}");
            let missing = "its document is not the one that was written for it".to_owned();
            return Err(Error::Incomplete { what, missing });
        }
        match if_exists {
            IfExists::Error | IfExists::Skip => staging::publish_new(&content, &target),
            IfExists::Replace => {
                if has_document(&target)? {
                    // Nobody may add a volume to the old subject in the meantime.
                    let _lock = staging::lock_folder(&target)?;
                    staging::publish_over(&content, &target)?;
                } else {
                    staging::publish_over(&content, &target)?;
                }
                // The old one lies here now.
                self.remove_subject(name)
            }
        }
    }

    /// Removes the folder and all that is left in it. What cannot be removed now, the next writer
    /// of the store removes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(self) -> Result<()> {
        // From here on it is the folder of a dead writer.
        let lock = self.folder.join(staging::LOCK);
        match self.folder.join(KEEPER).rename(&lock, RenameFlags::empty()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(refused(self.folder.path(), "cannot remove")(e));
            }
            _ => {}
        }
        staging::remove_work(&self.folder, staging::LOCK);
        // Unless others have unfinished work.
        let _ = self.store.remove(PARTIAL_DIR);
        Ok(())
    }

    /// Writes the document of the unpublished subjects' store anew if it is damaged, or missing
    /// beside subjects.
    fn mend_document(&self) -> Result<()> {
        let hidden = self.hidden();
        let entries = match hidden.entries() {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(refused(hidden.path(), "cannot list")(e)),
        };
        match Document::read_sealed_in(&hidden) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if entries.iter().all(|(name, _)| name == PARTIAL_DIR) => return Ok(()),
            Err(error @ Error::Io { .. }) => return Err(error),
            _ => {}
        }
        if entries.iter().any(|(name, kind)| name == ZARR_JSON && *kind == FileType::Directory) {
            let removed = hidden.remove_tree(ZARR_JSON);
            removed.map_err(refused(hidden.path().join(ZARR_JSON), "cannot remove"))?;
        }
        self.write_document()
    }

    /// Writes the document of the unpublished subjects' store, which says the same in every store.
    fn write_document(&self) -> Result<()> {
        let hidden = self.hidden();
        hidden.create_all().map_err(refused(hidden.path(), "cannot create"))?;
        let document = document::group(attributes::dataset());
        subject_list::publish_document(&self.folder, document, &hidden)
    }

    fn hidden(&self) -> Folder {
        self.folder.join(SUBJECTS)
    }
}

fn has_document(folder: &Folder) -> Result<bool> {
    let path = folder.path().join(ZARR_JSON);
    folder.has(ZARR_JSON).map_err(Error::io(path, "cannot look at"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::Dataset;

    fn with_subjects(store: &Path, name: &str, subjects: &[&str]) -> Vec<(String, u32)> {
        let unpublished = UnpublishedSubjects::create(store, name).unwrap();
        for subject in subjects {
            let writer = unpublished.writer(Some(1)).unwrap();
            writer.subject(subject).unwrap().publish([], IfExists::Error).unwrap();
        }
        let noted = |s: &&str| ((*s).to_owned(), unpublished.checksum(s).unwrap().unwrap());
        subjects.iter().map(noted).collect()
    }

    #[test]
    fn a_new_store_appears_with_its_last_subject_and_after_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.zarr");
        let noted = with_subjects(&store, "a", &["x", "y"]);
        let open = || UnpublishedSubjects::open(&store, "a").unwrap().unwrap();
        let missing = [noted.clone(), vec![("z".to_owned(), 7)]].concat();
        let error = open().publish(&missing, IfExists::Error).unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error}");
        // Two subjects are in place, and nobody sees a store.
        assert!(store.join("x/zarr.json").exists() && !store.join("zarr.json").exists());
        assert!(Dataset::open(&store, &crate::OpenOptions::default()).is_err());
        let other = StoreWriter::open(&store, Some(1)).unwrap_err();
        assert!(other.to_string().contains("finalize"), "{other}");
        open().publish(&noted, IfExists::Error).unwrap();
        open().publish(&noted, IfExists::Error).unwrap();
        open().remove().unwrap();
        assert!(UnpublishedSubjects::open(&store, "a").unwrap().is_none());
        assert!(!store.join(PARTIAL_DIR).exists());
        assert_eq!(crate::open(&store).unwrap().subjects(), ["x", "y"]);
    }

    #[test]
    fn subjects_of_a_store_are_replaced_only_when_asked_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.zarr");
        let writer = StoreWriter::open(&store, Some(1)).unwrap();
        let mut old = writer.subject("x").unwrap();
        old.set_splits(["old".to_owned()]).unwrap();
        old.publish([], IfExists::Error).unwrap();
        let noted = with_subjects(&store, "a", &["x"]);
        let new = UnpublishedSubjects::open(&store, "a").unwrap().unwrap();
        let error = new.publish(&noted, IfExists::Error).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        let splits = || crate::open(&store).unwrap().subject("x").unwrap().splits().to_vec();
        assert_eq!(splits(), ["old"]);
        for _ in 0..2 {
            new.publish(&noted, IfExists::Replace).unwrap();
            assert_eq!(splits(), [""; 0]);
        }
    }

    /// Issue 19: a part whose subject had a damaged document could not be run again, nor its plan
    /// made again. Its siblings are a document that is lost, long, a folder, and the store's.
    #[test]
    fn damaged_documents_of_unpublished_subjects_are_no_dead_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.zarr");
        let noted = with_subjects(&store, "a", &["x", "y"]);
        let open = || UnpublishedSubjects::open(&store, "a").unwrap().unwrap();
        let hidden = open().path();
        let subject = hidden.join("x/zarr.json");
        let whole = fs::read(&subject).unwrap();
        for damaged in [&whole[..50], b"", b"no JSON", &[&whole[..], b" "].concat()] {
            fs::write(&subject, damaged).unwrap();
            assert_ne!(open().checksum("x").unwrap(), Some(noted[0].1));
            let error = open().publish(&noted, IfExists::Error).unwrap_err();
            assert!(matches!(error, Error::Incomplete { .. }), "{error}");
        }
        fs::remove_file(&subject).unwrap();
        fs::create_dir(&subject).unwrap();
        assert_eq!(open().checksum("x").unwrap(), None);
        fs::remove_dir(&subject).unwrap();
        fs::write(&subject, whole).unwrap();
        let document = hidden.join("zarr.json");
        for damage in [0, 1, 2] {
            fs::remove_file(&document).unwrap();
            match damage {
                0 => {}
                1 => fs::write(&document, b"{}").unwrap(),
                _ => fs::create_dir(&document).unwrap(),
            }
            assert!(StoreWriter::open(&hidden, Some(1)).is_err(), "{damage}");
            drop(UnpublishedSubjects::create(&store, "a").unwrap());
            assert_eq!(StoreWriter::open(&hidden, Some(1)).unwrap().path(), hidden);
        }
        fs::write(&document, b"{\"zarr_format\": 3}").unwrap();
        let error = open().publish(&noted, IfExists::Error).unwrap_err();
        assert!(matches!(error, Error::Metadata { .. }), "{error}");
        assert!(!store.join("zarr.json").exists() && !store.join("x").exists());
        UnpublishedSubjects::create(&store, "a").unwrap().publish(&noted, IfExists::Error).unwrap();
        assert_eq!(crate::open(&store).unwrap().subjects(), ["x", "y"]);
    }

    #[test]
    fn a_lost_document_of_unpublished_subjects_is_written_when_they_are_published() {
        let folder = tempfile::tempdir().unwrap();
        for is_moved in [false, true] {
            let store = folder.path().join(format!("{is_moved}.zarr"));
            let noted = with_subjects(&store, "a", &["x", "y"]);
            let unpublished = UnpublishedSubjects::open(&store, "a").unwrap().unwrap();
            fs::remove_file(unpublished.path().join("zarr.json")).unwrap();
            if is_moved {
                // As where a call was interrupted.
                for subject in ["x", "y"] {
                    fs::rename(unpublished.path().join(subject), store.join(subject)).unwrap();
                }
                fs::remove_dir_all(unpublished.path()).unwrap();
            }
            unpublished.publish(&noted, IfExists::Error).unwrap();
            unpublished.remove().unwrap();
            assert_eq!(crate::open(&store).unwrap().subjects(), ["x", "y"]);
        }
    }

    #[test]
    fn other_writers_leave_the_folder_alone_and_it_can_be_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.zarr");
        let noted = with_subjects(&store, "a", &["x"]);
        let other = StoreWriter::open(&store, Some(1)).unwrap();
        drop(other.subject("y").unwrap());
        assert_eq!(UnpublishedSubjects::names(&store).unwrap(), ["a"]);
        let (old, new) = (
            UnpublishedSubjects::open(&store, "a").unwrap().unwrap(),
            UnpublishedSubjects::create(&store, "b").unwrap(),
        );
        new.take_subject(&old, "x").unwrap();
        assert_eq!(
            (old.checksum("x").unwrap(), new.checksum("x").unwrap()),
            (None, Some(noted[0].1))
        );
        new.remove_subject("x").unwrap();
        new.remove_subject("x").unwrap();
        assert!(new.remove_subject("../a").is_err());
        fs::metadata(new.folder()).unwrap();
    }
}
