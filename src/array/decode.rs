//! Decodes whole chunks.

use std::cell::RefCell;
use std::sync::Arc;

use super::cache::zeros;
use super::shards::{OpenShard, Verify};
use crate::Result;
use crate::codec::{DecodeContext, DecodeError, Frame};
use crate::format::array::{ArrayLayout, ChunkCodec, Compressor};
use crate::memory::has_room;

thread_local! {
    static BUFFERS: RefCell<(DecodeContext, Vec<u8>)> =
        const { RefCell::new((DecodeContext::new(), Vec::new())) };
}

/// Runs `work` with this thread's decoder state and its buffer for encoded bytes.
pub(super) fn with_buffers<R>(work: impl FnOnce(&mut DecodeContext, &mut Vec<u8>) -> R) -> R {
    BUFFERS.with_borrow_mut(|(decoder, encoded)| work(decoder, encoded))
}

/// Whether decoding a chunk again costs more than copying its voxels out of a cache.
///
/// LZ4 and the joining of byte planes run at the speed of memory: a hit would save nothing and
/// occupy the cache.
pub(crate) fn is_worth_caching(codec: ChunkCodec) -> bool {
    matches!(codec, ChunkCodec::Blosc(parameters) if parameters.compressor == Compressor::Zstd)
}

/// Decodes the chunk in `slot` of a shard and compares its checksum; `None` if it is all zero.
///
/// # Errors
/// [`crate::Error::ChunkChecksum`], [`crate::Error::ChunkDecode`], [`crate::Error::Io`].
pub(crate) fn decode_chunk(
    layout: &ArrayLayout,
    shard: &OpenShard,
    slot: usize,
) -> Result<Option<Arc<[u8]>>> {
    shard.file().check_length()?;
    with_buffers(|decoder, encoded| {
        let Some(payload) = shard.payload(slot, Verify::Always, encoded)? else {
            return Ok(None);
        };
        let decoded = if layout.codec == ChunkCodec::Raw {
            check_raw_length(payload.bytes, layout.chunk_bytes())
                .and_then(|()| check_room(layout.chunk_bytes()))
                .map(|()| payload.bytes.into())
        } else {
            parse_frame(payload.bytes, layout).and_then(|frame| {
                check_room(layout.chunk_bytes())?;
                decode_whole(&frame, zeros(layout.chunk_bytes()), decoder)
            })
        };
        decoded.map(Some).map_err(|error| shard.decode_error(slot, payload.offset, error))
    })
}

pub(super) fn parse_frame<'a>(
    bytes: &'a [u8],
    layout: &ArrayLayout,
) -> Result<Frame<'a>, DecodeError> {
    Frame::parse(bytes, layout.chunk_bytes(), layout.dtype.size())
}

pub(super) fn check_raw_length(bytes: &[u8], expected: usize) -> Result<(), DecodeError> {
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(DecodeError::RawLength { found: bytes.len(), expected })
    }
}

/// Checks that there is memory for the voxels of a chunk.
pub(super) fn check_room(bytes: usize) -> Result<(), DecodeError> {
    has_room(bytes).then_some(()).ok_or(DecodeError::OutOfMemory { bytes })
}

/// Decodes all elements of a frame into `voxels`, which has their length and no other owner.
pub(super) fn decode_whole(
    frame: &Frame<'_>,
    mut voxels: Arc<[u8]>,
    decoder: &mut DecodeContext,
) -> Result<Arc<[u8]>, DecodeError> {
    let out = Arc::get_mut(&mut voxels).expect("the buffer has one owner");
    for i in 0..frame.blocks() {
        out[frame.block_range(i)].copy_from_slice(frame.block(i, decoder)?.whole());
    }
    Ok(voxels)
}
