//! Staging folders of unfinished work, and the renames that publish it.
//!
//! Each staging folder holds a locked file while its writer lives. A folder whose lock is free is
//! stale: its writer is dead, and the next writer removes it.
//!
//! # Invariants
//! - Work becomes visible by one rename of a complete, flushed folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, FlockOperation, RenameFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::format::PARTIAL_DIR;
use crate::sys::folder::{Folder, Links, refused};
use crate::sys::remote::refuse_url;
use crate::{Error, Result};

/// The lock of a writer; a folder whose lock is free is stale.
pub(super) const LOCK: &str = "lock";
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
    store: Folder,
    folder: Folder,
    lock: &'static str,
    is_resumable: bool,
    _lock: File,
}

impl StagingDir {
    /// Creates a new staging folder in the store, and removes those of dead writers.
    pub(super) fn create(store: &Path) -> Result<Self> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            match Self::begin(store) {
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

    fn begin(store: &Path) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (store, partial) = create_partial(store)?;
        remove_stale(&partial);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = partial.join(format!("{}-{number}", std::process::id()));
        folder.create().map_err(refused(folder.path(), "cannot create"))?;
        let lock = folder.path().join(LOCK);
        let file = folder.append_file(LOCK).map_err(refused(&lock, "cannot create"))?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        match locked {
            Ok(()) if folder.has(LOCK).map_err(Error::io(&lock, "cannot look at"))? => {
                Ok(Self { store, folder, lock: LOCK, is_resumable: false, _lock: file })
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
        let work = format!("{subject}/{volume}");
        Self::resume_named(store, &resumable_name(subject, volume), work, arguments)
    }

    /// As [`StagingDir::resume`], for a folder of that name; `work` says what for, in errors.
    pub(super) fn resume_named(
        store: &Path,
        name: &str,
        work: String,
        arguments: &str,
    ) -> Result<Self> {
        let (store, partial) = create_partial(store)?;
        let folder = partial.join(name);
        match folder.create() {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(refused(folder.path(), "cannot create")(e));
            }
            _ => refuse_links(&folder)?,
        }
        let staging = Self::lock_resumable(store, folder)?;
        let note = staging.folder.path().join(ARGUMENTS);
        match staging.folder.read_file(ARGUMENTS, ARGUMENTS_BYTES) {
            Ok(found) if found == arguments.as_bytes() => {}
            Ok(found) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                let requested = arguments.to_owned();
                return Err(Error::ResumeMismatch { volume: work, found, requested });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // The file appears complete, and before any other.
                let staged = staging.folder.join("arguments.new");
                let write = || {
                    // An interrupted removal may have left files behind.
                    remove_content(&staging.folder, RESUMABLE_LOCK);
                    let mut file = staging.folder.create_file("arguments.new")?;
                    file.write_all(arguments.as_bytes())?;
                    file.sync_all()?;
                    staged.rename(&staging.folder.join(ARGUMENTS), RenameFlags::empty())
                };
                write().map_err(refused(&note, "cannot write"))?;
            }
            Err(e) => return Err(refused(&note, "cannot read")(e)),
        }
        Ok(staging)
    }

    /// Removes the resumable folder of a volume, if there is one.
    ///
    /// # Errors
    /// [`Error::Busy`] if another writer holds the folder, [`Error::Io`].
    pub(super) fn discard_resumable(store: &Path, subject: &str, volume: &str) -> Result<()> {
        Self::discard_named(store, &resumable_name(subject, volume))
    }

    /// Removes the resumable folder of that name, if there is one.
    ///
    /// # Errors
    /// As [`StagingDir::discard_resumable`].
    pub(super) fn discard_named(store: &Path, name: &str) -> Result<()> {
        if let Some(mut staging) = Self::lock_named(store, name)? {
            staging.release();
        }
        Ok(())
    }

