//! A chunk's bytes, to and fro: checksum, Blosc frame, shuffles, compressors.
//!
//! Encoded bytes come in as a slice of the map or of a read buffer. [`frame::Frame`] gives back one block at a time, in
//! buffers that stay in the processor's nearest cache: no whole chunk need ever exist.
//!
//! # Invariants
//! - Any bytes may come in: every length is bounded before it is used, and what is wrong becomes a message.
//! - Nothing is allocated per chunk in steady state; buffers live in [`Scratch`].
//!
//! Not here: where the bytes lie (`source`), which are wanted (`format::grid`).

mod constant;
pub mod encode;
pub mod frame;
mod kernel;
mod lz4;
mod planes;
pub(crate) mod rows;
mod shuffle;
mod zstd;

use constant::LastConstant;

use crate::format::index::u32_at;

/// Bytes of a chunk's trailing crc32c.
pub const CHECKSUM_BYTES: usize = 4;

/// Buffers and decompressor of one thread.
#[derive(Default)]
pub struct Scratch {
    streams: Vec<u8>,
    joined: Vec<u8>,
    unsplit: Vec<u8>,
    zstd: Option<zstd_safe::DCtx<'static>>,
    constant: LastConstant,
}

impl Scratch {
    /// Empty; it grows to a block's size at first use.
    pub const fn new() -> Self {
        Self {
            streams: Vec::new(),
            joined: Vec::new(),
            unsplit: Vec::new(),
            zstd: None,
            constant: LastConstant::new(),
        }
    }
}

/// What a decoder met, for an error that knows the file and chunk.
pub type Complaint = String;

/// A chunk's payload and its checksum, `(found, expected)` apart; `encoded` has at least five bytes.
pub fn split_checksum(encoded: &[u8]) -> (&[u8], u32) {
    let (payload, checksum) = encoded.split_at(encoded.len() - CHECKSUM_BYTES);
    (payload, u32_at(checksum, 0))
}

/// The checksum that belongs behind `payload`.
pub fn checksum(payload: &[u8]) -> u32 {
    crc32c::crc32c(payload)
}
