//! Joins and splits planes with NEON: bit matrices are transposed in parallel, then bytes
//! interleaved.
#![allow(unsafe_code)]

use std::arch::aarch64::{
    vandq_u8, vandq_u64, vdupq_n_u8, vdupq_n_u64, veorq_u8, veorq_u64, vextq_u8, vld1q_u8,
    vqtbl1q_u8, vreinterpretq_u8_u64, vreinterpretq_u64_u8, vshlq_n_u8, vshlq_n_u64, vshrq_n_u8,
    vshrq_n_u64, vtstq_u8, vuzp1q_u8, vuzp2q_u8, vzip1q_u8,
};
use std::ops::Range;

use super::portable::GROUP;
use super::v128::{self, BYTES, V128, interleaved};
use crate::codec::planes::{BITS, HighBits, PlaneKind, Planes};
use crate::codec::strided::{StridedDst, VectorPtrs};

/// Groups whose bits fill a vector.
const PAIR: usize = BYTES / 8;

/// As [`super::join()`], for whole groups that fill `dst`.
pub(super) fn join<const T: usize>(
    planes: &Planes<'_>,
    groups: Range<usize>,
    dst: &StridedDst<'_, BYTES>,
) {
    assert!(dst.count * BYTES == groups.len() * GROUP * T, "whole groups");
    let plane_bytes = groups.end * GROUP / planes.kind().elements_per_byte();
    assert!(plane_bytes <= planes.plane_bytes(), "whole groups");
    // SAFETY: NEON is part of aarch64. The groups lie in the planes and fill `dst`, as was just
    // checked.
    unsafe {
        match planes.kind() {
            PlaneKind::Bytes => bytes(&planes.bytes::<T>(), groups, dst.vectors),
            PlaneKind::Bits => bits(planes.begins::<T>(), planes.high_bits(), groups, dst.vectors),
        }
    }
}

/// # Safety
/// Every plane has the bytes of `groups`, which fill `out`.
unsafe fn bytes<const T: usize>(planes: &[&[u8]; T], groups: Range<usize>, out: VectorPtrs<BYTES>) {
    for (i, at) in (groups.start * GROUP..groups.end * GROUP).step_by(BYTES).enumerate() {
        out.prefetch(T * i..T * (i + 1));
        let mut joined = [v128::zero(); T];
        for (bytes, plane) in joined.iter_mut().zip(planes) {
            // SAFETY: the vector lies in the plane.
            *bytes = unsafe { v128::load::<BYTES>(plane.as_ptr().add(at)) };
        }
        for (k, vector) in interleaved(joined).into_iter().enumerate() {
            // SAFETY: the vector lies in `out`.
            unsafe { v128::store(out.at(T * i + k), vector) };
        }
    }
}

/// # Safety
/// As [`bytes`].
#[target_feature(enable = "neon")]
unsafe fn bits<const T: usize>(
    planes: &[[*const u8; BITS]; T],
    high_bits: HighBits,
    groups: Range<usize>,
    out: VectorPtrs<BYTES>,
) {
    let (byte, vector) = (8 * groups.start, GROUP * T / BYTES);
    // SAFETY: the groups lie in the planes and in `out`.
    unsafe {
        let Some(last) = groups.len().checked_sub(PAIR) else {
            if !groups.is_empty() {
                some_groups::<T, { BYTES / 2 }>(planes, high_bits, byte, out, 0);
            }
            return;
        };
        // The last pair overlaps the one before, unless the number of groups is even.
        for i in (0..last).step_by(PAIR).chain([last]) {
            some_groups::<T, BYTES>(planes, high_bits, byte + 8 * i, out, vector * i);
        }
    }
}

