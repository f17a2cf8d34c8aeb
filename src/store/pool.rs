//! Threads of our own: made at first use, remade in a forked child, never rayon's global ones.

use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// A number of threads, and the pool made of them.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
    made: Mutex<Option<(u32, Arc<ThreadPool>)>>,
}

impl Pool {
    /// `threads`, or as many as the machine has cores for `None`; nothing is started yet.
    pub fn new(threads: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: threads.unwrap_or_else(cores).max(1), made: Mutex::new(None) }
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
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let here = process::id();
        if let Some((process, pool)) = &*made
            && *process == here
        {
            return Ok(pool.clone());
        }
        let built = ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .thread_name(|i| format!("voxquarry-{i}"))
            .build();
        let pool = Arc::new(
            built
                .map_err(|e| Error::io("thread pool", "cannot start")(std::io::Error::other(e)))?,
        );
        // After a fork the parent's pool has no threads here: dropping it would wait for them.
        std::mem::forget(made.replace((here, pool.clone())));
        Ok(pool)
    }
}
