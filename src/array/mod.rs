//! One chunked array on disk: reading regions of it, and writing its shards.
//!
//! A read has four steps, one module each: [`plan`] finds the chunks that meet the regions,
//! [`cache`] or `codec` yields the voxels of each chunk, [`scatter`] copies the shared ones into
//! the caller's buffer, and [`gather`] joins these. [`padded`] adds what lies outside of the array.
//!
//! # Invariants
//! - A published shard never changes, so threads share it without a lock.
//! - Memory is the cache budget, a bounded number of shard indices, and the caller's buffer,
//!   whatever the size of the array.
//!
//! Not here: names, affines and sidecar files of volumes (`store`).

pub(crate) mod array1d;
pub(crate) mod boxes;
pub(crate) mod cache;
pub(crate) mod channels;
mod chunk_encoder;
pub(crate) mod context;
mod decode;
pub(crate) mod flush;
pub(crate) mod foreign;
mod gather;
pub(crate) mod handle;
pub(crate) mod labels;
mod padded;
mod plan;
mod readahead;
pub(crate) mod reduce;
pub(crate) mod rows;
mod scatter;
pub(crate) mod shard_file;
pub(crate) mod shard_list;
pub(crate) mod shards;
pub(crate) mod statistics;
pub(crate) mod weights;

pub(crate) use chunk_encoder::ChunkEncoder;
pub(crate) use decode::{decode_chunk, is_worth_caching};
pub(crate) use gather::{ReadContext, gather_cells};
pub(crate) use padded::read_patches;
pub(crate) use readahead::{chunks_of_patches, read_chunks_ahead};
