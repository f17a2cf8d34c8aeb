//! An error in place of an abort, where a small allocation has failed.
//!
//! What a file or an argument sizes is reserved, and refused with an error. Rust ends a process by
//! SIGABRT if it cannot allocate anything else, after it has said how many bytes that was.
//!
//! With `RUST_BACKTRACE`, Rust 1.95 prints a backtrace before that, under a lock that a panic holds
//! which is printing its own: a process without memory could wait for itself for ever. So Rust does
//! not see the variable, and backtraces of panics are printed here.
//!
//! # Invariants
//! - An abort or a panic for another reason stays one: there is memory then.
//! - The handler allocates nothing and takes no lock, nor does the hook while there is no memory.
#![allow(unsafe_code)]

use std::backtrace::Backtrace;
use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use signal_hook::consts::SIGABRT;
use signal_hook::low_level;
use voxquarry::Fault;

/// More than any allocation that is not reserved.
const ROOM: usize = 64 << 20;

const TOLD: &[u8] =
    b"error: not enough memory to go on; nothing half-finished is visible, and the \
                      same command can be repeated\nhelp: give the process more memory (ulimit -v, \
                      the limit of its job), or less to do at a time (--threads, --memory-bytes)\n";

const BACKTRACE: &str = "RUST_BACKTRACE";

/// Makes the failure of a small allocation an error of the environment. To be called before the
/// process has a second thread.
pub(crate) fn tell_failed_allocations() {
    // SAFETY: the handler only makes system calls (mmap, munmap, write, _exit), so whatever it
    // interrupts may hold any lock; `a_small_allocation_that_fails_is_an_error` watches it.
    let registered = unsafe { low_level::register(SIGABRT, end_without_room) };
    // Without it the process is aborted, as any other program.
    drop(registered);
    let shows_backtraces = std::env::var_os(BACKTRACE).is_some_and(|value| value != "0");
    // SAFETY: no other thread reads the environment yet.
    unsafe { std::env::remove_var(BACKTRACE) };
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        end_without_room();
        tell(panic);
        if shows_backtraces {
            eprintln!("{}", Backtrace::force_capture());
        }
    }));
}

/// Ends the process with an error if there is no memory.
fn end_without_room() {
    if !has_room() {
        let _ = rustix::io::write(rustix::stdio::stderr(), TOLD);
        low_level::exit(Fault::Environment.exit_code().into());
    }
}

/// Whether the system grants memory.
fn has_room() -> bool {
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the map is a new one, which nobody else knows of, and its own length is unmapped.
    let mapped = unsafe {
        mmap_anonymous(null_mut(), ROOM, flags, MapFlags::PRIVATE)
            .and_then(|start| munmap(start, ROOM))
    };
    mapped.is_ok()
}
