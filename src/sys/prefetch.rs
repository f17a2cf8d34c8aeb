//! Prefetch instructions.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// Begins to load `bytes` into the first-level cache; returns at once.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    ask::<_MM_HINT_T0>(bytes);
    // Other processors rely on their hardware prefetchers.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// As [`prefetch`], but into the second-level cache, so that nothing leaves the first.
#[inline]
pub(crate) fn prefetch_second(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    ask::<_MM_HINT_T1>(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Begins to load the first and last cache line of a row for writing; any address is allowed.
///
/// Rows of voxels within a patch are seldom longer than two lines.
#[inline(always)]
pub(crate) fn prefetch_row(at: *const u8, bytes: usize) {
    prefetch_line(at);
    prefetch_line(at.wrapping_add(bytes - 1));
}

#[inline(always)]
fn prefetch_line(at: *const u8) {
    // The intrinsic would fetch the line for reading, and the store would request it again.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing. The processor ignores it for an unmapped address, and
    // ignores the instruction altogether if it does not know it.
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