/// Joins the groups whose bits are `N` bytes of each plane from `at` on, into vectors from `first`
/// on.
///
/// # Safety
/// Every plane has the groups' bytes, and `out` their vectors.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn some_groups<const T: usize, const N: usize>(
    planes: &[[*const u8; BITS]; T],
    high_bits: HighBits,
    at: usize,
    out: VectorPtrs<BYTES>,
    first: usize,
) {
    out.prefetch(first..first + N * BITS * T / BYTES);
    // By element (of eight), then by byte: the order in memory.
    let mut units = [[v128::zero(); T]; BITS];
    for (k, planes) in planes.iter().enumerate() {
        // SAFETY: each plane has the groups' N bytes.
        let row = |j: usize| unsafe { v128::load::<N>(planes[j].add(at)) };
        let bytes = match if k + 1 < T { HighBits::Any } else { high_bits } {
            HighBits::Any => transposed([0, 1, 2, 3, 4, 5, 6, 7].map(row)),
            HighBits::Sign => nibbles([0, 1, 2, 3].map(row), &SIGNED),
            HighBits::Zero => nibbles([0, 1, 2, 3].map(row), &UNSIGNED),
            HighBits::Same => all_or_none(row(0)),
        };
        for (unit, bytes) in units.iter_mut().zip(bytes) {
            unit[k] = bytes;
        }
    }
    let units = units.as_flattened();
    // SAFETY: our caller's promise.
    let store = |at: usize, vector| unsafe { v128::store(out.at(first + at), vector) };
    if let Ok(eight) = <[V128; BITS]>::try_from(units) {
        // A vector holds two of the groups' eights of elements.
        for (at, vector) in interleaved(eight).into_iter().take(N / 2).enumerate() {
            store(at, vector);
        }
    } else {
        // A vector holds 16 bytes of an eight of elements.
        let (sixteens, _) = units.as_chunks::<BYTES>();
        for (part, &sixteen) in sixteens.iter().enumerate() {
            for (at, vector) in interleaved(sixteen).into_iter().take(N).enumerate() {
                store(at * sixteens.len() + part, vector);
            }
        }
    }
}

/// Exchanges bits `$distance` apart in a byte between vectors as far apart: a step of transposing
/// bit matrices.
macro_rules! exchange {
    ($rows:ident, $distance:literal, $mask:literal) => {
        let mask = vdupq_n_u8($mask);
        for i in (0..$rows.len()).filter(|i| i & $distance == 0) {
            let (a, b) = ($rows[i], $rows[i + $distance]);
            let other = vandq_u8(veorq_u8(vshrq_n_u8::<$distance>(a), b), mask);
            $rows[i] = veorq_u8(a, vshlq_n_u8::<$distance>(other));
            $rows[i + $distance] = veorq_u8(b, other);
        }
    };
}

/// Transposes 8×8 bit matrices, one in each byte of eight vectors: exchanges halves, quarters, then
/// single bits.
#[target_feature(enable = "neon")]
#[inline]
fn transposed(mut rows: [V128; BITS]) -> [V128; BITS] {
    exchange!(rows, 4, 0x0f);
    exchange!(rows, 2, 0x33);
    exchange!(rows, 1, 0x55);
    rows
}

