//! A pool of worker threads that share a caller's work of a few milliseconds.
//!
//! Waking a thread takes tens of microseconds, at times many hundreds, so handing such work to
//! sleeping threads and sleeping until it is done would cost up to a tenth of it. Therefore the
//! caller works too, from the start; a worker without a job spins for [`SPIN`] before it sleeps;
//! and the caller never waits for a worker that has not started.
//!
//! # Invariants
//! - A job is in the queue only while its caller is inside [`WorkerPool::run`].
//! - No lock is held while a task runs.
#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rayon::ThreadPool;

use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, spin_until};

/// How long an idle thread spins: longer than a loader's own steps between two batches, and too
/// short to slow a model on the same cores, since spinning threads yield.
const SPIN: Duration = Duration::from_micros(250);

/// Worker threads and the queue of jobs that they share.
pub(super) struct WorkerPool {
    threads: ThreadPool,
    queue: Arc<JobQueue>,
}

/// The jobs of all callers.
#[derive(Default)]
struct JobQueue {
    jobs: Mutex<Vec<SharedJob>>,
    /// Jobs ever pushed: a spinning worker sees a new job by this count.
    pushed: AtomicUsize,
    /// Workers that spin.
    spinning: AtomicUsize,
    /// Signalled when a worker has finished its part of a job.
    finished: Condvar,
}

/// A closure that the caller and its workers run at the same time until no work is left.
type Task<'a> = dyn Fn() + Sync + 'a;

type Panic = Box<dyn Any + Send>;

struct SharedJob {
    id: usize,
    task: &'static Task<'static>,
    /// Workers that may still join.
    wanted: usize,
    /// Workers that run the task now.
    active: usize,
    panic: Option<Panic>,
}

/// Removes a job from the queue when dropped, after its workers have finished.
struct JobGuard<'a> {
    queue: &'a JobQueue,
    id: usize,
}

impl WorkerPool {
    pub(super) fn new(threads: ThreadPool) -> Self {
        Self { threads, queue: Arc::default() }
    }

    /// The number of threads.
    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `task` on the caller's thread, and on up to `workers` others that join while it runs.
    ///
    /// Returns when all of them have finished. A worker's panic continues in the caller.
    pub(super) fn run(&self, workers: usize, task: &Task<'_>) {
        self.queue.run(workers, task, |queue| self.threads.spawn(move || queue.work()));
    }
}

