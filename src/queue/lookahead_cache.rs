//! Caches decoded chunks for later patches and evicts the chunk whose next use is farthest away
//! (Belady 1966).
//!
//! Workers announce uses as far ahead as these can matter. A chunk without a known next use ranks
//! behind all others; among such chunks, the least recently used is evicted first.
//!
//! # Invariants
//! - The cached chunks never exceed the budget. At most [`MAX_USES`] uses are known, of no more
//!   chunks than would fill the budget twice.
//! - The contents of the cache affect the speed of reading, never its result.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use super::stats::QueueCounters;
use crate::array::cache::{CacheLookup, ChunkCache, ChunkKey, ReadStats, zeros};
use crate::sys::sync::{Mutex, MutexGuard};

/// The decoded chunk that is evicted when the cache is full.
///
/// ```
/// use voxquarry::{Eviction, QueueOptions};
///
/// assert_eq!(Eviction::default(), Eviction::Farthest);
/// let options = QueueOptions::default().volumes(["ct"]).eviction(Eviction::Oldest);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Eviction {
    /// The chunk whose next use is farthest in the future.
    #[default]
    Farthest,
    /// The least recently used chunk, for comparison.
    Oldest,
}

/// Limits the uses that are known at a time.
const MAX_USES: usize = 1 << 20;

/// Chunks without a known next use have ranks from here on.
const UNKNOWN: u64 = 1 << 63;

/// Decoded chunks, limited to a budget of bytes.
#[derive(Debug)]
pub(super) struct LookaheadCache {
    budget_bytes: usize,
    eviction: Eviction,
    state: Mutex<LookaheadState>,
}

#[derive(Debug, Default)]
struct LookaheadState {
    cached: HashMap<ChunkKey, CachedChunk>,
    /// Every cached chunk by its rank; the last one is evicted first.
    ranks: BTreeSet<(u64, ChunkKey)>,
    bytes: usize,
    /// Announced uses of each chunk, ascending.
    uses: HashMap<ChunkKey, VecDeque<u64>>,
    use_count: usize,
    /// Bytes of the chunks with announced uses.
    use_bytes: usize,
}

#[derive(Debug)]
struct CachedChunk {
    voxels: Arc<[u8]>,
    rank: u64,
    last_use: u64,
}

impl LookaheadState {
    fn next_use(&self, key: ChunkKey) -> Option<u64> {
        self.uses.get(&key).and_then(|uses| uses.front().copied())
    }

    fn rank(&self, key: ChunkKey, last_use: u64, eviction: Eviction) -> u64 {
        let unknown = UNKNOWN + (UNKNOWN - 1 - last_use);
        match eviction {
            Eviction::Farthest => self.next_use(key).unwrap_or(unknown),
            Eviction::Oldest => unknown,
        }
    }

    /// Changes the rank of a cached chunk.
    fn set_rank(&mut self, key: ChunkKey, rank: u64) {
        if let Some(chunk) = self.cached.get_mut(&key) {
            self.ranks.remove(&(chunk.rank, key));
            chunk.rank = rank;
            self.ranks.insert((rank, key));
        }
    }

    fn remove(&mut self, key: ChunkKey) -> Option<Arc<[u8]>> {
        let chunk = self.cached.remove(&key)?;
        self.ranks.remove(&(chunk.rank, key));
        self.bytes -= chunk.voxels.len();
        Some(chunk.voxels)
    }

    fn forget_use(&mut self, key: ChunkKey, at: u64, chunk_bytes: usize) {
        let Some(uses) = self.uses.get_mut(&key) else { return };
        if let Ok(i) = uses.binary_search(&at) {
            uses.remove(i);
            self.use_count -= 1;
            if uses.is_empty() {
                self.uses.remove(&key);
                self.use_bytes -= chunk_bytes;
            }
        }
    }
}

