//! Staging folders of unfinished work, and the renames that publish it.
//!
//! Each staging folder holds a locked file while its writer lives. A folder whose lock is free is
//! stale: its writer is dead, and the next writer removes it.
//!
//! # Invariants
//! - Work becomes visible by one rename of a complete, flushed folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with};
use rustix::io::{Errno, retry_on_intr};

use crate::format::PARTIAL_DIR;
use crate::sys::file::{open_regular, read_bounded, refuse_link};
use crate::{Error, Result};

const LOCK: &str = "lock";
const CONTENT: &str = "content";
/// The lock of resumable work, which outlives its process: no writer takes it for stale.
const RESUMABLE_LOCK: &str = "kept";
const ARGUMENTS: &str = "arguments";
/// More than any arguments take.
const ARGUMENTS_BYTES: u64 = 16 << 20;
/// More than the machines that write into one store under the same process id.
const ATTEMPTS: u32 = 1000;

/// What to do if a subject or file exists already.
///
/// ```
/// use voxquarry::{IfExists, StoreWriter};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let store = StoreWriter::open(folder.path().join("store.zarr"), None)?;
/// store.subject("case01")?.publish([], IfExists::Error)?;
/// assert!(store.subject("case01")?.publish([], IfExists::Error).is_err());
/// store.subject("case01")?.publish([], IfExists::Replace)?;
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IfExists {
    /// Return [`Error::Exists`].
    #[default]
    Error,
    /// Leave it as it is and go on.
    Skip,
    /// Replace it once the new one is complete.
    Replace,
}

/// A folder below `.voxquarry-partial`, removed when dropped unless its work is resumable.
#[derive(Debug)]
pub(super) struct StagingDir {
    path: PathBuf,
    lock: &'static str,
    is_resumable: bool,
    _lock: File,
}

impl StagingDir {
    /// Creates a new staging folder in the store, and removes those of dead writers.
    pub(super) fn create(store: &Path) -> Result<Self> {
        let partial = store.join(PARTIAL_DIR);
        let mut attempts = 1..ATTEMPTS;
        loop {
            match Self::begin(&partial) {
                // Another writer removed the empty parent when it finished, or removed this folder
                // while it was empty; or a process with the same id on another machine has the
                // name.
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
        create_partial(partial)?;
        remove_stale(partial);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = partial.join(format!("{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(Error::io(&path, "cannot create"))?;
        let lock = path.join(LOCK);
        let file = open_lock(&lock)?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        match locked {
            Ok(()) if lock.exists() => {
                Ok(Self { path, lock: LOCK, is_resumable: false, _lock: file })
            }
            // Another writer took the lock first: to it the folder is stale.
            Ok(()) | Err(Errno::WOULDBLOCK) => {
                Err(Error::io(&lock, "cannot lock")(io::ErrorKind::NotFound.into()))
            }
            Err(e) => Err(Error::io(&lock, "cannot lock")(e.into())),
        }
    }

    /// Creates, or opens again, the resumable folder of one volume.
    ///
    /// # Errors
    /// [`Error::ResumeMismatch`] if the work was begun with other arguments, [`Error::Busy`] if
    /// another writer holds the folder, [`Error::Io`].
    pub(super) fn resume(
        store: &Path,
        subject: &str,
        volume: &str,
        arguments: &str,
    ) -> Result<Self> {
        let path = resumable_path(store, subject, volume);
        create_partial(&store.join(PARTIAL_DIR))?;
        match fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io(&path, "cannot create")(e));
            }
            _ => refuse_links(&path)?,
        }
        let staging = Self::lock_resumable(path)?;
        let note = staging.path.join(ARGUMENTS);
        match read_bounded(&note, ARGUMENTS_BYTES) {
            Ok(found) if found == arguments.as_bytes() => {}
            Ok(found) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                let volume = format!("{subject}/{volume}");
                let requested = arguments.to_owned();
                return Err(Error::ResumeMismatch { volume, found, requested });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // The file appears complete, and before any other.
                let staged = staging.path.join("arguments.new");
                let write = || {
                    // An interrupted removal may have left files behind.
                    remove(&staging.path, RESUMABLE_LOCK, EmptyFolder::Keep);
                    let mut file = File::create(&staged)?;
                    file.write_all(arguments.as_bytes())?;
                    file.sync_all()?;
                    fs::rename(&staged, &note)
                };
                write().map_err(Error::io(&note, "cannot write"))?;
            }
            Err(e) => return Err(Error::io(&note, "cannot read")(e)),
        }
        Ok(staging)
    }

    /// Removes the resumable folder of a volume, if there is one.
    ///
    /// # Errors
    /// [`Error::Busy`] if another writer holds the folder, [`Error::Io`].
    pub(super) fn discard_resumable(store: &Path, subject: &str, volume: &str) -> Result<()> {
        let path = resumable_path(store, subject, volume);
        if path.symlink_metadata().is_ok() {
            refuse_link(&store.join(PARTIAL_DIR))?;
            refuse_links(&path)?;
            Self::lock_resumable(path)?.release();
        }
        Ok(())
    }

