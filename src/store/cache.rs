//! Decoded chunks, least recently used first out, bounded in bytes.
//!
//! A chunk is admitted when it is asked for a second time while its first visit is still remembered. So a random sweep
//! over a huge data set, which never comes back soon, neither fills the cache nor pays for filling it, and does not evict
//! what a sliding window will need next.
//!
//! # Invariants
//! - The sum of the entries' lengths never exceeds the budget.
//! - At most [`REMEMBERED`] visits are remembered.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

/// Names a chunk: the volume's number in its context, the chunk's number in the volume.
pub(crate) type ChunkKey = (u64, u64);

/// Visits that are remembered: a few thousand chunks are several hundred megabytes of voxels.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// What to do with a chunk.
pub(crate) enum Lookup {
    /// Its voxels are here.
    Hit(Arc<[u8]>),
    /// Decode all of it and [`ChunkCache::insert`] it.
    Admit,
    /// Decode what is wanted.
    Pass,
}

/// Who keeps the decoded chunks of a read.
pub(crate) trait Keeper: Sync {
    /// The chunk, or what to do instead; notes the visit.
    fn lookup(&self, key: ChunkKey, chunk_bytes: usize) -> Lookup;

    /// A buffer for a chunk that was admitted.
    fn buffer(&self, chunk_bytes: usize) -> Arc<[u8]>;

    /// Keeps a chunk that was admitted.
    fn insert(&self, key: ChunkKey, chunk: Arc<[u8]>);

    /// Is told what a part of a read took.
    fn note(&self, _: &Tally) {}
}

/// What a part of a read took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Chunks that were there.
    pub(crate) hits: u64,
    /// Chunks that were decoded, or copied where they are raw.
    pub(crate) decoded: u64,
    /// Their bytes in the shards.
    pub(crate) encoded_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct ChunkCache {
    budget_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chunks: LruCache<ChunkKey, Arc<[u8]>>,
    bytes: usize,
    visited: LruCache<ChunkKey, ()>,
}

impl ChunkCache {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        let state =
            State { chunks: LruCache::unbounded(), bytes: 0, visited: LruCache::new(REMEMBERED) };
        Self { budget_bytes, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of decoded chunks held.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }
}

impl Keeper for ChunkCache {
    fn lookup(&self, key: ChunkKey, chunk_bytes: usize) -> Lookup {
        if chunk_bytes > self.budget_bytes {
            return Lookup::Pass;
        }
        let mut state = self.state();
        if let Some(chunk) = state.chunks.get(&key) {
            return Lookup::Hit(chunk.clone());
        }
        if state.visited.pop(&key).is_some() {
            return Lookup::Admit;
        }
        state.visited.put(key, ());
        Lookup::Pass
    }

    /// Makes room for a chunk and gives a buffer for it: an evicted chunk's, where nobody reads that any more.
    ///
    /// Fresh ones would come from the arena of whichever thread decodes, and evicted ones go back to another's: each
    /// arena would grow to its largest share, and together they would exceed the budget by half.
    fn buffer(&self, chunk_bytes: usize) -> Arc<[u8]> {
        let mut spare = None;
        let mut state = self.state();
        while state.bytes + chunk_bytes > self.budget_bytes {
            let Some((_, old)) = state.chunks.pop_lru() else { break };
            state.bytes -= old.len();
            spare = Some(old);
        }
        drop(state);
        spare
            .filter(|old| old.len() == chunk_bytes && Arc::strong_count(old) == 1)
            .unwrap_or_else(|| zeros(chunk_bytes))
    }

    fn insert(&self, key: ChunkKey, chunk: Arc<[u8]>) {
        let mut state = self.state();
        if let Some(old) = state.chunks.pop(&key) {
            state.bytes -= old.len();
        }
        while state.bytes + chunk.len() > self.budget_bytes {
            let Some((_, old)) = state.chunks.pop_lru() else { return };
            state.bytes -= old.len();
        }
        state.bytes += chunk.len();
        state.chunks.put(key, chunk);
    }
}

/// A buffer of so many zeros.
pub(crate) fn zeros(bytes: usize) -> Arc<[u8]> {
    std::iter::repeat_n(0, bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(n: usize) -> Arc<[u8]> {
        vec![1; n].into()
    }

    #[test]
    fn second_visit_admits_and_budget_holds() {
        let cache = ChunkCache::new(100);
        for id in 0..10 {
            assert!(matches!(cache.lookup((0, id), 30), Lookup::Pass));
            assert!(matches!(cache.lookup((0, id), 30), Lookup::Admit));
            cache.insert((0, id), chunk(30));
            assert!(cache.bytes() <= 100);
        }
        assert!(matches!(cache.lookup((0, 9), 30), Lookup::Hit(c) if c.len() == 30));
        assert!(matches!(cache.lookup((0, 0), 30), Lookup::Pass));
        assert_eq!(cache.bytes(), 90);
    }

    #[test]
    fn an_evicted_buffer_is_used_again_unless_it_is_read() {
        let cache = ChunkCache::new(60);
        let (first, second) = (chunk(30), chunk(30));
        let addresses = [&first, &second].map(|c| c.as_ptr());
        cache.insert((0, 0), first);
        cache.insert((0, 1), second);
        assert_eq!(cache.buffer(30).as_ptr(), addresses[0]);
        assert_eq!(cache.bytes(), 30);
        cache.insert((0, 2), chunk(30));
        let Lookup::Hit(reader) = cache.lookup((0, 1), 30) else { panic!("it is there") };
        assert!(matches!(cache.lookup((0, 2), 30), Lookup::Hit(_)));
        let fresh = cache.buffer(30);
        assert!(fresh.as_ptr() != addresses[1] && reader.as_ptr() == addresses[1]);
    }

    #[test]
    fn what_exceeds_the_budget_is_never_admitted() {
        let cache = ChunkCache::new(10);
        for _ in 0..3 {
            assert!(matches!(cache.lookup((0, 0), 11), Lookup::Pass));
        }
        cache.insert((0, 1), chunk(11));
        assert_eq!(cache.bytes(), 0);
    }
}
