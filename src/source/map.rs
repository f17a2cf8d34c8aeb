//! A read-only memory map of a whole file.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::Mmap;

/// A mapped file.
#[derive(Debug)]
pub(super) struct Map(Mmap);

impl Map {
    /// Maps all of `file`.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes must not change under the map. Writers of this format never write or truncate a published
        // file (§9); a file that somebody else truncates ends the process with SIGBUS, it does not corrupt it.
        Ok(Self(unsafe { Mmap::map(file)? }))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Asks the processor for bytes that will be read soon.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn prefetch(&self, range: Range<usize>) {
        const LINE_BYTES: usize = 64;
        for line in self.0[range].chunks(LINE_BYTES) {
            // SAFETY: a prefetch changes nothing, and the address is that of a byte of the map.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }

    /// Other processors are left to their own foresight.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn prefetch(&self, _: Range<usize>) {}
}
