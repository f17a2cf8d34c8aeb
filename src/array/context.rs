//! State that the arrays of one open dataset share: threads, decoded chunks, open shards.
//!
//! # Invariants
//! - A forked child has its own threads, chunks and shards: a lock that it inherits may never be
//!   released.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cache::LruChunkCache;
use super::shards::{ShardTable, Verify};
use crate::sys::executor::Executor;
use crate::sys::file::Access;
use crate::sys::fork::PerProcess;

/// The settings of an [`ArrayContext`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArrayOptions {
    pub(crate) cache_bytes: usize,
    pub(crate) threads: Option<usize>,
    pub(crate) verify: Verify,
    pub(crate) access: Access,
}

/// Shared by all arrays of a dataset.
#[derive(Debug)]
pub(crate) struct ArrayContext {
    options: ArrayOptions,
    resources: PerProcess<Resources>,
}

/// The part of an [`ArrayContext`] that belongs to one process.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) executor: Executor,
    pub(crate) cache: LruChunkCache,
    pub(crate) shards: Arc<ShardTable>,
}

impl Resources {
    fn new(options: &ArrayOptions) -> Self {
        Self {
            executor: Executor::new(options.threads),
            cache: LruChunkCache::new(options.cache_bytes),
            shards: ShardTable::new(options.access),
        }
    }
}

impl ArrayContext {
    pub(crate) fn new(options: ArrayOptions) -> Arc<Self> {
        let resources = PerProcess::new(Resources::new(&options));
        Arc::new(Self { options, resources })
    }

    /// This process's threads, cache and shards.
    pub(crate) fn resources(&self) -> &Resources {
        self.resources.get(|| Resources::new(&self.options))
    }

    pub(super) fn verify(&self) -> Verify {
        self.options.verify
    }
}

/// An id that no other array of this process has: a queue's cache may hold chunks of several
/// datasets.
pub(super) fn next_array_id() -> u64 {
    static ARRAYS: AtomicU64 = AtomicU64::new(0);
    ARRAYS.fetch_add(1, Ordering::Relaxed)
}
