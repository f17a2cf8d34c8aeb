//! The ways to encode a chunk, and which of them are worth a trial.
//!
//! With LZ4, noisy values compress best as bit planes. Values that repeat exactly, such as labels,
//! are shorter as bytes, and single bytes need no unshuffling.

use super::lz4::Search;
use crate::format::array::Shuffle;

/// Shortest LZ4 matches in bit planes.
///
/// Measured on CT-like int16: ratio 2.52 with 16, 2.47 with 24, 2.41 with 48. Patches of 96³ and
/// 128³ are read 7 % faster with 24 than with 16, 8 % faster with 48 than with 24, and no faster
/// with 96.
const BITS_MIN_MATCH: usize = 48;

/// Shortest matches of short elements as bytes, and of few bits.
///
/// Measured on brain MR, uint8, plain, patches of 96³: with 9, 10 and 12 they are read 1.17, 1.4
/// and 1.7 times as fast as with 8, and the ratio is 1.5, 2.6 and 4.1 % smaller.
const BYTES_MIN_MATCH: usize = 9;

/// As [`BYTES_MIN_MATCH`], where values of few kinds repeat as whole elements, or as few bits.
const SHORT_MIN_MATCH: usize = 8;

/// As [`BITS_MIN_MATCH`], in byte planes of long elements.
///
/// Measured on CT-like float32: patches of 96³ are read 3 % faster with 20 than with 16, 5 % with
/// 24, 7 % with 28, 8 % with 32, 10 % with 40; the ratio is 0.3, 0.6, 0.9, 1.2 and 1.8 % smaller.
const LONG_BYTES_MIN_MATCH: usize = 28;

/// Smallest long element in bytes: most of its byte planes are noise, which is stored and used in
/// place, and its many bit planes are slow to join.
const LONG: usize = 4;

/// Plain bytes are preferred to bit planes up to this percentage of their length: they need no
/// unshuffling.
const PLAIN_PERCENT: usize = 105;

/// Byte planes are preferred to bit planes only below this percentage of their length: they have
/// more sequences, which are slower to decode.
const BYTES_PERCENT: usize = 80;

/// As [`BYTES_PERCENT`], for long elements.
///
/// float32 patches of 96³ are read 12 % faster with 105 than with 80, and as fast as without bit
/// planes.
const LONG_BYTES_PERCENT: usize = 105;

/// Many short matches are preferred only below this percentage: they halve the speed of decoding.
const SHORT_PERCENT: usize = 66;

/// Bit planes with short matches are tried where the best way so far takes at most this share of
/// the voxels: there few bits are noise.
const FEW_BITS_DIVISOR: usize = 4;

/// How the elements of a frame are shuffled and compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EncodeStrategy {
    pub(super) shuffle: Shuffle,
    /// Shortest match of LZ4; Zstandard chooses it for each stream.
    min_match: usize,
    /// Whether LZ4 looks at many candidates for the longest matches of bytes: too slow for trials.
    is_thorough: bool,
}

/// A strategy of a trial.
pub(super) struct Candidate {
    pub(super) strategy: EncodeStrategy,
    /// It is chosen up to this percentage of the length of the best one so far.
    pub(super) percent: usize,
}

/// The extents of what is encoded, in elements; 0 if unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strides {
    /// From one row of a chunk to the next.
    pub(super) row: usize,
    /// From one z plane to the next.
    pub(super) plane: usize,
}

impl EncodeStrategy {
    /// The strategy for that shuffle of elements of `typesize` bytes.
    pub(super) fn of(shuffle: Shuffle, typesize: usize) -> Self {
        let min_match = match shuffle {
            Shuffle::Bit => BITS_MIN_MATCH,
            Shuffle::Byte if typesize >= LONG => LONG_BYTES_MIN_MATCH,
            Shuffle::None | Shuffle::Byte => BYTES_MIN_MATCH,
        };
        Self { shuffle, min_match, is_thorough: false }
    }

    /// The strategy for a whole frame, once a trial has chosen it.
    pub(super) fn thorough(self) -> Self {
        let is_fast = self.shuffle == Shuffle::Bit && self.min_match == BITS_MIN_MATCH;
        Self { is_thorough: !is_fast, ..self }
    }

    /// What a trial compares bit planes with, in this order.
    pub(super) fn candidates(typesize: usize) -> impl Iterator<Item = Candidate> {
        let (shuffle, percent) = match typesize {
            1 => (Shuffle::None, PLAIN_PERCENT),
            LONG.. => (Shuffle::Byte, LONG_BYTES_PERCENT),
            _ => (Shuffle::Byte, BYTES_PERCENT),
        };
        let usual = Candidate { strategy: Self::of(shuffle, typesize), percent };
        // Values of few kinds, such as scaled integers of eight bits, repeat as whole elements.
        let unshuffled = (typesize >= LONG).then_some(Candidate {
            strategy: Self { min_match: SHORT_MIN_MATCH, ..Self::of(Shuffle::None, typesize) },
            percent: SHORT_PERCENT,
        });
        let short_bits = Candidate {
            strategy: Self { min_match: SHORT_MIN_MATCH, ..Self::of(Shuffle::Bit, typesize) },
            percent: SHORT_PERCENT,
        };
        [Some(usual), unshuffled, Some(short_bits)].into_iter().flatten()
    }

    /// The most bytes that `candidate` may take to be preferred to this strategy, which takes
    /// `length` bytes for a block of `block` bytes; 0 if it is not worth a trial.
    pub(super) fn budget(
        self,
        length: usize,
        candidate: &Candidate,
        block: usize,
        typesize: usize,
    ) -> usize {
        let percent = if candidate.strategy.shuffle != Shuffle::Bit {
            candidate.percent
        } else if length > block / FEW_BITS_DIVISOR {
            0
        } else if self.shuffle == Shuffle::Byte && typesize < LONG {
            // Short matches of bytes decode no faster than short matches of bits.
            100
        } else {
            candidate.percent
        };
        length * percent / 100
    }

    /// What LZ4 searches for in a block of `block` bytes.
    pub(super) fn search(self, typesize: usize, strides: Strides, block: usize) -> Search {
        let Strides { row, plane } = strides;
        let elements = block / typesize;
        let likely = match self.shuffle {
            Shuffle::None => [row * typesize, plane * typesize, 1],
            Shuffle::Byte => [row, plane, elements],
            Shuffle::Bit => [row / 8, plane / 8, elements / 8],
        };
        let is_long = typesize >= LONG;
        let (grid, depth, lazy_steps, patience) = match self.shuffle {
            Shuffle::Bit if self.min_match == BITS_MIN_MATCH => (4, 1, 0, 4),
            Shuffle::None if is_long => (typesize, 4, 0, 5),
            _ if self.is_thorough => (1, 32, 6, 6),
            _ => (1, 8, 1, 6),
        };
        let likely = likely.map(|offset| offset.max(1));
        Search { min_match: self.min_match, grid, likely, depth, lazy_steps, patience }
    }
}
