//! Reads the chunks of a read into the page cache before the first of them is needed.
//!
//! # Invariants
//! - A read of cached chunks pays for two queries, whatever its size.
//! - Only the chunks' own pages are requested, and small gaps between them.
//! - From a server, only the chunks' own bytes are: a gap holds whole chunks that nobody asked for.

use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use super::channels::Channels;
use super::handle::ArrayHandle;
use super::plan::{PlannedChunk, WaveShards, plan_wave};
use super::shards::OpenShard;
use crate::format::grid::{ChunkId, ShardId, check_patch_size};
use crate::memory::reserve;
use crate::{Region, Result, Size3};

/// Gaps up to this size are read along: a request of their own would cost more.
const GAP_BYTES: u64 = 8 << 10;

/// Lists of chunks up to this length may name some twice.
const FEW_CHUNKS: usize = 1 << 16;

/// Shards whose indices a server is asked for at one time.
const OPENED_TOGETHER: usize = 32;

/// The chunks that patches of `size` meet, each once.
///
/// # Errors
/// [`crate::Error::InvalidArgument`], [`crate::Error::OutOfMemory`].
pub(crate) fn chunks_of_patches(
    array: &ArrayHandle,
    starts: &[[i64; 3]],
    size: Size3,
    channels: &Channels,
) -> Result<Vec<ChunkId>> {
    check_patch_size(size)?;
    channels.check(array.layout().channel_count())?;
    let mut chunks: Vec<ChunkId> = Vec::new();
    let mut most = FEW_CHUNKS;
    for &start in starts {
        let region = Region::new(start, size);
        let inside = region.clip(array.layout().size);
        if inside.is_empty() {
            continue;
        }
        let cells = array.layout().chunks_meeting(&inside);
        let cells = cells.iter().map(ExactSizeIterator::len).product::<usize>();
        let count = cells.saturating_mul(channels.len());
        reserve(&mut chunks, count, || format!("a list of {count} chunks"))?;
        chunks.extend(array.chunks_meeting(&region, channels));
        if chunks.len() > most {
            keep_once(&mut chunks);
            most = FEW_CHUNKS.max(2 * chunks.len());
        }
    }
    keep_once(&mut chunks);
    Ok(chunks)
}

fn keep_once(chunks: &mut Vec<ChunkId>) {
    chunks.sort_unstable();
    chunks.dedup();
}

/// Begins to read `chunks`; does not wait for them, nor for what a server says of their shards.
///
/// # Errors
/// Those of opening a shard on a disk. What fails at a server is the error of a later read.
pub(crate) fn read_chunks_ahead(array: &Arc<ArrayHandle>, chunks: Vec<ChunkId>) -> Result<()> {
    let is_open = |chunk: &ChunkId| array.is_open(array.layout().shard_of(*chunk).0);
    if array.foreign().is_some() {
        // Their files are read from end to end, which the system reads ahead by itself.
        Ok(())
    } else if array.is_remote() && !chunks.iter().all(is_open) {
        let array = array.clone();
        let request = move || {
            let _ = open_remote_shards(&array, chunks.iter().copied())
                .and_then(|()| request_chunks(&array, chunks));
        };
        // Without a thread the chunks are asked for when they are read.
        let _ = thread::Builder::new().name("voxquarry-ahead".to_owned()).spawn(request);
        Ok(())
    } else {
        request_chunks(array, chunks)
    }
}

fn request_chunks(array: &ArrayHandle, chunks: Vec<ChunkId>) -> Result<()> {
    let mut chunks = chunks.into_iter().map(|id| (id, 0..0)).peekable();
    loop {
        let (mut planned, shards) = plan_wave(array, &mut chunks)?;
        if planned.is_empty() {
            return Ok(());
        }
        read_wave_ahead(&mut planned, &shards);
    }
}

/// Opens the shards of `chunks` together if they come from a server: one after the other, each
/// would take the time of an answer.
///
/// # Errors
/// Those of opening a shard.
pub(super) fn open_remote_shards(
    array: &ArrayHandle,
    chunks: impl Iterator<Item = ChunkId>,
) -> Result<()> {
    if !array.is_remote() {
        return Ok(());
    }
    let mut ids: Vec<ShardId> = chunks.map(|chunk| array.layout().shard_of(chunk).0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|&id| !array.is_open(id));
    // The other shards are opened when it is their turn, which also waits for descriptors.
    ids.truncate(OPENED_TOGETHER);
    let open = |id| match array.shard(id) {
        Err(error) if !error.is_out_of_descriptors() => Err(error),
        _ => Ok(()),
    };
    thread::scope(|scope| {
        let opening: Vec<_> = ids
            .iter()
            .skip(1)
            // Without a thread a shard waits for its turn.
            .filter_map(|&id| thread::Builder::new().spawn_scoped(scope, move || open(id)).ok())
            .collect();
        let first = ids.first().map_or(Ok(()), |&id| open(id));
        let join = |opening: ScopedJoinHandle<'_, Result<()>>| opening.join().unwrap_or(Ok(()));
        opening.into_iter().map(join).fold(first, Result::and)
    })
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
