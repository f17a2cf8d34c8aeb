//! A read-only memory map of a whole file.
#![allow(unsafe_code)]
use std::fs::File;
use std::io;

use memmap2::Mmap;

/// A mapped file.
#[derive(Debug)]
pub(super) struct FileMap(Mmap);

impl FileMap {
    /// Maps all of `file`.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes must not change under the map. Writers of this format never write or
        // truncate a published file (§9); a file that another program truncates ends the process
        // with SIGBUS, it does not corrupt it.
        let map = unsafe { Mmap::map(file)? };
        // Without this advice the system reads in megabytes around every page.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Random);
        Ok(Self(map))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