/// The bytes that unsigned and signed numbers of four bits extend to.
const UNSIGNED: [u8; BYTES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const SIGNED: [u8; BYTES] =
    [0, 1, 2, 3, 4, 5, 6, 7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff];

/// As [`transposed`], where the lower four bits determine the byte: it is looked up in `values`.
#[target_feature(enable = "neon")]
#[inline]
fn nibbles(mut rows: [V128; BITS / 2], values: &[u8; BYTES]) -> [V128; BITS] {
    exchange!(rows, 2, 0x33);
    exchange!(rows, 1, 0x55);
    // SAFETY: the array has the vector's bytes.
    let values = unsafe { vld1q_u8(values.as_ptr()) };
    let mut bytes = [values; BITS];
    for (e, pair) in rows.into_iter().enumerate() {
        // Elements e and e + 4.
        bytes[e] = vqtbl1q_u8(values, vandq_u8(pair, vdupq_n_u8(0x0f)));
        bytes[e + BITS / 2] = vqtbl1q_u8(values, vshrq_n_u8::<4>(pair));
    }
    bytes
}

/// As [`transposed`], where all rows are equal to this one.
#[target_feature(enable = "neon")]
#[inline]
fn all_or_none(row: V128) -> [V128; BITS] {
    let mut bytes = [row; BITS];
    for (e, byte) in bytes.iter_mut().enumerate() {
        *byte = vtstq_u8(row, vdupq_n_u8(1 << e));
    }
    bytes
}

/// Splits the elements that fill whole vectors, as [`super::split()`] does; returns their number.
pub(super) fn split<const T: usize>(kind: PlaneKind, elements: &[u8], out: &mut [u8]) -> usize {
    let m = elements.len() / T;
    assert!(m * T == elements.len() && out.len() == elements.len(), "whole elements");
    // SAFETY: NEON is part of aarch64. Both slices have m elements, of which only whole vectors are
    // accessed.
    unsafe { split_vectors::<T>(kind, elements.as_ptr(), out.as_mut_ptr(), m) };
    m - m % BYTES
}

/// # Safety
/// `elements` is valid for reads of `m` elements, `out` for writes of as many; for bits `m` is a
/// multiple of 8.
#[target_feature(enable = "neon")]
unsafe fn split_vectors<const T: usize>(
    kind: PlaneKind,
    elements: *const u8,
    out: *mut u8,
    m: usize,
) {
    for first in (0..m / BYTES).map(|n| n * BYTES) {
        let mut planes = [v128::zero(); T];
        for (n, plane) in planes.iter_mut().enumerate() {
            // SAFETY: T vectors hold the elements from `first` on.
            *plane = unsafe { v128::load::<BYTES>(elements.add(first * T + n * BYTES)) };
        }
        for _ in 0..T.ilog2() {
            let from = planes;
            for n in 0..T / 2 {
                planes[n] = vuzp1q_u8(from[2 * n], from[2 * n + 1]);
                planes[n + T / 2] = vuzp2q_u8(from[2 * n], from[2 * n + 1]);
            }
        }
        for (k, plane) in planes.into_iter().enumerate() {
            match kind {
                // SAFETY: plane k has m bytes, of which these begin at `first`.
                PlaneKind::Bytes => unsafe { v128::store(out.add(k * m + first), plane) },
                PlaneKind::Bits => {
                    for (j, bits) in bit_rows(plane).into_iter().enumerate() {
                        // SAFETY: bit plane j has m / 8 bytes; these 2 begin at `first` / 8.
                        unsafe {
                            let to = out.add(k * m + j * (m / 8) + first / 8);
                            to.cast::<[u8; 2]>().write(bits);
                        }
                    }
                }
            }
        }
    }
}

/// The eight bits of 16 bytes, each as two bytes: transposes two 8×8 bit matrices (Hacker's
/// Delight, 7-3).
#[target_feature(enable = "neon")]
#[inline]
fn bit_rows(bytes: V128) -> [[u8; 2]; BITS] {
    let mut x = vreinterpretq_u64_u8(bytes);
    macro_rules! exchange_within {
        ($shift:literal, $mask:literal) => {
            let t = vandq_u64(veorq_u64(x, vshrq_n_u64::<$shift>(x)), vdupq_n_u64($mask));
            x = veorq_u64(x, veorq_u64(t, vshlq_n_u64::<$shift>(t)));
        };
    }
    exchange_within!(7, 0x00aa_00aa_00aa_00aa);
    exchange_within!(14, 0x0000_cccc_0000_cccc);
    exchange_within!(28, 0x0000_0000_f0f0_f0f0);
    let rows = vreinterpretq_u8_u64(x);
    let mut bits = [[0; 2]; BITS];
    // SAFETY: the array has the vector's bytes.
    unsafe { v128::store(bits.as_mut_ptr().cast(), vzip1q_u8(rows, vextq_u8::<8>(rows, rows))) };
    bits
}
