//! Copies literals and matches in wide steps that may write beyond their end.
#![allow(unsafe_code)]

use std::ptr;

/// Bytes after a decoder's output that copies may overwrite.
pub(in crate::codec) const SLACK_BYTES: usize = 128;

/// Bytes that are copied without a branch: most lengths are shorter, so the branch is predictable.
pub(super) const WIDE: usize = 128;

/// Bytes of a load and a store.
const STEP: usize = 32;

/// Copies `n` bytes (at least 1) rounded up to whole [`WIDE`].
///
/// # Safety
/// `n` rounded up to whole [`WIDE`] may be read and written; `to` begins at least [`STEP`] bytes
/// behind `from`, or the ranges do not overlap.
#[inline(always)]
pub(super) unsafe fn copy_wide(from: *const u8, to: *mut u8, n: usize) {
    let mut i = 0;
    loop {
        for step in (i..i + WIDE).step_by(STEP) {
            // SAFETY: the caller's promise; within a step the two do not overlap.
            unsafe { ptr::copy_nonoverlapping(from.add(step), to.add(step), STEP) };
        }
        i += WIDE;
        if i >= n {
            return;
        }
    }
}

/// Repeats the `offset` bytes before `to` until `n` bytes are written.
///
/// # Safety
/// The `offset` bytes before `to` are initialized, and `n + SLACK_BYTES` bytes at `to` are valid
/// for writes.
#[inline(always)]
pub(super) unsafe fn copy_match(to: *mut u8, offset: usize, n: usize) {
    // SAFETY: it reads `offset` bytes before `to` and what it has written itself; the caller
    // promised both.
    unsafe {
        let from = to.sub(offset).cast_const();
        if offset >= STEP {
            copy_wide(from, to, n);
            return;
        }
        // Byte by byte until the source lies a step or more behind: a multiple of the pattern.
        let distance = offset * STEP.div_ceil(offset);
        let first = distance - offset;
        if offset == 1 {
            to.write_bytes(*from, STEP);
        } else {
            for i in 0..first.min(n) {
                *to.add(i) = *from.add(i);
            }
        }
        if n > first {
            copy_wide(from, to.add(first), n - first);
        }
    }
}
