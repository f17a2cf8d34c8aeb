//! Finds the shard and the slot of each chunk of a read.

use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use super::handle::ArrayHandle;
use super::shards::OpenShard;
use crate::format::grid::{ChunkId, ShardId};
use crate::sys::descriptors::waiting_for_room;
use crate::{Error, Result};

/// Chunks that are planned at a time.
const WAVE_CHUNKS: usize = 4096;

/// Shards that one read holds open.
const WAVE_SHARDS: usize = 32;

/// The shards of a wave; those without a file are all zero.
pub(super) type WaveShards = Vec<Option<Arc<OpenShard>>>;

/// A chunk, its place on disk, and the patches that want it.
pub(super) struct PlannedChunk {
    pub(super) chunk: ChunkId,
    /// The position of its shard in [`WaveShards`].
    pub(super) shard: usize,
    pub(super) slot: usize,
    /// Its part of the read's list of (grid cell, patch) pairs.
    pub(super) pairs: Range<usize>,
}

/// Takes some of `chunks`, and finds their shards, each once.
///
/// # Errors
/// Those of opening a shard. If the descriptors run out, the wave ends before the shard, and the
/// next one waits for a descriptor.
pub(super) fn plan_wave(
    array: &ArrayHandle,
    chunks: &mut Peekable<impl Iterator<Item = (ChunkId, Range<usize>)>>,
) -> Result<(Vec<PlannedChunk>, WaveShards)> {
    let mut shards = WaveShards::new();
    let mut positions: HashMap<ShardId, usize> = HashMap::new();
    let mut last: Option<(ShardId, usize)> = None;
    let mut planned = Vec::new();
    while planned.len() < WAVE_CHUNKS {
        let Some(&(chunk, _)) = chunks.peek() else { break };
        let (id, slot) = array.layout().shard_of(chunk);
        let known = last.filter(|last| last.0 == id).map(|last| last.1);
        let shard = if let Some(position) = known.or_else(|| positions.get(&id).copied()) {
            position
        } else if shards.len() == WAVE_SHARDS {
            break;
        } else {
            let opened = if shards.is_empty() {
                waiting_for_room(|| array.shard(id), Error::is_out_of_descriptors)
            } else {
                array.shard(id)
            };
            match opened {
                Err(error) if error.is_out_of_descriptors() && !shards.is_empty() => break,
                opened => shards.push(opened?),
            }
            positions.insert(id, shards.len() - 1);
            shards.len() - 1
        };
        last = Some((id, shard));
        let pairs = chunks.next().map_or(0..0, |(_, pairs)| pairs);
        planned.push(PlannedChunk { chunk, shard, slot, pairs });
    }
    Ok((planned, shards))
}
