//! The library's own threads: started at first use, shared by all executors of one size, started
//! anew in a forked child. Rayon's global threads are never used.
//!
//! Where the system grants fewer threads than are wanted, those do all the work: the caller's own,
//! if there is no other. So a process that may start none reads and writes more slowly, and right.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rayon::ThreadPoolBuilder;

use super::fork::PerProcess;
use super::worker_pool::WorkerPool;
use crate::Result;

/// Pieces that [`Executor::map`] cuts the numbers into, a thread: each takes a lock once, and a
/// thread that has done its own takes those of others.
const PIECES: usize = 32;

/// A number of threads that run work in parallel.
#[derive(Debug)]
pub(crate) struct Executor {
    threads: usize,
    pool: PerProcess<Mutex<Option<Arc<WorkerPool>>>>,
}

impl Executor {
    /// Takes `threads`, or one for each core if `None`; starts none yet.
    pub(crate) fn new(threads: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(cores).max(1);
        Self { threads, pool: PerProcess::new(Mutex::default()) }
    }

    /// The number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// The results of `work` for each number below `count`, in this order; divided as by
    /// [`share`](Self::share).
    ///
    /// # Errors
    /// The first error of `work`, after which no further piece of the numbers is begun.
    pub(crate) fn map<S, R: Send>(
        &self,
        count: usize,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let length = count.div_ceil(self.threads.saturating_mul(PIECES)).max(1);
        let done = Mutex::new(Vec::new());
        self.share(count.div_ceil(length), state, |state, piece| {
            let numbers = piece * length..count.min((piece + 1) * length);
            let results: Vec<R> = numbers.map(|n| work(state, n)).collect::<Result<_>>()?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((piece, results));
            Ok(())
        })?;
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(piece, _)| *piece);
        Ok(done.into_iter().flat_map(|(_, results)| results).collect())
    }

    /// Runs `work` once for each number below `parts`, roughly in ascending order, on the caller's
    /// thread and on at most `parts - 1` others; each thread has its own `state`.
    ///
    /// # Errors
    /// The first error of `work`, after which no further part is begun.
    pub(crate) fn share<S>(
        &self,
        parts: usize,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let run = || {
            let mut state = state();
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                if part >= parts {
                    return;
                }
                if let Err(error) = work(&mut state, part) {
                    next.store(parts, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        let others = self.threads.min(parts).saturating_sub(1);
        match if others > 0 { self.get() } else { None } {
            Some(pool) => pool.run(others, &run),
            None => run(),
        }
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// The threads; `None` if the system grants none.
    fn get(&self) -> Option<Arc<WorkerPool>> {
        let pool = self.pool.get(Mutex::default);
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.is_none() {
            *pool = shared_pool(self.threads);
        }
        pool.clone()
    }
}

/// The pool of this process for so many `threads`; starts it if there is none. `None` if the system
/// grants no thread.
///
/// Reading, blending and writing take turns on the same threads. With a pool for each, the threads
/// of one would wake and sleep beside those of another once a batch.
fn shared_pool(threads: usize) -> Option<Arc<WorkerPool>> {
    static RUNNING: OnceLock<PerProcess<Mutex<Vec<RunningPool>>>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| PerProcess::new(Mutex::default())).get(Mutex::default);
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(|running| running.pool.strong_count() > 0);
    let same = running.iter().find(|running| running.wanted == threads);
    if let Some(pool) = same.and_then(|running| running.pool.upgrade()) {
        return Some(pool);
    }
    let pool = Arc::new(WorkerPool::new(granted(threads, |threads| {
        let name = |i| format!("voxquarry-{i}");
        ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().ok()
    })?));
    running.push(RunningPool { wanted: threads, pool: Arc::downgrade(&pool) });
    Some(pool)
}

/// A pool of this process, and the number of threads that were wanted of it.
struct RunningPool {
    wanted: usize,
    pool: Weak<WorkerPool>,
}

/// What `start` makes of the most threads that it grants: `wanted`, or half of them, and so on.
fn granted<T>(wanted: usize, start: impl Fn(usize) -> Option<T>) -> Option<T> {
    let halves = std::iter::successors(Some(wanted), |threads| Some(threads / 2));
    halves.take_while(|&threads| threads > 0).find_map(start)
}

/// The numbers below `count`, so many at a time.
pub(crate) fn groups(count: usize, together: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(together).map(move |first| first..(first + together).min(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn executors_of_one_size_share_their_threads() {
        let get = |threads| Executor::new(Some(threads)).get().unwrap();
        let (seven, five) = (get(7), get(5));
        assert!(Arc::ptr_eq(&seven, &get(7)) && !Arc::ptr_eq(&seven, &five));
        assert_eq!([&seven, &five].map(|pool| pool.threads()), [7, 5]);
        // The threads end with their last executor.
        let gone = Arc::downgrade(&five);
        drop(five);
        assert!(gone.upgrade().is_none());
    }

    #[test]
    fn results_come_in_order_and_the_first_error_ends_the_work() {
        for (threads, count) in [(1, 0), (1, 5), (3, 1), (3, 96), (3, 97), (3, 1000)] {
            let executor = Executor::new(Some(threads));
            let doubled = executor.map(count, || (), |(), n| Ok(2 * n)).unwrap();
            assert_eq!(doubled, (0..count).map(|n| 2 * n).collect::<Vec<_>>());
        }
        let executor = Executor::new(Some(3));
        let begun = AtomicUsize::new(0);
        let failed = executor.map(
            100_000,
            || (),
            |(), n| {
                begun.fetch_add(1, Ordering::Relaxed);
                if n == 5 { Err(Error::Interrupted) } else { Ok(()) }
            },
        );
        assert!(matches!(failed, Err(Error::Interrupted)));
        assert!(begun.into_inner() < 100_000);
    }

    #[test]
    fn fewer_threads_are_taken_where_no_more_are_granted() {
        let most = |limit| granted(12, |threads| (threads <= limit).then_some(threads));
        assert_eq!([12, 11, 6, 3, 2, 1].map(most), [12, 6, 6, 3, 1, 1].map(Some));
        assert_eq!(most(0), None);
    }
}
