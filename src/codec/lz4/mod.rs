//! Encodes and decodes LZ4 blocks; both are made for fast decoding.
//!
//! Not here: LZ4's own frame format; Blosc has its own.

mod copy;
mod decode;
mod encode;
mod matches;
mod plane_refs;
#[cfg(test)]
mod reference;

pub(super) use copy::SLACK_BYTES;
pub(super) use decode::decode;
pub(super) use encode::encode;
pub(super) use matches::{MatchFinder, Search};
pub(super) use plane_refs::PlaneRef;

/// Shortest match of an LZ4 sequence, in bytes.
const MIN_MATCH: usize = 4;

/// A length of this value in a token continues in the bytes that follow.
const TOKEN_MAX: usize = 15;
