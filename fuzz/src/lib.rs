//! What the fuzz targets share: parameters out of the fuzzer's bytes, and both decoders.
#![allow(unsafe_code)]

use std::ffi::c_int;

use voxquarry::codec::Scratch;
use voxquarry::codec::frame::Frame;
use voxquarry::format::array::{BloscParameters, Compressor, Shuffle};

/// Longest input that a target looks at: larger ones take longer and reach nothing more.
pub const MAX_VOXEL_BYTES: usize = 1 << 16;

/// Parameters and typesize out of two bytes.
pub fn parameters(a: u8, b: u8) -> (BloscParameters, usize) {
    let compressor = if a & 1 == 0 { Compressor::Lz4 } else { Compressor::Zstd };
    let shuffle = [Shuffle::None, Shuffle::Byte, Shuffle::Bit][usize::from(a >> 1) % 3];
    let typesize = [1, 2, 4, 8][usize::from(b) % 4];
    let block_bytes = 64 << (usize::from(b >> 2) % 10);
    (BloscParameters { compressor, level: 5, shuffle, block_bytes }, typesize)
}

/// Our decoder's bytes.
pub fn ours(frame: &[u8], nbytes: usize, typesize: usize) -> Result<Vec<u8>, String> {
    let (frame, mut scratch, mut out) =
        (Frame::parse(frame, nbytes, typesize)?, Scratch::new(), Vec::new());
    for i in 0..frame.blocks() {
        out.extend_from_slice(frame.block(i, &mut scratch)?.whole());
    }
    Ok(out)
}

/// c-blosc's bytes, if it takes the frame.
pub fn theirs(frame: &[u8], nbytes: usize) -> Option<Vec<u8>> {
    let (mut out, mut said) = (vec![0; nbytes], 0);
    // SAFETY: both lengths are the slices' own; validation bounds what the header claims by the frame's length.
    let n = unsafe {
        if blosc_src::blosc_cbuffer_validate(frame.as_ptr().cast(), frame.len(), &raw mut said) != 0
            || said != nbytes
        {
            return None;
        }
        blosc_src::blosc_decompress_ctx(frame.as_ptr().cast(), out.as_mut_ptr().cast(), nbytes, 1)
    };
    (n == nbytes as c_int).then_some(out)
}
