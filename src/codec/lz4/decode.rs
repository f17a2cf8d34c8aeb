//! Decodes LZ4 blocks: the other half of a read's time.
//!
//! The format is that of "LZ4 Block Format Description" (lz4.org): a token with two lengths, literals, an offset, again and
//! again; the last sequence has literals alone. Long copies are made 32 bytes at a time and may write beyond their end, up to
//! [`SLACK_BYTES`]: what lies there is written afterwards, or is slack. So most sequences cost no branch but the ones that
//! their own lengths decide.
//!
//! # Invariants
//! - Nothing is read outside `source`, nothing written outside `out`, whatever the bytes say: each length is compared with
//!   what is left before it is used. `tests/blosc.rs` and the tests below hold it against the reference decoder.
#![allow(unsafe_code)]

use std::ptr;

use super::lend::{Lender, Place};
use crate::codec::kernel::Kernel;

/// Bytes that a buffer has behind what is decoded into it.
pub(in crate::codec) const SLACK_BYTES: usize = 128;

/// Bytes that are copied at a time: most lengths are shorter, so whether they end here is foreseen.
const WIDE: usize = 128;

/// Bytes of a step of that.
const STEP: usize = 32;

/// A length in a token of so many means that more bytes of it follow.
const TOKEN_MAX: usize = 15;

/// A match has at least so many bytes.
const MIN_MATCH: usize = 4;

/// Decodes `source`, whose bytes are planes of equal length and together `length`, into the first `length` bytes of `out`,
/// which has [`SLACK_BYTES`] more, and says in `places` where each plane lies; `false` if it is damaged or of another length.
///
/// A plane that lies elsewhere leaves anything in `out`.
#[must_use]
pub(in crate::codec) fn decode(
    kernel: Kernel,
    source: &[u8],
    out: &mut [u8],
    length: usize,
    places: &mut [Place],
) -> bool {
    assert!(out.len() >= length + SLACK_BYTES, "a buffer without slack");
    // SAFETY: `out` has the slack that the decoder may write to; with AVX2 the machine was asked for it.
    unsafe {
        match kernel {
            Kernel::Portable => sequences(source, out.as_mut_ptr(), length, places),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 | Kernel::Avx512 => {
                sequences_avx2(source, out.as_mut_ptr(), length, places)
            }
        }
    }
}

/// # Safety
/// As [`sequences`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn sequences_avx2(source: &[u8], out: *mut u8, length: usize, places: &mut [Place]) -> bool {
    // SAFETY: passed on to our caller.
    unsafe { sequences(source, out, length, places) }
}

/// # Safety
/// `length + SLACK_BYTES` bytes may be written at `out`.
#[inline(always)]
unsafe fn sequences(source: &[u8], out: *mut u8, length: usize, places: &mut [Place]) -> bool {
    // SAFETY: our caller's promise.
    let mut lender = unsafe { Lender::new(source, out, length, places) };
    let (mut at, mut done) = (0, 0);
    loop {
        let Some(&token) = source.get(at) else { return false };
        at += 1;
        let Some(literals) = whole_length(source, &mut at, usize::from(token >> 4)) else {
            return false;
        };
        // Both differences are not negative: `at` and `done` never pass their ends.
        if literals > source.len() - at || literals > length - done {
            return false;
        }
        // SAFETY: so many bytes are left on both sides, and behind `out` there is slack for a wide copy's rest.
        unsafe {
            let (from, to) = (source.as_ptr().add(at), out.add(done));
            if lender.may_hold_plane(literals) {
                lender.take(at, done..done + literals);
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
                unsafe { lender.finish(done - literals, length) };
            }
            return done == length;
        }
        let Some(offset) = source.get(at..at + 2) else { return false };
        let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
        at += 2;
        let Some(matched) = whole_length(source, &mut at, usize::from(token & 0xf)) else {
            return false;
        };
        let matched = matched + MIN_MATCH;
        if offset == 0 || offset > done || matched > length - done {
            return false;
        }
        let repeated = done - offset..(done - offset + matched).min(done);
        // SAFETY: the match begins `offset` bytes back, in what is done; as for literals.
        unsafe {
            if lender.may_hold_plane(matched) || !lender.has(repeated) {
                lender.repeat(offset, done..done + matched);
            } else {
                copy_match(out.add(done), offset, matched);
            }
        }
        done += matched;
    }
}

