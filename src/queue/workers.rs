//! Worker threads: each claims the next patch, looks ahead for later ones, and reads its own.
//!
//! # Invariants
//! - Threads end when their iteration ends or is dropped; the drop waits for the patches that are
//!   being read.
//! - The voxels of a patch depend on its position alone, never on the thread or the time.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::epoch_plan::EpochOrder;
use super::lookahead_cache::{CacheUse, LookaheadCache};
use super::patch_reader::{PatchReader, PatchTransform, PlannedPatch, ReadScratch};
use super::ring::{BatchRing, PatchTask, ReadPatch};
use super::share::WorkerShare;
use super::shared::QueueShared;
use super::stats::add_time;
use super::subject_cache::{OpenSubject, in_subject};
use super::weights::EpochWeights;
use crate::{Error, Result};

/// Patches that are located ahead for each patch that is read, so that looking ahead delays no
/// batch.
const STEPS: usize = 4;

/// Patches whose chunks are requested from the disk before their turn.
const READ_AHEAD_PATCHES: u64 = 32;

/// Limits the patches that are located before their turn.
const MAX_AHEAD: u64 = 1 << 16;

/// The threads of one iteration.
#[derive(Debug)]
pub(super) struct ReaderThreads {
    process: u32,
    shared: Arc<ReaderShared>,
    threads: Vec<JoinHandle<()>>,
}

/// The patches that an iteration reads, in order.
#[derive(Debug)]
pub(super) struct ReadSchedule {
    pub(super) order: EpochOrder,
    pub(super) weights: EpochWeights,
    pub(super) share: WorkerShare,
    /// The first patch of the share that is read.
    pub(super) first: u64,
    /// Patches that are read.
    pub(super) patches: u64,
}

/// The state that the threads of an iteration share.
#[derive(Debug)]
struct ReaderShared {
    queue: Arc<QueueShared>,
    schedule: ReadSchedule,
    ring: Arc<BatchRing>,
    chunks: Arc<LookaheadCache>,
    lookahead: Mutex<Lookahead>,
    /// Signals that a patch was located, or that reading stopped.
    located: Condvar,
    stopped: AtomicBool,
}

/// Patches that were located before their turn.
#[derive(Debug, Default)]
struct Lookahead {
    /// The next patch to locate.
    horizon: u64,
    /// The next patch whose chunks are requested from the disk.
    read_ahead: u64,
    /// Located patches that are not read yet.
    located: HashMap<u64, Result<PlannedPatch>>,
    /// Patches that a thread is locating ahead of their turn.
    pending: HashSet<u64>,
}

/// The state of a patch's location when its turn comes.
#[derive(Debug)]
enum LocationStatus {
    /// It is known.
    Located(Result<PlannedPatch>),
    /// Another thread is locating it.
    Pending,
    /// No thread is locating it or will: the caller has to.
    Unclaimed,
}

impl Lookahead {
    /// Begins the turn of a patch; from then on no thread locates it ahead.
    fn begin_turn(&mut self, number: u64) -> LocationStatus {
        if let Some(location) = self.located.remove(&number) {
            return LocationStatus::Located(location);
        }
        if self.pending.contains(&number) {
            return LocationStatus::Pending;
        }
        // Turns begin in any order: a later patch may have moved the horizon beyond this one.
        self.horizon = self.horizon.max(number + 1);
        LocationStatus::Unclaimed
    }
}

