//! A writable map of an unlinked temporary file: memory that the system may move to disk.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::descriptors::waiting_for_room;
use crate::error::is_out_of_descriptors;
use crate::{Error, Result};

/// Zeroed bytes behind an unlinked file. They go when this is dropped, or when the process ends in
/// any way.
#[derive(Debug)]
pub(crate) struct TempMap(MmapMut);

impl TempMap {
    /// Reserves `bytes` on the disk of `folder`. Without a reservation, writing a page to a full
    /// disk would end the process.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder is not writable or the disk has no space.
    pub(crate) fn new(folder: &Path, bytes: usize) -> Result<Self> {
        let (file, path) = unlinked_temp_file(folder)?;
        reserve(&file, bytes as u64).map_err(Error::io(&path, "cannot reserve scratch space"))?;
        // SAFETY: the file has no name and this is its only handle, so no other code writes or
        // truncates it.
        let map = unsafe { MmapMut::map_mut(&file) };
        map.map(Self).map_err(Error::io(&path, "cannot map"))
    }

    /// Its bytes, page aligned.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A new file on the disk of `folder`, already unlinked, and the path that it had, for errors.
pub(super) fn unlinked_temp_file(folder: &Path) -> Result<(File, PathBuf)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".voxquarry-scratch-{}-{number}", std::process::id()));
    let create = || OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = waiting_for_room(create, is_out_of_descriptors)
        .map_err(Error::io(&path, "cannot create"))?;
    fs::remove_file(&path).map_err(Error::io(&path, "cannot unlink"))?;
    Ok((file, path))
}

/// Gives a new file its length, with space on the disk for every byte.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        // File systems that cannot reserve space, as some network ones. NOTSUP is a number of its
        // own on macOS.
        Err(e) if [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS].contains(&e) => fill(file, bytes),
        reserved => reserved.map_err(io::Error::from),
    }
}

/// Allocates the space by writing zeros.
fn fill(mut file: &File, bytes: u64) -> io::Result<()> {
    let mut zeros = io::Read::take(io::repeat(0), bytes);
    io::copy(&mut zeros, &mut file).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn every_byte_has_space_on_the_disk() {
        const BYTES: u64 = 300_001;
        let folder = tempfile::tempdir().unwrap();
        for (name, take) in [("reserved", reserve as fn(&File, u64) -> _), ("filled", fill)] {
            let file = File::create(folder.path().join(name)).unwrap();
            take(&file, BYTES).unwrap();
            file.sync_all().unwrap();
            let found = file.metadata().unwrap();
            // The system counts in units of 512 bytes.
            assert!(found.len() == BYTES && found.blocks() * 512 >= BYTES, "{name}: {found:?}");
        }
    }

    #[test]
    fn a_disk_without_room_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        // More than any file system gives to one file; the length of a file is a signed number.
        for bytes in [usize::MAX >> 2, usize::MAX] {
            let error = TempMap::new(folder.path(), bytes).unwrap_err().to_string();
            let place = folder.path().display().to_string();
            assert!(error.contains(&place) && error.contains("reserve"), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(fill(&full, 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
