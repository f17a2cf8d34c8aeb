//! What was worked out about volumes and will be asked for again: label counts, sums of chunks, tables of samplers.
//!
//! # Invariants
//! - Entries take at most [`BUDGET_BYTES`] together; a single one that is larger is kept alone.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::Result;

/// A label map of 512³ voxels in chunks of 32³ with a hundred labels in each has counts of 5 MiB.
const BUDGET_BYTES: usize = 32 << 20;

/// Names an entry: the volume's number in its context, and what was worked out.
type Key = (u64, String);

#[derive(Debug)]
pub(crate) struct Memo(Mutex<State>);

#[derive(Debug)]
struct State {
    entries: LruCache<Key, (Arc<dyn Any + Send + Sync>, usize)>,
    bytes: usize,
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { entries: LruCache::unbounded(), bytes: 0 }))
    }

    /// The entry, or what `make` gives: it and the bytes that it takes. Two threads may both make it; one result is kept.
    pub(crate) fn get_or_make<T: Any + Send + Sync>(
        &self,
        volume: u64,
        what: String,
        make: impl FnOnce() -> Result<(T, usize)>,
    ) -> Result<Arc<T>> {
        let key = (volume, what);
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |state: &mut State| {
            state.entries.get(&key).and_then(|(entry, _)| entry.clone().downcast::<T>().ok())
        };
        if let Some(entry) = known(&mut lock()) {
            return Ok(entry);
        }
        let (made, bytes) = make()?;
        let mut state = lock();
        if let Some(entry) = known(&mut state) {
            return Ok(entry);
        }
        let made = Arc::new(made);
        state.bytes += bytes;
        if let Some((_, (_, replaced))) = state.entries.push(key, (made.clone(), bytes)) {
            state.bytes -= replaced;
        }
        while state.bytes > BUDGET_BYTES && state.entries.len() > 1 {
            let Some((_, (_, evicted))) = state.entries.pop_lru() else { break };
            state.bytes -= evicted;
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_made_once_and_the_budget_holds() {
        let memo = Memo::new();
        let get = |n: u64, bytes: usize| {
            let mut made = false;
            let make = || {
                made = true;
                Ok((n * 10, bytes))
            };
            let value = *memo.get_or_make(n, "tens".into(), make).unwrap();
            assert_eq!(value, n * 10);
            made
        };
        assert!(get(1, BUDGET_BYTES / 2) && !get(1, 0) && get(2, BUDGET_BYTES / 2));
        // The third pushes out the first, which was used longest ago.
        assert!(get(3, 1) && !get(2, 0) && get(1, BUDGET_BYTES / 2));
        // What is larger than the budget is alone.
        assert!(get(4, 2 * BUDGET_BYTES) && !get(4, 0));
        assert_eq!(memo.0.lock().unwrap().entries.len(), 1);
        assert!(
            memo.get_or_make(5, "tens".into(), || Err::<(u64, usize), _>(crate::Error::usage(
                "no"
            )))
            .is_err()
        );
    }
}
