//! What the volumes of one open dataset share: options, threads, decoded chunks, open shards.
//!
//! # Invariants
//! - A forked child has threads, chunks and shards of its own: a lock that it inherits may never be released.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cache::ChunkCache;
use super::memo::Memo;
use super::pool::Pool;
use super::shards::ShardTable;
use crate::process::PerProcess;
pub(super) use crate::source::Access;

/// When a chunk's checksum is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verify {
    /// Never: for files that were verified before.
    Never,
    /// When a chunk is first decoded.
    #[default]
    First,
    /// At every decode.
    Always,
}

/// How a dataset is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Budget of the cache of decoded chunks.
    pub cache_bytes: usize,
    /// Threads that decode; `None`: as many as cores.
    pub threads: Option<usize>,
    /// When checksums are compared.
    pub verify: Verify,
    /// Map or positioned reads.
    pub access: Access,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, threads: None, verify: Verify::First, access: Access::Map }
    }
}

/// Shared by all volumes of a dataset.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) verify: Verify,
    options: OpenOptions,
    shared: PerProcess<Shared>,
    volumes: AtomicU64,
}

/// What is behind locks.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) cache: ChunkCache,
    pub(crate) shards: ShardTable,
    pub(crate) memo: Memo,
}

impl Shared {
    fn new(options: &OpenOptions) -> Self {
        Self {
            pool: Pool::new(options.threads),
            cache: ChunkCache::new(options.cache_bytes),
            shards: ShardTable::new(options.access),
            memo: Memo::new(),
        }
    }
}

impl Context {
    pub(crate) fn new(options: &OpenOptions) -> Arc<Self> {
        Arc::new(Self {
            verify: options.verify,
            options: options.clone(),
            shared: PerProcess::new(Shared::new(options)),
            volumes: AtomicU64::new(0),
        })
    }

    /// This process's.
    pub(crate) fn shared(&self) -> &Shared {
        self.shared.get(|| Shared::new(&self.options))
    }

    /// A number that no other volume of this context has.
    pub(crate) fn number_volume(&self) -> u64 {
        self.volumes.fetch_add(1, Ordering::Relaxed)
    }
}
