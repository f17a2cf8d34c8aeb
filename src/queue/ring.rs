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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch_layout::BatchLayout;
use super::buffer::{BatchBuffer, PartialBatch, PatchClaim};
use crate::memory::collected;
use crate::{Error, PatchLocation};

/// Limits the batches that are tracked: a budget could hold millions of tiny ones.
const MAX_SLOTS: usize = 1024;

/// The location of a patch that was read, or the reason why it was not.
pub(super) type PatchOutcome = Result<PatchLocation, Error>;

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
        Ok(RingSlot { batch, outcomes })
    }

    /// Records the outcome of a task.
    pub(super) fn finish(&self, task: PatchTask, outcome: PatchOutcome) {
        let PatchTask { number, claim } = task;
        let (index, batch) = (claim.index(), claim.batch().clone());
        let mut state = self.state();
        let slot = (number / self.layout.batch_size as u64 - state.delivered) as usize;
        state.slots[slot].outcomes[index] = Some(outcome);
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
            let buffer = state.slots.front().and_then(|slot| slot.batch.take());
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
