//! The state that a queue shares with its iterations and their threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::batch_layout::BatchLayout;
use super::epoch_plan::EpochPlan;
use super::lookahead_cache::{Eviction, LookaheadCache};
use super::options::QueueVolume;
use super::sampler::Sampler;
use super::share::RankShare;
use super::stats::QueueCounters;
use super::subject_cache::SubjectCache;
use crate::sys::fork::PerProcess;
use crate::{Dataset, Padding};

/// Everything that a queue was built with, its progress and its caches.
#[derive(Debug)]
pub(super) struct QueueShared {
    pub(super) dataset: Dataset,
    pub(super) sampler: Sampler,
    pub(super) volumes: Vec<QueueVolume>,
    /// The padding of each volume.
    pub(super) paddings: Vec<Padding>,
    pub(super) plan: Arc<EpochPlan>,
    pub(super) share: RankShare,
    pub(super) layout: Arc<BatchLayout>,
    pub(super) buffer_bytes: u64,
    pub(super) cache_bytes: usize,
    pub(super) eviction: Eviction,
    /// Whether the chunks of any volume are worth caching.
    pub(super) uses_cache: bool,
    pub(super) threads: usize,
    pub(super) session: PerProcess<QueueSession>,
    pub(super) counters: QueueCounters,
    pub(super) progress: QueueProgress,
}

impl QueueShared {
    /// The caches of this process.
    pub(super) fn session(&self) -> &QueueSession {
        self.session.get(QueueSession::new)
    }
}

/// The caches that a process keeps for a queue.
#[derive(Debug)]
pub(super) struct QueueSession {
    pub(super) subjects: SubjectCache,
    /// The decoded chunks between two iterations; the running iteration takes them.
    pub(super) chunks: Mutex<Option<Arc<LookaheadCache>>>,
}

impl QueueSession {
    pub(super) fn new() -> Self {
        Self { subjects: SubjectCache::new(), chunks: Mutex::new(None) }
    }
}

/// The consumer's progress.
#[derive(Debug, Default)]
pub(super) struct QueueProgress {
    pub(super) epoch: AtomicU64,
    /// Patches of this rank that were delivered.
    pub(super) position: AtomicU64,
    /// The patch of this rank at which the next iteration starts.
    pub(super) start: AtomicU64,
    /// Counts iterations; only the latest moves the position.
    pub(super) iteration: AtomicU64,
}

impl QueueProgress {
    /// Lets the next iteration start at `position` of `epoch`.
    pub(super) fn seek(&self, epoch: u64, position: u64) {
        self.iteration.fetch_add(1, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.start.store(position, Ordering::Relaxed);
    }
}
