//! Folders of a store, reached from a handle of the store's folder and never through a link.
//!
//! A path is resolved anew at each use. The system itself refuses links on the way, so that a
//! folder that somebody exchanges for a link cannot lead out of the store, whenever it happens.
//!
//! # Invariants
//! - Whatever is opened, created, renamed or removed lies below the root, unless links are followed
//!   on request.
//! - Only regular files are opened, without waiting.
//! - Below the root of a store behind a URL nothing is listed, created, renamed or removed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, fstat, linkat, mkdirat, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};

use super::descriptors::{waiting_for_room, with_room};
use super::remote::RemoteFiles;
use crate::Error;
use crate::error::is_out_of_descriptors;

/// Deeper than any folder of a store; removing one that is deeper stops there.
const DEPTH: usize = 64;

/// What to do with a symbolic link below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Links {
    /// It is an error.
    #[default]
    Refuse,
    /// It is followed, also out of the root.
    Follow,
}

/// A folder at or below a root; it need not exist.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: Arc<Root>,
    /// Below the root.
    below: PathBuf,
    path: PathBuf,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    handle: OwnedFd,
    links: Links,
    /// Of a store behind a URL: its files.
    remote: Option<Arc<dyn RemoteFiles>>,
}

impl Folder {
    /// The root at `path`, which the caller names, so links to it are followed.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn open(path: &Path, links: Links) -> io::Result<Self> {
        let flags = FOLDER | OFlags::CLOEXEC;
        let open = || Ok(retry_on_intr(|| openat(CWD, path, flags, Mode::empty()))?);
        let handle = waiting_for_room(open, is_out_of_descriptors)?;
        let root = Arc::new(Root { path: path.to_owned(), handle, links, remote: None });
        Ok(Self { root, below: PathBuf::new(), path: path.to_owned() })
    }

    /// The root of the store at `url`, whose bytes are kept in the folder `cache`.
    ///
    /// # Errors
    /// Those of the system.
    #[cfg(feature = "remote")]
    pub(crate) fn at_url(url: &Path, cache: &Path, of: Arc<dyn RemoteFiles>) -> io::Result<Self> {
        let (path, root) = (url.to_owned(), Self::open(cache, Links::Refuse)?.root);
        let root = Arc::into_inner(root).expect("nobody else has it");
        let root = Arc::new(Root { path: path.clone(), remote: Some(of), ..root });
        Ok(Self { root, below: PathBuf::new(), path })
    }

    /// The files of a store behind a URL; `None` on a disk.
    pub(crate) fn remote(&self) -> Option<&dyn RemoteFiles> {
        self.root.remote.as_deref()
    }

    /// The folder `name` in this one.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> Self {
        let name = name.as_ref();
        let (below, path) = (self.below.join(name), self.path.join(name));
        Self { root: self.root.clone(), below, path }
    }

    /// Its path, for messages and for callers outside of the library.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its root's path.
    pub(crate) fn root_path(&self) -> &Path {
        &self.root.path
    }

    /// Its path below the root.
    pub(crate) fn below(&self) -> &Path {
        &self.below
    }

    /// Opens a regular file for reading, and returns its length; does not wait for descriptors in
    /// use.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::InvalidInput`] for what is no regular file.
    pub(crate) fn open_file(&self, name: impl AsRef<Path>) -> io::Result<(File, u64)> {
        let path = self.below.join(name);
        // A FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        regular(with_room(|| self.open_below(&path, flags, Mode::empty()))?)
    }

    /// Reads all of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Folder::open_file`]; [`io::ErrorKind::InvalidData`] for a longer file.
    pub(crate) fn read_file(&self, name: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        let name = name.as_ref();
        if let Some(remote) = self.remote() {
            return remote.read(&self.below.join(name), limit);
        }
        let (mut file, bytes) = waiting_for_room(|| self.open_file(name), is_out_of_descriptors)?;
        if bytes > limit {
            let message = format!("longer than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut content = Vec::new();
        content.try_reserve_exact(bytes as usize).map_err(|_| io::ErrorKind::OutOfMemory)?;
        content.resize(bytes as usize, 0);
        file.read_exact(&mut content)?;
        Ok(content)
    }

    /// Creates a file for reading and writing. One that is there is unlinked, not cut: it may have
    /// other names.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn create_file(&self, name: impl AsRef<Path>) -> io::Result<File> {
        let (parent, name) = self.parent_of(name.as_ref())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        loop {
            match open_at(parent.as_fd(), name.as_ref(), flags, NEW_FILE) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    unlinkat(&parent, &name, AtFlags::empty())?;
                }
                created => return Ok(created?.into()),
            }
        }
    }

    /// Opens a regular file for writing, and for reading, at its end, or creates it; it is never
    /// cut.
    ///
    /// # Errors
    /// As [`Folder::open_file`].
    pub(crate) fn append_file(&self, name: &str) -> io::Result<File> {
        let (parent, name) = self.parent_of(name.as_ref())?;
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
        Ok(regular(open_at(parent.as_fd(), name.as_ref(), flags, NEW_FILE)?)?.0)
    }

    /// The type of what has this name, a link not followed; `None` if there is nothing.
    ///
    /// # Errors
    /// Those of the system: what cannot be looked at may be there.
    pub(crate) fn kind(&self, name: impl AsRef<Path>) -> io::Result<Option<FileType>> {
        if let Some(remote) = self.remote() {
            return Ok(remote.has(&self.below.join(name))?.then_some(FileType::Directory));
        }
        match statat(&self.root.handle, self.below.join(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The length of a file, a link not followed.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn file_bytes(&self, name: impl AsRef<Path>) -> io::Result<u64> {
        self.refuse_remote()?;
        let stat = statat(&self.root.handle, self.below.join(name), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(stat.st_size as u64)
    }

    /// Whether there is something at its own path.
    ///
    /// # Errors
    /// As [`Folder::kind`].
    pub(crate) fn exists(&self) -> io::Result<bool> {
        self.above().has(self.name())
    }

    /// Removes the folder itself, which is empty.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn remove_empty(&self) -> io::Result<()> {
        self.above().remove(self.name())
    }

    /// Whether something has this name.
    ///
    /// # Errors
    /// As [`Folder::kind`].
    pub(crate) fn has(&self, name: impl AsRef<Path>) -> io::Result<bool> {
        Ok(self.kind(name)?.is_some())
    }

    /// The names in the folder, and their types, links not followed.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn entries(&self) -> io::Result<Vec<(OsString, FileType)>> {
        entries(&mut Dir::new(self.handle(OFlags::RDONLY)?)?)
    }

    /// Creates the folder and those above it, as far as they are missing.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn create_all(&self) -> io::Result<()> {
        // It is there for all shards of a folder but the first.
        if self.handle(SEARCH).is_ok() {
            return Ok(());
        }
        let is_there = |e: &io::Error| e.kind() == io::ErrorKind::AlreadyExists;
        match self.create() {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.below.as_os_str().is_empty() => {
                self.above().create_all()?;
                // Another thread may have created it meanwhile.
                self.create().or_else(|e| if is_there(&e) { Ok(()) } else { Err(e) })?;
            }
            Err(e) if !is_there(&e) => return Err(e),
            _ => {}
        }
        // What is there may be something else.
        self.handle(SEARCH).map(drop)
    }

    /// Creates the folder in one that is there.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::AlreadyExists`].
    pub(crate) fn create(&self) -> io::Result<()> {
        let (parent, name) = self.place()?;
        Ok(mkdirat(parent, name, NEW_FOLDER)?)
    }

    /// Removes a file or a link, or an empty folder.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn remove(&self, name: impl AsRef<Path>) -> io::Result<()> {
        let (parent, name) = self.parent_of(name.as_ref())?;
        Ok(match unlinkat(&parent, &name, AtFlags::empty()) {
            // What Linux and what POSIX say of a folder.
            Err(Errno::ISDIR | Errno::PERM) => unlinkat(&parent, &name, AtFlags::REMOVEDIR),
            removed => removed,
        }?)
    }

    /// Removes what has this name, with all that it holds.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn remove_tree(&self, name: impl AsRef<Path>) -> io::Result<()> {
        let (parent, name) = self.parent_of(name.as_ref())?;
        remove_tree(parent.as_fd(), &name, DEPTH)
    }

    /// Renames this folder, or the file of that path, to the path of `to`.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn rename(&self, to: &Self, flags: RenameFlags) -> io::Result<()> {
        let ((from, name), (to, to_name)) = (self.place()?, to.place()?);
        Ok(renameat_with(from, name, to, to_name, flags)?)
    }

    /// Gives the file of this path a second name, that of `to`; a link is not followed.
    ///
    /// # Errors
    /// Those of the system, of a disk without hard links too.
    pub(crate) fn link(&self, to: &Self) -> io::Result<()> {
        let ((from, name), (to, to_name)) = (self.place()?, to.place()?);
        Ok(linkat(from, name, to, to_name, AtFlags::empty())?)
    }

    /// A handle of the folder itself, to flush or to lock it.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn as_file(&self) -> io::Result<File> {
        self.handle(OFlags::RDONLY).map(File::from)
    }

    /// The folder above, which is the root at most.
    pub(crate) fn above(&self) -> Self {
        let up = |path: &Path| path.parent().map_or_else(PathBuf::new, Path::to_owned);
        Self { root: self.root.clone(), below: up(&self.below), path: up(&self.path) }
    }

    /// The folder's own name; empty for the root.
    fn name(&self) -> OsString {
        self.below.file_name().map_or_else(OsString::new, OsStr::to_owned)
    }

    /// A handle of the folder above, and the name in it.
    fn place(&self) -> io::Result<(OwnedFd, OsString)> {
        self.above().parent_of(self.name().as_ref())
    }

    /// A handle of the folder that holds the last part of `name`, and that part.
    fn parent_of(&self, name: &Path) -> io::Result<(OwnedFd, OsString)> {
        let last = name.file_name().ok_or(Errno::INVAL)?.to_owned();
        let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.map_or_else(|| self.clone(), |parent| self.join(parent));
        Ok((folder.handle(SEARCH)?, last))
    }

    fn handle(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let below = if self.below.as_os_str().is_empty() { ".".as_ref() } else { &*self.below };
        let open = || self.open_below(below, flags | OFlags::DIRECTORY, Mode::empty());
        waiting_for_room(open, is_out_of_descriptors)
    }

    fn refuse_remote(&self) -> io::Result<()> {
        let message = "a store behind a URL is only read: copy it to a disk for this";
        let refused = || io::Error::new(io::ErrorKind::ReadOnlyFilesystem, message);
        if self.root.remote.is_some() { Err(refused()) } else { Ok(()) }
    }

    fn open_below(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.refuse_remote()?;
        let root = self.root.handle.as_fd();
        match self.root.links {
            Links::Refuse => open_beneath(root, path, flags, mode).map_err(name_link),
            Links::Follow => {
                Ok(retry_on_intr(|| openat(root, path, flags | OFlags::CLOEXEC, mode))?)
            }
        }
    }
}

