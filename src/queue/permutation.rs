//! Permutations of any length, computed one number at a time (`docs/determinism.md`).
//!
//! # Invariants
//! - Memory is a few words, whatever the length.

use std::array;

use crate::sample::{Epoch, RandomStream, StreamKey};

/// Takes the place of the subject's name in the key; no subject can have this name.
const STREAMS: &str = "/queue";

const ROUNDS: usize = 8;

/// With 2, even permutations of four are 5 % more frequent than odd ones; with 4 our tests find no
/// difference.
const MIN_HALF_BITS: u32 = 4;

/// A permutation of `0..n`: a balanced Feistel network over an even number of bits, applied until
/// the result is in range (cycle walking).
#[derive(Clone, Debug)]
pub(super) struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..n` of a stream of an epoch.
    pub(super) fn new(n: u64, epoch: Epoch, stream: u64) -> Self {
        let stream = StreamKey { epoch, subject: STREAMS, n: stream, attempt: 0 };
        let mut draws = RandomStream::new(&stream);
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(MIN_HALF_BITS);
        Self { n, half_bits, keys: array::from_fn(|_| draws.word()) }
    }

    /// The image of `i`, which is less than `n`.
    pub(super) fn at(&self, i: u64) -> u64 {
        assert!(i < self.n, "{i} is not less than {}", self.n);
        let mut x = i;
        // The walk follows the cycle that contains `i`, so it ends: on average after at most four
        // steps, or 256 / n.
        loop {
            x = self.network(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn network(&self, x: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (left, right) =
            self.keys.iter().fold((x >> self.half_bits, x & mask), |(l, r), key| {
                (r, l ^ (mix(r.wrapping_add(*key)) & mask))
            });
        left << self.half_bits | right
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(n: u64, seed: u64) -> Vec<u64> {
        let permutation = Permutation::new(n, Epoch { seed, epoch: 1 }, 0);
        (0..n).map(|i| permutation.at(i)).collect()
    }

    /// `docs/determinism.md` lists these; the Python tests compute them without this crate.
    #[test]
    fn orders_never_change() {
        let epoch = Epoch { seed: 42, epoch: 3 };
        let ten = Permutation::new(10, epoch, 0);
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|i| ten.at(i)),
            [9, 7, 5, 0, 1, 8, 6, 3, 4, 2]
        );
        let thousand = Permutation::new(1000, epoch, 1);
        assert_eq!([0, 1, 2, 3].map(|i| thousand.at(i)), [336, 677, 504, 369]);
    }

    #[test]
    fn every_number_occurs_once() {
        for n in [0, 1, 2, 3, 5, 16, 17, 255, 256, 257, 1000, 65_537] {
            let mut found = all(n, n);
            found.sort_unstable();
            assert_eq!(found, (0..n).collect::<Vec<_>>());
        }
        let large = Permutation::new(u64::MAX, Epoch::default(), 0);
        assert!(large.at(0) < u64::MAX && large.at(0) != large.at(1));
    }

    #[test]
    fn every_order_of_four_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..24_000 {
            *counts.entry(all(4, seed)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        // Chi-square with 23 degrees of freedom exceeds 49.7 once in a thousand times.
        let chi: f64 = counts.values().map(|&c| (f64::from(c) - 1e3).powi(2) / 1e3).sum();
        assert!(chi < 49.7, "chi-square {chi}: {counts:?}");
    }

    #[test]
    fn images_are_uniform_and_neighbours_are_separated() {
        let (n, seeds) = (50, 4000);
        let mut counts = vec![0u32; 50];
        let mut adjacent = 0;
        for seed in 0..seeds {
            let found = all(n, seed);
            counts[found[7] as usize] += 1;
            adjacent += found.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        }
        // Chi-square with 49 degrees of freedom exceeds 85.4 once in a thousand times.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 80.0).powi(2) / 80.0).sum();
        assert!(chi < 85.4, "chi-square {chi}: {counts:?}");
        // A number is followed by its successor with probability 1/n. Each of 4000 orders has n − 1
        // chances of that, so the count is Poisson distributed.
        let (expected, found) = (4000.0 * 49.0 / 50.0, adjacent as f64);
        assert!((found - expected).abs() < 4.0 * f64::sqrt(expected), "{found} of {expected}");
    }
}
