//! Decodes LZ4 blocks.
//!
//! The format is "LZ4 Block Format Description" (lz4.org): sequences of a token with two lengths,
//! literals, and the offset of a match; the last sequence has only literals. Copies are made in
//! wide steps and may write up to [`SLACK_BYTES`] beyond their end, into bytes that are overwritten
//! later or into slack. So most sequences cost no branches except those on their own lengths.
//!
//! # Invariants
//! - Whatever the input, nothing is read outside `source` or written outside `out`: each length is
//!   compared with what is left before it is used. The tests below and `tests/blosc.rs` compare the
//!   results with those of the reference decoder.
#![allow(unsafe_code)]

use std::ptr;

use super::copy::{SLACK_BYTES, WIDE, copy_match, copy_wide};
use super::plane_refs::{PlaneRef, PlaneRefs};
use super::{MIN_MATCH, TOKEN_MAX};
use crate::sys::isa::Isa;

/// Decodes `source` into the first `length` bytes of `out`; `false` if it is damaged or decodes to
/// another length.
///
/// `out` has [`SLACK_BYTES`] more. The decoded bytes are planes of equal length, one for each of
/// `refs`, which says afterwards where each plane lies. Where a plane lies outside `out`, its place
/// in `out` holds arbitrary bytes.
///
/// # Panics
/// If `out` is too short.
#[must_use]
pub(in crate::codec) fn decode(
    isa: Isa,
    source: &[u8],
    out: &mut [u8],
    length: usize,
    refs: &mut [PlaneRef],
) -> bool {
    assert!(out.len() >= length + SLACK_BYTES, "a buffer without slack");
    // SAFETY: `out` has the slack that the decoder may overwrite, as was just checked.
    // `Isa::detect`, the only source of values, has detected AVX2 and BMI2.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Gfni => {
                sequences_avx2(source, out.as_mut_ptr(), length, refs)
            }
            _ => sequences(source, out.as_mut_ptr(), length, refs),
        }
    }
}

/// # Safety
/// As [`sequences`]; the CPU has AVX2 and BMI2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn sequences_avx2(
    source: &[u8],
    out: *mut u8,
    length: usize,
    refs: &mut [PlaneRef],
) -> bool {
    // SAFETY: our caller's promise.
    unsafe { sequences(source, out, length, refs) }
}

/// # Safety
/// `length + SLACK_BYTES` bytes at `out` are valid for writes.
#[inline(always)]
unsafe fn sequences(source: &[u8], out: *mut u8, length: usize, refs: &mut [PlaneRef]) -> bool {
    // SAFETY: our caller's promise.
    let mut planes = unsafe { PlaneRefs::new(source, out, length, refs) };
    let (mut at, mut done) = (0, 0);
    loop {
        let Some(&token) = source.get(at) else { return false };
        at += 1;
        let Some(literals) = read_length(source, &mut at, usize::from(token >> 4)) else {
            return false;
        };
        // Neither difference underflows: `at` and `done` never pass their ends.
        if literals > source.len() - at || literals > length - done {
            return false;
        }
        // SAFETY: both sides have as many bytes left; after `out` there is slack for a wide copy.
        unsafe {
            let (from, to) = (source.as_ptr().add(at), out.add(done));
            if planes.may_hold_plane(literals) {
                planes.put_literals(at, done..done + literals);
            } else if literals + WIDE <= source.len() - at {
                copy_wide(from, to, literals);
            } else {
                ptr::copy_nonoverlapping(from, to, literals);
            }
        }
        at += literals;
        done += literals;
        if at == source.len() {
            if done == length {
                // SAFETY: all of the output is decoded.
                unsafe { planes.finish(done - literals, length) };
            }
            return done == length;
        }
        let Some(offset) = source.get(at..at + 2) else { return false };
        let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
        at += 2;
        let Some(matched) = read_length(source, &mut at, usize::from(token & 0xf)) else {
            return false;
        };
        let matched = matched + MIN_MATCH;
        if offset == 0 || offset > done || matched > length - done {
            return false;
        }
        let repeated = done - offset..(done - offset + matched).min(done);
        // SAFETY: the match begins `offset` bytes back, in decoded bytes; lengths as for literals.
        unsafe {
            if planes.may_hold_plane(matched) || !planes.in_output(repeated) {
                planes.put_match(offset, done..done + matched);
            } else {
                copy_match(out.add(done), offset, matched);
            }
        }
        done += matched;
    }
}

