//! Values that a forked child creates anew, because the inherited ones may be locked by threads
//! that the child does not have.
//!
//! # Invariants
//! - A process reads of an inherited value only that it is inherited. It never drops it either:
//!   dropping could wait for threads that do not exist here, and the value may have been half
//!   changed at the fork. So the child's copy stays until the child ends.

use std::process;
use std::sync::OnceLock;

/// A value for each process.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    process: u32,
    /// `Some` until it is dropped.
    value: Option<T>,
    /// The value of a process forked from this one; never set here, so never half set there.
    child: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    /// Holds `value` for this process.
    pub(crate) fn new(value: T) -> Self {
        Self { process: process::id(), value: Some(value), child: OnceLock::new() }
    }

    /// This process's value; in a forked child the first call creates it with `make`.
    pub(crate) fn get(&self, make: impl Fn() -> T) -> &T {
        let here = process::id();
        let mut holder = self;
        // One step for each fork between the first process and this one.
        while holder.process != here {
            holder = holder.child.get_or_init(|| Box::new(Self::new(make())));
        }
        holder.value.as_ref().expect("a value is there until it is dropped")
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.process != process::id() {
            std::mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn another_process_gets_its_own_value_once() {
        let inherited = PerProcess { process: 0, value: Some("theirs"), child: OnceLock::new() };
        assert_eq!(*inherited.get(|| "ours"), "ours");
        assert_eq!(*inherited.get(|| "again"), "ours");
        assert_eq!(inherited.value, Some("theirs"));
        assert_eq!(*PerProcess::new("ours").get(|| "again"), "ours");
    }

    #[test]
    fn a_value_of_another_process_is_never_dropped() {
        let (theirs, ours) = (Arc::new(()), Arc::new(()));
        let (seen_theirs, seen_ours) = (Arc::downgrade(&theirs), Arc::downgrade(&ours));
        let inherited = PerProcess { process: 0, value: Some(theirs), child: OnceLock::new() };
        inherited.get(|| ours.clone());
        drop((inherited, ours));
        assert!(seen_theirs.upgrade().is_some() && seen_ours.upgrade().is_none());
    }
}
