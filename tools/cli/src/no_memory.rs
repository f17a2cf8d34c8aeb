//! An error in place of an abort, where a small allocation has failed.
//!
//! What a file or an argument sizes is reserved, and refused with an error. Rust ends a process by
//! SIGABRT if it cannot allocate anything else, after it has said how many bytes that was.
//!
//! # Invariants
//! - An abort for another reason stays one: there is memory then.
//! - The handler allocates nothing and takes no lock.
#![allow(unsafe_code)]

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

/// Makes the failure of a small allocation an error of the environment.
pub(crate) fn tell_failed_allocations() {
    let aborted = || {
        if has_room() {
            return;
        }
        let _ = rustix::io::write(rustix::stdio::stderr(), TOLD);
        low_level::exit(Fault::Environment.exit_code().into());
    };
    // SAFETY: the handler only makes system calls (mmap, munmap, write, _exit), so whatever it
    // interrupts may hold any lock; `a_small_allocation_that_fails_is_an_error` watches it.
    let registered = unsafe { low_level::register(SIGABRT, aborted) };
    // Without it the process is aborted, as any other program.
    drop(registered);
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
