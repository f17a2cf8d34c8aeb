//! The bytes of a published file, through a memory map or by positioned reads into a buffer.
//!
//! The system's own read-ahead brings in megabytes around every page of a map. It is switched off,
//! because the ends of chunks are known: [`ReadOnlyFile::read_ahead`] asks for exact ranges, many
//! at once, before the first of them is needed.
//!
//! # Invariants
//! - A published file is never written or truncated again (§9), so its length is read once and a
//!   map stays valid.
//! - No byte outside that length is ever handed out.
//!
//! Not here: what the bytes mean.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::mmap::FileMap;
use super::prefetch::prefetch_second;
use crate::{Error, Result};

/// How files are read.
///
/// ```
/// use voxquarry::{Access, OpenOptions};
///
/// let options = OpenOptions::default().access(Access::Read); // The store lies on a network drive.
/// assert_eq!(options.get_access(), Access::Read);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Access {
    /// Memory map: uncompressed chunks are copied straight from the page cache.
    #[default]
    Map,
    /// Positioned reads: for network file systems, and where maps are not allowed.
    Read,
}

/// Opens a regular file for reading, without waiting and without following a link.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    // A FIFO would wait for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    options.custom_flags(flags.bits() as i32);
    let file = options.open(path).map_err(|e| match e.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            io::Error::new(io::ErrorKind::InvalidInput, "it is a link, expected a regular file")
        }
        _ => e,
    })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// Refuses a folder that is a symbolic link: it may lead out of the store.
///
/// # Errors
/// [`Error::Data`].
pub(crate) fn refuse_link(folder: &Path) -> Result<()> {
    if folder.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(Error::data(folder, "it is a link, expected a folder: copy what it leads to"));
    }
    Ok(())
}

/// Reads all of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open_regular`]; [`io::ErrorKind::InvalidData`] for a longer file.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// One open file.
#[derive(Debug)]
pub(crate) struct ReadOnlyFile {
    path: PathBuf,
    bytes: u64,
    file: File,
    /// None: positioned reads.
    map: Option<FileMap>,
}

impl ReadOnlyFile {
    /// Opens `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn open(path: &Path, access: Access) -> Result<Option<Self>> {
        let file = match open_regular(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                return Err(Error::data(path, e.to_string()));
            }
            Err(e) => return Err(Error::io(path, "cannot open")(e)),
        };
        let bytes = file.metadata().map_err(Error::io(path, "cannot read the length of"))?.len();
        let map = match access {
            Access::Map => Some(FileMap::new(&file).map_err(Error::io(path, "cannot map"))?),
            Access::Read => None,
        };
        Ok(Some(Self { path: path.to_owned(), bytes, file, map }))
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// The bytes of `range`, which lies in the file: borrowed from the map, or read into `buffer`.
    ///
    /// # Errors
    /// [`Error::Io`], also if the file was truncated since it was opened.
    pub(crate) fn bytes<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        if let Some(map) = &self.map {
            return Ok(&map.bytes()[range.start as usize..range.end as usize]);
        }
        buffer.resize((range.end - range.start) as usize, 0);
        self.file
            .read_exact_at(buffer, range.start)
            .map_err(Error::io(&self.path, "cannot read"))?;
        Ok(buffer)
    }

    /// Whether the byte at `offset`, which lies in the file, is in the page cache; also true if
    /// the file system cannot say.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_cached(&self, offset: u64) -> bool {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let mut byte = [0];
        let buffer = &mut [io::IoSliceMut::new(&mut byte)];
        preadv2(&self.file, buffer, offset, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
    }

    /// Other systems cannot say.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_cached(&self, _: u64) -> bool {
        true
    }

    /// Asks the system to read `range`, which lies in the file; returns at once.
    #[cfg(target_os = "linux")]
    pub(crate) fn read_ahead(&self, range: Range<u64>) {
        use rustix::fs::{Advice, fadvise};
        let length = std::num::NonZeroU64::new(range.end - range.start);
        // A system that ignores the advice reads later, which is only slower.
        let _ = fadvise(&self.file, range.start, length, Advice::WillNeed);
    }

    /// Other systems read ahead by their own rules.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn read_ahead(&self, _: Range<u64>) {}

    /// The bytes of `range`, which lies in the file, if it is mapped.
    pub(crate) fn mapped(&self, range: Range<u64>) -> Option<&[u8]> {
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        self.map.as_ref().map(|map| &map.bytes()[range.start as usize..range.end as usize])
    }

    /// Prefetches the first bytes of `range`, which lies in the file and will be read next.
    pub(crate) fn prefetch(&self, range: &Range<u64>) {
        /// More gains nothing: the wanted block is prefetched later.
        const AHEAD_BYTES: u64 = 6 << 10;
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        if let Some(map) = &self.map {
            let end = range.end.min(range.start + AHEAD_BYTES);
            prefetch_second(&map.bytes()[range.start as usize..end as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_and_read_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let content: Vec<u8> = (0..10_000).map(|i| (i * 7 / 3) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        for access in [Access::Map, Access::Read] {
            let file = ReadOnlyFile::open(&path, access).unwrap().unwrap();
            assert_eq!(file.len(), 10_000);
            let mut buffer = Vec::new();
            for range in [0..0, 0..10_000, 17..4099, 9_999..10_000] {
                let expected = &content[range.start as usize..range.end as usize];
                assert_eq!(file.bytes(range, &mut buffer).unwrap(), expected);
            }
        }
    }

    #[test]
    fn bytes_read_ahead_are_cached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let file = ReadOnlyFile::open(&path, Access::Map).unwrap().unwrap();
        file.file.sync_all().unwrap();
        // On a disk the pages leave memory; on tmpfs they stay.
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file.file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        file.read_ahead(4096..1 << 20);
        // This read waits for the one under way.
        let mut buffer = Vec::new();
        assert_eq!(file.bytes(4096..1 << 20, &mut buffer).unwrap(), &vec![7; (1 << 20) - 4096]);
        assert!([4096, 500_000, (1 << 20) - 1].iter().all(|&at| file.is_cached(at)));
    }

    #[test]
    fn missing_and_empty_files_do_not_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for access in [Access::Map, Access::Read] {
            assert!(ReadOnlyFile::open(&path, access).unwrap().is_none());
        }
        std::fs::write(&path, b"").unwrap();
        for access in [Access::Map, Access::Read] {
            assert_eq!(ReadOnlyFile::open(&path, access).unwrap().unwrap().len(), 0);
        }
    }
}
