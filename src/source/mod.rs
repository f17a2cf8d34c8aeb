//! A published file's bytes: through a memory map, or by positioned reads into a buffer.
//!
//! # Invariants
//! - A published file is never written or truncated again (§9), so its length is read once and a map stays valid.
//! - No byte outside that length is ever handed out.
//!
//! Not here: what the bytes mean.

mod map;
mod scratch;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) use scratch::Scratch;

use crate::prefetch::prefetch;
use crate::{Error, Result};

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Memory map: what is stored uncompressed is copied straight from the page cache.
    #[default]
    Map,
    /// Positioned reads, for network file systems and whoever must not map.
    Read,
}

/// One open file.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: u64,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Map(map::Map),
    Read(File),
}

impl Source {
    /// Opens `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn open(path: &Path, access: Access) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(path, "cannot open")(e)),
        };
        let bytes = file.metadata().map_err(Error::io(path, "cannot read the length of"))?.len();
        let inner = match access {
            Access::Map => Inner::Map(map::Map::new(&file).map_err(Error::io(path, "cannot map"))?),
            Access::Read => Inner::Read(file),
        };
        Ok(Some(Self { path: path.to_owned(), bytes, inner }))
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// The bytes of `range`, which lies in the file: lent from the map, or read into `buffer`.
    ///
    /// # Errors
    /// [`Error::Io`]; the file was truncated since it was opened, against the store's rules.
    pub(crate) fn bytes<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        match &self.inner {
            Inner::Map(map) => Ok(&map.bytes()[range.start as usize..range.end as usize]),
            Inner::Read(file) => {
                buffer.resize((range.end - range.start) as usize, 0);
                file.read_exact_at(buffer, range.start)
                    .map_err(Error::io(&self.path, "cannot read"))?;
                Ok(buffer)
            }
        }
    }

    /// Asks the processor for the first of the bytes of `range`, which lies in the file and will be read next.
    pub(crate) fn prefetch(&self, range: &Range<u64>) {
        /// More would push out what is being worked on.
        const AHEAD_BYTES: u64 = 6 << 10;
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        if let Inner::Map(map) = &self.inner {
            let end = range.end.min(range.start + AHEAD_BYTES);
            prefetch(&map.bytes()[range.start as usize..end as usize]);
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
            let source = Source::open(&path, access).unwrap().unwrap();
            assert_eq!(source.len(), 10_000);
            let mut buffer = Vec::new();
            for range in [0..0, 0..10_000, 17..4099, 9_999..10_000] {
                let expected = &content[range.start as usize..range.end as usize];
                assert_eq!(source.bytes(range, &mut buffer).unwrap(), expected);
            }
        }
    }

    #[test]
    fn missing_and_empty_files_are_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for access in [Access::Map, Access::Read] {
            assert!(Source::open(&path, access).unwrap().is_none());
        }
        std::fs::write(&path, b"").unwrap();
        for access in [Access::Map, Access::Read] {
            assert_eq!(Source::open(&path, access).unwrap().unwrap().len(), 0);
        }
    }
}