    fn lock_resumable(path: PathBuf) -> Result<Self> {
        let lock = path.join(RESUMABLE_LOCK);
        let file = open_lock(&lock)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, lock: RESUMABLE_LOCK, is_resumable: true, _lock: file }),
            Err(Errno::WOULDBLOCK) => Err(Error::Busy { lock }),
            Err(e) => Err(Error::io(&lock, "cannot lock")(e.into())),
        }
    }

    /// Makes the folder one that is removed when dropped.
    pub(super) fn release(&mut self) {
        self.is_resumable = false;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that is published.
    pub(super) fn content(&self) -> PathBuf {
        self.path.join(CONTENT)
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        if self.is_resumable {
            return;
        }
        remove(&self.path, self.lock, EmptyFolder::Remove);
        if let Some(partial) = self.path.parent() {
            let _ = fs::remove_dir(partial);
            // A store without any published subject leaves no empty folder either.
            let _ = partial.parent().map(fs::remove_dir);
        }
    }
}

/// Creates the folder of unfinished work.
fn create_partial(partial: &Path) -> Result<()> {
    fs::create_dir_all(partial).map_err(Error::io(partial, "cannot create"))?;
    refuse_link(partial)
}

/// Opens a lock file for writing, or creates it; never through a link, and never cut.
fn open_lock(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    let file = options.open(path).map_err(Error::io(path, "cannot create"))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(file);
    }
    Err(Error::data(path, "it is no regular file: remove it"))
}

/// Refuses resumable work that holds a link: it may lead out of the store.
fn refuse_links(folder: &Path) -> Result<()> {
    refuse_link(folder)?;
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let entry = entry.map_err(Error::io(folder, "cannot list"))?;
        let kind = entry.file_type().map_err(Error::io(entry.path(), "cannot read the type of"))?;
        if kind.is_dir() {
            refuse_links(&entry.path())?;
        } else if !kind.is_file() {
            let message = "unfinished work holds a link or a special file, which no writer made: \
                           remove it";
            return Err(Error::data(entry.path(), message));
        }
    }
    Ok(())
}

/// The folder of a volume's resumable work.
///
/// Joined names may be too long for a file name, so their checksum stands for them; the recorded
/// arguments tell volumes of the same checksum apart.
fn resumable_path(store: &Path, subject: &str, volume: &str) -> PathBuf {
    let sum = crc32c::crc32c(format!("{subject}/{volume}").as_bytes());
    store.join(PARTIAL_DIR).join(format!("kept-{sum:08x}"))
}

/// Removes the folders of dead writers: those whose lock is free, and empty ones.
///
/// A writer whose folder is removed before it holds its lock creates another one.
fn remove_stale(partial: &Path) {
    let Ok(entries) = fs::read_dir(partial) else { return };
    // Links and files are left alone: no writer made them.
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    for folder in folders.map(|entry| entry.path()) {
        match open_regular(&folder.join(LOCK)) {
            Ok(lock) if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                remove(&folder, LOCK, EmptyFolder::Remove);
            }
            Ok(_) => {}
            // The system refuses unless the folder is empty.
            Err(_) => drop(fs::remove_dir(&folder)),
        }
    }
}

/// What [`remove`] does with a folder that holds nothing but its lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyFolder {
    Remove,
    Keep,
}

/// Removes the content of a staging folder, and the folder itself with its lock last. If the
/// process is killed meanwhile, the rest is stale and the next writer removes it.
fn remove(folder: &Path, lock: &str, empty_folder: EmptyFolder) {
    // Failures are ignored: the next writer tries again.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name() != lock) {
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        let removed = if is_folder { fs::remove_dir_all } else { fs::remove_file };
        let _ = removed(&entry.path());
    }
    if empty_folder == EmptyFolder::Remove {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Renames `content` to `target`, which must not exist.
pub(super) fn publish_new(content: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, content, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => sync_parent(target),
        Err(Errno::EXIST) => {
            let remedy = "replace it, or leave it as it is".to_owned();
            Err(Error::Exists { path: target.to_owned(), remedy })
        }
        // On file systems without RENAME_NOREPLACE a plain rename refuses a folder that is not
        // empty.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::rename(content, target).map_err(Error::io(target, "cannot publish"))?;
            sync_parent(target)
        }
        Err(e) => Err(Error::io(target, "cannot publish")(e.into())),
    }
}

/// Exchanges `content` and `target` in one step; the old folder is removed with the staging folder.
pub(super) fn publish_over(content: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, content, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => sync_parent(target),
        Err(Errno::NOENT) => publish_new(content, target),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
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

/// Flushes `folder` itself.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder, "cannot flush"))
}

