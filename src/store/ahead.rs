//! Brings the chunks of a read into the page cache before the first of them is needed, if they are not there.
//!
//! # Invariants
//! - A warm read pays for two look-ups, whatever its size.
//! - No more is asked for than the chunks' own pages, and small gaps between them.

use std::ops::Range;

use super::shards::Shard;

/// A gap that is read along: shorter than what a request of its own would cost.
const GAP_BYTES: u64 = 8 << 10;

/// Where a chunk lies among those of one read, in the order in which they are asked for; `None` if it is all zero.
pub(super) fn place(shard: &Shard, slot: usize) -> Option<(*const Shard, u64)> {
    Some((std::ptr::from_ref(shard), shard.range(slot)?.start))
}

/// Begins to read those `chunks` (a shard and a slot in it each) that memory does not hold; waits for nothing.
///
/// Whether there are any: then they come in the order of their [`place`]s.
pub(super) fn read_ahead(chunks: &[(&Shard, usize)]) -> bool {
    let is_cached = |(shard, slot): &(&Shard, usize)| {
        shard.range(*slot).is_none_or(|range| shard.source().is_cached(range.start))
    };
    // A read's first and last chunk speak for the others: a volume is mostly in memory, or mostly not.
    if [chunks.first(), chunks.last()].into_iter().flatten().all(is_cached) {
        return false;
    }
    let mut chunks = chunks.to_vec();
    chunks.sort_unstable_by_key(|(shard, slot)| place(shard, *slot));
    let wanted: Vec<(&Shard, Range<u64>)> =
        chunks.iter().filter_map(|(shard, slot)| Some((*shard, shard.range(*slot)?))).collect();
    let together = |a: &(&Shard, Range<u64>), b: &(&Shard, Range<u64>)| {
        std::ptr::eq(a.0, b.0) && b.1.start <= a.1.end.saturating_add(GAP_BYTES)
    };
    for run in wanted.chunk_by(together) {
        let end = run.iter().map(|(_, range)| range.end).max().expect("a run has chunks");
        run[0].0.source().read_ahead(run[0].1.start..end);
    }
    true
}