impl LookaheadCache {
    pub(super) fn new(budget_bytes: usize, eviction: Eviction) -> Self {
        Self { budget_bytes, eviction, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, LookaheadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another iteration: forgets all announced uses and keeps the chunks.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.uses.clear();
        (state.use_count, state.use_bytes) = (0, 0);
        state.ranks.clear();
        for (key, chunk) in &mut state.cached {
            // Nothing is known yet of their uses in this iteration.
            (chunk.rank, chunk.last_use) = (UNKNOWN + (UNKNOWN - 1), 0);
            state.ranks.insert((chunk.rank, *key));
        }
    }

    /// Whether more announced uses could change an eviction: a use farther away than a full cache
    /// never is the nearest.
    pub(super) fn wants_more_uses(&self) -> bool {
        let state = self.state();
        self.eviction == Eviction::Farthest
            && state.use_count < MAX_USES
            && state.use_bytes <= self.budget_bytes.saturating_mul(2)
    }

    /// Announces that patch `at` will use these chunks of `chunk_bytes` each.
    pub(super) fn announce(
        &self,
        keys: impl Iterator<Item = ChunkKey>,
        at: u64,
        chunk_bytes: usize,
    ) {
        if self.eviction != Eviction::Farthest || chunk_bytes > self.budget_bytes {
            return;
        }
        let mut state = self.state();
        let state = &mut *state;
        for key in keys {
            let uses = state.uses.entry(key).or_default();
            if uses.is_empty() {
                state.use_bytes += chunk_bytes;
            }
            // Threads announce nearly in order.
            let index = uses.partition_point(|&use_| use_ < at);
            uses.insert(index, at);
            state.use_count += 1;
            if index == 0 {
                state.set_rank(key, at);
            }
        }
    }

    /// Withdraws the uses of patch `at`, which could not be read.
    pub(super) fn withdraw(
        &self,
        keys: impl Iterator<Item = ChunkKey>,
        at: u64,
        chunk_bytes: usize,
    ) {
        let mut state = self.state();
        for key in keys {
            state.forget_use(key, at, chunk_bytes);
            if let Some(last_use) = state.cached.get(&key).map(|chunk| chunk.last_use) {
                let rank = state.rank(key, last_use, self.eviction);
                state.set_rank(key, rank);
            }
        }
    }

    /// Whether a chunk is cached.
    pub(super) fn holds(&self, key: ChunkKey) -> bool {
        self.state().cached.contains_key(&key)
    }

    /// Bytes of the cached chunks.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.state().bytes
    }
}

/// The cache as one patch uses it.
pub(super) struct CacheUse<'a> {
    pub(super) cache: &'a LookaheadCache,
    /// The patch's number in its iteration.
    pub(super) at: u64,
    pub(super) counters: &'a QueueCounters,
}

impl ChunkCache for CacheUse<'_> {
    fn lookup(&self, key: ChunkKey, chunk_bytes: usize) -> CacheLookup {
        let LookaheadCache { budget_bytes, eviction, .. } = *self.cache;
        if chunk_bytes > budget_bytes {
            return CacheLookup::Pass;
        }
        let mut state = self.cache.state();
        state.forget_use(key, self.at, chunk_bytes);
        let rank = state.rank(key, self.at, eviction);
        if let Some(chunk) = state.cached.get_mut(&key) {
            chunk.last_use = self.at;
            let voxels = chunk.voxels.clone();
            state.set_rank(key, rank);
            return CacheLookup::Hit(voxels);
        }
        let has_room = state.bytes + chunk_bytes <= budget_bytes;
        let is_nearer = || state.ranks.last().is_some_and(|last| rank < last.0);
        if has_room || is_nearer() { CacheLookup::Admit } else { CacheLookup::Pass }
    }

    fn buffer(&self, chunk_bytes: usize) -> Arc<[u8]> {
        let mut state = self.cache.state();
        let mut spare = None;
        while state.bytes + chunk_bytes > self.cache.budget_bytes {
            let Some(&(_, farthest)) = state.ranks.last() else { break };
            spare = state.remove(farthest);
        }
        drop(state);
        let reusable = |old: &Arc<[u8]>| old.len() == chunk_bytes && Arc::strong_count(old) == 1;
        spare.filter(reusable).unwrap_or_else(|| zeros(chunk_bytes))
    }

    fn insert(&self, key: ChunkKey, chunk: Arc<[u8]>) {
        let mut state = self.cache.state();
        state.remove(key);
        let rank = state.rank(key, self.at, self.cache.eviction);
        while state.bytes + chunk.len() > self.cache.budget_bytes {
            // Other threads may have filled the room since `buffer` made it.
            match state.ranks.last() {
                Some(&(last, farthest)) if last > rank => drop(state.remove(farthest)),
                _ => return,
            }
        }
        state.bytes += chunk.len();
        state.ranks.insert((rank, key));
        state.cached.insert(key, CachedChunk { voxels: chunk, rank, last_use: self.at });
    }

    fn record(&self, stats: &ReadStats) {
        self.counters.record(stats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 10;

    /// Reads patches of one chunk each, all announced before; returns how many chunks were decoded.
    fn decoded(sequence: &[u64], capacity: usize, eviction: Eviction) -> usize {
        let (cache, counters) =
            (LookaheadCache::new(capacity * CHUNK, eviction), QueueCounters::default());
        for (at, &key) in sequence.iter().enumerate() {
            cache.announce([(0, key)].into_iter(), at as u64, CHUNK);
        }
        let mut decoded = 0;
        for (at, &key) in sequence.iter().enumerate() {
            let user = CacheUse { cache: &cache, at: at as u64, counters: &counters };
            match user.lookup((0, key), CHUNK) {
                CacheLookup::Hit(voxels) => assert_eq!(voxels[0], key as u8),
                CacheLookup::Admit => {
                    decoded += 1;
                    let mut voxels = user.buffer(CHUNK);
                    Arc::get_mut(&mut voxels).unwrap().fill(key as u8);
                    user.insert((0, key), voxels);
                }
                CacheLookup::Pass => decoded += 1,
            }
            assert!(cache.bytes() <= capacity * CHUNK);
        }
        let state = cache.state();
        assert_eq!((state.use_count, state.use_bytes, state.uses.len()), (0, 0, 0));
        assert_eq!(state.cached.len(), state.ranks.len());
        decoded
    }

    /// The fewest chunks that any eviction policy decodes, by trying all choices.
    fn fewest(sequence: &[u64], cached: &mut Vec<u64>, capacity: usize) -> usize {
        let Some((&key, rest)) = sequence.split_first() else { return 0 };
        if cached.contains(&key) {
            return fewest(rest, cached, capacity);
        }
        let mut best = fewest(rest, cached, capacity);
        if cached.len() < capacity {
            cached.push(key);
            best = best.min(fewest(rest, cached, capacity));
            cached.pop();
        } else {
            for i in 0..cached.len() {
                let old = std::mem::replace(&mut cached[i], key);
                best = best.min(fewest(rest, cached, capacity));
                cached[i] = old;
            }
        }
        best + 1
    }

    #[test]
    fn no_policy_decodes_less() {
        let mut state = 1u64;
        let mut better = 0;
        for case in 0..60 {
            let sequence: Vec<u64> = (0..9)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(case);
                    (state >> 33) % 5
                })
                .collect();
            let ours = decoded(&sequence, 2, Eviction::Farthest);
            assert_eq!(ours, fewest(&sequence, &mut Vec::new(), 2), "{sequence:?}");
            better += usize::from(ours < decoded(&sequence, 2, Eviction::Oldest));
        }
        assert!(better > 20, "better than LRU in {better} of 60");
    }

    #[test]
    fn oldest_is_lru() {
        assert_eq!(decoded(&[1, 2, 1, 3, 2, 1], 2, Eviction::Oldest), 5);
        assert_eq!(decoded(&[1, 2, 1, 3, 1, 2], 2, Eviction::Oldest), 4);
    }

    #[test]
    fn withdrawn_uses_make_room() {
        let (cache, counters) =
            (LookaheadCache::new(CHUNK, Eviction::Farthest), QueueCounters::default());
        let user = |at| CacheUse { cache: &cache, at, counters: &counters };
        for (key, at) in [(1, 0), (1, 2), (2, 1), (2, 5)] {
            cache.announce([(0, key)].into_iter(), at, CHUNK);
        }
        assert!(matches!(user(0).lookup((0, 1), CHUNK), CacheLookup::Admit));
        let buffer = user(0).buffer(CHUNK);
        user(0).insert((0, 1), buffer);
        assert!(matches!(user(1).lookup((0, 2), CHUNK), CacheLookup::Pass), "1 is needed sooner");
        cache.withdraw([(0, 1)].into_iter(), 2, CHUNK);
        assert!(matches!(user(3).lookup((0, 2), CHUNK), CacheLookup::Admit), "1 is not needed now");
        assert!(cache.holds((0, 1)) && !cache.holds((0, 2)));
        cache.begin();
        assert!(
            matches!(user(0).lookup((0, 1), CHUNK), CacheLookup::Hit(_)),
            "kept for the next epoch"
        );
    }
}

