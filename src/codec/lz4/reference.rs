//! The reference library, which tests compare ours with.
#![allow(unsafe_code)]

use std::os::raw::{c_char, c_int};

/// Encodes with the library's high-compression search.
pub(super) fn reference_encode(source: &[u8]) -> Vec<u8> {
    let mut out = vec![0u8; source.len() + source.len() / 255 + 16];
    // SAFETY: both lengths are the buffers' own; the function never leaves them.
    let n = unsafe {
        lz4_sys::LZ4_compress_HC(
            source.as_ptr().cast::<c_char>(),
            out.as_mut_ptr().cast::<c_char>(),
            source.len() as c_int,
            out.len() as c_int,
            9,
        )
    };
    out.truncate(usize::try_from(n).unwrap());
    assert!(!out.is_empty(), "the bound suffices");
    out
}

/// Decodes `source`; `None` unless it decodes to `length` bytes.
pub(super) fn reference_decode(source: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = vec![0u8; length];
    // SAFETY: both lengths are the buffers' own; the function never leaves them.
    let n = unsafe {
        lz4_sys::LZ4_decompress_safe(
            source.as_ptr().cast::<c_char>(),
            out.as_mut_ptr().cast::<c_char>(),
            source.len() as c_int,
            length as c_int,
        )
    };
    (n == length as c_int).then_some(out)
}
