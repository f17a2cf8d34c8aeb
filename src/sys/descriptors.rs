//! Room for one more open file, when the system has no descriptor left for it.
//!
//! Files that stay open only save opening them again, so their holders close some of them when
//! descriptors run out, and before they take more than half of those that the process may have: the
//! program around this library opens files too.
//!
//! # Invariants
//! - Nothing that is in use is closed.
//! - A file is opened again, and checked again, as at first touch.
//! - Waiting ends: when no thread has got a descriptor for a while, all waits fail.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::fork::PerProcess;
use crate::error::is_out_of_descriptors;

/// The longest time in which no thread gets a descriptor, while reads under way use some.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same while no read uses one: what other work has open is closed soon or not at all.
const BRIEF_PATIENCE: Duration = Duration::from_secs(1);
const WAIT_STEP: Duration = Duration::from_millis(1);

/// When waiting began without any success since, in milliseconds; 0 while nobody waits.
static STUCK_SINCE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread waits already, around what it opens now.
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// A holder of files that it can open again.
pub(crate) trait HoldsFiles: Send + Sync {
    /// The number of its open files.
    fn kept_files(&self) -> usize;

    /// Closes the longest unused half of the files that nobody uses now; returns their number.
    fn close_unused(&self) -> usize;
}

type Holders = Mutex<Vec<Weak<dyn HoldsFiles>>>;

fn holders() -> &'static Holders {
    static HOLDERS: OnceLock<PerProcess<Holders>> = OnceLock::new();
    HOLDERS.get_or_init(|| PerProcess::new(Mutex::default())).get(Mutex::default)
}

/// Makes `holder` one of those that are asked to close files.
pub(crate) fn register(holder: &Arc<impl HoldsFiles + 'static>) {
    let mut holders = holders().lock().unwrap_or_else(PoisonError::into_inner);
    holders.retain(|holder| holder.strong_count() > 0);
    let holder: Weak<dyn HoldsFiles> = Arc::downgrade(holder) as _;
    holders.push(holder);
}

fn live_holders() -> Vec<Arc<dyn HoldsFiles>> {
    let holders = holders().lock().unwrap_or_else(PoisonError::into_inner);
    holders.iter().filter_map(Weak::upgrade).collect()
}

/// Closes unused files of all holders; returns their number.
fn make_room() -> usize {
    live_holders().iter().map(|holder| holder.close_unused()).sum()
}

/// Runs `open`; closes unused files and runs it again while there is no descriptor for it.
///
/// # Errors
/// Those of `open`.
pub(crate) fn with_room<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match open() {
            Err(e) if is_out_of_descriptors(&e) && make_room() > 0 => {}
            opened => return opened,
        }
    }
}

/// As [`with_room`]; if all descriptors are in use, waits for the reads that use them. The caller
/// holds no file that another thread might wait for.
///
/// # Errors
/// Those of `open`.
pub(crate) fn waiting_for_room<T, E>(
    open: impl Fn() -> Result<T, E>,
    is_exhausted: impl Fn(&E) -> bool,
) -> Result<T, E> {
    // Only the outermost call waits: it runs all that is inside of it again.
    let is_outermost = !WAITS.replace(true);
    let result = loop {
        match open() {
            Err(e) if is_exhausted(&e) => {
                if make_room() > 0 {
                    continue;
                }
                if !is_outermost || is_stuck() {
                    break Err(e);
                }
                thread::sleep(WAIT_STEP);
            }
            opened => break opened,
        }
    };
    if is_outermost {
        WAITS.set(false);
        if result.is_ok() && STUCK_SINCE.load(Ordering::Relaxed) != 0 {
            STUCK_SINCE.store(0, Ordering::Relaxed);
        }
    }
    result
}

/// Whether nobody has got a descriptor for too long. Those that ask after that do not wait again.
fn is_stuck() -> bool {
    static START: OnceLock<Instant> = OnceLock::new();
    let now = START.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1;
    let since = match STUCK_SINCE.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => now,
        Err(since) => since,
    };
    // What is kept after room was made is in use.
    let in_use = live_holders().iter().any(|holder| holder.kept_files() > 0);
    let patience = if in_use { PATIENCE } else { BRIEF_PATIENCE };
    now.saturating_sub(since) >= patience.as_millis() as u64
}

/// Closes unused files if all holders together keep more than half of the descriptors that the
/// process may have.
pub(crate) fn keep_few() {
    let most = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize) / 2;
    if live_holders().iter().map(|holder| holder.kept_files()).sum::<usize>() > most {
        make_room();
    }
}