#[cfg(all(test, feature = "model"))]
mod model {
    use loom::thread;

    use super::*;
    use crate::sys::sync::in_every_order;

    const CHUNK: usize = 8;

    /// Reads a chunk as a worker does that fills patch `at`.
    fn read(cache: &LookaheadCache, key: u64, at: u64) {
        let user = CacheUse { cache, at, counters: &QueueCounters::default() };
        match user.lookup((0, key), CHUNK) {
            CacheLookup::Hit(chunk) => {
                // Others may evict it meanwhile.
                thread::yield_now();
                assert_eq!(*chunk, [key as u8; CHUNK]);
            }
            CacheLookup::Admit => {
                let mut chunk = user.buffer(CHUNK);
                Arc::get_mut(&mut chunk).expect("nobody else's").fill(key as u8);
                user.insert((0, key), chunk);
            }
            CacheLookup::Pass => {}
        }
    }

    #[test]
    fn workers_see_whole_chunks_and_every_use_is_forgotten() {
        in_every_order(2, || {
            let cache = Arc::new(LookaheadCache::new(2 * CHUNK, Eviction::Farthest));
            cache.announce([(0, 1), (0, 2)].into_iter(), 0, CHUNK);
            let other = cache.clone();
            let other = thread::spawn(move || {
                other.announce([(0, 1)].into_iter(), 1, CHUNK);
                read(&other, 1, 1);
            });
            (1..3).for_each(|key| read(&cache, key, 0));
            other.join().unwrap();
            let state = cache.state();
            assert_eq!((state.use_count, state.use_bytes, state.uses.len()), (0, 0, 0));
            assert_eq!(state.cached.len(), state.ranks.len());
            let bytes: usize = state.cached.values().map(|chunk| chunk.voxels.len()).sum();
            assert!(state.bytes == bytes && bytes <= cache.budget_bytes);
        });
    }
}
