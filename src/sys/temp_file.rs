//! An unlinked temporary file that holds extents of any length.
//!
//! It is not mapped as [`TempMap`](super::temp_map::TempMap) is: the system limits a process to
//! some ten thousand maps, and there may be more extents.
//!
//! # Invariants
//! - An extent is read back as it was written, or an error is returned: network file systems may
//!   report a full disk only after the write.
//! - The file never grows beyond the largest set of extents that existed at one time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::temp_map::unlinked_temp_file;
use crate::{Error, Result};

/// Extents begin and end with blocks of the file system, so that freeing one frees all its disk
/// space.
const BLOCK_BYTES: usize = 4096;

/// Extents of bytes on a disk. They go when this is dropped, or when the process ends in any way.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: PathBuf,
    file: File,
    allocation: Mutex<ExtentAllocator>,
}

/// The used and the free part of the file.
#[derive(Debug, Default)]
struct ExtentAllocator {
    end_bytes: u64,
    /// Freed extents, by their allocated length.
    free: BTreeMap<usize, Vec<Extent>>,
}

/// The location of bytes in the [`TempFile`] that returned it.
#[derive(Debug)]
pub(crate) struct Extent {
    offset: u64,
    bytes: usize,
    crc32c: u32,
}

impl ExtentAllocator {
    /// The offset of a new extent at the end of the file.
    fn append(&mut self, bytes: usize) -> u64 {
        let offset = self.end_bytes;
        self.end_bytes += bytes as u64;
        offset
    }
}

impl Extent {
    fn allocated_bytes(&self) -> usize {
        self.bytes.next_multiple_of(BLOCK_BYTES)
    }
}

impl TempFile {
    /// An empty file on the disk of `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder is not writable.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let (file, path) = unlinked_temp_file(folder)?;
        Ok(Self { path, file, allocation: Mutex::default() })
    }

    fn allocation(&self) -> MutexGuard<'_, ExtentAllocator> {
        self.allocation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `bytes` as a new extent.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk has no space.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Extent> {
        let mut extent = Extent { offset: 0, bytes: bytes.len(), crc32c: crc32c::crc32c(bytes) };
        extent.offset = {
            let mut allocation = self.allocation();
            let free = allocation.free.get_mut(&extent.allocated_bytes()).and_then(Vec::pop);
            free.map_or_else(|| allocation.append(extent.allocated_bytes()), |extent| extent.offset)
        };
        match self.file.write_all_at(bytes, extent.offset) {
            Ok(()) => Ok(extent),
            Err(e) => {
                self.free(extent);
                Err(Error::io(&self.path, "cannot write scratch space")(e))
            }
        }
    }

    /// Reads an extent back into `out`, which has its length.
    ///
    /// # Errors
    /// [`Error::Io`], also if the bytes are not those that were written.
    pub(crate) fn read(&self, extent: &Extent, out: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(out, extent.offset).and_then(|()| {
            let found = crc32c::crc32c(out);
            let (same, expected) = (found == extent.crc32c, extent.crc32c);
            same.then_some(()).ok_or_else(|| {
                io::Error::other(format!(
                    "the disk returned other bytes at {} than were written: \
                     crc32c {found:#010x}, expected {expected:#010x}",
                    extent.offset
                ))
            })
        });
        read.map_err(Error::io(&self.path, "cannot read scratch space"))
    }

    /// Frees an extent, for other extents and for the disk.
    pub(crate) fn free(&self, extent: Extent) {
        punch_hole(&self.file, extent.offset, extent.allocated_bytes() as u64);
        self.allocation().free.entry(extent.allocated_bytes()).or_default().push(extent);
    }
}

/// Frees the disk space of a range of `file`. File systems without holes free it with the file.
#[cfg(target_os = "linux")]
fn punch_hole(file: &File, offset: u64, bytes: u64) {
    use rustix::fs::{FallocateFlags, fallocate};
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let _ = fallocate(file, hole, offset, bytes);
}

/// Other systems free the space with the file.
#[cfg(not(target_os = "linux"))]
fn punch_hole(_: &File, _: u64, _: u64) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(value: u8, len: usize) -> Vec<u8> {
        vec![value; len]
    }

    #[test]
    fn extents_are_freed_and_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let temp = TempFile::new(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the file has no name");
        let extents = [1, 5000, 0, 4096].map(|len| temp.put(&filled(len as u8, len)).unwrap());
        assert_eq!(extents.each_ref().map(|p| p.offset), [0, 4096, 12_288, 12_288]);
        let read = |extent: &Extent| {
            let mut out = filled(77, extent.bytes);
            temp.read(extent, &mut out).unwrap();
            out
        };
        for (extent, len) in extents.iter().zip([1, 5000, 0, 4096]) {
            assert_eq!(read(extent), filled(len as u8, len));
        }
        let [_one, long, _none, block] = extents;
        temp.free(long);
        // Only an extent of as many blocks is used again, whatever the length in bytes.
        let (again, fresh) = (temp.put(&filled(9, 8192)).unwrap(), temp.put(&[3; 2]).unwrap());
        assert_eq!((again.offset, fresh.offset), (4096, 16_384));
        assert_eq!((read(&again), read(&block)), (filled(9, 8192), filled(0, 4096)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_disk_space_of_a_freed_extent_is_free() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let temp = TempFile::new(folder.path()).unwrap();
        let blocks = || temp.file.metadata().unwrap().blocks();
        let extent = temp.put(&filled(1, 5000)).unwrap();
        let before = blocks();
        temp.free(extent);
        assert!(blocks() < before, "the disk has its blocks back");
    }

    #[test]
    fn bytes_changed_on_the_disk_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let temp = TempFile::new(folder.path()).unwrap();
        let extent = temp.put(&[1, 2, 3]).unwrap();
        temp.file.write_all_at(&[0], extent.offset + 1).unwrap();
        let error = temp.read(&extent, &mut [0; 3]).unwrap_err().to_string();
        assert!(error.contains("scratch") && error.contains("than were written"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_and_the_extent_stays_free() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let temp = TempFile { path: "/dev/full".into(), file: full, allocation: Mutex::default() };
        for _ in 0..2 {
            let error = temp.put(&[1]).unwrap_err().to_string();
            assert!(error.starts_with("/dev/full: cannot write scratch space"), "{error}");
        }
        assert_eq!(temp.allocation().end_bytes, BLOCK_BYTES as u64);
    }
}
