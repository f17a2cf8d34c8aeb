//! A ring of batches that workers fill ahead of the consumer.
//!
//! # Invariants
//! - At most `slots` batches are tracked. Apart from the buffers that the consumer holds, there are
//!   at most as many as the budget allows.
//! - No wait outlives its reason: workers stop waiting when the ring stops, the consumer at the
//!   time that it names.

use std::any::Any;
use std::collections::VecDeque;
use std::process;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::batch_layout::BatchLayout;
use super::buffer::{BatchBuffer, PartialBatch, PatchClaim};
use super::patch_reader::PatchTransform;
use crate::memory::collected;
use crate::sys::sync::{Condvar, Mutex, MutexGuard};
use crate::{Error, PatchLocation};

/// Limits the batches that are tracked: a budget could hold millions of tiny ones.
const MAX_SLOTS: usize = 1024;

/// A patch that was read.
#[derive(Debug)]
pub(super) struct ReadPatch {
    pub(super) location: PatchLocation,
    pub(super) transform: Option<PatchTransform>,
}

/// A patch that was read, or the reason why it was not.
pub(super) type PatchOutcome = Result<ReadPatch, Error>;

/// The batches of one iteration.
#[derive(Debug)]
pub(super) struct BatchRing {
    process: u32,
    layout: Arc<BatchLayout>,
    /// Patches of the iteration.
    patches: u64,
    slots: usize,
    buffers: usize,
    state: Mutex<RingState>,
    /// Signals that a slot came free, or that the ring stopped.
    room: Condvar,
    /// Signals that the first batch is full, or that the ring stopped.
    full: Condvar,
}

#[derive(Default)]
struct RingState {
    claimed: u64,
    delivered: u64,
    slots: VecDeque<RingSlot>,
    spare: Vec<BatchBuffer>,
    stopped: bool,
    failed: Option<Error>,
    panic: Option<Box<dyn Any + Send>>,
}

struct RingSlot {
    batch: Arc<PartialBatch>,
    outcomes: Vec<Option<PatchOutcome>>,
    /// Patches without an outcome. A worker that panics drops its claim and leaves none.
    awaited: usize,
}

impl std::fmt::Debug for RingState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingState").field("claimed", &self.claimed).finish_non_exhaustive()
    }
}

/// A patch to be read.
pub(super) struct PatchTask {
    /// Its number in the iteration.
    pub(super) number: u64,
    pub(super) claim: PatchClaim,
}

/// The answer of [`BatchRing::next`].
pub(super) enum NextBatch {
    /// A full batch: its memory and the outcome of each patch.
    Ready(BatchBuffer, Vec<PatchOutcome>),
    /// No batch is full yet.
    Pending,
    /// There are no more batches.
    End,
}

