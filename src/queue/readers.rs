//! Reader threads: each claims the next patch, looks some patches ahead, reads, and goes on.
//!
//! # Invariants
//! - Threads end when their iteration ends or is dropped; whoever drops it waits for the patches that are being read.
//! - What a patch contains depends on its position alone, never on who reads it or when.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::Inner;
use super::hoard::{Hoard, Use};
use super::plan::{Order, Stride};
use super::ring::{Outcome, Ring, Task};
use super::shelf::{Open, Shelf};
use super::stats::add_time;
use crate::{Error, PatchLocation, Result};

/// Patches that are looked at ahead for each that is read: the view grows while reading goes on, and costs no time at first.
const STEPS: usize = 4;

/// Patches whose chunks are asked of the disk before their turn.
const READ_AHEAD_PATCHES: u64 = 32;

/// Patches whose locations are known ahead of their turn.
const MAX_AHEAD: u64 = 1 << 16;

/// One iteration's readers.
#[derive(Debug)]
pub(super) struct Readers {
    process: u32,
    crew: Arc<Crew>,
    threads: Vec<JoinHandle<()>>,
}

/// What is read, in which order.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) order: Order,
    pub(super) stride: Stride,
    /// The first patch of the stride that is read.
    pub(super) first: u64,
    /// Patches that are read.
    pub(super) patches: u64,
}

/// What the threads of an iteration share.
#[derive(Debug)]
struct Crew {
    queue: Arc<Inner>,
    turn: Turn,
    ring: Arc<Ring>,
    hoard: Arc<Hoard>,
    view: Mutex<View>,
    /// A patch was located.
    located: Condvar,
    stopped: AtomicBool,
}

/// Patches that were located before their turn.
#[derive(Debug, Default)]
struct View {
    /// The next to be located.
    horizon: u64,
    /// The next whose chunks are asked of the disk.
    read_ahead: u64,
    /// Found, for the turn to come.
    located: HashMap<u64, Outcome>,
    /// Being found by a thread that looks ahead.
    pending: HashSet<u64>,
}

/// What is known of a patch when its turn comes.
#[derive(Debug)]
enum Known {
    /// Where it lies.
    Located(Outcome),
    /// Another thread is finding it.
    Sought,
    /// Nobody looks for it, nor will: whose turn it is has to.
    Unsought,
}

impl View {
    /// The turn of a patch has come: nobody will look ahead for it from now on.
    fn turn_of(&mut self, number: u64) -> Known {
        if let Some(location) = self.located.remove(&number) {
            return Known::Located(location);
        }
        if self.pending.contains(&number) {
            return Known::Sought;
        }
        // Threads come here in any order: a later patch may have moved the horizon beyond this one.
        self.horizon = self.horizon.max(number + 1);
        Known::Unsought
    }
}

