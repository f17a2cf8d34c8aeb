//! Encodes and decodes the bytes of one chunk: checksum, Blosc frame, shuffles, compressors.
//!
//! Encoded bytes come in as a slice of a map or of a read buffer. A [`Frame`] decodes one block at
//! a time into buffers that stay in the L1 and L2 cache; a whole decoded chunk need not exist.
//!
//! ```
//! use voxquarry::codec::{DecodeContext, Encoder, Frame};
//! use voxquarry::format::array::{BloscParameters, Compressor, Shuffle};
//!
//! let (compressor, shuffle) = (Compressor::Lz4, Shuffle::Bit);
//! let parameters = BloscParameters { compressor, level: 5, shuffle, block_bytes: 1 << 15 };
//! let mut bytes = Vec::new();
//! Encoder::new(parameters, 2).encode(&[7; 4096], &mut bytes);
//!
//! let frame = Frame::parse(&bytes, 4096, 2)?;
//! let mut context = DecodeContext::new();
//! assert_eq!(frame.block(0, &mut context)?.whole(), [7; 4096]);
//! # Ok::<(), voxquarry::codec::DecodeError>(())
//! ```
//!
//! # Invariants
//! - Input is untrusted: every length is checked before use, and damage becomes a [`DecodeError`].
//! - Decoding allocates nothing per chunk in steady state: buffers live in a [`DecodeContext`].
//!
//! Not here: reading the bytes (`sys`), choosing chunks and shards (`format::grid`).

mod block;
mod checksum;
mod constant;
mod context;
mod encode;
mod error;
mod frame;
mod header;
mod lz4;
mod planes;
mod shuffle;
mod strategy;
mod strided;
mod zstd;

pub use block::Block;
pub use checksum::{CHECKSUM_BYTES, checksum, split_checksum};
pub use context::DecodeContext;
pub use encode::Encoder;
pub use error::DecodeError;
pub use frame::Frame;
pub use header::HEADER_BYTES;
pub(crate) use strided::RowsMut;
pub(crate) use zstd::is_out_of_memory;
