//! Counters of a queue, which show whether reading or the model is the bottleneck.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::array::cache::ReadStats;

/// The counters that threads increment.
#[derive(Debug, Default)]
pub(super) struct QueueCounters {
    pub(super) patches: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) voxel_bytes: AtomicU64,
    pub(super) open_nanoseconds: AtomicU64,
    pub(super) stall_nanoseconds: AtomicU64,
    pub(super) read_nanoseconds: AtomicU64,
    hits: AtomicU64,
    decoded: AtomicU64,
    encoded_bytes: AtomicU64,
}

/// Counters of a queue since it was made, over all its epochs.
///
/// ```
/// use voxquarry::{Dataset, OpenOptions, Queue, QueueOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = Dataset::open(store, &OpenOptions::default())?;
/// let options = QueueOptions::default().volumes(["u8"]).subjects([("grid", 6)]);
/// let queue = Queue::new(&dataset, UniformSampler::new([4, 4, 4])?, options)?;
/// queue.batches()?.for_each(drop);
/// let stats = queue.stats();
/// assert_eq!((stats.patches, stats.batches, stats.voxel_bytes), (6, 2, 6 * 64));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Patches delivered.
    pub patches: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Bytes of voxels delivered.
    pub voxel_bytes: u64,
    /// Time from the start of each iteration to its last batch so far.
    pub elapsed: Duration,
    /// The part of that time for which the consumer waited for a batch.
    pub stall: Duration,
    /// Time that all worker threads together took to fetch, decode and copy voxels.
    pub read: Duration,
    /// Chunks that were found decoded in the cache.
    pub cache_hits: u64,
    /// Chunks that were decoded, or copied if they are stored raw.
    pub chunks_decoded: u64,
    /// Bytes of these chunks in the store's files.
    pub encoded_bytes: u64,
}

impl QueueStats {
    /// Patches delivered per second of `elapsed`.
    pub fn patches_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.patches as f64 / seconds } else { 0.0 }
    }
}

impl QueueCounters {
    pub(super) fn record(&self, stats: &ReadStats) {
        add(&self.hits, stats.hits);
        add(&self.decoded, stats.decoded);
        add(&self.encoded_bytes, stats.encoded_bytes);
    }

    pub(super) fn snapshot(&self) -> QueueStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter| Duration::from_nanos(get(counter));
        QueueStats {
            patches: get(&self.patches),
            batches: get(&self.batches),
            voxel_bytes: get(&self.voxel_bytes),
            elapsed: time(&self.open_nanoseconds),
            stall: time(&self.stall_nanoseconds),
            read: time(&self.read_nanoseconds),
            cache_hits: get(&self.hits),
            chunks_decoded: get(&self.decoded),
            encoded_bytes: get(&self.encoded_bytes),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Adds a duration to a counter of nanoseconds.
pub(super) fn add_time(counter: &AtomicU64, time: Duration) {
    add(counter, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}
