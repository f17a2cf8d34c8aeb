//! The iterator over the batches of one epoch.
//!
//! # Invariants
//! - Dropping it waits for the patches that are being read and ends its threads.
//! - A forked child that continues it starts threads of its own and gets the same batches.

use std::process;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::lookahead_cache::LookaheadCache;
use super::ring::{BatchRing, NextBatch};
use super::share::WorkerShare;
use super::shared::{QueuePosition, QueueShared};
use super::stats::{add, add_time};
use super::weights::EpochWeights;
use super::workers::{ReadSchedule, ReaderThreads};
use crate::{Error, Result};

/// The batches of one epoch, in order.
///
/// After an error the iterator continues with the next batch. Dropping it waits for the patches
/// that are being read and ends its threads.
///
/// ```
/// use voxquarry::{Dataset, OpenOptions, Queue, QueueOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = Dataset::open(store, &OpenOptions::default())?;
/// let options = QueueOptions::default().volumes(["u8"]).subjects([("grid", 6)]);
/// let queue = Queue::new(&dataset, UniformSampler::new([4, 4, 4])?, options)?;
/// let patches: Vec<_> = queue.batches()?.map(|batch| batch.unwrap().len()).collect();
/// assert_eq!(patches, [4, 2]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct Batches {
    queue: Arc<QueueShared>,
    epoch: u64,
    iteration: u64,
    share: WorkerShare,
    /// Patches of the share that were delivered or have failed.
    cursor: u64,
    process: u32,
    running: Option<RunningRead>,
    /// The weights that the threads read by, and the version of the queue's that was looked at.
    weights: (u64, EpochWeights),
    /// The end of the time that was counted so far.
    counted_until: Instant,
}

/// The threads come first, so that they end before the things that they use are dropped.
#[derive(Debug)]
struct RunningRead {
    threads: ReaderThreads,
    ring: Arc<BatchRing>,
    chunks: Arc<LookaheadCache>,
}

/// The outcome of [`Batches::poll`].
///
/// ```
/// use std::time::Duration;
/// use voxquarry::{BatchPoll, Dataset, OpenOptions, Queue, QueueOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = Dataset::open(store, &OpenOptions::default())?;
/// let options = QueueOptions::default().volumes(["u8"]).subjects([("grid", 6)]);
/// let queue = Queue::new(&dataset, UniformSampler::new([4, 4, 4])?, options)?;
/// let mut batches = queue.batches()?;
/// let mut patches = 0;
/// loop {
///     match batches.poll(Duration::from_millis(50))? {
///         BatchPoll::Ready(batch) => patches += batch.len(),
///         BatchPoll::Pending => {} // Time to look for a signal.
///         BatchPoll::End => break,
///     }
/// }
/// assert_eq!(patches, 6);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Returned once and unpacked at once.
pub enum BatchPoll {
    /// The next batch.
    Ready(Batch),
    /// No batch arrived in time.
    Pending,
    /// The epoch is over.
    End,
}

impl Batches {
    /// Starts to read every `num_shards`-th batch, from batch `index` on; `stays` as for
    /// `QueueProgress::begin`.
    pub(super) fn start(
        queue: &Arc<QueueShared>,
        num_shards: u64,
        index: u64,
        stays: bool,
    ) -> Result<Self> {
        if num_shards == 0 {
            return Err(Error::invalid("num_shards", 0, "at least 1"));
        }
        let progress = &queue.progress;
        let (QueuePosition { epoch, position: start }, iteration) = progress.begin(stays);
        let share = WorkerShare { rank_share: queue.share, start, num_shards, index };
        progress.deliver(iteration, share.end_of(0));
        let mut batches = Self {
            queue: queue.clone(),
            epoch,
            iteration,
            share,
            cursor: 0,
            process: process::id(),
            running: None,
            weights: (0, EpochWeights::default()),
            counted_until: Instant::now(),
        };
        batches.start_reading()?;
        Ok(batches)
    }

