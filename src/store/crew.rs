//! Threads that help a caller with work of a few milliseconds.
//!
//! Handing such work to sleeping threads and sleeping until it is done costs as much as a tenth of it: each waking takes tens of
//! microseconds, at times many hundreds. So the caller works too, from the first moment; who helped looks around for more for a
//! while ([`LINGER`]) before it goes to sleep; and nobody waits for a helper that has not come.
//!
//! # Invariants
//! - A job is on the desk only while its caller is inside [`Crew::run`].
//! - No lock is held while somebody works.
#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::hint;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

/// How long somebody without work stays awake: longer than a loader's own steps between two batches, and too short to be felt
/// by a model that computes on the same cores, to which it gives way.
const LINGER: Duration = Duration::from_micros(250);

/// The threads of a pool, and the work that they are asked to help with.
pub(super) struct Crew {
    pool: ThreadPool,
    desk: Arc<Desk>,
}

/// Where callers leave jobs and helpers find them.
#[derive(Default)]
struct Desk {
    jobs: Mutex<Vec<Job>>,
    /// Of all jobs ever left: those who look around see by it that there is a new one.
    left: AtomicUsize,
    /// How many look around.
    lingering: AtomicUsize,
    /// A helper is done with a job.
    done: Condvar,
}

/// What a helper and the caller do at the same time, until nothing is left of it.
type Work<'a> = dyn Fn() + Sync + 'a;

type Panic = Box<dyn Any + Send>;

struct Job {
    number: usize,
    work: &'static Work<'static>,
    /// Helpers that may still join.
    wanted: usize,
    /// Helpers that are at it.
    active: usize,
    panic: Option<Panic>,
}

/// A job on the desk, which is taken off at the latest when this is dropped.
struct Left<'a> {
    desk: &'a Desk,
    number: usize,
}

impl Crew {
    pub(super) fn new(pool: ThreadPool) -> Self {
        Self { pool, desk: Arc::default() }
    }

