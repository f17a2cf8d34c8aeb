//! Encodes LZ4 blocks for fast decoding.

use super::matches::{MatchFinder, PIECE, Search};
use super::{MIN_MATCH, TOKEN_MAX};

/// Encodes `source` into `out`; `false` if that takes more than `limit` bytes.
pub(in crate::codec) fn encode(
    source: &[u8],
    out: &mut Vec<u8>,
    finder: &mut MatchFinder,
    search: &Search,
    limit: usize,
) -> bool {
    out.clear();
    let mut literals_begin = 0;
    for (number, piece) in source.chunks(PIECE).enumerate() {
        let piece_begin = number * PIECE;
        let is_within = finder.search(piece, search, limit, |found| {
            let begin = piece_begin + found.begin;
            let offset = (found.offset as u16).to_le_bytes();
            put_sequence(&source[literals_begin..begin], Some((offset, found.length)), out);
            literals_begin = begin + found.length;
        });
        if !is_within || out.len() > limit {
            return false;
        }
    }
    put_sequence(&source[literals_begin..], None, out);
    out.len() <= limit
}

/// Appends literals and, except in a block's last sequence, a match: its offset and its length.
fn put_sequence(literals: &[u8], matched: Option<([u8; 2], usize)>, out: &mut Vec<u8>) {
    let match_code = matched.map_or(0, |(_, n)| n - MIN_MATCH);
    let nibble = |n: usize| n.min(TOKEN_MAX) as u8;
    let put_rest = |n: usize, out: &mut Vec<u8>| {
        if let Some(rest) = n.checked_sub(TOKEN_MAX) {
            out.extend(std::iter::repeat_n(u8::MAX, rest / 255));
            out.push((rest % 255) as u8);
        }
    };
    out.push(nibble(literals.len()) << 4 | nibble(match_code));
    put_rest(literals.len(), out);
    out.extend_from_slice(literals);
    if let Some((offset, _)) = matched {
        out.extend_from_slice(&offset);
        put_rest(match_code, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::lz4::decode::decode;
    use crate::codec::lz4::reference::reference_decode;
    use crate::codec::lz4::{PlaneRef, SLACK_BYTES};
    use crate::sys::isa::Isa;

    /// A part of a source.
    #[derive(Clone, Debug)]
    enum Part {
        Noise(u64, usize),
        Run(u8, usize),
        /// Bytes from so far back, and how many.
        Copy(usize, usize),
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let length = || prop_oneof![1..9usize, 1..70usize, 1..600usize, 1..5000usize];
        let back =
            prop_oneof![Just(1usize), Just(4), Just(128), Just(2048), Just(65_535), 1..70_000usize];
        let part = prop_oneof![
            (any::<u64>(), length()).prop_map(|(seed, n)| Part::Noise(seed, n)),
            (0..3u8, length()).prop_map(|(byte, n)| Part::Run(byte, n)),
            (back, length()).prop_map(|(back, n)| Part::Copy(back, n)),
        ];
        prop::collection::vec(part, 0..90)
    }

    fn source_of(parts: &[Part], end: usize) -> Vec<u8> {
        let mut source: Vec<u8> = Vec::new();
        for part in parts {
            match *part {
                Part::Noise(mut state, n) => source.extend((0..n).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })),
                Part::Run(byte, n) => source.extend(std::iter::repeat_n(byte, n)),
                Part::Copy(back, n) => {
                    for _ in 0..n {
                        source.push(source.len().checked_sub(back).map_or(7, |i| source[i]));
                    }
                }
            }
        }
        source.truncate(source.len().saturating_sub(end).max(1));
        if source.is_empty() { vec![0] } else { source }
    }

    fn searches() -> impl Strategy<Value = Search> {
        let sizes = (8..50usize, 0..4u32, 0..9usize, 0..5usize, 3..7u32);
        (sizes, [1..40usize, 1..300, 1..70_000]).prop_map(|(sizes, likely)| {
            let (min_match, grid, depth, lazy_steps, patience) = sizes;
            Search { min_match, grid: 1 << grid, likely, depth, lazy_steps, patience }
        })
    }

    fn encoded(source: &[u8], finder: &mut MatchFinder, search: &Search) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(encode(source, &mut out, finder, search, usize::MAX));
        out
    }

    /// Compares both decoders' output with the source, and returns the encoded bytes.
    fn check(source: &[u8], finder: &mut MatchFinder, search: &Search) -> Vec<u8> {
        let bytes = encoded(source, finder, search);
        let length = source.len();
        let expected = Some(source.to_vec());
        assert!(reference_decode(&bytes, length) == expected, "the reference, {search:?}");
        for isa in Isa::all() {
            let mut out = vec![0xee; length + SLACK_BYTES];
            let mut refs = [PlaneRef::InOutput];
            assert!(decode(isa, &bytes, &mut out, length, &mut refs), "{isa:?} {search:?}");
            assert!(refs[0].bytes(0, length, &bytes, &out) == source, "{isa:?} {search:?}");
        }
        bytes
    }

    proptest! {
        #[test]
        fn both_decoders_return_the_source(
            parts in parts(), end in 0..20usize, before in parts(), search in searches()
        ) {
            let source = source_of(&parts, end);
            let mut finder = MatchFinder::new();
            let fresh = check(&source, &mut finder, &search);
            // Neither what was searched before nor numbers of positions that are used up matter.
            encoded(&source_of(&before, 0), &mut finder, &search);
            prop_assert!(encoded(&source, &mut finder, &search) == fresh);
            finder.exhaust();
            prop_assert!(encoded(&source, &mut finder, &search) == fresh);
        }

        #[test]
        fn a_limit_is_kept_and_refuses_nothing_that_fits(
            parts in parts(), search in searches(), percent in 1..110usize
        ) {
            let source = source_of(&parts, 0);
            let mut finder = MatchFinder::new();
            let whole = encoded(&source, &mut finder, &search);
            let (limit, mut out) = (whole.len() * percent / 100, Vec::new());
            if encode(&source, &mut out, &mut finder, &search, limit) {
                prop_assert!(out == whole && out.len() <= limit);
            }
            let ample = source.len() + whole.len();
            prop_assert!(encode(&source, &mut out, &mut finder, &search, ample));
        }
    }

    #[test]
    fn every_short_source_and_every_end_of_a_run_is_encoded() {
        let likely = [1, 2, 3];
        let search = Search { min_match: 8, grid: 1, likely, depth: 8, lazy_steps: 1, patience: 6 };
        let mut finder = MatchFinder::new();
        for length in 1..200 {
            for period in 1..20 {
                let source: Vec<u8> = (0..length).map(|i| (i % period) as u8).collect();
                check(&source, &mut finder, &search);
            }
        }
        for length in [PIECE - 1, PIECE, PIECE + 1, PIECE + 11, 2 * PIECE + 13] {
            let bytes = check(&vec![9; length], &mut finder, &search);
            assert!(bytes.len() < length / 200, "{} bytes for a run of {length}", bytes.len());
        }
    }

    #[test]
    fn constant_planes_are_runs_even_after_equal_planes() {
        const PLANE: usize = 2048;
        let likely = [4, 128, PLANE];
        let search =
            Search { min_match: 48, grid: 4, likely, depth: 1, lazy_steps: 0, patience: 4 };
        let noise = source_of(&[Part::Noise(3, PLANE)], 0);
        let source = [vec![0; 3 * PLANE], noise, vec![0xff; 2 * PLANE]].concat();
        let bytes = check(&source, &mut MatchFinder::new(), &search);
        let (mut out, mut refs) = (vec![0; source.len() + SLACK_BYTES], [PlaneRef::InOutput; 6]);
        assert!(decode(Isa::detect(), &bytes, &mut out, source.len(), &mut refs));
        assert!(refs[..3].iter().all(|plane| matches!(plane, PlaneRef::Zeros)), "{refs:?}");
        assert!(refs[4..].iter().all(|plane| matches!(plane, PlaneRef::Ones)), "{refs:?}");
    }
}
