//! Who has come.

/// A set of numbers, small ones at best.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Whether it was not there before.
    pub(super) fn insert(&mut self, number: usize) -> bool {
        let word = number / 64;
        self.0.resize(self.0.len().max(word + 1), 0);
        let is_new = !self.has(number);
        self.0[word] |= 1 << (number % 64);
        is_new
    }

    fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }
}

/// The patches of a grid: which were added, and which are missing.
#[derive(Debug)]
pub(super) struct Ledger {
    added: Bits,
    /// Patches that an earlier run made needless.
    needless: Bits,
    missing: usize,
}

impl Ledger {
    /// Of `patches`, none is added and some are `needless`.
    pub(super) fn new(patches: usize, needless: impl Iterator<Item = usize>) -> Self {
        let mut ledger =
            Self { added: Bits::default(), needless: Bits::default(), missing: patches };
        for number in needless {
            ledger.missing -= usize::from(ledger.needless.insert(number));
        }
        ledger
    }

    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Whether a patch was added, or need not be.
    pub(super) fn has(&self, number: usize) -> bool {
        self.added.has(number) || self.needless.has(number)
    }

    /// Notes that a patch is added; `false` if it was before.
    pub(super) fn mark(&mut self, number: usize) -> bool {
        let is_new = self.added.insert(number);
        self.missing -= usize::from(is_new && !self.needless.has(number));
        is_new
    }

    /// Takes [`Ledger::mark`] back.
    pub(super) fn unmark(&mut self, number: usize) {
        self.added.remove(number);
        self.missing += usize::from(!self.needless.has(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_missing_until_they_are_added_or_needless() {
        let mut ledger = Ledger::new(200, [64, 3].into_iter());
        assert!(ledger.missing() == 198 && ledger.has(64) && !ledger.has(63) && !ledger.has(1000));
        assert!(ledger.mark(63) && !ledger.mark(63) && ledger.mark(64) && ledger.mark(199));
        assert_eq!(ledger.missing(), 196);
        ledger.unmark(63);
        ledger.unmark(64);
        assert!(ledger.missing() == 197 && ledger.has(64) && !ledger.has(63) && ledger.has(199));
    }
}
