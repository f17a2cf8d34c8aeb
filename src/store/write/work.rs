//! Folders of unfinished work: locked while somebody works there, litter afterwards; and renames that publish.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::Existing;
use crate::format::PARTIAL_DIR;
use crate::{Error, Result};

const LOCK: &str = "lock";
const CONTENT: &str = "content";
/// More than there are machines that write into one store under the same process number.
const ATTEMPTS: u32 = 1000;

/// A folder below `.voxquarry-partial`, removed when dropped.
#[derive(Debug)]
pub(super) struct WorkFolder {
    path: PathBuf,
    _lock: File,
}

impl WorkFolder {
    /// Makes a folder of our own in the store, and removes what dead writers left.
    pub(super) fn create(store: &Path) -> Result<Self> {
        let partial = store.join(PARTIAL_DIR);
        let mut attempts = 1..ATTEMPTS;
        loop {
            match Self::begin(&partial) {
                // A sibling that finished took an empty parent with it, or took ours, empty yet, for litter; or the name
                // is that of a process of the same number on another machine.
                Err(Error::Io { source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                    ) && attempts.next().is_some() => {}
                begun => return begun,
            }
        }
    }

    fn begin(partial: &Path) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(partial).map_err(Error::io(partial, "cannot create"))?;
        remove_litter(partial);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = partial.join(format!("{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(Error::io(&path, "cannot create"))?;
        let lock = path.join(LOCK);
        let file = File::create(&lock).map_err(Error::io(&lock, "cannot create"))?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        match locked {
            Ok(()) if lock.exists() => Ok(Self { path, _lock: file }),
            // A sibling took the lock before us: to it the folder is litter.
            Ok(()) | Err(Errno::WOULDBLOCK) => {
                Err(Error::io(&lock, "cannot lock")(io::ErrorKind::NotFound.into()))
            }
            Err(e) => Err(Error::io(&lock, "cannot lock")(e.into())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the subject grows.
    pub(super) fn content(&self) -> PathBuf {
        self.path.join(CONTENT)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        remove(&self.path);
        if let Some(partial) = self.path.parent() {
            let _ = fs::remove_dir(partial);
            // A store that nothing was published in leaves no empty folder either.
            let _ = partial.parent().map(fs::remove_dir);
        }
    }
}

/// Removes folders whose writer is gone: their lock is free, or they are empty.
///
/// A writer whose folder is taken before it has a lock in it makes another one.
fn remove_litter(partial: &Path) {
    let Ok(entries) = fs::read_dir(partial) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        match File::open(folder.join(LOCK)) {
            Ok(lock) if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                remove(&folder);
            }
            Ok(_) => {}
            // Refused by the system unless it is empty.
            Err(_) => drop(fs::remove_dir(&folder)),
        }
    }
}

/// Removes a work folder, its lock last: whenever we are killed, what stays is litter that the next writer removes.
fn remove(folder: &Path) {
    // Best effort, for the same reason.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name() != LOCK) {
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        let removed = if is_folder { fs::remove_dir_all } else { fs::remove_file };
        let _ = removed(&entry.path());
    }
    let _ = fs::remove_dir_all(folder);
}

/// Renames `content` to `target`, which must not exist.
pub(super) fn publish_new(content: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, content, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => sync_parent(target),
        Err(Errno::EXIST) => {
            let (path, remedy) = (target.to_owned(), Existing::REMEDY.to_owned());
            Err(Error::Exists { path, remedy })
        }
        // File systems without RENAME_NOREPLACE: a plain rename refuses a folder that is not empty.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::rename(content, target).map_err(Error::io(target, "cannot publish"))?;
            sync_parent(target)
        }
        Err(e) => Err(Error::io(target, "cannot publish")(e.into())),
    }
}

/// Puts `content` in the place of `target` in one step; the old one ends up in the work folder and goes with it.
pub(super) fn publish_over(content: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, content, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => sync_parent(target),
        Err(Errno::NOENT) => publish_new(content, target),
        Err(Errno::INVAL | Errno::NOSYS) => {
            let old = content.with_extension("old");
            fs::rename(target, &old).map_err(Error::io(target, "cannot set aside"))?;
            publish_new(content, target).inspect_err(|_| {
                let _ = fs::rename(&old, target);
            })
        }
        Err(e) => Err(Error::io(target, "cannot replace")(e.into())),
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder, "cannot flush"))
}

/// Flushes every folder below `folder`, and it; files were flushed when they were written.
pub(super) fn sync_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let entry = entry.map_err(Error::io(folder, "cannot list"))?;
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            sync_tree(&entry.path())?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litter_goes_and_work_stays() {
        let store = tempfile::tempdir().unwrap();
        let work = WorkFolder::create(store.path()).unwrap();
        let litter = store.path().join(PARTIAL_DIR).join("1-0");
        fs::create_dir(&litter).unwrap();
        fs::write(litter.join(LOCK), b"").unwrap();
        let other = WorkFolder::create(store.path()).unwrap();
        assert!(!litter.exists());
        assert!(work.path().exists() && other.path().exists());
        drop((work, other));
        assert!(!store.path().join(PARTIAL_DIR).exists());
    }

    #[test]
    fn a_writer_killed_before_its_lock_or_amid_its_removal_leaves_litter() {
        let store = tempfile::tempdir().unwrap();
        let partial = store.path().join(PARTIAL_DIR);
        let [unlocked, half_removed] = ["1-0", "1-1"].map(|name| partial.join(name));
        fs::create_dir_all(&unlocked).unwrap();
        fs::create_dir_all(&half_removed).unwrap();
        fs::write(half_removed.join(LOCK), b"").unwrap();
        let work = WorkFolder::create(store.path()).unwrap();
        assert!(!unlocked.exists() && !half_removed.exists() && work.path().exists());
    }

    #[test]
    fn writers_that_begin_and_end_together_never_lose_their_folder() {
        let store = tempfile::tempdir().unwrap();
        let work = || {
            for _ in 0..100 {
                let work = WorkFolder::create(store.path()).unwrap();
                fs::create_dir_all(work.content().join("c")).unwrap();
                fs::write(work.content().join("c/0"), b"voxels").unwrap();
                assert_eq!(fs::read(work.content().join("c/0")).unwrap(), b"voxels");
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });
        assert!(!store.path().join(PARTIAL_DIR).exists());
    }

    #[test]
    fn publishing_replaces_only_when_asked() {
        let store = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = store.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("who"), name).unwrap();
            path
        };
        let (a, b, target) = (make("a"), make("b"), store.path().join("target"));
        publish_new(&a, &target).unwrap();
        assert!(matches!(publish_new(&b, &target), Err(Error::Exists { .. })));
        publish_over(&b, &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("who")).unwrap(), "b");
        assert_eq!(fs::read_to_string(b.join("who")).unwrap(), "a");
    }
}