impl BatchRing {
    /// A ring for `patches` patches, whose buffers take at most `buffer_bytes`, but at least one
    /// batch.
    pub(super) fn new(layout: Arc<BatchLayout>, patches: u64, buffer_bytes: u64) -> Self {
        let affordable = buffer_bytes / layout.batch_bytes.max(1) as u64;
        let buffers = usize::try_from(affordable).unwrap_or(usize::MAX).clamp(1, MAX_SLOTS);
        // One buffer stays spare, so that the one that the consumer returns is kept and reused.
        let slots = (buffers - 1).max(1);
        Self {
            process: process::id(),
            layout,
            patches,
            slots,
            buffers,
            state: Mutex::default(),
            room: Condvar::new(),
            full: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the next patch, waiting for room; `None` after the last one, or if the ring stops.
    pub(super) fn claim(&self) -> Option<PatchTask> {
        let batch_size = self.layout.batch_size as u64;
        let mut state = self.state();
        loop {
            if state.stopped || state.claimed == self.patches {
                return None;
            }
            let slot = (state.claimed / batch_size - state.delivered) as usize;
            if slot == state.slots.len() && slot < self.slots {
                let patches = (self.patches - state.claimed).min(batch_size) as usize;
                match self.new_slot(patches, state.spare.pop()) {
                    Ok(slot) => state.slots.push_back(slot),
                    Err(error) => {
                        state.failed = Some(error);
                        drop(state);
                        self.stop();
                        return None;
                    }
                }
            }
            if let Some(claim) = state.slots.get(slot).and_then(|slot| slot.batch.claim()) {
                let number = state.claimed;
                state.claimed += 1;
                return Some(PatchTask { number, claim });
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn new_slot(&self, patches: usize, spare: Option<BatchBuffer>) -> Result<RingSlot, Error> {
        let buffer = spare.map_or_else(|| BatchBuffer::new(self.layout.batch_bytes), Ok)?;
        let what = || format!("a batch of {patches} patches");
        let outcomes = collected((0..patches).map(|_| None), patches as u64, what)?;
        let batch = Arc::new(PartialBatch::new(self.layout.clone(), patches, buffer));
        Ok(RingSlot { batch, outcomes, awaited: patches })
    }

    /// Records the outcome of a task.
    pub(super) fn finish(&self, task: PatchTask, outcome: PatchOutcome) {
        let PatchTask { number, claim } = task;
        let (index, batch) = (claim.index(), claim.batch().clone());
        let mut state = self.state();
        let slot = (number / self.layout.batch_size as u64 - state.delivered) as usize;
        state.slots[slot].outcomes[index] = Some(outcome);
        state.slots[slot].awaited -= 1;
        drop(claim);
        if slot == 0 && batch.is_full() {
            self.full.notify_all();
        }
    }

    /// The next batch, if it is full before `deadline`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is none for a batch.
    ///
    /// # Panics
    /// With the panic of a worker, if one panicked.
    pub(super) fn next(&self, deadline: Instant) -> Result<NextBatch, Error> {
        let mut state = self.state();
        loop {
            if let Some(payload) = state.panic.take() {
                drop(state);
                std::panic::resume_unwind(payload);
            }
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if state.delivered * self.layout.batch_size as u64 >= self.patches || state.stopped {
                return Ok(NextBatch::End);
            }
            let first = state.slots.front().filter(|slot| slot.awaited == 0);
            let buffer = first.and_then(|slot| slot.batch.take());
            if let Some(buffer) = buffer {
                let slot = state.slots.pop_front().expect("there is a first");
                state.delivered += 1;
                drop(state);
                self.room.notify_all();
                let outcomes = slot.outcomes.into_iter().map(|o| o.expect("every patch ended"));
                return Ok(NextBatch::Ready(buffer, outcomes.collect()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Ok(NextBatch::Pending);
            }
            state = self.full.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes back a buffer that the consumer no longer needs.
    pub(super) fn give_back(&self, buffer: BatchBuffer) {
        // In a forked child a thread that does not exist there may hold the ring's lock.
        if self.process != process::id() {
            return;
        }
        let mut state = self.state();
        if !state.stopped && state.spare.len() + state.slots.len() < self.buffers {
            state.spare.push(buffer);
        }
    }

    /// Ends all claims and deliveries, and frees spare memory.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.spare.clear();
        self.room.notify_all();
        self.full.notify_all();
    }

    /// Stops because a worker panicked; [`BatchRing::next`] resumes the panic.
    pub(super) fn stop_with_panic(&self, payload: Box<dyn Any + Send>) {
        self.state().panic = Some(payload);
        self.stop();
    }
}

#[cfg(all(test, feature = "model"))]
mod model {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use loom::thread::{self, JoinHandle};

    use super::*;
    use crate::Region;
    use crate::sys::sync::in_every_order;

    /// A ring with room for `buffers` batches of `batch_size` patches, which have no voxels: a
    /// patch's outcome says which it is.
    fn ring(batch_size: usize, patches: u64, buffers: u64) -> Arc<BatchRing> {
        let layout =
            BatchLayout { patch_size: [1; 3], batch_size, batch_bytes: 1, arrays: Vec::new() };
        Arc::new(BatchRing::new(Arc::new(layout), patches, buffers))
    }

    /// A worker thread: fills patches until there are no more.
    fn worker(ring: &Arc<BatchRing>) -> JoinHandle<()> {
        let ring = ring.clone();
        thread::spawn(move || {
            while let Some(task) = ring.claim() {
                let location = location(task.number);
                ring.finish(task, Ok(location));
            }
        })
    }

    fn location(number: u64) -> ReadPatch {
        let region = Region::new([number as i64, 0, 0], [1; 3]);
        ReadPatch { location: PatchLocation { subject: "s".into(), region }, transform: None }
    }

    /// The patches of the next batch; `None` after the last. Waits as long as it takes.
    fn next(ring: &BatchRing) -> Option<Vec<i64>> {
        match ring.next(Instant::now() + Duration::from_hours(1)).expect("there is memory") {
            NextBatch::Ready(buffer, outcomes) => {
                ring.give_back(buffer);
                Some(
                    outcomes
                        .into_iter()
                        .map(|o| o.expect("a location").location.region.start[0])
                        .collect(),
                )
            }
            NextBatch::Pending => panic!("an hour has passed"),
            NextBatch::End => None,
        }
    }

    #[test]
    fn every_patch_comes_once_and_in_order() {
        for (batch_size, patches, buffers, workers) in [(1, 3, 1, 1), (2, 3, 3, 1), (1, 2, 3, 2)] {
            in_every_order(2, move || {
                let ring = ring(batch_size, patches, buffers);
                let workers: Vec<_> = (0..workers).map(|_| worker(&ring)).collect();
                let mut seen = Vec::new();
                while let Some(batch) = next(&ring) {
                    assert!(batch.len() <= batch_size);
                    seen.extend(batch);
                }
                assert!(seen.into_iter().eq(0..patches as i64));
                for worker in workers {
                    worker.join().unwrap();
                }
            });
        }
    }

    #[test]
    fn workers_end_when_the_consumer_stops() {
        for taken in 0..2 {
            in_every_order(2, move || {
                let ring = ring(1, 4, 1);
                let workers = [worker(&ring), worker(&ring)];
                for patch in 0..taken {
                    assert_eq!(next(&ring), Some(vec![patch]));
                }
                ring.stop();
                for worker in workers {
                    worker.join().unwrap();
                }
                assert_eq!(next(&ring), None);
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_consumer_and_ends_the_others() {
        in_every_order(2, || {
            let ring = ring(1, 3, 1);
            let panicking = ring.clone();
            let panicking = thread::spawn(move || {
                if let Some(task) = panicking.claim() {
                    drop(task);
                    panicking.stop_with_panic(Box::new("on purpose"));
                }
            });
            let other = worker(&ring);
            let read = || while next(&ring).is_some() {};
            let panic = catch_unwind(AssertUnwindSafe(read)).err();
            // The other worker may have filled every batch before this one began.
            if let Some(panic) = panic {
                assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
            }
            panicking.join().unwrap();
            other.join().unwrap();
        });
    }

    #[test]
    fn who_does_not_wait_is_told_that_nothing_is_there() {
        in_every_order(2, || {
            let ring = ring(1, 1, 1);
            let worker = worker(&ring);
            match ring.next(Instant::now()).expect("there is memory") {
                NextBatch::Pending => assert_eq!(next(&ring), Some(vec![0])),
                NextBatch::Ready(..) => {}
                NextBatch::End => panic!("a patch was lost"),
            }
            worker.join().unwrap();
        });
    }
}
