//! Threads of our own: made at first use, shared by all who want as many, remade in a forked child, never rayon's global ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rayon::ThreadPoolBuilder;

use super::crew::Crew;
use crate::process::PerProcess;
use crate::{Error, Result};

/// A number of threads, and the pool made of them.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
    made: PerProcess<Mutex<Option<Arc<Crew>>>>,
}

impl Pool {
    /// `threads`, or as many as the machine has cores for `None`; nothing is started yet.
    pub fn new(threads: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(cores).max(1);
        Self { threads, made: PerProcess::new(Mutex::default()) }
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Hands `work` to the threads: what is long, and shared by rayon's iterators.
    ///
    /// # Errors
    /// [`Error::Io`] if the system grants no thread.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        Ok(self.get()?.pool().install(work))
    }

    /// Does `work` once for each number below `parts`, about in their order, on the caller's thread and as many others as
    /// there are parts for; each has a `state` of its own.
    ///
    /// # Errors
    /// The first that `work` returns, after which nothing new is begun; [`Error::Io`] if the system grants no thread.
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

    fn get(&self) -> Result<Arc<Crew>> {
        let made = self.made.get(Mutex::default);
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crew) = &*made {
            return Ok(crew.clone());
        }
        Ok(made.insert(shared(self.threads)?).clone())
    }
}

/// The threads of this process, so many, made if nobody has them.
///
/// Reading, blending and writing take turns on the same threads: with pools of their own, those of one would wake and fall
/// asleep beside those of another, once for each batch.
fn shared(threads: usize) -> Result<Arc<Crew>> {
    static RUNNING: OnceLock<PerProcess<Mutex<Vec<Weak<Crew>>>>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| PerProcess::new(Mutex::default())).get(Mutex::default);
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(|crew| crew.strong_count() > 0);
    let as_many = |crew: &Arc<Crew>| crew.pool().current_num_threads() == threads;
    if let Some(crew) = running.iter().filter_map(Weak::upgrade).find(as_many) {
        return Ok(crew);
    }
    let name = |i| format!("voxquarry-{i}");
    let built = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
    let refused = |e| Error::io("thread pool", "cannot start")(std::io::Error::other(e));
    let crew = Arc::new(Crew::new(built.map_err(refused)?));
    running.push(Arc::downgrade(&crew));
    Ok(crew)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_as_many_threads_shares_them() {
        let get = |threads| Pool::new(Some(threads)).get().unwrap();
        let (seven, five) = (get(7), get(5));
        assert!(Arc::ptr_eq(&seven, &get(7)) && !Arc::ptr_eq(&seven, &five));
        assert_eq!((seven.pool().current_num_threads(), five.pool().current_num_threads()), (7, 5));
        // The threads go with the last who wants them.
        let gone = Arc::downgrade(&five);
        drop(five);
        assert!(gone.upgrade().is_none());
    }
}
