//! A writable map of a file that has no name: memory that the system may put on disk.
#![allow(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, fallocate};

use crate::{Error, Result};

/// Zeroed bytes behind an unlinked file; gone when dropped, or when the process ends however it ends.
#[derive(Debug)]
pub(crate) struct Scratch(MmapMut);

impl Scratch {
    /// Reserves `bytes` on the disk of `folder`, so that no later write can find it full.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder is not writable or the disk has no room.
    pub(crate) fn new(folder: &Path, bytes: usize) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".voxquarry-scratch-{}-{number}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io(&path, "cannot create"))?;
        fs::remove_file(&path).map_err(Error::io(&path, "cannot unlink"))?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)
            .map_err(|e| Error::io(&path, "cannot reserve scratch space")(e.into()))?;
        // SAFETY: the file has no name any more and is open nowhere else, so nobody writes or truncates it.
        let map = unsafe { MmapMut::map_mut(&file) };
        map.map(Self).map_err(Error::io(&path, "cannot map"))
    }

    /// Its bytes, page aligned.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
