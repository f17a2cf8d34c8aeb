//! Caches of decoded chunks: the trait that readers use, and an LRU cache bounded in bytes.
//!
//! The LRU cache admits a chunk at its second visit while the first is remembered. A random sweep
//! over a huge dataset visits most chunks once, so it does not pay for filling the cache and does
//! not evict chunks that a sliding window needs next.
//!
//! # Invariants
//! - The sum of the entries' lengths never exceeds the budget.
//! - At most [`REMEMBERED`] visits are remembered.

use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};

use lru::LruCache;

use crate::sys::sync::{Mutex, MutexGuard};

/// The name of a chunk: the id of its array, and its index in the array.
pub(crate) type ChunkKey = (u64, u64);

/// Remembered visits: a few thousand chunks are several hundred megabytes of voxels.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// The answer of a [`ChunkCache`] to a reader that needs a chunk.
pub(crate) enum CacheLookup {
    /// The chunk's voxels.
    Hit(Arc<[u8]>),
    /// The reader decodes the whole chunk and calls [`ChunkCache::insert`].
    Admit,
    /// The reader decodes only the blocks that it needs.
    Pass,
}

/// A cache of decoded chunks.
pub(crate) trait ChunkCache: Sync {
    /// Looks a chunk up and records the visit.
    fn lookup(&self, key: ChunkKey, chunk_bytes: usize) -> CacheLookup;

    /// A buffer for an admitted chunk.
    fn buffer(&self, chunk_bytes: usize) -> Arc<[u8]>;

    /// Stores an admitted chunk.
    fn insert(&self, key: ChunkKey, chunk: Arc<[u8]>);

    /// Whether it could store a chunk that it does not admit without evicting another.
    fn has_space(&self, _chunk_bytes: usize) -> bool {
        false
    }

    /// Records the work of a part of a read.
    fn record(&self, _: &ReadStats) {}
}

/// The work of a part of a read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadStats {
    /// Chunks that the cache held.
    pub(crate) hits: u64,
    /// Chunks that were decoded, or copied if they are raw.
    pub(crate) decoded: u64,
    /// The bytes of the decoded chunks in their shards.
    pub(crate) encoded_bytes: u64,
}

/// A [`ChunkCache`] that evicts the least recently used chunk.
#[derive(Debug)]
pub(crate) struct LruChunkCache {
    budget_bytes: usize,
    state: Mutex<LruState>,
}

#[derive(Debug)]
struct LruState {
    chunks: LruCache<ChunkKey, Arc<[u8]>>,
    bytes: usize,
    visited: LruCache<ChunkKey, ()>,
}

impl LruChunkCache {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        let state = LruState {
            chunks: LruCache::unbounded(),
            bytes: 0,
            visited: LruCache::new(REMEMBERED),
        };
        Self { budget_bytes, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, LruState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the chunks that the cache holds.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }
}

impl ChunkCache for LruChunkCache {
    fn lookup(&self, key: ChunkKey, chunk_bytes: usize) -> CacheLookup {
        if chunk_bytes > self.budget_bytes {
            return CacheLookup::Pass;
        }
        let mut state = self.state();
        if let Some(chunk) = state.chunks.get(&key) {
            return CacheLookup::Hit(chunk.clone());
        }
        if state.visited.pop(&key).is_some() {
            return CacheLookup::Admit;
        }
        state.visited.put(key, ());
        CacheLookup::Pass
    }

    /// Evicts chunks until one more fits, and returns a buffer for it: an evicted one's if no
    /// reader holds it.
    ///
    /// The allocator keeps an arena for each thread. Fresh buffers would come from the arena of the
    /// decoding thread while evicted ones return to others; together the arenas would exceed the
    /// budget by half.
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

    fn has_space(&self, chunk_bytes: usize) -> bool {
        chunk_bytes <= self.budget_bytes - self.state().bytes
    }
}

/// A buffer of zeros.
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
        let cache = LruChunkCache::new(100);
        for id in 0..10 {
            assert!(matches!(cache.lookup((0, id), 30), CacheLookup::Pass));
            assert!(matches!(cache.lookup((0, id), 30), CacheLookup::Admit));
            cache.insert((0, id), chunk(30));
            assert!(cache.bytes() <= 100);
        }
        assert!(matches!(cache.lookup((0, 9), 30), CacheLookup::Hit(c) if c.len() == 30));
        assert!(matches!(cache.lookup((0, 0), 30), CacheLookup::Pass));
        assert_eq!(cache.bytes(), 90);
        assert!(cache.has_space(10) && !cache.has_space(11));
    }

    #[test]
    fn an_evicted_buffer_is_used_again_unless_a_reader_holds_it() {
        let cache = LruChunkCache::new(60);
        let (first, second) = (chunk(30), chunk(30));
        let addresses = [&first, &second].map(|c| c.as_ptr());
        cache.insert((0, 0), first);
        cache.insert((0, 1), second);
        assert_eq!(cache.buffer(30).as_ptr(), addresses[0]);
        assert_eq!(cache.bytes(), 30);
        cache.insert((0, 2), chunk(30));
        let CacheLookup::Hit(reader) = cache.lookup((0, 1), 30) else { panic!("it is there") };
        assert!(matches!(cache.lookup((0, 2), 30), CacheLookup::Hit(_)));
        let fresh = cache.buffer(30);
        assert!(fresh.as_ptr() != addresses[1] && reader.as_ptr() == addresses[1]);
    }

    #[test]
    fn what_exceeds_the_budget_is_never_admitted() {
        let cache = LruChunkCache::new(10);
        for _ in 0..3 {
            assert!(matches!(cache.lookup((0, 0), 11), CacheLookup::Pass));
        }
        cache.insert((0, 1), chunk(11));
        assert_eq!(cache.bytes(), 0);
    }
}

#[cfg(all(test, feature = "model"))]
mod model {
    use loom::thread;

    use super::*;
    use crate::sys::sync::in_every_order;

    const CHUNK: usize = 8;

    /// Reads a chunk twice, as a reader does: what the cache holds is that chunk, whole.
    fn read(cache: &LruChunkCache, key: u64) {
        for _ in 0..2 {
            match cache.lookup((0, key), CHUNK) {
                CacheLookup::Hit(chunk) => {
                    // Others may evict it meanwhile.
                    thread::yield_now();
                    assert_eq!(*chunk, [key as u8; CHUNK]);
                }
                CacheLookup::Admit => {
                    let mut chunk = cache.buffer(CHUNK);
                    Arc::get_mut(&mut chunk).expect("nobody else's").fill(key as u8);
                    cache.insert((0, key), chunk);
                }
                CacheLookup::Pass => {}
            }
            assert!(cache.bytes() <= cache.budget_bytes);
        }
    }

    #[test]
    fn readers_see_whole_chunks_and_the_budget_holds() {
        in_every_order(2, || {
            let cache = Arc::new(LruChunkCache::new(CHUNK));
            (0..2).for_each(|key| read(&cache, key));
            let other = cache.clone();
            let other = thread::spawn(move || read(&other, 1));
            read(&cache, 2);
            other.join().unwrap();
            let state = cache.state();
            let bytes: usize = state.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
            assert_eq!(state.bytes, bytes);
        });
    }
}
