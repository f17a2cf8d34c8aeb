//! Random numbers that never change: `ChaCha8`, keyed by their purpose (`docs/determinism.md`).

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Error, Result};

/// Samples of one subject in one epoch.
const MAX_SAMPLES: u64 = 1 << 32;

/// The seed and the epoch, which together select the random streams of all subjects.
///
/// ```
/// use voxquarry::Epoch;
///
/// let first = Epoch { seed: 42, epoch: 0 };
/// let second = Epoch { epoch: 1, ..first };
/// assert_ne!(first, second);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// The seed that the user chose.
    pub seed: u64,
    /// The epoch; each has samples of its own.
    pub epoch: u64,
}

/// Selects one random stream of an epoch: that of a sample, or of a later attempt at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamKey<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) subject: &'a str,
    pub(crate) n: u64,
    /// Above 0 only with constraints that earlier attempts failed.
    pub(crate) attempt: u32,
}

impl StreamKey<'_> {
    /// Attempts have numbers below this.
    pub(super) const ATTEMPTS: u32 = 1 << 31;

    /// The stream that all samples of the subject share in an epoch.
    #[must_use]
    pub(super) fn shared(self) -> Self {
        Self { n: 0, attempt: Self::ATTEMPTS, ..self }
    }
}

/// The random numbers of one stream.
pub(crate) struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// The seed of the generator is seed ‖ epoch ‖ FNV-1a-128 of the subject's name, little endian;
    /// the nonce is n + attempt × 2³².
    pub(crate) fn new(key: &StreamKey<'_>) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&key.epoch.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&key.epoch.epoch.to_le_bytes());
        seed[16..].copy_from_slice(&fnv1a_128(key.subject.as_bytes()).to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(seed);
        generator.set_stream(key.n | u64::from(key.attempt) << 32);
        Self(generator)
    }

    /// 64 random bits.
    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `words` with the next ones.
    pub(crate) fn fill(&mut self, words: &mut [u64]) {
        self.0.fill_bytes(bytemuck::cast_slice_mut(words));
    }

    /// A number in `0.0 .. 1.0`, a multiple of 2⁻⁵³.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The first index whose cumulative weight exceeds a random part of the last one, which is
    /// positive.
    pub(crate) fn pick(&mut self, cumulative: &[f64]) -> usize {
        let total = *cumulative.last().expect("something to pick");
        let r = self.unit() * total;
        cumulative.partition_point(|&sum| sum <= r).min(cumulative.len() - 1)
    }

    /// A number in `0..bound`, each exactly equally likely; `bound ≥ 1`.
    ///
    /// Multiply and reject (Lemire 2019, "Fast random integer generation in an interval").
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range");
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(bound);
            if product as u64 >= rejected {
                return (product >> 64) as u64;
            }
        }
    }
}

/// The 128-bit hash FNV-1a (Fowler, Noll and Vo).
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// The numbers of the samples `first .. first + n`.
///
/// # Errors
/// [`Error::InvalidArgument`] above 2³².
pub(super) fn sample_numbers(first: u64, n: u64) -> Result<Range<u64>> {
    match first.checked_add(n) {
        Some(end) if end <= MAX_SAMPLES => Ok(first..end),
        _ => Err(Error::invalid(
            "samples",
            format!("{first} to {first} + {n}"),
            "numbers below 2³² for a subject in an epoch; begin another epoch for more",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_has_its_published_values() {
        // From the test suite by the authors of the hash.
        assert_eq!(fnv1a_128(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a_128(b"foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn draws_are_uniform_and_streams_differ() {
        let epoch = Epoch { seed: 1, epoch: 2 };
        let stream =
            |epoch, subject, n| RandomStream::new(&StreamKey { epoch, subject, n, attempt: 0 });
        let mut counts = [0u32; 7];
        for n in 0..70_000 {
            counts[stream(epoch, "a", n).below(7) as usize] += 1;
        }
        // Chi-square with 6 degrees of freedom: one seed in a thousand exceeds 22.5.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 22.5, "{counts:?}: chi-square {chi}");
        let first = |epoch, subject, n| stream(epoch, subject, n).below(u64::MAX);
        let all = [
            first(epoch, "a", 0),
            first(epoch, "a", 1),
            first(epoch, "b", 0),
            first(Epoch { seed: 2, epoch: 1 }, "a", 0),
            first(Epoch { seed: 1, epoch: 3 }, "a", 0),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b), "streams coincide: {all:?}");
        }
    }
}
