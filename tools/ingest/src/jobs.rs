//! Runs independent pieces of work side by side within a memory budget.
//!
//! # Invariants
//! - Work begins in order. What runs at one time costs at most the budget; a piece that alone costs
//!   more runs alone.
//! - One piece at a time is the caller's thread alone.

use std::ops::ControlFlow;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often the caller's thread looks up while it waits for a result.
const IDLE: Duration = Duration::from_millis(100);

/// How much may run side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jobs {
    /// Pieces at one time, at least 1.
    pub(crate) limit: usize,
    /// Bytes of memory for all of them.
    pub(crate) budget_bytes: u64,
}

/// The pieces that run now.
struct Running {
    next: usize,
    count: usize,
    bytes: u64,
    /// No more is begun.
    ends: bool,
}

impl Jobs {
    /// The most bytes that pieces of these costs take at one time.
    pub(crate) fn peak_bytes(self, costs: impl Iterator<Item = u64>) -> u64 {
        let mut costs: Vec<u64> = costs.collect();
        costs.sort_unstable_by(|a, b| b.cmp(a));
        let largest = costs.first().copied().unwrap_or(0);
        costs.iter().take(self.limit).sum::<u64>().min(self.budget_bytes.max(largest))
    }

    /// Runs `work` for the index of each of `costs`, in bytes of memory, and passes each result to
    /// `take`, on the caller's thread, until that breaks off. Then no more work is begun, and the
    /// results of what runs are still taken. The caller's thread calls `idle` after each result,
    /// and now and then while it waits for one.
    pub(crate) fn run<T: Send>(
        self,
        costs: &[u64],
        work: impl Fn(usize) -> T + Sync,
        mut take: impl FnMut(usize, T) -> ControlFlow<()>,
        mut idle: impl FnMut(),
    ) {
        let threads = self.limit.min(costs.len());
        if threads <= 1 {
            let _ = (0..costs.len()).try_for_each(|i| take(i, work(i)));
            return;
        }
        let running = Mutex::new(Running { next: 0, count: 0, bytes: 0, ends: false });
        // A thread waits until its result is taken, so that no more begins after a break.
        let (changed, (results, finished)) = (Condvar::new(), sync_channel(0));
        thread::scope(|scope| {
            for number in 0..threads {
                let (running, changed, work, results) =
                    (&running, &changed, &work, results.clone());
                let run = move || {
                    while let Some(i) = self.begin(costs, running, changed) {
                        let result = work(i);
                        let mut running = lock(running);
                        (running.count, running.bytes) =
                            (running.count - 1, running.bytes - costs[i]);
                        drop(running);
                        changed.notify_all();
                        // The receiver lives as long as this scope.
                        let _ = results.send((i, result));
                    }
                };
                let named = thread::Builder::new().name(format!("voxquarry-subject-{number}"));
                // Where the system grants fewer threads, those do all the work.
                if named.spawn_scoped(scope, run).is_err() && number == 0 {
                    let _ = (0..costs.len()).try_for_each(|i| take(i, work(i)));
                    return;
                }
            }
            drop(results);
            loop {
                match finished.recv_timeout(IDLE) {
                    Ok((i, result)) => {
                        if take(i, result).is_break() {
                            lock(&running).ends = true;
                            changed.notify_all();
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                idle();
            }
        });
    }

    /// Waits until the next piece fits; `None` if there is none.
    fn begin(self, costs: &[u64], running: &Mutex<Running>, changed: &Condvar) -> Option<usize> {
        let mut now = lock(running);
        loop {
            let next = now.next;
            let &cost = costs.get(next).filter(|_| !now.ends)?;
            if now.count == 0 || now.bytes + cost <= self.budget_bytes {
                *now = Running {
                    next: next + 1,
                    count: now.count + 1,
                    bytes: now.bytes + cost,
                    ..*now
                };
                return Some(next);
            }
            now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::*;

    /// Runs pieces of these costs; returns the results in order, and the most bytes at one time.
    fn run(jobs: Jobs, costs: &[u64], until: usize) -> (Vec<usize>, u64) {
        let (now, peak) = (AtomicU64::new(0), AtomicU64::new(0));
        let work = |i: usize| {
            let bytes = now.fetch_add(costs[i], Ordering::SeqCst) + costs[i];
            peak.fetch_max(bytes, Ordering::SeqCst);
            thread::yield_now();
            now.fetch_sub(costs[i], Ordering::SeqCst);
            i
        };
        let mut taken = Vec::new();
        let take = |i, result| {
            assert_eq!(i, result);
            taken.push(i);
            if taken.len() == until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        jobs.run(costs, work, take, || ());
        taken.sort_unstable();
        (taken, peak.into_inner())
    }

    #[test]
    fn everything_runs_once_within_the_budget() {
        let costs: Vec<u64> = (0..300).map(|i| 1 + i * 37 % 50).collect();
        for limit in [1, 2, 7, 1000] {
            for budget_bytes in [10, 60, 200, 1 << 40] {
                let jobs = Jobs { limit, budget_bytes };
                let (taken, peak) = run(jobs, &costs, usize::MAX);
                assert_eq!(taken, (0..300).collect::<Vec<_>>());
                assert!(peak <= budget_bytes.max(50), "{jobs:?}: {peak}");
                assert!(peak <= jobs.peak_bytes(costs.iter().copied()), "{jobs:?}: {peak}");
            }
        }
    }

    #[test]
    fn nothing_begins_after_a_break_and_what_runs_is_still_taken() {
        for limit in [1, 2, 7] {
            let (taken, _) = run(Jobs { limit, budget_bytes: 100 }, &[1; 500], 3);
            // While a result is on its way, each thread may begin one more.
            assert!((3..=3 + 2 * limit).contains(&taken.len()), "{}", taken.len());
            assert_eq!(taken, (0..taken.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn pieces_run_side_by_side() {
        let together = AtomicUsize::new(0);
        // Each waits for the other, for as long as a busy machine may need.
        let work = |_| {
            together.fetch_add(1, Ordering::SeqCst);
            (0..10_000).any(|_| {
                thread::park_timeout(Duration::from_millis(1));
                together.load(Ordering::SeqCst) == 2
            })
        };
        let jobs = Jobs { limit: 2, budget_bytes: 2 };
        let take = |_, met: bool| {
            assert!(met);
            ControlFlow::Continue(())
        };
        jobs.run(&[1, 1], work, take, || ());
    }
}
