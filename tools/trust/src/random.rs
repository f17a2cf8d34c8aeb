//! Random numbers that a seed, a campaign and the number of a case determine.

/// A generator (`SplitMix64`) for one case.
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of case `case` of `campaign`.
    pub(crate) fn new(seed: u64, campaign: &str, case: u64) -> Self {
        let mut numbers = Self(seed);
        for byte in campaign.bytes() {
            numbers.0 = numbers.next() ^ u64::from(byte);
        }
        numbers.0 = numbers.next() ^ case;
        numbers
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `items`, of which there is at least one.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Whether an event of that probability happens.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
