//! Values that a forked child gets afresh: those it inherits may be locked by threads that it does not have.
//!
//! # Invariants
//! - A process never touches what another has made, but to find out that it is another's.

use std::process;
use std::sync::OnceLock;

/// A value for each process.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    process: u32,
    value: T,
    /// Of a process that was forked from this one; here it is never set, so it is never half set there.
    child: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    /// This process has `value`.
    pub(crate) fn new(value: T) -> Self {
        Self { process: process::id(), value, child: OnceLock::new() }
    }

    /// This process's value; in a forked child that asks for the first time, what `make` gives.
    pub(crate) fn get(&self, make: impl Fn() -> T) -> &T {
        let here = process::id();
        let mut holder = self;
        // As many steps as there were forks between the first process and this one.
        while holder.process != here {
            holder = holder.child.get_or_init(|| Box::new(Self::new(make())));
        }
        &holder.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_gets_its_own_value_once() {
        let inherited = PerProcess { process: 0, value: "theirs", child: OnceLock::new() };
        assert_eq!(*inherited.get(|| "ours"), "ours");
        assert_eq!(*inherited.get(|| "again"), "ours");
        assert_eq!(inherited.value, "theirs");
        assert_eq!(*PerProcess::new("ours").get(|| "again"), "ours");
    }
}
