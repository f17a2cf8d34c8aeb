//! Values that a forked child gets afresh: those it inherits may be locked by threads that it does not have.
//!
//! # Invariants
//! - A process never touches what another has made, but to find out that it is another's. It does not drop it either: threads
//!   that it does not have would be ended or awaited, and what they were changing at the fork may be half changed. So a child's
//!   copy of what it inherits stays until the child ends.

use std::process;
use std::sync::OnceLock;

/// A value for each process.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    process: u32,
    /// There until it is dropped.
    value: Option<T>,
    /// Of a process that was forked from this one; here it is never set, so it is never half set there.
    child: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    /// This process has `value`.
    pub(crate) fn new(value: T) -> Self {
        Self { process: process::id(), value: Some(value), child: OnceLock::new() }
    }

    /// This process's value; in a forked child that asks for the first time, what `make` gives.
    pub(crate) fn get(&self, make: impl Fn() -> T) -> &T {
        let here = process::id();
        let mut holder = self;
        // As many steps as there were forks between the first process and this one.
        while holder.process != here {
            holder = holder.child.get_or_init(|| Box::new(Self::new(make())));
        }
        holder.value.as_ref().expect("it is there until it is dropped")
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
    fn what_another_process_made_is_never_dropped() {
        let (theirs, ours) = (Arc::new(()), Arc::new(()));
        let (seen_theirs, seen_ours) = (Arc::downgrade(&theirs), Arc::downgrade(&ours));
        let inherited = PerProcess { process: 0, value: Some(theirs), child: OnceLock::new() };
        inherited.get(|| ours.clone());
        drop((inherited, ours));
        assert!(seen_theirs.upgrade().is_some() && seen_ours.upgrade().is_none());
    }
}