impl ReaderThreads {
    /// Starts to read the patches of `schedule`.
    ///
    /// # Errors
    /// [`Error::Io`] if the system grants no thread.
    pub(super) fn start(
        queue: &Arc<QueueShared>,
        schedule: ReadSchedule,
        ring: &Arc<BatchRing>,
        chunks: &Arc<LookaheadCache>,
    ) -> Result<Self> {
        chunks.begin();
        let wanted = u64::try_from(queue.threads).unwrap_or(u64::MAX).min(schedule.patches);
        let shared = Arc::new(ReaderShared {
            queue: queue.clone(),
            schedule,
            ring: ring.clone(),
            chunks: chunks.clone(),
            lookahead: Mutex::default(),
            located: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let mut readers = Self { process: process::id(), shared, threads: Vec::new() };
        for i in 0..wanted {
            let shared = readers.shared.clone();
            let thread = Builder::new().name(format!("voxquarry-read-{i}"));
            match thread.spawn(move || shared.work()) {
                Ok(thread) => readers.threads.push(thread),
                Err(e) if i == 0 => return Err(Error::io("reader thread", "cannot start")(e)),
                // The system grants no more threads: the ones there are do all the work.
                Err(_) => break,
            }
        }
        Ok(readers)
    }
}

impl Drop for ReaderThreads {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        if self.process != process::id() {
            // In a forked child these threads do not exist, and their locks may never be released.
            std::mem::forget(threads);
            return;
        }
        self.shared.stop();
        for thread in threads {
            // The ring has handed any panic to the consumer.
            let _ = thread.join();
        }
    }
}

impl ReaderShared {
    fn lookahead(&self) -> MutexGuard<'_, Lookahead> {
        self.lookahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.ring.stop();
        drop(self.lookahead());
        self.located.notify_all();
    }

    fn work(&self) {
        let read_all = || {
            let mut scratch = ReadScratch::default();
            while let Some(mut task) = self.ring.claim() {
                let outcome = self.locate_in_turn(task.number).and_then(|planned| {
                    if self.queue.dataset.is_remote() {
                        // Before those of later patches.
                        self.read_ahead(&planned);
                    }
                    self.look_ahead(task.number);
                    let transform = self.read(&mut task, &planned, &mut scratch)?;
                    Ok(ReadPatch { location: planned.location, transform })
                });
                self.ring.finish(task, outcome);
            }
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(read_all)) {
            self.ring.stop_with_panic(payload);
            self.stop();
        }
    }

    /// The location of a patch, opening its subject if need be.
    fn locate(&self, number: u64) -> Result<PlannedPatch> {
        let queue = &self.queue;
        let ReadSchedule { order, weights, share, first, .. } = &self.schedule;
        let position = share.position(first + number);
        let weights = weights.at(position);
        let sample = match weights {
            Some(weights) => weights.sample(order, position),
            None => order.sample(position),
        };
        let entry = &order.plan().entries()[sample.entry];
        let epoch = order.epoch();
        let located = self.open(&entry.subject);
        let located = located.and_then(|open| {
            let is_background = queue.background.contains(&entry.subject);
            let chunks = weights.and_then(|weights| weights.chunks(&entry.subject));
            let sampler = &queue.sampler;
            open.locate(&entry.subject, sampler, is_background, chunks, epoch, sample.number)
        });
        let located = located.map_err(|source| in_subject(&entry.subject, source));
        Ok(PlannedPatch { location: located?, number: sample.number })
    }

    fn open(&self, name: &Arc<str>) -> Result<Arc<OpenSubject>> {
        self.queue.open(name)
    }

