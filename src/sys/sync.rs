//! The locks, conditions and atomic numbers by which threads of ours wait for each other.
//!
//! They are the standard library's. In the models (`make models`), which are unit tests with the
//! feature `model`, they are loom's, which runs a test in every order of its threads.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic::AtomicUsize};

#[cfg(all(test, feature = "model"))]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, atomic::AtomicUsize};

use std::time::Duration;

/// Spins until `condition` holds, at most for `limit`; returns whether it holds.
///
/// Yields to other threads of this core, and spares the core's other hardware thread.
#[cfg(not(all(test, feature = "model")))]
pub(crate) fn spin_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = std::time::Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::yield_now();
        (0..32).for_each(|_| std::hint::spin_loop());
    }
}

/// In a model, where no time passes, others may run once.
#[cfg(all(test, feature = "model"))]
pub(crate) fn spin_until(_: Duration, mut condition: impl FnMut() -> bool) -> bool {
    condition() || {
        loom::thread::yield_now();
        condition()
    }
}

/// Runs `body` in every order of its threads that has at most `preemptions` more switches between
/// them than their waits ask for.
///
/// # Panics
/// With the first order in which a thread panics, waits for ever, or uses an
/// [`UnsafeCell`](loom::cell::UnsafeCell) at the same time as another.
#[cfg(all(test, feature = "model"))]
pub(crate) fn in_every_order(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}