    /// The pool itself, for work that is long enough to be handed over.
    pub(super) fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    /// Does `work` on the caller's thread, and on up to `helpers` others that come while it does; returns when all that began
    /// are done. A panic of theirs goes on in the caller.
    pub(super) fn run(&self, helpers: usize, work: &Work<'_>) {
        // SAFETY: only the lifetime changes. Helpers have it from the job; `Left` takes that off the desk, once nobody is at
        // it, before this function returns or unwinds.
        let lasting = unsafe { mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        let left = self.desk.leave(helpers, lasting);
        for _ in self.desk.lingering.load(Ordering::Acquire)..helpers {
            let desk = self.desk.clone();
            self.pool.spawn(move || desk.help());
        }
        work();
        let panic = left.take_off();
        mem::forget(left);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Desk {
    fn jobs(&self) -> MutexGuard<'_, Vec<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, helpers: usize, work: &'static Work<'static>) -> Left<'_> {
        let mut jobs = self.jobs();
        let number = self.left.load(Ordering::Relaxed);
        jobs.push(Job { number, work, wanted: helpers, active: 0, panic: None });
        // Under the lock, so that numbers are unique; after the job, which is there for who sees it.
        self.left.store(number.wrapping_add(1), Ordering::Release);
        Left { desk: self, number }
    }

    /// Helps with one job after the other, until none has come for a while.
    fn help(&self) {
        loop {
            let left = self.left.load(Ordering::Acquire);
            let job = self.jobs().iter_mut().find(|job| job.wanted > 0).map(|job| {
                job.wanted -= 1;
                job.active += 1;
                (job.number, job.work)
            });
            if let Some((number, work)) = job {
                let panic = catch_unwind(AssertUnwindSafe(work)).err();
                let mut jobs = self.jobs();
                let job = jobs.iter_mut().find(|job| job.number == number);
                let job = job.expect("a job stays while a helper is at it");
                job.active -= 1;
                job.panic = job.panic.take().or(panic);
                drop(jobs);
                self.done.notify_all();
            } else {
                self.lingering.fetch_add(1, Ordering::Release);
                let came = lingered(|| self.left.load(Ordering::Acquire) != left);
                self.lingering.fetch_sub(1, Ordering::Release);
                if !came {
                    return;
                }
            }
        }
    }
}

impl Left<'_> {
    /// Waits for those who are at the job, and lets nobody join.
    fn take_off(&self) -> Option<Panic> {
        let finished = |jobs: &mut Vec<Job>| {
            let at = jobs.iter().position(|job| job.number == self.number);
            let at = at.expect("only its caller takes a job off");
            jobs[at].wanted = 0;
            (jobs[at].active == 0).then(|| jobs.swap_remove(at).panic)
        };
        let mut panic = None;
        if lingered(|| finished(&mut self.desk.jobs()).map(|found| panic = found).is_some()) {
            return panic;
        }
        let mut jobs = self.desk.jobs();
        loop {
            if let Some(panic) = finished(&mut jobs) {
                return panic;
            }
            jobs = self.desk.done.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        // The caller panics already.
        drop(self.take_off());
    }
}

/// Whether `it` happens before long; others that could work on this core come first, and its sister is left in peace.
fn lingered(mut it: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if it() {
            return true;
        }
        if begun.elapsed() > LINGER {
            return false;
        }
        thread::yield_now();
        (0..32).for_each(|_| hint::spin_loop());
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("pool", &self.pool).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rayon::ThreadPoolBuilder;

    use super::*;

    fn crew(threads: usize) -> Arc<Crew> {
        Arc::new(Crew::new(ThreadPoolBuilder::new().num_threads(threads).build().unwrap()))
    }

    /// Counts how often each of `parts` is done.
    fn done(crew: &Crew, helpers: usize, parts: usize, between: impl Fn() + Sync) -> Vec<usize> {
        let (next, seen) = (AtomicUsize::new(0), Mutex::new(vec![0; parts]));
        crew.run(helpers, &|| {
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                if part >= parts {
                    return;
                }
                between();
                seen.lock().unwrap()[part] += 1;
            }
        });
        seen.into_inner().unwrap()
    }

    #[test]
    fn every_part_is_done_once_by_many_callers() {
        let crew = crew(3);
        thread::scope(|scope| {
            for caller in 0..4 {
                let crew = &crew;
                scope.spawn(move || {
                    for round in 0..200 {
                        let nap = || {
                            if round % 50 == caller {
                                thread::sleep(LINGER);
                            }
                        };
                        assert_eq!(done(crew, round % 4, 9, nap), [1; 9]);
                    }
                });
            }
        });
        assert!(crew.desk.jobs().is_empty());
    }

    #[test]
    fn helpers_come_and_nobody_waits_for_those_who_do_not() {
        let crew = crew(2);
        // Each waits for the other: one thread alone would not come to an end.
        let met = std::sync::Barrier::new(2);
        crew.run(1, &|| {
            met.wait();
        });
        // All threads sleep in something else.
        let (wake, asleep) = std::sync::mpsc::channel::<()>();
        let asleep = Arc::new(Mutex::new(asleep));
        for _ in 0..2 {
            let asleep = asleep.clone();
            crew.pool.spawn(move || {
                let _ = asleep.lock().unwrap().recv();
            });
        }
        assert_eq!(done(&crew, 2, 5, || ()), [1; 5]);
        drop(wake);
    }

    #[test]
    fn a_helper_may_need_help() {
        let crew = crew(2);
        let met = std::sync::Barrier::new(2);
        crew.run(1, &|| {
            met.wait();
            assert_eq!(done(&crew, 1, 3, || ()), [1; 3]);
        });
    }

    #[test]
    fn a_panic_ends_the_job_and_not_the_crew() {
        let crew = crew(2);
        let caller = thread::current().id();
        for in_caller in [true, false] {
            let met = std::sync::Barrier::new(2);
            let work = || {
                met.wait();
                assert_ne!(thread::current().id() == caller, in_caller, "on purpose");
            };
            let panic = catch_unwind(AssertUnwindSafe(|| crew.run(1, &work))).unwrap_err();
            assert!(panic.downcast_ref::<String>().unwrap().contains("on purpose"));
            assert!(crew.desk.jobs().is_empty());
        }
        assert_eq!(done(&crew, 1, 3, || ()), [1; 3]);
    }
}