    /// Locks the resumable folder of that name, whatever its arguments; `None` if there is none.
    ///
    /// # Errors
    /// As [`StagingDir::discard_resumable`].
    pub(super) fn lock_named(store: &Path, name: &str) -> Result<Option<Self>> {
        let store = match Folder::open(store, Links::Refuse) {
            Ok(store) => store,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(store, "cannot open")(e)),
        };
        let folder = store.join(PARTIAL_DIR).join(name);
        if !folder.exists().map_err(Error::io(folder.path(), "cannot look at"))? {
            return Ok(None);
        }
        refuse_links(&folder)?;
        Self::lock_resumable(store, folder).map(Some)
    }

    /// The arguments that the work of a folder was begun with; `None` if it has just begun.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn arguments_in(folder: &Folder) -> Result<Option<Vec<u8>>> {
        match folder.read_file(ARGUMENTS, ARGUMENTS_BYTES) {
            Ok(arguments) => Ok(Some(arguments)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(refused(folder.path().join(ARGUMENTS), "cannot read")(e)),
        }
    }

    /// Makes a file with this content in the folder, flushed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn mark(&self, name: &str, content: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        let marked = self.folder.create_file(name).and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        });
        marked.map_err(refused(path, "cannot create"))?;
        sync_folder(&self.folder)
    }

    fn lock_resumable(store: Folder, folder: Folder) -> Result<Self> {
        let lock = folder.path().join(RESUMABLE_LOCK);
        let file = folder.append_file(RESUMABLE_LOCK).map_err(refused(&lock, "cannot create"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                Ok(Self { store, folder, lock: RESUMABLE_LOCK, is_resumable: true, _lock: file })
            }
            Err(Errno::WOULDBLOCK) => Err(Error::Busy { lock }),
            Err(e) => Err(Error::io(&lock, "cannot lock")(e.into())),
        }
    }

    /// Makes the folder one that is removed when dropped.
    pub(super) fn release(&mut self) {
        self.is_resumable = false;
    }

    /// The store that the work is for.
    pub(super) fn store(&self) -> &Folder {
        &self.store
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The folder that is published.
    pub(super) fn content(&self) -> Folder {
        self.folder.join(CONTENT)
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        if self.is_resumable {
            return;
        }
        remove_work(&self.folder, self.lock);
        let _ = self.store.remove(PARTIAL_DIR);
        // A store without any published subject leaves no empty folder either.
        let _ = fs::remove_dir(self.store.path());
    }
}

/// Creates the store's folder and in it that of unfinished work, as far as they are missing.
fn create_partial(store: &Path) -> Result<(Folder, Folder)> {
    fs::create_dir_all(store).map_err(Error::io(store, "cannot create"))?;
    let store = Folder::open(store, Links::Refuse).map_err(Error::io(store, "cannot open"))?;
    let partial = store.join(PARTIAL_DIR);
    partial.create_all().map_err(refused(partial.path(), "cannot create"))?;
    Ok((store, partial))
}

/// Refuses resumable work that holds a link: no writer made it.
fn refuse_links(folder: &Folder) -> Result<()> {
    for (name, kind) in folder.entries().map_err(refused(folder.path(), "cannot list"))? {
        match kind {
            FileType::Directory => refuse_links(&folder.join(name))?,
            FileType::RegularFile => {}
            _ => {
                let message = "unfinished work holds a link or a special file, which no writer \
                               made: remove it";
                return Err(Error::data(folder.path().join(name), message));
            }
        }
    }
    Ok(())
}

/// The name of the folder of a volume's resumable work.
///
/// Joined names may be too long for a file name, so their checksum stands for them; the recorded
/// arguments tell volumes of the same checksum apart.
pub(super) fn resumable_name(subject: &str, volume: &str) -> String {
    format!("kept-{:08x}", crc32c::crc32c(format!("{subject}/{volume}").as_bytes()))
}

/// Removes the folders of dead writers: those whose lock is free, and empty ones.
///
/// A writer whose folder is removed before it holds its lock creates another one.
fn remove_stale(partial: &Folder) {
    let Ok(entries) = partial.entries() else { return };
    // Links and files are left alone: no writer made them.
    for (name, _) in entries.into_iter().filter(|(_, kind)| *kind == FileType::Directory) {
        let folder = partial.join(&name);
        match folder.open_file(LOCK) {
            Ok((lock, _)) if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                remove_work(&folder, LOCK);
            }
            Ok(_) => {}
            // The system refuses unless the folder is empty.
            Err(_) => drop(partial.remove(&name)),
        }
    }
}

/// Removes a staging folder, its lock last. If the process is killed meanwhile, or something cannot
/// be removed, the lock stays: the rest is stale, and the next writer tries again.
pub(super) fn remove_work(folder: &Folder, lock: &str) {
    if remove_content(folder, lock) {
        let _ = folder.remove(lock);
        let _ = folder.remove_empty();
    }
}

/// Removes the content of a staging folder but for its lock, as far as it can be removed; whether
/// all of it was.
fn remove_content(folder: &Folder, lock: &str) -> bool {
    let Ok(entries) = folder.entries() else { return false };
    let content = entries.into_iter().map(|(name, _)| name).filter(|name| name != lock);
    let kept = content.filter(|name| folder.remove_tree(name).is_err());
    kept.count() == 0
}

/// Renames `content` to `target`, which must not exist.
pub(super) fn publish_new(content: &Folder, target: &Folder) -> Result<()> {
    let failed = refused(target.path(), "cannot publish");
    match content.rename(target, RenameFlags::NOREPLACE) {
        Ok(()) => sync_folder(&target.above()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let remedy = "replace it, or leave it as it is".to_owned();
            Err(Error::Exists { path: target.path().to_owned(), remedy })
        }
        // On file systems without RENAME_NOREPLACE a plain rename refuses a folder that is not
        // empty.
        Err(e) if lacks_flags(&e) => {
            content.rename(target, RenameFlags::empty()).map_err(failed)?;
            sync_folder(&target.above())
        }
        Err(e) => Err(failed(e)),
    }
}

