//! A cache of values that are computed from volumes: label counts, weight sums, tables of samplers.
//!
//! # Invariants
//! - The entries take at most [`BUDGET_BYTES`] together; a single larger one is kept alone.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::Result;

/// A label map of 512³ voxels in chunks of 32³ with a hundred labels in each has counts of 5 MiB.
const BUDGET_BYTES: usize = 32 << 20;

/// The name of an entry: the id of the volume's array, and the name of the value.
type DerivedKey = (u64, String);

#[derive(Debug)]
pub(crate) struct DerivedCache(Mutex<DerivedState>);

#[derive(Debug)]
struct DerivedState {
    entries: LruCache<DerivedKey, (Arc<dyn Any + Send + Sync>, usize)>,
    bytes: usize,
}

impl DerivedCache {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(DerivedState { entries: LruCache::unbounded(), bytes: 0 }))
    }

    /// The cached value, or the one that `compute` returns with its size in bytes. If two threads
    /// compute the same value, one result is kept.
    pub(crate) fn get_or_compute<T: Any + Send + Sync>(
        &self,
        array: u64,
        name: String,
        compute: impl FnOnce() -> Result<(T, usize)>,
    ) -> Result<Arc<T>> {
        let key = (array, name);
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |state: &mut DerivedState| {
            state.entries.get(&key).and_then(|(entry, _)| entry.clone().downcast::<T>().ok())
        };
        if let Some(entry) = known(&mut lock()) {
            return Ok(entry);
        }
        let (value, bytes) = compute()?;
        let mut state = lock();
        if let Some(entry) = known(&mut state) {
            return Ok(entry);
        }
        let value = Arc::new(value);
        state.bytes += bytes;
        if let Some((_, (_, replaced))) = state.entries.push(key, (value.clone(), bytes)) {
            state.bytes -= replaced;
        }
        while state.bytes > BUDGET_BYTES && state.entries.len() > 1 {
            let Some((_, (_, evicted))) = state.entries.pop_lru() else { break };
            state.bytes -= evicted;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_computed_once_and_the_budget_holds() {
        let cache = DerivedCache::new();
        let get = |n: u64, bytes: usize| {
            let mut is_computed = false;
            let compute = || {
                is_computed = true;
                Ok((n * 10, bytes))
            };
            let value = *cache.get_or_compute(n, "tens".into(), compute).unwrap();
            assert_eq!(value, n * 10);
            is_computed
        };
        assert!(get(1, BUDGET_BYTES / 2) && !get(1, 0) && get(2, BUDGET_BYTES / 2));
        // The third evicts the first, which was used longest ago.
        assert!(get(3, 1) && !get(2, 0) && get(1, BUDGET_BYTES / 2));
        // An entry that is larger than the budget is alone.
        assert!(get(4, 2 * BUDGET_BYTES) && !get(4, 0));
        assert_eq!(cache.0.lock().unwrap().entries.len(), 1);
        let fail = || Err::<(u64, usize), _>(crate::Error::Interrupted);
        assert!(cache.get_or_compute(5, "tens".into(), fail).is_err());
    }
}
