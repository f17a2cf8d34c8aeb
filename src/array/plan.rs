//! Finds the shard and the slot of each chunk of a read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::handle::ArrayHandle;
use super::shards::OpenShard;
use crate::Result;
use crate::format::grid::{ChunkId, ShardId};

/// Chunks that are planned at a time: this bounds the shards that one read holds open.
pub(super) const WAVE_CHUNKS: usize = 4096;

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

/// Finds the shards of `chunks`, each once.
pub(super) fn plan_wave(
    array: &ArrayHandle,
    chunks: impl Iterator<Item = (ChunkId, Range<usize>)>,
) -> Result<(Vec<PlannedChunk>, WaveShards)> {
    let mut shards = WaveShards::new();
    let mut positions: HashMap<ShardId, usize> = HashMap::new();
    let mut last: Option<(ShardId, usize)> = None;
    let mut planned = Vec::new();
    for (chunk, pairs) in chunks {
        let (id, slot) = array.layout().shard_of(chunk);
        let known = last.filter(|last| last.0 == id).map(|last| last.1);
        let shard = if let Some(position) = known.or_else(|| positions.get(&id).copied()) {
            position
        } else {
            shards.push(array.shard(id)?);
            positions.insert(id, shards.len() - 1);
            shards.len() - 1
        };
        last = Some((id, shard));
        planned.push(PlannedChunk { chunk, shard, slot, pairs });
    }
    Ok((planned, shards))
}
