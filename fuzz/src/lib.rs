//! Shared by the fuzz targets: parameters from the fuzzer's bytes, and both decoders.
#![allow(unsafe_code)]

use std::ffi::c_int;

use voxquarry::codec::{DecodeContext, DecodeError, Frame};
use voxquarry::format::array::{BloscParameters, Compressor, Shuffle};

/// Longest input in bytes: longer ones take more time and reach no more code.
pub const MAX_VOXEL_BYTES: usize = 1 << 16;

/// Encoder parameters and an element size from two bytes.
pub fn parameters(a: u8, b: u8) -> (BloscParameters, usize) {
    let compressor = if a & 1 == 0 { Compressor::Lz4 } else { Compressor::Zstd };
    let shuffle = [Shuffle::None, Shuffle::Byte, Shuffle::Bit][usize::from(a >> 1) % 3];
    let typesize = [1, 2, 4, 8][usize::from(b) % 4];
    let block_bytes = 64 << (usize::from(b >> 2) % 10);
    (BloscParameters { compressor, level: 5, shuffle, block_bytes }, typesize)
}

/// Decodes with our decoder.
///
/// # Errors
/// Why the frame does not decode.
pub fn ours(frame: &[u8], nbytes: usize, typesize: usize) -> Result<Vec<u8>, DecodeError> {
    let frame = Frame::parse(frame, nbytes, typesize)?;
    let (mut context, mut out) = (DecodeContext::new(), Vec::new());
    for i in 0..frame.blocks() {
        out.extend_from_slice(frame.block(i, &mut context)?.whole());
    }
    Ok(out)
}

/// Decodes with c-blosc; `None` if it rejects the frame.
pub fn theirs(frame: &[u8], nbytes: usize) -> Option<Vec<u8>> {
    let (mut out, mut found) = (vec![0; nbytes], 0);
    // SAFETY: both lengths are the slices' own; validation checks the header against them.
    let n = unsafe {
        let (frame, length) = (frame.as_ptr().cast(), frame.len());
        let status = blosc_src::blosc_cbuffer_validate(frame, length, &raw mut found);
        if status != 0 || found != nbytes {
            return None;
        }
        blosc_src::blosc_decompress_ctx(frame, out.as_mut_ptr().cast(), nbytes, 1)
    };
    (n == nbytes as c_int).then_some(out)
}
