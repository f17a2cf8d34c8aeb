//! A file that appears under its name when it is whole: it is written under a temporary name beside
//! it, flushed, and renamed.
//!
//! # Invariants
//! - A dropped file leaves nothing; what a killed process left is removed by the next writer of the
//!   same file.
//! - What was there stays until the rename.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use voxquarry::{Error, IfExists, Result};

/// Temporary names to try before giving up.
const MAX_NAMES: u32 = 1000;

/// A file under a temporary name, which is removed on drop.
///
/// ```
/// use std::io::Write;
/// use voxquarry::IfExists;
/// use voxquarry_ingest::StagedFile;
///
/// let folder = tempfile::tempdir().unwrap();
/// let target = folder.path().join("a.png");
/// let (staged, mut file) = StagedFile::new(&target, IfExists::Error)?;
/// file.write_all(b"pixels").unwrap();
/// assert!(!target.exists());
/// staged.publish(&file)?;
/// assert_eq!(std::fs::read(&target).unwrap(), b"pixels");
/// assert!(StagedFile::new(&target, IfExists::Error).is_err());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct StagedFile {
    temporary: PathBuf,
    target: PathBuf,
    if_exists: IfExists,
    /// Holds a lock as long as the writer lives.
    _lock: File,
}

/// An old file that was set aside, which is put back on drop.
#[derive(Debug)]
struct OldFile {
    /// None: there was no old file, or it is not wanted any more.
    aside: Option<PathBuf>,
    target: PathBuf,
    /// Keeps other writers from taking it for the work of a killed process.
    _lock: Option<File>,
}

impl StagedFile {
    /// Creates a file beside `target`, and removes those that killed writers of the same target
    /// left. The second part of the result is to be written to.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a `target` that `if_exists` does not replace, [`Error::Io`].
    pub fn new(target: &Path, if_exists: IfExists) -> Result<(Self, File)> {
        check_absent(target, if_exists)?;
        remove_stale_files(target);
        for temporary in temporary_names(target) {
            let file = match File::create_new(&temporary) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io(&temporary, "cannot create")(e)),
            };
            match file.try_lock() {
                // Another writer removed it as stale before it was locked.
                Err(TryLockError::WouldBlock) => continue,
                Ok(()) if is_absent(&temporary)? => continue,
                // A file system without locks, where no file counts as stale.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            let lock = file.try_clone().map_err(|e| {
                let _ = fs::remove_file(&temporary);
                Error::io(&temporary, "cannot open twice")(e)
            })?;
            let target = target.to_owned();
            return Ok((Self { temporary, target, if_exists, _lock: lock }, file));
        }
        Err(no_name_left(target))
    }

    /// Flushes `file`, which was written, and gives it its name.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name was taken meanwhile, [`Error::Io`].
    pub fn publish(self, file: &File) -> Result<()> {
        file.sync_all().map_err(Error::io(&self.target, "cannot flush"))?;
        self.check_absent()?;
        // Opened before the rename: a file that has its name is no failure.
        let folder = folder_of(&self.target);
        let handle = File::open(folder).map_err(Error::io(folder, "cannot open"))?;
        self.rename()?;
        handle.sync_all().map_err(Error::io(folder, "cannot flush"))
    }

    /// Refuses a name that was taken meanwhile.
    pub(crate) fn check_absent(&self) -> Result<()> {
        check_absent(&self.target, self.if_exists)
    }

    /// Gives the file its name; it was flushed.
    pub(crate) fn rename(&self) -> Result<()> {
        fs::rename(&self.temporary, &self.target)
            .map_err(Error::io(&self.target, "cannot put in place"))
    }

    /// Gives the file its name, and then `last` its own; if that fails and there was no file of
    /// this name before, it is removed again.
    pub(crate) fn rename_before(&self, last: &Self) -> Result<()> {
        let is_new = is_absent(&self.target)?;
        let old = last.set_old_aside()?;
        self.rename()?;
        old.give_up();
        last.rename().inspect_err(|_| {
            if is_new {
                let _ = fs::remove_file(&self.target);
            }
        })
    }

    /// Gives an old file of that name another one, until the result is dropped.
    fn set_old_aside(&self) -> Result<OldFile> {
        let target = self.target.clone();
        let kind = match target.symlink_metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(OldFile { aside: None, target, _lock: None });
            }
            Err(e) => return Err(Error::io(&target, "cannot read the type of")(e)),
        };
        if kind.is_dir() {
            return Err(Error::io(&target, "cannot replace")(io::ErrorKind::IsADirectory.into()));
        }
        // A file that may be replaced and not read is set aside without a lock.
        let opened = if kind.is_file() { File::open(&target).ok() } else { None };
        let lock = opened.filter(|file| file.try_lock().is_ok());
        let mut names = temporary_names(&target);
        let aside = loop {
            let name = names.next().ok_or_else(|| no_name_left(&target))?;
            if is_absent(&name)? {
                break name;
            }
        };
        fs::rename(&target, &aside).map_err(Error::io(&target, "cannot set aside"))?;
        let old = OldFile { aside: Some(aside), target, _lock: lock };
        flush_folder(&old.target)?;
        Ok(old)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Gone already if it got its name. Best effort: a file that stays is hidden and named
        // "partial".
        let _ = fs::remove_file(&self.temporary);
    }
}

