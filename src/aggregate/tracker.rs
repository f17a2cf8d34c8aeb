//! Tracks which patches of a grid were added and which are missing.

use crate::Result;
use crate::memory::zeroed;

/// A set of patch numbers, one bit each.
#[derive(Debug, Default)]
pub(super) struct PatchSet(Vec<u64>);

impl PatchSet {
    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Returns whether the number is new to the set.
    pub(super) fn insert(&mut self, number: usize) -> bool {
        let word = number / 64;
        self.0.resize(self.0.len().max(word + 1), 0);
        let is_new = !self.contains(number);
        self.0[word] |= 1 << (number % 64);
        is_new
    }

    fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }
}

/// The patches of a grid: which were added, and how many are missing.
#[derive(Debug)]
pub(super) struct PatchTracker {
    added: PatchSet,
    /// Patches that count only for tiles that an earlier run has written.
    unneeded: PatchSet,
    missing: usize,
}

impl PatchTracker {
    /// Tracks `patches` patches; the `unneeded` ones are not missing.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn new(patches: usize, unneeded: impl IntoIterator<Item = usize>) -> Result<Self> {
        let added =
            zeroed(patches.div_ceil(64), || format!("a mark for each of {patches} patches"));
        let (added, unneeded_set) = (PatchSet(added?), PatchSet::default());
        let mut tracker = Self { added, unneeded: unneeded_set, missing: patches };
        for number in unneeded {
            tracker.missing -= usize::from(tracker.unneeded.insert(number));
        }
        Ok(tracker)
    }

    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Whether a patch was added or is unneeded.
    pub(super) fn has(&self, number: usize) -> bool {
        self.added.contains(number) || self.unneeded.contains(number)
    }

    /// Marks a patch as added; returns `false` if it was added before.
    pub(super) fn mark(&mut self, number: usize) -> bool {
        let is_new = self.added.insert(number);
        self.missing -= usize::from(is_new && !self.unneeded.contains(number));
        is_new
    }

    /// Undoes [`PatchTracker::mark`].
    pub(super) fn unmark(&mut self, number: usize) {
        self.added.remove(number);
        self.missing += usize::from(!self.unneeded.contains(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_missing_until_they_are_added_or_unneeded() {
        let mut tracker = PatchTracker::new(200, [64, 3]).unwrap();
        assert!(tracker.missing() == 198 && tracker.has(64));
        assert!(!tracker.has(63) && !tracker.has(1000));
        assert!(tracker.mark(63) && !tracker.mark(63) && tracker.mark(64) && tracker.mark(199));
        assert_eq!(tracker.missing(), 196);
        tracker.unmark(63);
        tracker.unmark(64);
        assert_eq!(tracker.missing(), 197);
        assert!(tracker.has(64) && !tracker.has(63) && tracker.has(199));
    }
}
