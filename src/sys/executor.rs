//! The library's own threads: started at first use, shared by all executors of one size, started
//! anew in a forked child. Rayon's global threads are never used.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rayon::ThreadPoolBuilder;

use super::fork::PerProcess;
use super::worker_pool::WorkerPool;
use crate::{Error, Result};

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

    /// Runs `work` on the threads: for long work that rayon's iterators divide.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses to start a thread.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        Ok(self.get()?.threads().install(work))
    }

    /// Runs `work` once for each number below `parts`, roughly in ascending order, on the caller's
    /// thread and on at most `parts - 1` others; each thread has its own `state`.
    ///
    /// # Errors
    /// The first error of `work`, after which no further part is begun; [`Error::Io`] if the system
    /// refuses to start a thread.
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
        match self.threads.min(parts) {
            0 | 1 => run(),
            threads => self.get()?.run(threads - 1, &run),
        }
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn get(&self) -> Result<Arc<WorkerPool>> {
        let pool = self.pool.get(Mutex::default);
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*pool {
            return Ok(pool.clone());
        }
        Ok(pool.insert(shared_pool(self.threads)?).clone())
    }
}

/// The pool of this process with so many `threads`; starts it if there is none.
///
/// Reading, blending and writing take turns on the same threads. With a pool for each, the threads
/// of one would wake and sleep beside those of another once a batch.
fn shared_pool(threads: usize) -> Result<Arc<WorkerPool>> {
    static RUNNING: OnceLock<PerProcess<Mutex<Vec<Weak<WorkerPool>>>>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| PerProcess::new(Mutex::default())).get(Mutex::default);
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(|pool| pool.strong_count() > 0);
    let has_size = |pool: &Arc<WorkerPool>| pool.threads().current_num_threads() == threads;
    if let Some(pool) = running.iter().filter_map(Weak::upgrade).find(has_size) {
        return Ok(pool);
    }
    let name = |i| format!("voxquarry-{i}");
    let built = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
    let refused = |e| Error::io("thread pool", "cannot start")(std::io::Error::other(e));
    let pool = Arc::new(WorkerPool::new(built.map_err(refused)?));
    running.push(Arc::downgrade(&pool));
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_of_one_size_share_their_threads() {
        let get = |threads| Executor::new(Some(threads)).get().unwrap();
        let (seven, five) = (get(7), get(5));
        assert!(Arc::ptr_eq(&seven, &get(7)) && !Arc::ptr_eq(&seven, &five));
        let sizes = [&seven, &five].map(|pool| pool.threads().current_num_threads());
        assert_eq!(sizes, [7, 5]);
        // The threads end with their last executor.
        let gone = Arc::downgrade(&five);
        drop(five);
        assert!(gone.upgrade().is_none());
    }
}
