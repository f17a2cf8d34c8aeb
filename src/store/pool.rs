//! Threads of our own: made at first use, shared by all who want as many, remade in a forked child, never rayon's global ones.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::process::PerProcess;
use crate::{Error, Result};

/// A number of threads, and the pool made of them.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
    made: PerProcess<Mutex<Option<Arc<ThreadPool>>>>,
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

    /// The running pool.
    ///
    /// # Errors
    /// [`Error::Io`] if the system grants no thread.
    pub fn get(&self) -> Result<Arc<ThreadPool>> {
        let made = self.made.get(Mutex::default);
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*made {
            return Ok(pool.clone());
        }
        Ok(made.insert(shared(self.threads)?).clone())
    }
}

/// The pool of this process with so many threads, made if nobody has it.
///
/// Reading, blending and writing take turns on the same threads: with pools of their own, those of one would wake and fall
/// asleep beside those of another, once for each batch.
fn shared(threads: usize) -> Result<Arc<ThreadPool>> {
    static RUNNING: OnceLock<PerProcess<Mutex<Vec<Weak<ThreadPool>>>>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| PerProcess::new(Mutex::default())).get(Mutex::default);
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(|pool| pool.strong_count() > 0);
    let as_many = |pool: &Arc<ThreadPool>| pool.current_num_threads() == threads;
    if let Some(pool) = running.iter().filter_map(Weak::upgrade).find(as_many) {
        return Ok(pool);
    }
    let pool = built(threads)?;
    running.push(Arc::downgrade(&pool));
    Ok(pool)
}

fn built(threads: usize) -> Result<Arc<ThreadPool>> {
    let name = |i| format!("voxquarry-{i}");
    let built = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
    let refused = |e| Error::io("thread pool", "cannot start")(std::io::Error::other(e));
    built.map(Arc::new).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_as_many_threads_shares_them() {
        let get = |threads| Pool::new(Some(threads)).get().unwrap();
        let (seven, five) = (get(7), get(5));
        assert!(Arc::ptr_eq(&seven, &get(7)) && !Arc::ptr_eq(&seven, &five));
        assert_eq!((seven.current_num_threads(), five.current_num_threads()), (7, 5));
        // The threads go with the last who wants them.
        let gone = Arc::downgrade(&five);
        drop(five);
        assert!(gone.upgrade().is_none());
    }
}