    fn start_reading(&mut self) -> Result<()> {
        let queue = &self.queue;
        let patches = self.share.patches() - self.cursor;
        if patches == 0 {
            return Ok(());
        }
        let ring = Arc::new(BatchRing::new(queue.layout.clone(), patches, queue.buffer_bytes));
        // Of two concurrent iterations the second starts with an empty cache.
        let cached = queue.session().chunks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let chunks = cached
            .unwrap_or_else(|| Arc::new(LookaheadCache::new(queue.cache_bytes, queue.eviction)));
        let order = queue.plan.order(self.epoch);
        // The version first: an update in between is seen at the next batch.
        self.weights = (queue.weights.version(), queue.weights.of_epoch(self.epoch));
        let weights = self.weights.1.clone();
        let (share, first) = (self.share, self.cursor);
        let schedule = ReadSchedule { order, weights, share, first, patches };
        let threads = ReaderThreads::start(queue, schedule, &ring, &chunks)?;
        self.running = Some(RunningRead { threads, ring, chunks });
        Ok(())
    }

    fn stop_reading(&mut self) {
        let Some(RunningRead { threads, chunks, .. }) = self.running.take() else { return };
        drop(threads);
        if self.process == process::id() {
            let session = self.queue.session();
            *session.chunks.lock().unwrap_or_else(PoisonError::into_inner) = Some(chunks);
        }
    }

    /// Reads again what was read ahead, if the weights of the epoch have changed since.
    fn follow_weights(&mut self) -> Result<()> {
        let version = self.queue.weights.version();
        if self.running.is_none() || version == self.weights.0 {
            return Ok(());
        }
        let weights = self.queue.weights.of_epoch(self.epoch);
        if weights.is_same(&self.weights.1) {
            self.weights.0 = version;
            return Ok(());
        }
        self.stop_reading();
        self.start_reading()
    }

    /// The next batch, if it arrives within `timeout`.
    ///
    /// # Errors
    /// [`Error::InPatch`] or [`Error::InSubject`]: the first patch of the batch that could not be
    /// read, and why. The next call continues with the next batch.
    pub fn poll(&mut self, timeout: Duration) -> Result<BatchPoll> {
        if self.process != process::id() {
            self.stop_reading();
            self.process = process::id();
            self.start_reading()?;
        }
        self.follow_weights()?;
        let Some(running) = &self.running else {
            self.queue.progress.end(self.iteration);
            return Ok(BatchPoll::End);
        };
        let called = Instant::now();
        let next = running.ring.next(called + timeout);
        let counters = &self.queue.counters;
        let now = Instant::now();
        add_time(&counters.stall_nanoseconds, now - called);
        add_time(&counters.open_nanoseconds, now - self.counted_until);
        self.counted_until = now;
        let (buffer, outcomes) = match next? {
            NextBatch::Pending => return Ok(BatchPoll::Pending),
            NextBatch::End => {
                self.stop_reading();
                self.queue.progress.end(self.iteration);
                return Ok(BatchPoll::End);
            }
            NextBatch::Ready(buffer, outcomes) => (buffer, outcomes),
        };
        self.cursor += outcomes.len() as u64;
        let batch = Batch::new(buffer, &self.queue.layout, &running.ring, outcomes)?;
        self.queue.progress.deliver(self.iteration, self.share.end_of(self.cursor));
        add(&counters.batches, 1);
        add(&counters.patches, batch.len() as u64);
        let bytes = (0..batch.volumes().len()).map(|i| batch.bytes(i).len() as u64);
        add(&counters.voxel_bytes, bytes.sum());
        Ok(BatchPoll::Ready(batch))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        /// A batch ends the wait at once; a timeout only repeats it.
        const TIMEOUT: Duration = Duration::from_hours(1);
        loop {
            match self.poll(TIMEOUT) {
                Ok(BatchPoll::Ready(batch)) => return Some(Ok(batch)),
                Ok(BatchPoll::Pending) => {}
                Ok(BatchPoll::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop_reading();
    }
}
