//! Computes and splits off the crc32c after a chunk's payload.

use crate::format::index::u32_at;

/// Bytes of the crc32c after a chunk's payload.
pub const CHECKSUM_BYTES: usize = 4;

/// Splits a chunk into its payload and the stored checksum.
///
/// # Panics
/// If `encoded` is shorter than [`CHECKSUM_BYTES`].
pub fn split_checksum(encoded: &[u8]) -> (&[u8], u32) {
    let (payload, checksum) = encoded.split_at(encoded.len() - CHECKSUM_BYTES);
    (payload, u32_at(checksum, 0))
}

/// The crc32c of `payload`.
pub fn checksum(payload: &[u8]) -> u32 {
    crc32c::crc32c(payload)
}