/// A length that begins with a token's four bits; `None` if the source ends in it.
#[inline(always)]
fn whole_length(source: &[u8], at: &mut usize, nibble: usize) -> Option<usize> {
    let mut length = nibble;
    if length == TOKEN_MAX {
        loop {
            let more = *source.get(*at)?;
            *at += 1;
            // No overflow: a source shorter than 2⁶³ bytes adds at most 255 for each of them.
            length += usize::from(more);
            if more != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

/// Copies `n` bytes, and up to `WIDE − 1` more, step by step; at least [`WIDE`].
///
/// # Safety
/// `n` rounded up to whole [`WIDE`] (at least one) may be read and written; `to` begins at least [`STEP`] bytes behind
/// `from`, or does not overlap it.
#[inline(always)]
unsafe fn copy_wide(from: *const u8, to: *mut u8, n: usize) {
    let mut i = 0;
    loop {
        for step in (i..i + WIDE).step_by(STEP) {
            // SAFETY: the caller's promise; within a step the two do not overlap.
            unsafe { ptr::copy_nonoverlapping(from.add(step), to.add(step), STEP) };
        }
        i += WIDE;
        if i >= n {
            return;
        }
    }
}

/// Repeats the `offset` bytes before `to` until `n` are written.
///
/// # Safety
/// `offset` bytes before `to` are written, and `n + SLACK_BYTES` from `to` on may be.
#[inline(always)]
pub(super) unsafe fn copy_match(to: *mut u8, offset: usize, n: usize) {
    // SAFETY: what is read was written before: `offset` bytes before `to`, then what this function wrote itself.
    unsafe {
        let from = to.sub(offset).cast_const();
        if offset >= STEP {
            copy_wide(from, to, n);
            return;
        }
        // The pattern's first step or more one by one; the rest lies a multiple of the pattern behind it.
        let distance = offset * STEP.div_ceil(offset);
        let first = distance - offset;
        if offset == 1 {
            to.write_bytes(*from, STEP);
        } else {
            for i in 0..first.min(n) {
                *to.add(i) = *from.add(i);
            }
        }
        if n > first {
            copy_wide(from, to.add(first), n - first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::lz4::{encode, reference_decode};

    /// Bytes with literals, runs, and repeats at many distances.
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

    /// With a shortest match that depends on the seed.
    fn encoded(plain: &[u8], seed: u32) -> Vec<u8> {
        let (mut encoded, min_match) = (Vec::new(), 4 + seed as usize % 13);
        assert!(encode(plain, &mut encoded, &mut Vec::new(), 9, min_match, usize::MAX));
        encoded
    }

    /// What `source` decodes to, the same in any number of planes.
    fn decoded(kernel: Kernel, source: &[u8], length: usize) -> Option<Vec<u8>> {
        let [whole, others @ ..] = [1, 2, 8, 16, 64].map(|planes| {
            length.is_multiple_of(planes).then(|| in_planes(kernel, source, length, planes))
        });
        let whole = whole?;
        for other in others.into_iter().flatten() {
            assert_eq!(other.map(|planes| planes.0), whole.as_ref().map(|planes| planes.0.clone()));
        }
        whole.map(|planes| planes.0)
    }

    /// What `source` decodes to in so many planes, and where they lie.
    fn in_planes(
        kernel: Kernel,
        source: &[u8],
        length: usize,
        planes: usize,
    ) -> Option<(Vec<u8>, Vec<Place>)> {
        let mut out = vec![0xee; length + SLACK_BYTES];
        let mut places = vec![Place::Output; planes];
        if !decode(kernel, source, &mut out, length, &mut places) {
            return None;
        }
        let lent = |(p, place): (usize, &Place)| place.lend(p, length / planes, source, &out);
        let bytes = places.iter().enumerate().flat_map(lent).copied().collect();
        Some((bytes, places))
    }

    #[test]
    fn planes_that_need_no_copy_are_lent() {
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
            for &kernel in Kernel::available() {
                let (found, places) = in_planes(kernel, &source, plain.len(), 16).unwrap();
                assert!(found == plain, "{seed} {places:?}");
                for place in places {
                    seen[match place {
                        Place::Output => 0,
                        Place::Source(_) => 1,
                        Place::Zeros => 2,
                        Place::Ones => 3,
                        Place::As(_) => 4,
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
            for kernel in Kernel::available() {
                assert!(decoded(*kernel, &encoded, plain.len()).as_ref() == Some(&plain), "{seed}");
                for wrong in [plain.len() - 1, plain.len() + 1] {
                    assert!(decoded(*kernel, &encoded, wrong).is_none(), "{seed}");
                }
            }
        }
    }

    #[test]
    fn damaged_blocks_are_judged_as_the_reference_judges_them() {
        let mut agreed = [0, 0];
        for seed in 0..60 {
            let plain = plain(seed, 400);
            let encoded = encoded(&plain, seed);
            for at in 0..encoded.len() {
                for value in [0, 0x0f, 0xf0, 0xff, encoded[at] ^ 1] {
                    let mut damaged = encoded.clone();
                    damaged[at] = value;
                    let expected = reference_decode(&damaged, plain.len());
                    for kernel in Kernel::available() {
                        let found = decoded(*kernel, &damaged, plain.len());
                        // The reference lets an offset of 0 pass, which the format forbids; we let blocks pass that
                        // break its rules about their end.
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
                assert!(decoded(Kernel::best(), &encoded[..cut], plain.len()).is_none());
            }
        }
        assert!(agreed.iter().all(|&n| n > 1000), "{agreed:?}");
    }
}