impl Readers {
    /// Starts reading the patches of `turn`.
    ///
    /// # Errors
    /// [`Error::Io`] if the system grants no thread.
    pub(super) fn start(
        queue: &Arc<Inner>,
        turn: Turn,
        ring: &Arc<Ring>,
        hoard: &Arc<Hoard>,
    ) -> Result<Self> {
        hoard.begin();
        let wanted = u64::try_from(queue.threads).unwrap_or(u64::MAX).min(turn.patches);
        let crew = Arc::new(Crew {
            queue: queue.clone(),
            turn,
            ring: ring.clone(),
            hoard: hoard.clone(),
            view: Mutex::default(),
            located: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let mut readers = Self { process: process::id(), crew, threads: Vec::new() };
        for i in 0..wanted {
            let crew = readers.crew.clone();
            let thread = Builder::new().name(format!("voxquarry-read-{i}"));
            let thread = thread.spawn(move || crew.work());
            // Those that were started end with `readers`.
            readers.threads.push(thread.map_err(Error::io("reader thread", "cannot start"))?);
        }
        Ok(readers)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        if self.process != process::id() {
            // In a forked child there are no such threads, and their locks may never be released.
            std::mem::forget(threads);
            return;
        }
        self.crew.stop();
        for thread in threads {
            // Panics were handed to the consumer.
            let _ = thread.join();
        }
    }
}

impl Crew {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.ring.stop();
        drop(self.view());
        self.located.notify_all();
    }

    fn work(&self) {
        let read_all = || {
            while let Some(mut task) = self.ring.claim() {
                let outcome = self.locate_in_turn(task.number).and_then(|location| {
                    self.look_ahead(task.number);
                    self.read(&mut task, &location).map(|()| location)
                });
                self.ring.finish(task, outcome);
            }
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(read_all)) {
            self.ring.panicked(payload);
            self.stop();
        }
    }

    /// The subject of a patch, and where in it the patch lies.
    fn locate(&self, number: u64) -> Outcome {
        let queue = &self.queue;
        let Turn { order, stride, first, .. } = &self.turn;
        let item = order.item(stride.position(first + number));
        let entry = &order.plan().entries()[item.entry];
        let epoch = order.epoch();
        let located = self.open(&entry.subject);
        let located = located
            .and_then(|open| open.locate(&entry.subject, &queue.sampler, epoch, item.number));
        located.map_err(|source| in_subject(&entry.subject, source))
    }

    fn open(&self, name: &Arc<str>) -> Result<Arc<Open>> {
        let queue = &self.queue;
        let open = || Open::new(&queue.dataset, name, &queue.volumes, &queue.sampler);
        queue.session().shelf.get(name, &queue.layout, open)
    }

    /// The location of a patch whose turn has come: found before, being found by another thread, or found here.
    fn locate_in_turn(&self, number: u64) -> Outcome {
        let mut view = self.view();
        loop {
            match view.turn_of(number) {
                Known::Located(location) => return location,
                Known::Unsought => {
                    drop(view);
                    return self.locate(number);
                }
                Known::Sought => {}
            }
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            view = self.located.wait(view).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Locates some patches to come, says which chunks they will want, and asks the disk for those that are wanted soon.
    fn look_ahead(&self, number: u64) {
        // The consumer waits for the first batch: whatever comes behind it has to.
        if number < self.queue.layout.batch_size as u64 {
            return;
        }
        let soon = (number + READ_AHEAD_PATCHES).min(self.turn.patches);
        let far = if self.queue.caches && self.hoard.is_curious() {
            number.saturating_add(MAX_AHEAD).min(self.turn.patches)
        } else {
            soon
        };
        for _ in 0..STEPS {
            let mut view = self.view();
            view.read_ahead = view.read_ahead.max(number + 1);
            let near = view.read_ahead;
            if near < view.horizon && near < soon {
                view.read_ahead += 1;
                let location = view.located.get(&near).and_then(|l| l.as_ref().ok()).cloned();
                drop(view);
                if let Some(location) = location {
                    self.read_ahead(&location);
                }
                continue;
            }
            let next = view.horizon;
            if next >= far {
                return;
            }
            view.horizon += 1;
            view.pending.insert(next);
            drop(view);
            let location = self.locate(next);
            if let Ok(location) = &location {
                self.announce(location, next);
            }
            let mut view = self.view();
            view.pending.remove(&next);
            view.located.insert(next, location);
            drop(view);
            self.located.notify_all();
        }
    }

    /// Failures are left to the patch's own turn.
    fn read_ahead(&self, location: &PatchLocation) {
        let Ok(open) = self.open(&location.subject) else { return };
        for volume in &open.volumes {
            let kept = volume.is_worth_caching();
            let _ = volume.read_ahead(&location.region, |key| !(kept && self.hoard.holds(key)));
        }
    }

    fn announce(&self, location: &PatchLocation, number: u64) {
        let Ok(open) = self.open(&location.subject) else { return };
        for volume in open.volumes.iter().filter(|volume| volume.is_worth_caching()) {
            let keys = volume.chunks_meeting(&location.region);
            self.hoard.announce(keys, number, volume.layout().chunk_bytes());
        }
    }

    fn withdraw(&self, open: &Open, location: &PatchLocation, number: u64) {
        for volume in open.volumes.iter().filter(|volume| volume.is_worth_caching()) {
            let keys = volume.chunks_meeting(&location.region);
            self.hoard.withdraw(keys, number, volume.layout().chunk_bytes());
        }
    }

    fn read(&self, task: &mut Task, location: &PatchLocation) -> Result<()> {
        let (queue, number, begun) = (&self.queue, task.number, Instant::now());
        let open = self.open(&location.subject).map_err(|e| in_subject(&location.subject, e))?;
        let keeper = Use { hoard: &self.hoard, at: number, counters: &queue.counters };
        for (i, (volume, wanted)) in open.volumes.iter().zip(&queue.volumes).enumerate() {
            let out = task.claim.bytes(i);
            let read = volume.read_kept(&location.region, wanted.padding, out, &keeper);
            if let Err(source) = read {
                self.withdraw(&open, location, number);
                return Err(Error::InPatch {
                    subject: location.subject.to_string(),
                    volume: volume.name().to_owned(),
                    region: location.region,
                    source: Box::new(source),
                });
            }
        }
        add_time(&queue.counters.read_nanoseconds, begun.elapsed());
        Ok(())
    }
}

pub(super) fn in_subject(name: &str, source: Error) -> Error {
    Error::InSubject { subject: name.to_owned(), source: Box::new(source) }
}

/// What a process has open for a queue.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) shelf: Shelf,
    /// Decoded chunks between two iterations; an iteration takes them along.
    pub(super) hoard: Mutex<Option<Arc<Hoard>>>,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { shelf: Shelf::new(), hoard: Mutex::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_location_that_nobody_looks_for() {
        let mut view = View::default();
        // The thread of patch 1 is the first to ask, then those of 3 and 0.
        for number in [1, 3, 0] {
            assert!(matches!(view.turn_of(number), Known::Unsought), "{number}: {view:?}");
        }
        assert_eq!(view.horizon, 4, "those behind it are left to be looked ahead for");
        view.pending.insert(2);
        assert!(matches!(view.turn_of(2), Known::Sought), "{view:?}");
        view.pending.remove(&2);
        view.located.insert(2, Err(Error::Interrupted));
        assert!(matches!(view.turn_of(2), Known::Located(Err(Error::Interrupted))), "{view:?}");
        assert!(view.located.is_empty());
    }
}
