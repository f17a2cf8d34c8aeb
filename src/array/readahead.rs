//! Reads the chunks of a read into the page cache before the first of them is needed.
//!
//! # Invariants
//! - A read of cached chunks pays for two queries, whatever its size.
//! - Only the chunks' own pages are requested, and small gaps between them.
//! - From a server, only the chunks' own bytes are: a gap holds whole chunks that nobody asked for.

use std::ops::Range;

use super::cache::ChunkKey;
use super::handle::ArrayHandle;
use super::plan::{PlannedChunk, WaveShards, plan_wave};
use super::shards::OpenShard;
use crate::Result;
use crate::format::grid::ChunkId;

/// Gaps up to this size are read along: a request of their own would cost more.
const GAP_BYTES: u64 = 8 << 10;

/// Begins to read those of `chunks` that `wanted` selects; does not wait for them.
///
/// # Errors
/// Those of opening a shard.
pub(crate) fn read_chunks_ahead(
    array: &ArrayHandle,
    chunks: impl IntoIterator<Item = ChunkId>,
    wanted: impl Fn(ChunkKey) -> bool,
) -> Result<()> {
    if array.foreign().is_some() {
        // Their files are read from end to end, which the system reads ahead by itself.
        return Ok(());
    }
    let chunks = chunks.into_iter().filter(|&id| wanted(array.chunk_key(id)));
    let mut chunks = chunks.map(|id| (id, 0..0)).peekable();
    loop {
        let (mut planned, shards) = plan_wave(array, &mut chunks)?;
        if planned.is_empty() {
            return Ok(());
        }
        read_wave_ahead(&mut planned, &shards);
    }
}

/// Begins to read the chunks of a wave that are not in memory, and sorts the wave by their place on
/// disk.
///
/// Decoding in arrival order overlaps reading with decoding; otherwise all decoding would wait for
/// the slowest chunk.
pub(super) fn read_wave_ahead(planned: &mut [PlannedChunk], shards: &WaveShards) {
    let chunks: Vec<_> = planned
        .iter()
        .filter_map(|chunk| Some((shards[chunk.shard].as_deref()?, chunk.slot)))
        .collect();
    if request(&chunks) {
        planned.sort_unstable_by_key(|chunk| place(shards[chunk.shard].as_deref()?, chunk.slot));
    }
}

/// The place of a chunk in the order of the requests; `None` if it is all zero.
fn place(shard: &OpenShard, slot: usize) -> Option<(*const OpenShard, u64)> {
    Some((std::ptr::from_ref(shard), shard.range(slot)?.start))
}

/// Requests those `chunks` (a shard and a slot each) that are not in memory.
///
/// Returns whether there are any; they arrive in the order of their [`place`]s.
fn request(chunks: &[(&OpenShard, usize)]) -> bool {
    if chunks.first().is_some_and(|(shard, _)| shard.is_remote()) {
        fetch(chunks);
        return true;
    }
    let is_cached = |(shard, slot): &(&OpenShard, usize)| {
        shard.range(*slot).is_none_or(|range| shard.file().is_cached(range.start))
    };
    // The first and the last chunk stand for the others: a volume is mostly in memory or mostly
    // not.
    if [chunks.first(), chunks.last()].into_iter().flatten().all(is_cached) {
        return false;
    }
    let mut chunks = chunks.to_vec();
    chunks.sort_unstable_by_key(|(shard, slot)| place(shard, *slot));
    let ranges: Vec<(&OpenShard, Range<u64>)> =
        chunks.iter().filter_map(|(shard, slot)| Some((*shard, shard.range(*slot)?))).collect();
    let is_near = |a: &(&OpenShard, Range<u64>), b: &(&OpenShard, Range<u64>)| {
        std::ptr::eq(a.0, b.0) && b.1.start <= a.1.end.saturating_add(GAP_BYTES)
    };
    for run in ranges.chunk_by(is_near) {
        let end = run.iter().map(|(_, range)| range.end).max().expect("a run has chunks");
        run[0].0.file().read_ahead(run[0].1.start..end);
    }
    true
}

/// Begins to fetch `chunks` (a shard and a slot each) that a server has to send.
fn fetch(chunks: &[(&OpenShard, usize)]) {
    let mut chunks = chunks.to_vec();
    chunks.sort_unstable_by_key(|(shard, slot)| place(shard, *slot));
    for of_shard in chunks.chunk_by(|a, b| std::ptr::eq(a.0, b.0)) {
        of_shard[0].0.request(of_shard.iter().map(|(_, slot)| *slot));
    }
}
