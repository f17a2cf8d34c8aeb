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

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::folder::Folder;
use super::mmap::FileMap;
use super::prefetch::prefetch_second;
use crate::memory::reserve;
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

/// One open file.
#[derive(Debug)]
pub(crate) struct ReadOnlyFile {
    path: PathBuf,
    bytes: u64,
    /// Bytes behind those that are handed out; some only in the cache of remote stores.
    more_bytes: u64,
    file: File,
    /// None: positioned reads.
    map: Option<FileMap>,
}

impl ReadOnlyFile {
    /// Opens `name` in `folder`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Data`] for what is no regular file, [`Error::Io`].
    pub(crate) fn open(
        folder: &Folder,
        name: impl AsRef<Path>,
        access: Access,
    ) -> Result<Option<Self>> {
        let path = folder.path().join(&name);
        let (file, bytes) = match folder.open_file(name) {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                return Err(Error::data(path, e.to_string()));
            }
            Err(e) => return Err(Error::io(path, "cannot open")(e)),
        };
        Self::of(path, file, (bytes, 0), access).map(Some)
    }

    /// A file of `bytes` bytes and `more_bytes` that are never handed out; `path` names it in
    /// messages.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn of(
        path: PathBuf,
        file: File,
        (bytes, more_bytes): (u64, u64),
        access: Access,
    ) -> Result<Self> {
        let map = match access {
            Access::Map => Some(FileMap::new(&file).map_err(Error::io(&path, "cannot map"))?),
            Access::Read => None,
        };
        Ok(Self { path, bytes, more_bytes, file, map })
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
    /// [`Error::Data`] if the file was cut since it was opened, [`Error::Io`].
    pub(crate) fn bytes<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        if let Some(map) = &self.map {
            return Ok(&map.bytes()[range.start as usize..range.end as usize]);
        }
        self.read(range, buffer)?;
        Ok(buffer)
    }

    /// Reads the bytes of `range`, which lies in the file, into `buffer`.
    ///
    /// # Errors
    /// As [`ReadOnlyFile::bytes`].
    pub(crate) fn read(&self, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        let count = (range.end - range.start) as usize;
        let more = count.saturating_sub(buffer.len());
        reserve(buffer, more, || format!("bytes of {}", self.path.display()))?;
        buffer.resize(count, 0);
        self.file.read_exact_at(buffer, range.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.cut(),
            _ => Error::io(&self.path, "cannot read")(e),
        })
    }

    /// Checks that the file is as long as it was when it was opened: touching a map beyond the end
    /// of its file would end the process.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not, [`Error::Io`].
    pub(crate) fn check_length(&self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|e| Error::io(&self.path, "cannot read the length of")(e.into()))?;
        if stat.st_size as u64 == self.bytes + self.more_bytes { Ok(()) } else { Err(self.cut()) }
    }

    fn cut(&self) -> Error {
        let message = format!(
            "its length changed while it was open, from {} bytes: published files never change, so \
             another program wrote to it; copy the store anew",
            self.bytes
        );
        Error::data(&self.path, message)
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
    use super::super::folder::Links;
    use super::*;

    fn open(path: &Path, access: Access) -> Result<Option<ReadOnlyFile>> {
        let folder = Folder::open(path.parent().unwrap(), Links::Refuse).unwrap();
        ReadOnlyFile::open(&folder, path.file_name().unwrap(), access)
    }

    #[test]
    fn map_and_read_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let content: Vec<u8> = (0..10_000).map(|i| (i * 7 / 3) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        for access in [Access::Map, Access::Read] {
            let file = open(&path, access).unwrap().unwrap();
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
        let file = open(&path, Access::Map).unwrap().unwrap();
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
            assert!(open(&path, access).unwrap().is_none());
        }
        std::fs::write(&path, b"").unwrap();
        for access in [Access::Map, Access::Read] {
            assert_eq!(open(&path, access).unwrap().unwrap().len(), 0);
        }
    }
}
