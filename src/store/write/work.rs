//! Folders of unfinished work: locked while somebody works there, litter afterwards; and renames that publish.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::Existing;
use crate::format::PARTIAL_DIR;
use crate::{Error, Result};

const LOCK: &str = "lock";
const CONTENT: &str = "content";
/// The lock of work that outlives its process: no other writer takes it for litter.
const KEPT_LOCK: &str = "kept";
const ARGUMENTS: &str = "arguments";
/// More than there are machines that write into one store under the same process number.
const ATTEMPTS: u32 = 1000;

/// A folder below `.voxquarry-partial`, removed when dropped unless its work is kept.
#[derive(Debug)]
pub(super) struct WorkFolder {
    path: PathBuf,
    lock: &'static str,
    kept: bool,
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
            Ok(()) if lock.exists() => Ok(Self { path, lock: LOCK, kept: false, _lock: file }),
            // A sibling took the lock before us: to it the folder is litter.
            Ok(()) | Err(Errno::WOULDBLOCK) => {
                Err(Error::io(&lock, "cannot lock")(io::ErrorKind::NotFound.into()))
            }
            Err(e) => Err(Error::io(&lock, "cannot lock")(e.into())),
        }
    }

    /// Makes, or takes up again, the kept folder of one volume, if it was begun with the same arguments.
    ///
    /// # Errors
    /// [`Error::Usage`] if another is at it, or the arguments differ; [`Error::Io`].
    pub(super) fn keep(store: &Path, subject: &str, volume: &str, arguments: &str) -> Result<Self> {
        let path = kept_path(store, subject, volume);
        fs::create_dir_all(&path).map_err(Error::io(&path, "cannot create"))?;
        let work = Self::lock_kept(path)?;
        let note = work.path.join(ARGUMENTS);
        match fs::read_to_string(&note) {
            Ok(found) if found == arguments => {}
            Ok(found) => {
                return Err(Error::usage(format!(
                    "{subject}/{volume} was begun with other arguments ({found}; now {arguments}): repeat those to \
                     continue it, or begin afresh (resume=False)"
                )));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Appears whole, before any other file does.
                let staged = work.path.join("arguments.new");
                let write = || {
                    // What a removal that was cut off left behind.
                    remove(&work.path, KEPT_LOCK, Folder::Stays);
                    let mut file = File::create(&staged)?;
                    file.write_all(arguments.as_bytes())?;
                    file.sync_all()?;
                    fs::rename(&staged, &note)
                };
                write().map_err(Error::io(&note, "cannot write"))?;
            }
            Err(e) => return Err(Error::io(&note, "cannot read")(e)),
        }
        Ok(work)
    }

    /// Removes the kept folder of a volume, if there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] if another is at it; [`Error::Io`].
    pub(super) fn discard_kept(store: &Path, subject: &str, volume: &str) -> Result<()> {
        let path = kept_path(store, subject, volume);
        if path.is_dir() {
            let mut work = Self::lock_kept(path)?;
            work.let_go();
        }
        Ok(())
    }

    fn lock_kept(path: PathBuf) -> Result<Self> {
        let lock = path.join(KEPT_LOCK);
        let file = File::create(&lock).map_err(Error::io(&lock, "cannot create"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, lock: KEPT_LOCK, kept: true, _lock: file }),
            Err(Errno::WOULDBLOCK) => Err(Error::usage(format!(
                "another process, or an unfinished aggregator of this one, is writing this volume (it holds {}): wait for \
                 it, close() the aggregator (in Rust drop it), or choose another name",
                lock.display()
            ))),
            Err(e) => Err(Error::io(&lock, "cannot lock")(e.into())),
        }
    }

    /// From now on the folder goes when it is dropped.
    pub(super) fn let_go(&mut self) {
        self.kept = false;
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
        if self.kept {
            return;
        }
        remove(&self.path, self.lock, Folder::Goes);
        if let Some(partial) = self.path.parent() {
            let _ = fs::remove_dir(partial);
            // A store that nothing was published in leaves no empty folder either.
            let _ = partial.parent().map(fs::remove_dir);
        }
    }
}

/// Where kept work of a volume lies: names may be too long to be joined, so their checksum stands for them; the arguments
/// tell volumes of the same checksum apart.
fn kept_path(store: &Path, subject: &str, volume: &str) -> PathBuf {
    let sum = crc32c::crc32c(format!("{subject}/{volume}").as_bytes());
    store.join(PARTIAL_DIR).join(format!("kept-{sum:08x}"))
}

/// Removes folders whose writer is gone: their lock is free, or they are empty.
///
/// A writer whose folder is taken before it has a lock in it makes another one.
fn remove_litter(partial: &Path) {
    let Ok(entries) = fs::read_dir(partial) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        match File::open(folder.join(LOCK)) {
            Ok(lock) if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                remove(&folder, LOCK, Folder::Goes);
            }
            Ok(_) => {}
            // Refused by the system unless it is empty.
            Err(_) => drop(fs::remove_dir(&folder)),
        }
    }
}

/// What becomes of a folder once it is empty but for its lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folder {
    Goes,
    Stays,
}

/// Removes what a work folder holds, and the folder, its lock last: whenever we are killed, what stays is litter that the
/// next writer removes.
fn remove(folder: &Path, lock: &str, after: Folder) {
    // Best effort, for the same reason.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name() != lock) {
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        let removed = if is_folder { fs::remove_dir_all } else { fs::remove_file };
        let _ = removed(&entry.path());
    }
    if after == Folder::Goes {
        let _ = fs::remove_dir_all(folder);
    }
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
