//! Random numbers that never change: `ChaCha8`, keyed by what they are for (`docs/determinism.md`).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Error, Result};

/// Samples of one subject in one epoch.
const MAX_SAMPLES: u64 = 1 << 32;

/// Which of all random streams: the user's seed, and the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// The user's seed.
    pub seed: u64,
    /// The epoch; each has samples of its own.
    pub epoch: u64,
}

/// Which stream of an epoch: that of a sample, or of a later attempt at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) subject: &'a str,
    pub(crate) n: u64,
    /// 0, but for samplers that refuse what they have drawn.
    pub(crate) attempt: u32,
}

impl Stream<'_> {
    /// Attempts have numbers below this.
    pub(super) const ATTEMPTS: u32 = 1 << 31;

    /// The stream of what all samples of the subject share in an epoch.
    #[must_use]
    pub(super) fn shared(self) -> Self {
        Self { n: 0, attempt: Self::ATTEMPTS, ..self }
    }
}

/// The random numbers of one stream.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    /// Key = seed ‖ epoch ‖ FNV-1a-128 of the subject's name, little endian; nonce = n + attempt × 2³².
    pub(crate) fn new(stream: &Stream<'_>) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&stream.epoch.seed.to_le_bytes());
        key[8..16].copy_from_slice(&stream.epoch.epoch.to_le_bytes());
        key[16..].copy_from_slice(&fnv1a_128(stream.subject.as_bytes()).to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(stream.n | u64::from(stream.attempt) << 32);
        Self(generator)
    }

    /// 64 random bits.
    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0.0 .. 1.0`, a multiple of 2⁻⁵³.
    pub(super) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The first place whose cumulated weight passes a random part of the last one, which is positive.
    pub(super) fn pick(&mut self, cumulated: &[f64]) -> usize {
        let total = *cumulated.last().expect("something to pick");
        let r = self.unit() * total;
        cumulated.partition_point(|&sum| sum <= r).min(cumulated.len() - 1)
    }

    /// A number in `0..bound`, each exactly equally likely; `bound ≥ 1`.
    ///
    /// Multiply and reject (Lemire 2019, "Fast random integer generation in an interval").
    pub(super) fn below(&mut self, bound: u64) -> u64 {
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

/// Fowler, Noll and Vo's hash of 128 bits, variant 1a.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// The numbers of the samples `first .. first + n`.
///
/// # Errors
/// [`Error::Usage`] above 2³².
pub(super) fn sample_numbers(first: u64, n: u64) -> Result<std::ops::Range<u64>> {
    match first.checked_add(n) {
        Some(end) if end <= MAX_SAMPLES => Ok(first..end),
        _ => Err(Error::usage(format!(
            "samples {first} + {n}: a subject has at most 2³² in an epoch; begin another epoch"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_has_its_published_values() {
        // From the test suite of the hash's authors.
        assert_eq!(fnv1a_128(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a_128(b"foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn draws_are_uniform_and_every_stream_its_own() {
        let epoch = Epoch { seed: 1, epoch: 2 };
        let mut counts = [0u32; 7];
        for n in 0..70_000 {
            counts[Draws::new(&Stream { epoch, subject: "a", n, attempt: 0 }).below(7) as usize] +=
                1;
        }
        // Chi-square with 6 degrees of freedom: 22.5 is passed once in a thousand seeds.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 22.5, "{counts:?}: chi-square {chi}");
        let first = |epoch, subject, n| {
            Draws::new(&Stream { epoch, subject, n, attempt: 0 }).below(u64::MAX)
        };
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
