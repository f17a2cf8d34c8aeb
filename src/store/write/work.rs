//! Folders of unfinished work: locked while somebody works there, litter afterwards; and renames that publish.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use crate::format::PARTIAL_DIR;
use crate::{Error, Result};

const LOCK: &str = "lock";
const CONTENT: &str = "content";

/// A folder below `.voxquarry-partial`, removed when dropped.
#[derive(Debug)]
pub(super) struct WorkFolder {
    path: PathBuf,
    _lock: File,
}

impl WorkFolder {
    /// Makes a folder of our own in the store, and removes what dead writers left.
    pub(super) fn create(store: &Path) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let partial = store.join(PARTIAL_DIR);
        fs::create_dir_all(&partial).map_err(Error::io(&partial, "cannot create"))?;
        remove_litter(&partial);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = partial.join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {}
                // A process of the same number on another machine, or before.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                // A sibling that finished just now took the parent with it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(&partial).map_err(Error::io(&partial, "cannot create"))?;
                    continue;
                }
                Err(e) => return Err(Error::io(&path, "cannot create")(e)),
            }
            let lock = path.join(LOCK);
            let file = File::create(&lock).map_err(Error::io(&lock, "cannot create"))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && lock.exists() {
                return Ok(Self { path, _lock: file });
            }
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
        // Best effort: what stays is litter that the next writer removes.
        let _ = fs::remove_dir_all(&self.path);
        if let Some(partial) = self.path.parent() {
            let _ = fs::remove_dir(partial);
            // A store that nothing was published in leaves no empty folder either.
            let _ = partial.parent().map(fs::remove_dir);
        }
    }
}

/// Removes folders whose writer is gone: their lock is free.
fn remove_litter(partial: &Path) {
    let Ok(entries) = fs::read_dir(partial) else { return };
    for entry in entries.flatten() {
        let Ok(file) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Renames `content` to `target`, which must not exist.
pub(super) fn publish_new(content: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, content, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => sync_parent(target),
        Err(rustix::io::Errno::EXIST) => {
            let remedy = "--overwrite replaces it, --skip-existing leaves it".to_owned();
            Err(Error::Exists { path: target.to_owned(), remedy })
        }
        // File systems without RENAME_NOREPLACE: a plain rename refuses a folder that is not empty.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
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
        Err(rustix::io::Errno::NOENT) => publish_new(content, target),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
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
