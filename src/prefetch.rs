//! Asks the processor for bytes that will be read soon.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// Begins to bring `bytes` into the nearest cache; waits for nothing.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    ask::<_MM_HINT_T0>(bytes);
    // Other processors are left to their own foresight.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// As [`prefetch`], but into the second cache, where they push out nothing of what fills the nearest.
#[inline]
pub(crate) fn prefetch_second(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    ask::<_MM_HINT_T1>(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Begins to bring a row's first and last line into the nearest cache, to be written; any address will do.
///
/// Rows of voxels within a patch are seldom longer than two.
#[inline(always)]
pub(crate) fn prefetch_row(at: *const u8, bytes: usize) {
    prefetch_line(at);
    prefetch_line(at.wrapping_add(bytes - 1));
}

#[inline(always)]
fn prefetch_line(at: *const u8) {
    // The intrinsic would fetch it to be read, and the store ask for it once more.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing, and of an address that is nowhere it is dropped; so is all of it by a processor that
    // does not know it.
    unsafe {
        asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ask<const HINT: i32>(bytes: &[u8]) {
    for line in bytes.chunks(LINE_BYTES) {
        // SAFETY: a prefetch changes nothing, and the address is that of a byte of the slice.
        unsafe { _mm_prefetch::<HINT>(line.as_ptr().cast()) };
    }
}

#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;
