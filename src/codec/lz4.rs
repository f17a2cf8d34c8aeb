//! LZ4 blocks, through the reference C library.
//!
//! Not here: LZ4's own frame format; Blosc has its own.
#![allow(unsafe_code)]

use std::os::raw::{c_char, c_int};

/// Decodes `source` into exactly `out`; `false` if it is damaged or of another length.
#[must_use]
pub(super) fn decode(source: &[u8], out: &mut [u8]) -> bool {
    let (Ok(from), Ok(to)) = (c_int::try_from(source.len()), c_int::try_from(out.len())) else {
        return false;
    };
    // SAFETY: both lengths are the slices' own, and `LZ4_decompress_safe` neither reads nor writes beyond them whatever
    // the bytes say; `tests::hostile_frames_are_errors` and the fuzz target watch it.
    let decoded = unsafe {
        lz4_sys::LZ4_decompress_safe(
            source.as_ptr().cast::<c_char>(),
            out.as_mut_ptr().cast::<c_char>(),
            from,
            to,
        )
    };
    decoded == to
}

/// Encodes `source` with LZ4HC at `level` into `out`; `None` if it does not fit there.
pub(super) fn encode(source: &[u8], out: &mut [u8], level: i32) -> Option<usize> {
    let (from, to) = (c_int::try_from(source.len()).ok()?, c_int::try_from(out.len()).ok()?);
    // SAFETY: both lengths are the slices' own; the encoder gives up with 0 where `out` is too short.
    let encoded = unsafe {
        lz4_sys::LZ4_compress_HC(
            source.as_ptr().cast::<c_char>(),
            out.as_mut_ptr().cast::<c_char>(),
            from,
            to,
            level,
        )
    };
    usize::try_from(encoded).ok().filter(|&n| n > 0)
}