/// To open a folder for what lies in it alone.
#[cfg(target_os = "linux")]
const SEARCH: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const SEARCH: OFlags = OFlags::RDONLY;
const FOLDER: OFlags = SEARCH.union(OFlags::DIRECTORY);
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);
const NEW_FOLDER: Mode = Mode::from_raw_mode(0o777);

/// For `map_err`: as [`Error::io`], and [`Error::Data`] for a link or what else is no regular file.
pub(crate) fn refused(
    path: impl AsRef<Path>,
    action: &'static str,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.as_ref().to_owned();
    move |source| match source.kind() {
        // The system's own EINVAL says nothing about the file.
        io::ErrorKind::InvalidInput if source.raw_os_error().is_none() => {
            Error::data(path, source.to_string())
        }
        _ => Error::io(path, action)(source),
    }
}

/// The file and its length, if it is a regular one.
fn regular(handle: OwnedFd) -> io::Result<(File, u64)> {
    let stat = fstat(&handle)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok((File::from(handle), stat.st_size as u64))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// Says what the system means by too many links.
fn name_link(error: io::Error) -> io::Error {
    if Errno::from_io_error(&error) == Some(Errno::LOOP) {
        let message =
            "it is a link, or a folder above it in the store is one: copy what it leads to";
        return io::Error::new(io::ErrorKind::InvalidInput, message);
    }
    error
}

/// Opens `name`, one component, in `folder`.
fn open_at(folder: BorrowedFd<'_>, name: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || Ok(retry_on_intr(|| openat(folder, name, flags, mode))?);
    waiting_for_room(open, is_out_of_descriptors).map_err(name_link)
}

/// Opens `path` below `root`; a link anywhere on it is [`Errno::LOOP`].
#[cfg(target_os = "linux")]
fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match retry_on_intr(|| openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve)) {
        // Linux before 5.6, and containers that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => Ok(open_by_components(root, path, flags, mode)?),
        opened => Ok(opened?),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    Ok(open_by_components(root, path, flags, mode)?)
}

