//! Decoded chunks for patches to come: what is needed farthest in the future goes first (Belady 1966).
//!
//! Uses are announced as far ahead as they matter. A chunk whose next use is not known ranks behind all that are known, the
//! one that was used longest ago last.
//!
//! # Invariants
//! - The chunks held never exceed the budget; at most [`MAX_USES`] uses are known, and no more chunks than would fill the budget twice.
//! - What is held has no influence on what is read, only on how fast.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stats::Counters;
use crate::store::{ChunkKey, Keeper, Lookup, Tally, zeros};

/// Which decoded chunk has to go when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Eviction {
    /// The one whose next use is farthest in the future.
    #[default]
    Farthest,
    /// The one whose last use is farthest in the past (LRU): for comparison.
    Oldest,
}

/// Uses that are known at a time.
const MAX_USES: usize = 1 << 20;

/// Ranks from here on are those of chunks whose next use is not known.
const UNKNOWN: u64 = 1 << 63;

/// Decoded chunks, bounded in bytes.
#[derive(Debug)]
pub(super) struct Hoard {
    budget_bytes: usize,
    eviction: Eviction,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<ChunkKey, Held>,
    /// Every held chunk by its rank; the last goes first.
    ranks: BTreeSet<(u64, ChunkKey)>,
    bytes: usize,
    /// Coming uses of each chunk, ascending.
    uses: HashMap<ChunkKey, VecDeque<u64>>,
    use_count: usize,
    /// Bytes of the chunks whose uses are known.
    use_bytes: usize,
}

#[derive(Debug)]
struct Held {
    voxels: Arc<[u8]>,
    rank: u64,
    last_use: u64,
}

impl State {
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

    /// Ranks a held chunk anew.
    fn move_to(&mut self, key: ChunkKey, rank: u64) {
        if let Some(held) = self.held.get_mut(&key) {
            self.ranks.remove(&(held.rank, key));
            held.rank = rank;
            self.ranks.insert((rank, key));
        }
    }

    fn remove(&mut self, key: ChunkKey) -> Option<Arc<[u8]>> {
        let held = self.held.remove(&key)?;
        self.ranks.remove(&(held.rank, key));
        self.bytes -= held.voxels.len();
        Some(held.voxels)
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

impl Hoard {
    pub(super) fn new(budget_bytes: usize, eviction: Eviction) -> Self {
        Self { budget_bytes, eviction, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was announced and held is of the past: another iteration begins.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.uses.clear();
        (state.use_count, state.use_bytes) = (0, 0);
        state.ranks.clear();
        for (key, held) in &mut state.held {
            // The last iteration's order is all that is known of them.
            (held.rank, held.last_use) = (UNKNOWN + (UNKNOWN - 1), 0);
            state.ranks.insert((held.rank, *key));
        }
    }

    /// Whether knowing more uses could change what is kept: those farther than a full hoard away are never the nearest.
    pub(super) fn is_curious(&self) -> bool {
        let state = self.state();
        self.eviction == Eviction::Farthest
            && state.use_count < MAX_USES
            && state.use_bytes <= self.budget_bytes.saturating_mul(2)
    }

    /// Announces that the patch `at` will want those chunks of `chunk_bytes` each.
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
            let place = uses.partition_point(|&use_| use_ < at);
            uses.insert(place, at);
            state.use_count += 1;
            if place == 0 {
                state.move_to(key, at);
            }
        }
    }

    /// The patch `at` was given up: it will not want those chunks.
    pub(super) fn withdraw(
        &self,
        keys: impl Iterator<Item = ChunkKey>,
        at: u64,
        chunk_bytes: usize,
    ) {
        let mut state = self.state();
        for key in keys {
            state.forget_use(key, at, chunk_bytes);
            if let Some(last_use) = state.held.get(&key).map(|held| held.last_use) {
                let rank = state.rank(key, last_use, self.eviction);
                state.move_to(key, rank);
            }
        }
    }

    /// Whether a chunk is held.
    pub(super) fn holds(&self, key: ChunkKey) -> bool {
        self.state().held.contains_key(&key)
    }

    /// Bytes of decoded chunks held.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.state().bytes
    }
}

/// The hoard as one patch uses it.
pub(super) struct Use<'a> {
    pub(super) hoard: &'a Hoard,
    /// The patch's number in its iteration.
    pub(super) at: u64,
    pub(super) counters: &'a Counters,
}