/// Flushes `folder` and every folder below it; files were flushed when they were written.
pub(super) fn sync_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let entry = entry.map_err(Error::io(folder, "cannot list"))?;
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            sync_tree(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// Stages a folder with `write`, and publishes it as `name` in the volume's folder, replacing one
/// that is there.
pub(super) fn publish_beside(
    volume: &Path,
    name: &str,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let store = volume.parent().and_then(Path::parent).expect("a volume lies in a subject");
    let staging = StagingDir::create(store)?;
    let content = staging.content();
    write(&content)?;
    sync_tree(&content)?;
    publish_over(&content, &volume.join(name))
}

/// Locks a folder of the store until the result is dropped; waits for other writers.
pub(super) fn lock_folder(folder: &Path) -> Result<File> {
    let handle = File::open(folder).map_err(Error::io(folder, "cannot open"))?;
    let locked = retry_on_intr(|| flock(&handle, FlockOperation::LockExclusive));
    locked.map_err(|e| Error::io(folder, "cannot lock")(e.into()))?;
    Ok(handle)
}

/// The absolute form of `path`, which stays valid if the process changes its folder: most of a
/// store is opened at first use.
pub(super) fn absolute(path: &Path) -> PathBuf {
    // An empty path, or one in a folder that is gone, names nothing: opening it reports that.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn stale_folders_are_removed_and_live_ones_stay() {
        let store = tempfile::tempdir().unwrap();
        let staging = StagingDir::create(store.path()).unwrap();
        let stale = store.path().join(PARTIAL_DIR).join("1-0");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join(LOCK), b"").unwrap();
        let other = StagingDir::create(store.path()).unwrap();
        assert!(!stale.exists());
        assert!(staging.path().exists() && other.path().exists());
        drop((staging, other));
        assert!(!store.path().join(PARTIAL_DIR).exists());
    }

    #[test]
    fn a_writer_killed_before_its_lock_or_amid_its_removal_leaves_a_stale_folder() {
        let store = tempfile::tempdir().unwrap();
        let partial = store.path().join(PARTIAL_DIR);
        let [unlocked, half_removed] = ["1-0", "1-1"].map(|name| partial.join(name));
        fs::create_dir_all(&unlocked).unwrap();
        fs::create_dir_all(&half_removed).unwrap();
        fs::write(half_removed.join(LOCK), b"").unwrap();
        let staging = StagingDir::create(store.path()).unwrap();
        assert!(!unlocked.exists() && !half_removed.exists() && staging.path().exists());
    }

    /// Somebody's folder outside of the store, which nothing may touch.
    fn precious() -> (tempfile::TempDir, impl Fn(&str)) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lock", "kept", "arguments", "journal", "thesis"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let path = folder.path().to_owned();
        let is_untouched = move |context: &str| {
            let mut names: Vec<_> =
                fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["arguments", "journal", "kept", "lock", "thesis"], "{context}");
            for name in &names {
                assert_eq!(
                    fs::read(path.join(name)).unwrap(),
                    name.as_encoded_bytes(),
                    "{context}"
                );
            }
        };
        (folder, is_untouched)
    }

    #[test]
    fn links_lead_no_writer_out_of_the_store() {
        let (outside, is_untouched) = precious();
        for link in ["", "9-9", "9-9/lock", "9-9/content"] {
            let store = tempfile::tempdir().unwrap();
            let path = store.path().join(PARTIAL_DIR).join(link);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let target = if link.ends_with("lock") {
                outside.path().join("lock")
            } else {
                outside.path().into()
            };
            symlink(target, path.to_str().unwrap().trim_end_matches('/')).unwrap();
            let created = StagingDir::create(store.path());
            assert_eq!(created.is_err(), link.is_empty(), "{link:?}");
            drop(created);
            is_untouched(link);
        }
    }

    #[test]
    fn links_lead_no_resumed_work_out_of_the_store() {
        let (outside, is_untouched) = precious();
        for link in ["", "kept", "arguments", "journal", "content", "content/v/0/c"] {
            let store = tempfile::tempdir().unwrap();
            let kept = resumable_path(store.path(), "s", "v");
            let path = kept.join(link);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let target = outside.path().join(if link == "content" { "" } else { link });
            let target = if target.exists() { target } else { outside.path().to_owned() };
            symlink(target, path.to_str().unwrap().trim_end_matches('/')).unwrap();
            assert!(StagingDir::resume(store.path(), "s", "v", "a").is_err(), "{link:?}");
            is_untouched(link);
            assert!(StagingDir::discard_resumable(store.path(), "s", "v").is_err(), "{link:?}");
            is_untouched(link);
        }
    }

    #[test]
    fn writers_that_begin_and_end_together_never_lose_their_folder() {
        let store = tempfile::tempdir().unwrap();
        let work = || {
            for _ in 0..100 {
                let staging = StagingDir::create(store.path()).unwrap();
                fs::create_dir_all(staging.content().join("c")).unwrap();
                fs::write(staging.content().join("c/0"), b"voxels").unwrap();
                assert_eq!(fs::read(staging.content().join("c/0")).unwrap(), b"voxels");
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
