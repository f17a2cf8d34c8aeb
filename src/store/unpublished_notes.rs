//! Notes of those who write unpublished subjects, beside these.
//!
//! # Invariants
//! - A note appears whole.
//! - No link is followed, and nothing but a regular file is opened: the folder may have come with a
//!   store from anywhere.
//!
//! Not here: what notes say.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::Path;

use rustix::fs::RenameFlags;

use super::unpublished::UnpublishedSubjects;
use crate::sys::folder::refused;
use crate::{Error, Result};

/// Before the name of a note that is being written; no subject's name begins like it.
const STAGED: &str = ".new-";

/// Notes: small files in the folder, with names such as `done/case01`. They are removed with it.
///
/// ```
/// use voxquarry::UnpublishedSubjects;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("store.zarr");
/// let unpublished = UnpublishedSubjects::create(&path, "monday")?;
/// assert_eq!(unpublished.note("done/case01", 1 << 10)?, None);
/// unpublished.write_note("done/case01", b"by part 3")?;
/// assert_eq!(unpublished.note("done/case01", 1 << 10)?.unwrap(), b"by part 3");
/// let lock = unpublished.try_lock("part-3.lock")?.expect("nobody has it");
/// assert!(unpublished.try_lock("part-3.lock")?.is_none());
/// # drop(lock);
/// unpublished.remove_note("done/case01")?;
/// # Ok::<(), voxquarry::Error>(())
/// ```
impl UnpublishedSubjects {
    /// What a note of at most `most_bytes` says; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Data`] for a link, and for what is no regular file; [`Error::Io`], for a longer
    /// note too.
    pub fn note(&self, name: &str, most_bytes: u64) -> Result<Option<Vec<u8>>> {
        match self.folder.read_file(name, most_bytes) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(refused(self.folder.path().join(name), "cannot read")(e)),
        }
    }

    /// Whether there is a note of that name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has_note(&self, name: &str) -> Result<bool> {
        let path = self.folder.path().join(name);
        self.folder.has(name).map_err(Error::io(path, "cannot look at"))
    }

    /// The names of the notes that lie in no folder, in no order; other files are among them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn note_names(&self) -> Result<Vec<String>> {
        let listed = self.folder.entries();
        let entries = listed.map_err(refused(self.folder.path(), "cannot list"))?;
        Ok(entries.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect())
    }

    /// Writes a note, in place of one that is there. No two writers may write one note at a time.
    ///
    /// # Errors
    /// [`Error::Data`] for a link in place of a folder, [`Error::Io`].
    pub fn write_note(&self, name: &str, text: &[u8]) -> Result<()> {
        let note = self.folder.join(name);
        let folder = note.above();
        folder.create_all().map_err(refused(folder.path(), "cannot create"))?;
        let last = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        let new = format!("{STAGED}{last}");
        let staged = folder.join(&new);
        let created = folder.create_file(&new).map_err(refused(staged.path(), "cannot create"));
        let mut file = created?;
        let written = file.write_all(text).and_then(|()| file.sync_all());
        written.map_err(Error::io(note.path(), "cannot write"))?;
        let rename = || staged.rename(&note, RenameFlags::empty());
        let renamed = rename().or_else(|e| match e.kind() {
            // No writer made a folder there.
            ErrorKind::IsADirectory => folder.remove_tree(&*last).and_then(|()| rename()),
            _ => Err(e),
        });
        renamed.map_err(refused(note.path(), "cannot put in place"))
    }

    /// Removes a note, if it is there.
    ///
    /// # Errors
    /// [`Error::Data`] for a link in place of a folder, [`Error::Io`].
    pub fn remove_note(&self, name: &str) -> Result<()> {
        match self.folder.remove(name) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(refused(self.folder.path().join(name), "cannot remove")(e))
            }
            _ => Ok(()),
        }
    }

    /// Locks what `name` stands for until the file is dropped; `None` if another process has it.
    ///
    /// # Errors
    /// [`Error::Data`] for a link, and for what is no regular file; [`Error::Io`].
    pub fn try_lock(&self, name: &str) -> Result<Option<File>> {
        let path = self.folder.path().join(name);
        let file = self.folder.append_file(name).map_err(refused(&path, "cannot open"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::io(path, "cannot lock")(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Whatever lies where a note, a lock or their folder should be: nothing outside is opened,
    /// changed or removed, and nothing waits.
    #[test]
    fn no_note_is_read_written_or_removed_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("case"), b"precious").unwrap();
        let store = place.path().join("s.zarr");
        let unpublished = UnpublishedSubjects::create(&store, "a").unwrap();
        let folder = unpublished.folder().to_owned();
        let fifo = |path: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        symlink(&outside, folder.join("done")).unwrap();
        symlink(outside.join("case"), folder.join("a.lock")).unwrap();
        fifo(&folder.join("b.lock"));
        symlink(outside.join("case"), folder.join("of-2")).unwrap();
        fifo(&folder.join("plan.json"));
        for refused in [
            unpublished.note("done/case", 99).map(drop),
            unpublished.write_note("done/case", b"text"),
            unpublished.write_note("done/new", b"text"),
            unpublished.remove_note("done/case"),
            unpublished.note("of-2", 99).map(drop),
            unpublished.note("plan.json", 99).map(drop),
            unpublished.try_lock("a.lock").map(drop),
            unpublished.try_lock("b.lock").map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(error.to_string().contains("s.zarr/.voxquarry-partial"), "{error}");
        }
        // The link itself makes way, and so does a folder.
        unpublished.write_note("of-2", b"").unwrap();
        fs::create_dir_all(folder.join("dir/in")).unwrap();
        unpublished.write_note("dir", b"a note").unwrap();
        assert_eq!(unpublished.note("dir", 99).unwrap().unwrap(), b"a note");
        unpublished.remove_note("dir").unwrap();
        unpublished.write_note("plan.json", b"plan").unwrap();
        assert_eq!(unpublished.note("plan.json", 99).unwrap().unwrap(), b"plan");
        assert!(unpublished.note("plan.json", 3).is_err());
        assert_eq!(fs::read(outside.join("case")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        let mut names = unpublished.note_names().unwrap();
        names.sort();
        assert_eq!(names, ["a.lock", "b.lock", "done", "kept", "of-2", "plan.json"]);
    }
}