impl Keeper for Use<'_> {
    fn lookup(&self, key: ChunkKey, chunk_bytes: usize) -> Lookup {
        let Hoard { budget_bytes, eviction, .. } = *self.hoard;
        if chunk_bytes > budget_bytes {
            return Lookup::Pass;
        }
        let mut state = self.hoard.state();
        state.forget_use(key, self.at, chunk_bytes);
        let rank = state.rank(key, self.at, eviction);
        if let Some(held) = state.held.get_mut(&key) {
            held.last_use = self.at;
            let voxels = held.voxels.clone();
            state.move_to(key, rank);
            return Lookup::Hit(voxels);
        }
        let has_room = state.bytes + chunk_bytes <= budget_bytes;
        let is_nearer = || state.ranks.last().is_some_and(|last| rank < last.0);
        if has_room || is_nearer() { Lookup::Admit } else { Lookup::Pass }
    }

    fn buffer(&self, chunk_bytes: usize) -> Arc<[u8]> {
        let mut state = self.hoard.state();
        let mut spare = None;
        while state.bytes + chunk_bytes > self.hoard.budget_bytes {
            let Some(&(_, farthest)) = state.ranks.last() else { break };
            spare = state.remove(farthest);
        }
        drop(state);
        let reusable = |old: &Arc<[u8]>| old.len() == chunk_bytes && Arc::strong_count(old) == 1;
        spare.filter(reusable).unwrap_or_else(|| zeros(chunk_bytes))
    }

    fn insert(&self, key: ChunkKey, chunk: Arc<[u8]>) {
        let mut state = self.hoard.state();
        state.remove(key);
        let rank = state.rank(key, self.at, self.hoard.eviction);
        while state.bytes + chunk.len() > self.hoard.budget_bytes {
            // Others may have filled the room since the buffer was given.
            match state.ranks.last() {
                Some(&(last, farthest)) if last > rank => drop(state.remove(farthest)),
                _ => return,
            }
        }
        state.bytes += chunk.len();
        state.ranks.insert((rank, key));
        state.held.insert(key, Held { voxels: chunk, rank, last_use: self.at });
    }

    fn note(&self, tally: &Tally) {
        self.counters.note(tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 10;

    /// Reads chunk after chunk as patches of one chunk each, all announced before; gives how many were decoded.
    fn decoded(sequence: &[u64], chunks_held: usize, eviction: Eviction) -> usize {
        let (hoard, counters) = (Hoard::new(chunks_held * CHUNK, eviction), Counters::default());
        for (at, &key) in sequence.iter().enumerate() {
            hoard.announce([(0, key)].into_iter(), at as u64, CHUNK);
        }
        let mut decoded = 0;
        for (at, &key) in sequence.iter().enumerate() {
            let user = Use { hoard: &hoard, at: at as u64, counters: &counters };
            match user.lookup((0, key), CHUNK) {
                Lookup::Hit(voxels) => assert_eq!(voxels[0], key as u8),
                Lookup::Admit => {
                    decoded += 1;
                    let mut voxels = user.buffer(CHUNK);
                    Arc::get_mut(&mut voxels).unwrap().fill(key as u8);
                    user.insert((0, key), voxels);
                }
                Lookup::Pass => decoded += 1,
            }
            assert!(hoard.bytes() <= chunks_held * CHUNK);
        }
        let state = hoard.state();
        assert_eq!((state.use_count, state.use_bytes, state.uses.len()), (0, 0, 0));
        assert_eq!(state.held.len(), state.ranks.len());
        decoded
    }

    /// The fewest decodes that any choice of what to keep could have had, by trying all of them.
    fn fewest(sequence: &[u64], held: &mut Vec<u64>, room: usize) -> usize {
        let Some((&key, rest)) = sequence.split_first() else { return 0 };
        if held.contains(&key) {
            return fewest(rest, held, room);
        }
        let mut best = fewest(rest, held, room);
        if held.len() < room {
            held.push(key);
            best = best.min(fewest(rest, held, room));
            held.pop();
        } else {
            for i in 0..held.len() {
                let old = std::mem::replace(&mut held[i], key);
                best = best.min(fewest(rest, held, room));
                held[i] = old;
            }
        }
        best + 1
    }

    #[test]
    fn no_choice_decodes_less() {
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
    fn what_is_withdrawn_makes_room() {
        let (hoard, counters) = (Hoard::new(CHUNK, Eviction::Farthest), Counters::default());
        let user = |at| Use { hoard: &hoard, at, counters: &counters };
        for (key, at) in [(1, 0), (1, 2), (2, 1), (2, 5)] {
            hoard.announce([(0, key)].into_iter(), at, CHUNK);
        }
        assert!(matches!(user(0).lookup((0, 1), CHUNK), Lookup::Admit));
        let buffer = user(0).buffer(CHUNK);
        user(0).insert((0, 1), buffer);
        assert!(matches!(user(1).lookup((0, 2), CHUNK), Lookup::Pass), "1 is needed sooner");
        hoard.withdraw([(0, 1)].into_iter(), 2, CHUNK);
        assert!(matches!(user(3).lookup((0, 2), CHUNK), Lookup::Admit), "1 is not needed now");
        assert!(hoard.holds((0, 1)) && !hoard.holds((0, 2)));
        hoard.begin();
        assert!(matches!(user(0).lookup((0, 1), CHUNK), Lookup::Hit(_)), "kept for the next epoch");
    }
}