impl JobQueue {
    fn jobs(&self) -> MutexGuard<'_, Vec<SharedJob>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`WorkerPool::run`]; `wake` lets a thread that sleeps [`work`](Self::work).
    fn run(self: &Arc<Self>, workers: usize, task: &Task<'_>, wake: impl Fn(Arc<Self>)) {
        // SAFETY: only the lifetime changes. Workers reach the task through its job, and
        // `JobGuard` removes that, after the last worker has finished, before this function
        // returns or unwinds: `a_panic_ends_the_job_and_not_the_pool` watches it.
        let extended = unsafe { mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        let guard = self.push(workers, extended);
        for _ in self.spinning.load(Ordering::Acquire)..workers {
            wake(self.clone());
        }
        task();
        let panic = guard.wait();
        mem::forget(guard);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn push(&self, workers: usize, task: &'static Task<'static>) -> JobGuard<'_> {
        let mut jobs = self.jobs();
        let id = self.pushed.load(Ordering::Relaxed);
        jobs.push(SharedJob { id, task, wanted: workers, active: 0, panic: None });
        // The lock makes ids unique. The job is pushed first: a worker that sees the count finds
        // it.
        self.pushed.store(id.wrapping_add(1), Ordering::Release);
        JobGuard { queue: self, id }
    }

    /// Runs one job after the other until none has come for [`SPIN`].
    fn work(&self) {
        loop {
            let pushed = self.pushed.load(Ordering::Acquire);
            let job = self.jobs().iter_mut().find(|job| job.wanted > 0).map(|job| {
                job.wanted -= 1;
                job.active += 1;
                (job.id, job.task)
            });
            if let Some((id, task)) = job {
                let panic = catch_unwind(AssertUnwindSafe(task)).err();
                let mut jobs = self.jobs();
                let job = jobs.iter_mut().find(|job| job.id == id);
                let job = job.expect("a job stays in the queue while a worker runs it");
                job.active -= 1;
                job.panic = job.panic.take().or(panic);
                drop(jobs);
                self.finished.notify_all();
            } else {
                self.spinning.fetch_add(1, Ordering::Release);
                let is_new = spin_until(SPIN, || self.pushed.load(Ordering::Acquire) != pushed);
                self.spinning.fetch_sub(1, Ordering::Release);
                if !is_new {
                    return;
                }
            }
        }
    }
}

impl JobGuard<'_> {
    /// Stops further workers from joining, waits for those that run, and removes the job.
    fn wait(&self) -> Option<Panic> {
        let remove_finished = |jobs: &mut Vec<SharedJob>| {
            let at = jobs.iter().position(|job| job.id == self.id);
            let at = at.expect("only its caller removes a job");
            jobs[at].wanted = 0;
            (jobs[at].active == 0).then(|| jobs.swap_remove(at).panic)
        };
        let mut panic = None;
        let is_finished =
            || remove_finished(&mut self.queue.jobs()).map(|found| panic = found).is_some();
        if spin_until(SPIN, is_finished) {
            return panic;
        }
        let mut jobs = self.queue.jobs();
        loop {
            if let Some(panic) = remove_finished(&mut jobs) {
                return panic;
            }
            jobs = self.queue.finished.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for JobGuard<'_> {
    fn drop(&mut self) {
        // Reached only if the caller's own part of the task panicked.
        drop(self.wait());
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool").field("threads", &self.threads).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::thread;

    use rayon::ThreadPoolBuilder;

    use super::*;

    fn pool(threads: usize) -> Arc<WorkerPool> {
        Arc::new(WorkerPool::new(ThreadPoolBuilder::new().num_threads(threads).build().unwrap()))
    }

    /// Counts how often each of `parts` is run.
    fn runs(
        pool: &WorkerPool,
        workers: usize,
        parts: usize,
        between: impl Fn() + Sync,
    ) -> Vec<usize> {
        let (next, seen) = (AtomicUsize::new(0), Mutex::new(vec![0; parts]));
        pool.run(workers, &|| {
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
    fn every_part_runs_once_for_many_callers() {
        let pool = pool(3);
        thread::scope(|scope| {
            for caller in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..200 {
                        let nap = || {
                            if round % 50 == caller {
                                thread::sleep(SPIN);
                            }
                        };
                        assert_eq!(runs(pool, round % 4, 9, nap), [1; 9]);
                    }
                });
            }
        });
        assert!(pool.queue.jobs().is_empty());
    }

    #[test]
    fn workers_join_and_absent_ones_are_not_awaited() {
        let pool = pool(2);
        // Each waits for the other: one thread alone would never finish.
        let met = std::sync::Barrier::new(2);
        pool.run(1, &|| {
            met.wait();
        });
        // All threads sleep in other work.
        let (wake, asleep) = std::sync::mpsc::channel::<()>();
        let asleep = Arc::new(Mutex::new(asleep));
        for _ in 0..2 {
            let asleep = asleep.clone();
            pool.threads.spawn(move || {
                let _ = asleep.lock().unwrap().recv();
            });
        }
        assert_eq!(runs(&pool, 2, 5, || ()), [1; 5]);
        drop(wake);
    }

    #[test]
    fn a_task_may_run_a_task() {
        let pool = pool(2);
        let met = std::sync::Barrier::new(2);
        pool.run(1, &|| {
            met.wait();
            assert_eq!(runs(&pool, 1, 3, || ()), [1; 3]);
        });
    }

    #[test]
    fn a_panic_ends_the_job_and_not_the_pool() {
        let pool = pool(2);
        let caller = thread::current().id();
        for in_caller in [true, false] {
            let met = std::sync::Barrier::new(2);
            let work = || {
                met.wait();
                assert_ne!(thread::current().id() == caller, in_caller, "on purpose");
            };
            let panic = catch_unwind(AssertUnwindSafe(|| pool.run(1, &work))).unwrap_err();
            assert!(panic.downcast_ref::<String>().unwrap().contains("on purpose"));
            assert!(pool.queue.jobs().is_empty());
        }
        assert_eq!(runs(&pool, 1, 3, || ()), [1; 3]);
    }
}

#[cfg(all(test, feature = "model"))]
mod model {
    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::super::sync::in_every_order;
    use super::*;

    /// Voxels that each thread writes a part of, and a count of the parts; not the caller's memory
    /// any more once [`JobQueue::run`] has returned.
    struct Voxels {
        next: AtomicUsize,
        parts: Vec<UnsafeCell<usize>>,
    }

    // SAFETY: loom watches every use of a cell.
    unsafe impl Sync for Voxels {}

    impl Voxels {
        fn new(parts: usize) -> Self {
            let parts = (0..parts).map(|_| UnsafeCell::new(0)).collect();
            Self { next: AtomicUsize::new(0), parts }
        }

        fn write(&self) {
            while let Some(part) = self.parts.get(self.next.fetch_add(1, Ordering::Relaxed)) {
                // SAFETY: loom panics if another thread uses the cell now.
                part.with_mut(|count| unsafe { *count += 1 });
            }
        }

        /// Reads all parts without a lock, as a caller does with its voxels.
        fn assert_written_once(&self) {
            for part in &self.parts {
                // SAFETY: as above.
                assert_eq!(part.with(|count| unsafe { *count }), 1);
            }
        }
    }

    /// Runs a job whose workers are threads of the model.
    fn run(queue: &Arc<JobQueue>, workers: usize, task: &Task<'_>) -> Vec<thread::JoinHandle<()>> {
        let woken = std::cell::RefCell::new(Vec::new());
        queue.run(workers, task, |queue| {
            woken.borrow_mut().push(thread::spawn(move || queue.work()));
        });
        woken.into_inner()
    }

    fn end(queue: &JobQueue, workers: Vec<thread::JoinHandle<()>>) {
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(queue.jobs().is_empty());
        assert_eq!(queue.spinning.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn every_part_is_written_once_before_run_returns() {
        in_every_order(3, || {
            let queue = Arc::new(JobQueue::default());
            let voxels = Voxels::new(2);
            let workers = run(&queue, 1, &|| voxels.write());
            voxels.assert_written_once();
            drop(voxels);
            end(&queue, workers);
        });
    }

    #[test]
    fn a_worker_that_spins_joins_the_next_job_or_sleeps() {
        in_every_order(2, || {
            let queue = Arc::new(JobQueue::default());
            let mut workers = Vec::new();
            for _ in 0..2 {
                let voxels = Voxels::new(2);
                workers.append(&mut run(&queue, 1, &|| voxels.write()));
                voxels.assert_written_once();
            }
            end(&queue, workers);
        });
    }

    #[test]
    fn callers_share_the_queue() {
        in_every_order(2, || {
            let queue = Arc::new(JobQueue::default());
            let other = queue.clone();
            let other = thread::spawn(move || {
                let voxels = Voxels::new(1);
                let workers = run(&other, 0, &|| voxels.write());
                voxels.assert_written_once();
                assert!(workers.is_empty());
            });
            let voxels = Voxels::new(2);
            let workers = run(&queue, 1, &|| voxels.write());
            voxels.assert_written_once();
            other.join().unwrap();
            end(&queue, workers);
        });
    }

    #[test]
    fn a_panic_of_a_worker_reaches_the_caller() {
        // No panic hook prints thousands of them.
        let panic = || resume_unwind(Box::new("on purpose"));
        in_every_order(2, move || {
            let queue = Arc::new(JobQueue::default());
            let (voxels, caller) = (Voxels::new(1), thread::current().id());
            let is_joined = AtomicUsize::new(0);
            let work = || {
                voxels.write();
                if thread::current().id() != caller {
                    is_joined.store(1, Ordering::Relaxed);
                    panic();
                }
            };
            let handles = std::cell::RefCell::new(Vec::new());
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                queue.run(1, &work, |queue| {
                    handles.borrow_mut().push(thread::spawn(move || queue.work()));
                });
            }));
            voxels.assert_written_once();
            assert_eq!(outcome.is_err(), is_joined.load(Ordering::Relaxed) == 1);
            end(&queue, handles.into_inner());
        });
    }

    #[test]
    fn a_panic_of_the_caller_waits_for_the_workers() {
        let panic = || resume_unwind(Box::new("on purpose"));
        in_every_order(2, move || {
            let queue = Arc::new(JobQueue::default());
            let (voxels, caller) = (Voxels::new(1), thread::current().id());
            let handles = std::cell::RefCell::new(Vec::new());
            let work = || {
                voxels.write();
                if thread::current().id() == caller {
                    panic();
                }
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                queue.run(1, &work, |queue| {
                    handles.borrow_mut().push(thread::spawn(move || queue.work()));
                });
            }));
            assert!(outcome.is_err());
            voxels.assert_written_once();
            end(&queue, handles.into_inner());
        });
    }
}