impl OldFile {
    /// Removes the old file.
    fn give_up(mut self) {
        // Best effort: the next writer of the same file removes it.
        let _ = self.aside.take().map(fs::remove_file);
    }
}

impl Drop for OldFile {
    fn drop(&mut self) {
        let _ = self.aside.take().map(|aside| fs::rename(aside, &self.target));
    }
}

/// Flushes the folder of `path`, so that a rename in it outlives a power cut.
pub(crate) fn flush_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder, "cannot flush"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_prefix(target: &Path) -> String {
    format!(".{}.partial-", target.file_name().unwrap_or_default().to_string_lossy())
}

fn temporary_names(target: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let (prefix, process) = (temporary_prefix(target), std::process::id());
    let target = target.to_owned();
    (0..MAX_NAMES).map(move |n| target.with_file_name(format!("{prefix}{process}-{n}")))
}

fn no_name_left(target: &Path) -> Error {
    let remedy = "remove temporary files of earlier runs (.*.partial-*) beside it".to_owned();
    Error::Exists { path: target.to_owned(), remedy }
}

/// Removes files beside `target` that have temporary names of it and are not locked.
fn remove_stale_files(target: &Path) {
    let prefix = temporary_prefix(target);
    let is_ours = |name: &str| {
        let numbers = name.strip_prefix(&prefix).and_then(|rest| rest.split_once('-'));
        numbers.is_some_and(|(process, n)| [process, n].iter().all(|n| n.parse::<u32>().is_ok()))
    };
    // Best effort: files that cannot be listed or removed do no harm.
    for entry in fs::read_dir(folder_of(target)).into_iter().flatten().flatten() {
        let path = entry.path();
        // Opening a FIFO would wait for a writer.
        if entry.file_name().to_str().is_some_and(is_ours)
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && File::open(&path).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether there is nothing at `path`; not being allowed to look is an error.
fn is_absent(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::io(path, "cannot look at")(e)),
    }
}

fn check_absent(target: &Path, if_exists: IfExists) -> Result<()> {
    if if_exists == IfExists::Replace || is_absent(target)? {
        return Ok(());
    }
    let remedy = "choose another name, or replace it".to_owned();
    Err(Error::Exists { path: target.to_owned(), remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_old_file_that_was_set_aside_comes_back_unless_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.hdr");
        fs::write(&target, b"old").unwrap();
        let (staged, _file) = StagedFile::new(&target, IfExists::Replace).unwrap();
        let old = staged.set_old_aside().unwrap();
        assert!(!target.exists(), "an image that comes now has no header");
        // Another writer of the same file does not take it for that of a killed process.
        drop(StagedFile::new(&target, IfExists::Replace).unwrap());
        drop(old);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        staged.set_old_aside().unwrap().give_up();
        drop(staged);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_file_whose_partner_gets_no_name_is_removed_unless_it_replaced_another() {
        let folder = tempfile::tempdir().unwrap();
        let [image, header] = ["a.img", "a.hdr"].map(|name| folder.path().join(name));
        for old in [false, true] {
            if old {
                fs::write(&image, b"old").unwrap();
            }
            let (staged, _image) = StagedFile::new(&image, IfExists::Replace).unwrap();
            let (last, _header) = StagedFile::new(&header, IfExists::Replace).unwrap();
            fs::remove_file(&last.temporary).unwrap();
            assert!(staged.rename_before(&last).is_err());
            assert_eq!(image.exists(), old, "what was replaced cannot come back");
        }
    }

    #[test]
    fn what_a_killed_writer_set_aside_is_removed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".a.hdr.partial-1-0"), b"old").unwrap();
        fs::create_dir(folder.path().join(".a.hdr.partial-1-1")).unwrap();
        drop(StagedFile::new(&folder.path().join("a.hdr"), IfExists::Replace).unwrap());
        assert_eq!(names(folder.path()), [".a.hdr.partial-1-1"], "no writer makes folders");
    }
}
