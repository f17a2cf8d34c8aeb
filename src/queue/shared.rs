//! The state that a queue shares with its iterations and their threads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::batch_layout::BatchLayout;
use super::changes::PatchChanges;
use super::epoch_plan::EpochPlan;
use super::lookahead_cache::{Eviction, LookaheadCache};
use super::options::QueueVolume;
use super::sampler::Sampler;
use super::share::RankShare;
use super::stats::QueueCounters;
use super::subject_cache::{OpenSubject, SubjectCache};
use super::weights::WeightSchedule;
use crate::sys::fork::PerProcess;
use crate::{Dataset, Result};

/// Everything that a queue was built with, its progress and its caches.
#[derive(Debug)]
pub(super) struct QueueShared {
    pub(super) dataset: Dataset,
    pub(super) sampler: Sampler,
    pub(super) volumes: Vec<QueueVolume>,
    /// The subjects in which the sampler can draw no patch, and why.
    pub(super) missing: Vec<(Arc<str>, String)>,
    /// Those of them whose patches are drawn anywhere.
    pub(super) background: HashSet<Arc<str>>,
    pub(super) changes: PatchChanges,
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
    pub(super) weights: WeightSchedule,
}

impl QueueShared {
    /// A subject of the queue, which stays open.
    pub(super) fn open(&self, name: &Arc<str>) -> Result<Arc<OpenSubject>> {
        let Self { dataset, volumes, sampler, changes, .. } = self;
        let open = || OpenSubject::new(dataset, name, volumes, sampler, changes);
        self.session().subjects.get_or_open(name, &self.layout, open)
    }

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
    /// The epoch of the latest iteration, or of the next one if that was chosen or loaded.
    epoch: AtomicU64,
    /// Patches of this rank that were delivered.
    position: AtomicU64,
    /// The patch of this rank at which the next iteration starts, unless `has_begun`.
    start: AtomicU64,
    /// Whether an iteration over `epoch` has begun, so that the next one takes the next epoch.
    has_begun: AtomicBool,
    /// Whether that iteration has said that it is over.
    is_over: AtomicBool,
    /// Counts iterations; only the latest moves the position.
    iteration: AtomicU64,
}

/// A patch of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuePosition {
    pub(super) epoch: u64,
    /// Patches of this rank before it.
    pub(super) position: u64,
}

impl QueueProgress {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The position after the last patch that was delivered: that of the next epoch's first patch
    /// once the iteration is over.
    pub(super) fn reached(&self) -> QueuePosition {
        if self.is_over.load(Ordering::Relaxed) {
            self.next_start()
        } else {
            let position = self.position.load(Ordering::Relaxed);
            QueuePosition { epoch: self.epoch(), position }
        }
    }

    /// Chooses the epoch of the next iteration; a position in it that was loaded stays.
    pub(super) fn choose(&self, epoch: u64) {
        if self.epoch() != epoch {
            self.seek(epoch, 0);
        } else if self.has_begun.swap(false, Ordering::Relaxed) {
            // An iteration that is under way goes on, and still moves the position.
            self.start.store(0, Ordering::Relaxed);
        }
    }

    /// Lets the next iteration start at `position` of `epoch`.
    pub(super) fn seek(&self, epoch: u64, position: u64) {
        self.iteration.fetch_add(1, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.start.store(position, Ordering::Relaxed);
        self.has_begun.store(false, Ordering::Relaxed);
        self.is_over.store(false, Ordering::Relaxed);
    }

    /// Where the next iteration starts.
    pub(super) fn next_start(&self) -> QueuePosition {
        let epoch = self.epoch();
        if self.has_begun.load(Ordering::Relaxed) {
            QueuePosition { epoch: epoch.wrapping_add(1), position: 0 }
        } else {
            QueuePosition { epoch, position: self.start.load(Ordering::Relaxed) }
        }
    }

    /// Begins an iteration, and returns its start and its number. Unless it `stays`, the iteration
    /// after it takes the next epoch.
    pub(super) fn begin(&self, stays: bool) -> (QueuePosition, u64) {
        let start = self.next_start();
        if start.epoch != self.epoch() {
            self.seek(start.epoch, start.position);
        }
        self.has_begun.store(!stays, Ordering::Relaxed);
        self.is_over.store(false, Ordering::Relaxed);
        (start, self.iteration.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Notes that iteration `iteration` has delivered all patches before `position`.
    pub(super) fn deliver(&self, iteration: u64, position: u64) {
        if self.iteration.load(Ordering::Relaxed) == iteration {
            self.position.store(position, Ordering::Relaxed);
        }
    }

    /// Notes that iteration `iteration` has said that it is over.
    pub(super) fn end(&self, iteration: u64) {
        if self.iteration.load(Ordering::Relaxed) == iteration {
            self.is_over.store(self.has_begun.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