/// Reads a length that begins with four bits of a token; `None` if the source ends within it.
#[inline(always)]
fn read_length(source: &[u8], at: &mut usize, nibble: usize) -> Option<usize> {
    let mut length = nibble;
    if length == TOKEN_MAX {
        loop {
            let more = *source.get(*at)?;
            *at += 1;
            // No overflow: each of fewer than 2⁶³ source bytes adds at most 255.
            length += usize::from(more);
            if more != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::lz4::encode::encode;
    use crate::codec::lz4::matches::{MatchFinder, Search};
    use crate::codec::lz4::reference::{reference_decode, reference_encode};

    /// Bytes with literals, runs, and matches at many distances.
    fn plain(seed: u32, n: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut draw = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % bound
        };
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < n {
            let length = 1 + draw(90) as usize;
            match draw(3) {
                0 => bytes.extend((0..length).map(|_| draw(256) as u8)),
                1 => bytes.extend(std::iter::repeat_n(draw(4) as u8, length)),
                _ => {
                    let back = 1 + draw(80).min(bytes.len().max(1) as u32 - 1) as usize;
                    for _ in 0..length {
                        bytes.push(*bytes.get(bytes.len().wrapping_sub(back)).unwrap_or(&7));
                    }
                }
            }
        }
        bytes.truncate(n);
        bytes
    }

    fn noise(n: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    /// Encodes `plain` with the reference library, or with a shortest match that depends on the
    /// seed.
    fn encoded(plain: &[u8], seed: u32) -> Vec<u8> {
        if seed.is_multiple_of(2) {
            return reference_encode(plain);
        }
        let (min_match, likely) = (8 + seed as usize % 41, [4, 128, 2048]);
        let search = Search { min_match, grid: 1, likely, depth: 8, lazy_steps: 1, patience: 6 };
        let (mut encoded, mut finder) = (Vec::new(), MatchFinder::new());
        assert!(encode(plain, &mut encoded, &mut finder, &search, usize::MAX));
        encoded
    }

    /// What `source` decodes to, which must not depend on the number of planes.
    fn decoded(isa: Isa, source: &[u8], length: usize) -> Option<Vec<u8>> {
        let [whole, others @ ..] = [1, 2, 8, 16, 64].map(|planes| {
            length.is_multiple_of(planes).then(|| in_planes(isa, source, length, planes))
        });
        let whole = whole?;
        for other in others.into_iter().flatten() {
            assert_eq!(other.map(|planes| planes.0), whole.as_ref().map(|planes| planes.0.clone()));
        }
        whole.map(|planes| planes.0)
    }

    /// What `source` decodes to in that many planes, and where they lie.
    fn in_planes(
        isa: Isa,
        source: &[u8],
        length: usize,
        planes: usize,
    ) -> Option<(Vec<u8>, Vec<PlaneRef>)> {
        let mut out = vec![0xee; length + SLACK_BYTES];
        let mut refs = vec![PlaneRef::InOutput; planes];
        if !decode(isa, source, &mut out, length, &mut refs) {
            return None;
        }
        let plane = |(p, r): (usize, &PlaneRef)| r.bytes(p, length / planes, source, &out);
        let bytes = refs.iter().enumerate().flat_map(plane).copied().collect();
        Some((bytes, refs))
    }

    #[test]
    fn planes_that_need_no_copy_are_referred_to() {
        const PLANE: usize = 2048;
        let noise = noise(2 * PLANE);
        let patterned: Vec<u8> =
            (0..PLANE).map(|i| if i % 300 < 40 { 7 } else { noise[i % 90] }).collect();
        let kinds: [&[u8]; 5] =
            [&noise[..PLANE], &noise[PLANE..], &[0; PLANE], &[0xff; PLANE], &patterned];
        let mut seen = [0; 5];
        for seed in 0..400usize {
            let plain: Vec<u8> = (0..16)
                .flat_map(|i| kinds[(seed * 31 + i * i * 7 + seed / 5 * i) / 3 % 5])
                .copied()
                .collect();
            let source = encoded(&plain, seed as u32);
            for isa in Isa::all() {
                let (found, refs) = in_planes(isa, &source, plain.len(), 16).unwrap();
                assert!(found == plain, "{seed} {refs:?}");
                for plane in refs {
                    seen[match plane {
                        PlaneRef::InOutput => 0,
                        PlaneRef::InSource(_) => 1,
                        PlaneRef::Zeros => 2,
                        PlaneRef::Ones => 3,
                        PlaneRef::SameAs(_) => 4,
                    }] += 1;
                }
            }
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
    }

    #[test]
    fn blocks_decode_to_what_was_encoded() {
        for seed in 0..300 {
            let plain = plain(seed, [1, 13, 64, 500, 4096, 70_000][seed as usize % 6]);
            let encoded = encoded(&plain, seed);
            for isa in Isa::all() {
                assert!(decoded(isa, &encoded, plain.len()).as_ref() == Some(&plain), "{seed}");
                for wrong in [plain.len() - 1, plain.len() + 1] {
                    assert!(decoded(isa, &encoded, wrong).is_none(), "{seed}");
                }
            }
        }
    }

    #[test]
    fn damaged_blocks_decode_as_the_reference_decodes_them() {
        let mut agreed = [0, 0];
        for seed in 0..60 {
            let plain = plain(seed, 400);
            let encoded = encoded(&plain, seed);
            for at in 0..encoded.len() {
                for value in [0, 0x0f, 0xf0, 0xff, encoded[at] ^ 1] {
                    let mut damaged = encoded.clone();
                    damaged[at] = value;
                    let expected = reference_decode(&damaged, plain.len());
                    for isa in Isa::all() {
                        let found = decoded(isa, &damaged, plain.len());
                        // The reference accepts an offset of 0, which the format forbids; we accept
                        // blocks that break the format's rules about their end.
                        match (&expected, &found) {
                            (Some(expected), Some(found)) => assert!(found == expected, "{seed}"),
                            (Some(_), None) => assert!(damaged.windows(2).any(|o| o == [0, 0])),
                            _ => {}
                        }
                        agreed[usize::from(found.is_some())] += 1;
                    }
                }
            }
            for cut in 0..encoded.len() {
                assert!(decoded(Isa::detect(), &encoded[..cut], plain.len()).is_none());
            }
        }
        assert!(agreed.iter().all(|&n| n > 1000), "{agreed:?}");
    }
}