    /// The location of the next patch to read: known, awaited from another thread, or found
    /// here.
    fn locate_in_turn(&self, number: u64) -> Result<PlannedPatch> {
        let mut lookahead = self.lookahead();
        loop {
            match lookahead.begin_turn(number) {
                LocationStatus::Located(location) => return location,
                LocationStatus::Unclaimed => {
                    drop(lookahead);
                    return self.locate(number);
                }
                LocationStatus::Pending => {}
            }
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            lookahead = self.located.wait(lookahead).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Locates some later patches, announces the chunks that they use, and requests from the disk
    /// those that are used soon.
    fn look_ahead(&self, number: u64) {
        let is_remote = self.queue.dataset.is_remote();
        // The consumer is waiting for the first batch: everything else comes after it. But what a
        // server has to send for it is asked for at once.
        let first_batch = self.queue.layout.batch_size as u64;
        let is_first = number < first_batch;
        if is_first && !is_remote {
            return;
        }
        let ahead = if is_first { first_batch - number } else { READ_AHEAD_PATCHES };
        let soon = (number + ahead).min(self.schedule.patches);
        let far = if self.queue.uses_cache && self.chunks.wants_more_uses() {
            number.saturating_add(MAX_AHEAD).min(self.schedule.patches)
        } else {
            soon
        };
        let steps = if is_remote { 2 * READ_AHEAD_PATCHES as usize } else { STEPS };
        for _ in 0..steps {
            let mut lookahead = self.lookahead();
            lookahead.read_ahead = lookahead.read_ahead.max(number + 1);
            let near = lookahead.read_ahead;
            if near < lookahead.horizon && near < soon {
                lookahead.read_ahead += 1;
                let location = lookahead.located.get(&near).and_then(|l| l.as_ref().ok()).cloned();
                drop(lookahead);
                if let Some(location) = location {
                    self.read_ahead(&location);
                }
                continue;
            }
            let next = lookahead.horizon;
            if next >= far {
                return;
            }
            lookahead.horizon += 1;
            lookahead.pending.insert(next);
            drop(lookahead);
            let location = self.locate(next);
            if let Ok(location) = &location {
                self.announce(location, next);
            }
            let mut lookahead = self.lookahead();
            lookahead.pending.remove(&next);
            lookahead.located.insert(next, location);
            drop(lookahead);
            self.located.notify_all();
        }
    }

    /// The open subject of a patch, and the epoch.
    fn reader_of<R>(
        &self,
        planned: &PlannedPatch,
        work: impl FnOnce(&PatchReader<'_>) -> R,
    ) -> Result<R> {
        let name = &planned.location.subject;
        let open = self.open(name).map_err(|e| in_subject(name, e))?;
        let epoch = self.schedule.order.epoch();
        let reader = PatchReader::new(&self.queue.changes, &open, planned, epoch);
        Ok(work(&reader.map_err(|e| in_subject(name, e))?))
    }

    /// Requests the chunks of a patch from the disk; errors are left to the patch's own turn.
    fn read_ahead(&self, planned: &PlannedPatch) {
        let _ = self.reader_of(planned, |reader| reader.read_ahead(&self.chunks));
    }

    fn announce(&self, planned: &PlannedPatch, number: u64) {
        let _ = self.reader_of(planned, |reader| {
            for (volume, keys) in reader.cached_chunks() {
                self.chunks.announce(keys.into_iter(), number, volume.array().decoded_bytes());
            }
        });
    }

    fn withdraw(&self, reader: &PatchReader<'_>, number: u64) {
        for (volume, keys) in reader.cached_chunks() {
            self.chunks.withdraw(keys.into_iter(), number, volume.array().decoded_bytes());
        }
    }

    /// Reads a patch into its place.
    fn read(
        &self,
        task: &mut PatchTask,
        planned: &PlannedPatch,
        scratch: &mut ReadScratch,
    ) -> Result<Option<PatchTransform>> {
        let (queue, number, started) = (&self.queue, task.number, Instant::now());
        let cache = CacheUse { cache: &self.chunks, at: number, counters: &queue.counters };
        let transform = self.reader_of(planned, |reader| {
            for (i, array) in queue.layout.arrays.iter().enumerate() {
                let read = reader.read(i, array, task.claim.bytes(i), scratch, &cache);
                if let Err(source) = read {
                    self.withdraw(reader, number);
                    return Err(Error::InPatch {
                        subject: planned.location.subject.to_string(),
                        volume: array.name.clone(),
                        region: planned.location.region,
                        source: Box::new(source),
                    });
                }
            }
            Ok(reader.transform())
        })??;
        add_time(&queue.counters.read_nanoseconds, started.elapsed());
        Ok(transform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_waits_for_a_location_that_no_thread_seeks() {
        let mut lookahead = Lookahead::default();
        // The thread of patch 1 is the first to ask, then those of 3 and 0.
        for number in [1, 3, 0] {
            let status = lookahead.begin_turn(number);
            assert!(matches!(status, LocationStatus::Unclaimed), "{number}: {lookahead:?}");
        }
        assert_eq!(lookahead.horizon, 4, "later patches are left to be located ahead");
        lookahead.pending.insert(2);
        assert!(matches!(lookahead.begin_turn(2), LocationStatus::Pending), "{lookahead:?}");
        lookahead.pending.remove(&2);
        lookahead.located.insert(2, Err(Error::Interrupted));
        let status = lookahead.begin_turn(2);
        assert!(
            matches!(status, LocationStatus::Located(Err(Error::Interrupted))),
            "{lookahead:?}"
        );
        assert!(lookahead.located.is_empty());
    }
}
