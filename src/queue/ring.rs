//! Batches in order, filled by reader threads ahead of the consumer: what is claimed, waited for and handed over.
//!
//! # Invariants
//! - At most `slots` batches are filled or being filled, and at most as many buffers exist as the budget holds, but for
//!   those that the consumer has.
//! - Nobody waits for long: a reader stops waiting when the ring stops, a consumer after the time it names.

use std::any::Any;
use std::collections::VecDeque;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffer::{Buffer, Claim, Filling};
use super::layout::Layout;
use crate::{Error, PatchLocation};

/// Batches that are kept track of: of tiny patches a budget would hold millions.
const MAX_SLOTS: usize = 1024;

/// What became of a patch.
pub(super) type Outcome = Result<PatchLocation, Error>;

/// Batches of one iteration.
#[derive(Debug)]
pub(super) struct Ring {
    process: u32,
    layout: Arc<Layout>,
    /// Patches of the iteration.
    patches: u64,
    slots: usize,
    buffers: usize,
    state: Mutex<State>,
    /// A slot came free, or all is over.
    room: Condvar,
    /// The first batch is full, or a reader has panicked.
    full: Condvar,
}

#[derive(Default)]
struct State {
    claimed: u64,
    delivered: u64,
    slots: VecDeque<Slot>,
    spare: Vec<Buffer>,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
}

struct Slot {
    filling: Arc<Filling>,
    outcomes: Vec<Option<Outcome>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("claimed", &self.claimed).finish_non_exhaustive()
    }
}

/// A patch to be read.
pub(super) struct Task {
    /// Its number in the iteration.
    pub(super) number: u64,
    pub(super) claim: Claim,
}

/// What a consumer gets.
pub(super) enum Next {
    /// A batch: its memory, and what became of each patch.
    Batch(Buffer, Vec<Outcome>),
    /// Not yet.
    Waiting,
    /// There are no more.
    End,
}

impl Ring {
    /// A ring for `patches` patches, whose buffers take at most `buffer_bytes`, but at least one batch.
    pub(super) fn new(layout: Arc<Layout>, patches: u64, buffer_bytes: u64) -> Self {
        let affordable = buffer_bytes / layout.batch_bytes.max(1) as u64;
        let buffers = usize::try_from(affordable).unwrap_or(usize::MAX).clamp(1, MAX_SLOTS);
        // One stays spare, so that the buffer that the consumer gives back finds a place and nothing is allocated.
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next patch; waits for room. `None` if there are no more, or the ring has stopped.
    pub(super) fn claim(&self) -> Option<Task> {
        let batch_size = self.layout.batch_size as u64;
        let mut state = self.state();
        loop {
            if state.stopped || state.claimed == self.patches {
                return None;
            }
            let slot = (state.claimed / batch_size - state.delivered) as usize;
            if slot == state.slots.len() && slot < self.slots {
                let patches = (self.patches - state.claimed).min(batch_size) as usize;
                let spare = state.spare.pop();
                let buffer = spare.unwrap_or_else(|| Buffer::new(self.layout.batch_bytes));
                let filling = Arc::new(Filling::new(self.layout.clone(), patches, buffer));
                let outcomes = (0..patches).map(|_| None).collect();
                state.slots.push_back(Slot { filling, outcomes });
            }
            if let Some(claim) = state.slots.get(slot).and_then(|slot| slot.filling.claim()) {
                let number = state.claimed;
                state.claimed += 1;
                return Some(Task { number, claim });
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes what became of a task.
    pub(super) fn finish(&self, task: Task, outcome: Outcome) {
        let Task { number, claim } = task;
        let (index, filling) = (claim.index(), claim.filling().clone());
        let mut state = self.state();
        let slot = (number / self.layout.batch_size as u64 - state.delivered) as usize;
        state.slots[slot].outcomes[index] = Some(outcome);
        drop(claim);
        if slot == 0 && filling.is_full() {
            self.full.notify_all();
        }
    }

    /// The next batch, waited for until then.
    ///
    /// # Panics
    /// If a reader did.
    pub(super) fn next(&self, until: Instant) -> Next {
        let mut state = self.state();
        loop {
            if let Some(payload) = state.panic.take() {
                drop(state);
                std::panic::resume_unwind(payload);
            }
            if state.delivered * self.layout.batch_size as u64 >= self.patches || state.stopped {
                return Next::End;
            }
            let buffer = state.slots.front().and_then(|slot| slot.filling.take());
            if let Some(buffer) = buffer {
                let slot = state.slots.pop_front().expect("there is a first");
                state.delivered += 1;
                drop(state);
                self.room.notify_all();
                let outcomes = slot.outcomes.into_iter().map(|o| o.expect("every patch ended"));
                return Next::Batch(buffer, outcomes.collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Next::Waiting;
            }
            state = self.full.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes a buffer that the consumer has done with.
    pub(super) fn give_back(&self, buffer: Buffer) {
        // In a forked child the ring's lock may be held by a thread that is not there.
        if self.process != process::id() {
            return;
        }
        let mut state = self.state();
        if !state.stopped && state.spare.len() + state.slots.len() < self.buffers {
            state.spare.push(buffer);
        }
    }

    /// Nothing more is claimed or delivered, and spare memory is freed.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.spare.clear();
        self.room.notify_all();
        self.full.notify_all();
    }

    /// Stops for a reader's panic, which the consumer will see.
    pub(super) fn panicked(&self, payload: Box<dyn Any + Send>) {
        self.state().panic = Some(payload);
        self.stop();
    }
}
