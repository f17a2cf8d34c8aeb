//! The frame decoder beside c-blosc: what both decode is the same, and damage is an error.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;

use voxquarry::codec::{DecodeContext, DecodeError, Encoder, Frame};
use voxquarry::format::array::{BloscParameters, Compressor, Shuffle};

use crate::input::Input;

/// Longest input in bytes: longer ones take more time and reach no more code.
const MAX_VOXEL_BYTES: usize = 1 << 16;

/// Any bytes as a frame: an element size, the decoded length in elements, the frame.
pub(crate) fn raw(data: &[u8]) {
    let mut input = Input(data);
    let typesize = [1, 2, 4, 8][input.below(4)];
    let nbytes = (usize::from(input.u16()) * typesize).min(MAX_VOXEL_BYTES);
    compare(input.0, nbytes, typesize);
}

/// Frames of our encoder with some bytes changed, which gets past the checks of the header.
pub(crate) fn edited(data: &[u8]) {
    let mut input = Input(data);
    let (key, typesize) = (input.u16(), typesize(data));
    let count = input.below(32);
    let edits = input.take(3 * count);
    let voxels = voxels(input.0, typesize);
    if voxels.is_empty() {
        return;
    }
    let mut frame = Vec::new();
    with_encoder(key, |encoder| encoder.encode(voxels, &mut frame));
    Input(edits).edit(count, &mut frame);
    compare(&frame, voxels.len(), typesize);
}

/// The encoder: our decoder and c-blosc's return the voxels.
pub(crate) fn roundtrip(data: &[u8]) {
    let mut input = Input(data);
    let (key, typesize) = (input.u16(), typesize(data));
    let voxels = voxels(input.0, typesize);
    if voxels.is_empty() {
        return;
    }
    let mut frame = Vec::new();
    with_encoder(key, |encoder| encoder.encode_by_trial(voxels, &mut frame));
    assert_eq!(ours(&frame, voxels.len(), typesize).as_deref(), Ok(voxels));
    assert_eq!(theirs(&frame, voxels.len()).as_deref(), Some(voxels));
}

/// The size of an element, from the second byte.
fn typesize(data: &[u8]) -> usize {
    [1, 2, 4, 8][usize::from(data.get(1).copied().unwrap_or(0)) % 4]
}

/// Lends the encoder with the parameters that `key` stands for. An encoder keeps its memory, which
/// would take longer to allocate than a frame to encode.
fn with_encoder(key: u16, encode: impl FnOnce(&mut Encoder)) {
    thread_local! {
        static ENCODERS: RefCell<HashMap<u16, Encoder>> = RefCell::default();
    }
    let [a, b] = key.to_le_bytes();
    let compressor = if a & 1 == 0 { Compressor::Lz4 } else { Compressor::Zstd };
    let shuffle = [Shuffle::None, Shuffle::Byte, Shuffle::Bit][usize::from(a >> 1) % 3];
    let block_bytes = 64 << (usize::from(b >> 2) % 10);
    let parameters = BloscParameters { compressor, level: 5, shuffle, block_bytes };
    // One for each of the parameters, not for each of their spellings.
    let key = u16::from(a & 1) | (u16::from(a >> 1) % 3) << 1 | u16::from(b % 40) << 3;
    ENCODERS.with_borrow_mut(|encoders| {
        // Rows and slices of any length, which the encoder tries as distances of matches.
        let chunk = [1, usize::from(key % 7), usize::from(key % 53)];
        let new = || Encoder::new(parameters, typesize(&[a, b])).chunk(chunk);
        encode(encoders.entry(key).or_insert_with(new));
    });
}

fn voxels(bytes: &[u8], typesize: usize) -> &[u8] {
    &bytes[..bytes.len().min(MAX_VOXEL_BYTES) / typesize * typesize]
}

/// An error of ours is always allowed: the profile excludes frames that c-blosc accepts.
fn compare(frame: &[u8], nbytes: usize, typesize: usize) {
    let found = ours(frame, nbytes, typesize);
    if let (Ok(found), Some(expected)) = (found, theirs(frame, nbytes)) {
        assert_eq!(found, expected);
    }
}

fn ours(frame: &[u8], nbytes: usize, typesize: usize) -> Result<Vec<u8>, DecodeError> {
    let frame = Frame::parse(frame, nbytes, typesize)?;
    let (mut context, mut out) = (DecodeContext::new(), Vec::new());
    for i in 0..frame.blocks() {
        out.extend_from_slice(frame.block(i, &mut context)?.whole());
    }
    Ok(out)
}

/// Decodes with c-blosc; `None` if it rejects the frame.
fn theirs(frame: &[u8], nbytes: usize) -> Option<Vec<u8>> {
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