/// Exchanges `content` and `target` in one step; the old folder is removed with the staging folder.
pub(super) fn publish_over(content: &Folder, target: &Folder) -> Result<()> {
    match content.rename(target, RenameFlags::EXCHANGE) {
        Ok(()) => sync_folder(&target.above()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => publish_new(content, target),
        Err(e) if lacks_flags(&e) => {
            let old = content.above().join("old");
            let set_aside = target.rename(&old, RenameFlags::empty());
            set_aside.map_err(refused(target.path(), "cannot set aside"))?;
            publish_new(content, target).inspect_err(|_| {
                let _ = old.rename(target, RenameFlags::empty());
            })
        }
        Err(e) => Err(refused(target.path(), "cannot replace")(e)),
    }
}

/// Whether the file system knows no flags of a rename.
fn lacks_flags(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP))
}

/// Flushes `folder` itself.
pub(super) fn sync_folder(folder: &Folder) -> Result<()> {
    folder.as_file().and_then(|f| f.sync_all()).map_err(refused(folder.path(), "cannot flush"))
}

/// Flushes `folder` and every folder below it; files were flushed when they were written.
pub(super) fn sync_tree(folder: &Folder) -> Result<()> {
    let entries = folder.entries().map_err(refused(folder.path(), "cannot list"))?;
    for (name, _) in entries.into_iter().filter(|(_, kind)| *kind == FileType::Directory) {
        sync_tree(&folder.join(name))?;
    }
    sync_folder(folder)
}

/// Stages a folder with `write`, and publishes it as `name` in the volume's folder, replacing one
/// that is there.
pub(super) fn publish_beside(
    volume: &Folder,
    name: &str,
    write: impl FnOnce(&Folder) -> Result<()>,
) -> Result<()> {
    refuse_url(volume.root_path())?;
    let staging = StagingDir::create(volume.root_path())?;
    let content = staging.content();
    write(&content)?;
    sync_tree(&content)?;
    // Not the reader's own folder, which may follow links.
    publish_over(&content, &staging.store.join(volume.below()).join(name))
}

/// Locks a folder of the store until the result is dropped; waits for other writers.
pub(super) fn lock_folder(folder: &Folder) -> Result<File> {
    for _ in 0..ATTEMPTS {
        let handle = folder.as_file().map_err(refused(folder.path(), "cannot open"))?;
        let locked = retry_on_intr(|| flock(&handle, FlockOperation::LockExclusive));
        locked.map_err(|e| Error::io(folder.path(), "cannot lock")(e.into()))?;
        let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        let held = identity(&handle).map_err(Error::io(folder.path(), "cannot look at"))?;
        // While this writer waited, another may have put a new folder in the place.
        match folder.as_file().and_then(|file| identity(&file)) {
            Ok(there) if there == held => return Ok(handle),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(refused(folder.path(), "cannot open")(e));
            }
            _ => {}
        }
    }
    Err(Error::Busy { lock: folder.path().to_owned() })
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
        assert!(staging.folder.exists().unwrap() && other.folder.exists().unwrap());
        drop((staging, other));
        assert!(!store.path().join(PARTIAL_DIR).exists());
    }

    #[test]
    fn what_cannot_be_removed_keeps_its_lock_for_the_next_writer() {
        let store = tempfile::tempdir().unwrap();
        let staging = StagingDir::create(store.path()).unwrap();
        let folder = staging.folder.path().to_owned();
        // Deeper than anything that is removed.
        let deep = vec!["a"; 100].join("/");
        fs::create_dir_all(folder.join(&deep)).unwrap();
        drop(staging);
        assert!(folder.join(LOCK).exists(), "without it nobody would take the folder for stale");
        fs::remove_dir_all(folder.join("a/a/a")).unwrap();
        drop(StagingDir::create(store.path()).unwrap());
        assert!(!store.path().exists());
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
        assert!(!unlocked.exists() && !half_removed.exists());
        assert!(staging.folder.exists().unwrap());
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
            let kept = store.path().join(PARTIAL_DIR).join(resumable_name("s", "v"));
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
                let folder = staging.content().join("c");
                folder.create_all().unwrap();
                folder.create_file("0").unwrap().write_all(b"voxels").unwrap();
                assert_eq!(folder.read_file("0", 9).unwrap(), b"voxels");
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
        let root = Folder::open(store.path(), Links::Refuse).unwrap();
        let make = |name: &str| {
            let folder = root.join(name);
            folder.create().unwrap();
            folder.create_file("who").unwrap().write_all(name.as_bytes()).unwrap();
            folder
        };
        let (a, b, target) = (make("a"), make("b"), root.join("target"));
        publish_new(&a, &target).unwrap();
        assert!(matches!(publish_new(&b, &target), Err(Error::Exists { .. })));
        publish_over(&b, &target).unwrap();
        assert_eq!(target.read_file("who", 9).unwrap(), b"b");
        assert_eq!(b.read_file("who", 9).unwrap(), b"a");
    }
}