/// As [`open_beneath`], one component after the other.
fn open_by_components(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.components().map(std::path::Component::as_os_str).peekable();
    let mut folder: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let at = folder.as_ref().map_or(root, AsFd::as_fd);
        let is_last = names.peek().is_none();
        let (flags, mode) = if is_last {
            (flags, mode)
        } else {
            (FOLDER | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        match retry_on_intr(|| openat(at, name, flags, mode)) {
            Ok(opened) if is_last => return Ok(opened),
            Ok(opened) => folder = Some(opened),
            // A link that is opened as a folder is none.
            Err(Errno::NOTDIR) => {
                let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
                return Err(if is_link { Errno::LOOP } else { Errno::NOTDIR });
            }
            Err(e) => return Err(e),
        }
    }
    Err(Errno::INVAL)
}

fn entries(folder: &mut Dir) -> io::Result<Vec<(OsString, FileType)>> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = Vec::new();
    while let Some(entry) = folder.read() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems list names alone.
            FileType::Unknown => match statat(folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            },
            kind => kind,
        };
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        removed => return Ok(removed?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = Dir::new(open_at(parent, name.as_ref(), flags, Mode::empty())?)?;
    for (inner, _) in entries(&mut folder)? {
        remove_tree(folder.fd()?, &inner, depth - 1)?;
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root with a folder `in/deep` and a file there, beside a folder outside of it.
    fn sample() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("root/in/deep")).unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        for file in ["root/in/deep/file", "outside/file"] {
            fs::write(place.path().join(file), file).unwrap();
        }
        let folder = Folder::open(&place.path().join("root"), Links::Refuse).unwrap();
        (place, folder)
    }

    #[test]
    fn no_operation_goes_through_a_link() {
        let (place, root) = sample();
        symlink(place.path().join("outside"), place.path().join("root/link")).unwrap();
        symlink("in", place.path().join("root/inner")).unwrap();
        symlink(place.path().join("outside/file"), place.path().join("root/name")).unwrap();
        for folder in ["link", "inner/deep"] {
            let folder = root.join(folder);
            let refused = |e: io::Error| assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{e}");
            refused(folder.open_file("file").unwrap_err());
            refused(folder.create_file("new").unwrap_err());
            refused(folder.append_file("file").unwrap_err());
            refused(folder.entries().unwrap_err());
            refused(folder.join("new").create_all().unwrap_err());
            refused(folder.join("new").create().unwrap_err());
            refused(folder.remove("file").unwrap_err());
            refused(folder.remove_tree("file").unwrap_err());
            refused(folder.as_file().unwrap_err());
            let (file, moved) = (folder.join("file"), root.join("moved"));
            refused(file.rename(&moved, RenameFlags::empty()).unwrap_err());
            refused(root.join("in").rename(&file, RenameFlags::empty()).unwrap_err());
        }
        assert!(root.open_file("name").is_err() && root.append_file("name").is_err());
        // The links themselves go, and what they lead to stays.
        root.create_file("name").unwrap();
        root.remove_tree("link").unwrap();
        assert_eq!(fs::read(place.path().join("outside/file")).unwrap(), b"outside/file");
        root.remove_tree("in").unwrap();
        assert!(!place.path().join("root/in").exists());
    }

    #[test]
    fn links_are_followed_on_request() {
        let (place, _) = sample();
        symlink(place.path().join("outside"), place.path().join("root/link")).unwrap();
        let root = Folder::open(&place.path().join("root"), Links::Follow).unwrap();
        assert_eq!(root.join("link").read_file("file", 99).unwrap(), b"outside/file");
    }

    #[test]
    fn components_and_the_system_agree() {
        let (place, root) = sample();
        symlink("deep", place.path().join("root/in/link")).unwrap();
        let handle = root.root.handle.as_fd();
        for path in ["in/deep/file", "in", "in/none", "in/deep/file/x", "in/link/file", "in/link"] {
            for flags in [OFlags::RDONLY, OFlags::RDONLY | OFlags::DIRECTORY] {
                let whole = open_beneath(handle, path.as_ref(), flags, Mode::empty());
                let parts = open_by_components(handle, path.as_ref(), flags, Mode::empty());
                let whole = whole.map_err(|e| Errno::from_io_error(&e).unwrap());
                assert_eq!(whole.map(drop), parts.map(drop), "{path} {flags:?}");
            }
        }
    }

    #[test]
    fn a_file_that_is_created_again_leaves_its_other_names() {
        let (place, root) = sample();
        let other = place.path().join("outside/name");
        fs::hard_link(place.path().join("root/in/deep/file"), &other).unwrap();
        root.join("in/deep").create_file("file").unwrap();
        assert_eq!(fs::read(other).unwrap(), b"root/in/deep/file");
        assert_eq!(root.join("in").read_file("deep/file", 9).unwrap(), b"");
    }

    #[test]
    fn fifos_and_folders_are_no_regular_files() {
        let (place, root) = sample();
        let path = place.path().join("root/fifo");
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        for name in ["fifo", "in"] {
            assert!(root.open_file(name).is_err() && root.append_file(name).is_err(), "{name}");
        }
    }
}
