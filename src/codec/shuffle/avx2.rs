//! Joins planes with AVX2: bit matrices are transposed in parallel, then bytes interleaved.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_set1_epi32, _mm256_set1_epi64x,
    _mm256_setr_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16,
    _mm256_srli_epi16, _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpackhi_epi16,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi8, _mm256_unpacklo_epi16,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::slice;

use super::portable::GROUP;
use crate::codec::planes::{BITS, HighBits, PlaneKind, Planes};
use crate::codec::strided::{StridedDst, VectorPtrs};

/// Bytes of a vector.
const HALF: usize = GROUP / 2;

/// Groups whose bits fill a vector.
const FOUR: usize = HALF / 8;

/// As [`super::join()`], for whole groups that fill `dst`.
pub(super) fn join<const T: usize>(
    planes: &Planes<'_>,
    groups: Range<usize>,
    dst: &StridedDst<'_, HALF>,
) {
    debug_assert!(is_x86_feature_detected!("avx2"));
    assert!(dst.count * HALF == groups.len() * GROUP * T, "whole groups");
    let plane_bytes = groups.end * GROUP / planes.kind().elements_per_byte();
    assert!(plane_bytes <= planes.plane_bytes(), "whole groups");
    // SAFETY: `Isa::detect`, the only source of `Isa::Avx2` and wider, has detected AVX2. The
    // groups lie in the planes and fill `dst`, as was just checked.
    unsafe {
        let bits = match (planes.kind(), planes.high_bits()) {
            (PlaneKind::Bytes, _) => return bytes(&planes.bytes::<T>(), groups, dst.vectors),
            (PlaneKind::Bits, HighBits::Any) => bits::<T, { HighBits::Any as u8 }>,
            (PlaneKind::Bits, HighBits::Sign) => bits::<T, { HighBits::Sign as u8 }>,
            (PlaneKind::Bits, HighBits::Zero) => bits::<T, { HighBits::Zero as u8 }>,
            (PlaneKind::Bits, HighBits::Same) => bits::<T, { HighBits::Same as u8 }>,
        };
        bits(planes.begins(), groups, dst.vectors);
    }
}

/// # Safety
/// Every plane has the bytes of `groups`, which fill `out`.
#[target_feature(enable = "avx2")]
unsafe fn bytes<const T: usize>(planes: &[&[u8]; T], groups: Range<usize>, out: VectorPtrs<HALF>) {
    for i in 0..2 * groups.len() {
        out.prefetch(T * i..T * (i + 1));
        let mut joined = [_mm256_setzero_si256(); T];
        for k in 0..T {
            // SAFETY: this half of a group lies in the plane; loads need no alignment.
            joined[k] = unsafe {
                _mm256_loadu_si256(planes[k].as_ptr().add(groups.start * GROUP + i * HALF).cast())
            };
        }
        // SAFETY: the half lies in `out`.
        unsafe { store_interleaved(joined, out, i) };
    }
}

/// `HIGH_BITS` is the [`HighBits`] of the planes.
///
/// # Safety
/// As [`bytes`].
#[target_feature(enable = "avx2")]
unsafe fn bits<const T: usize, const HIGH_BITS: u8>(
    planes: &[[*const u8; BITS]; T],
    groups: Range<usize>,
    out: VectorPtrs<HALF>,
) {
    let Some(last) = groups.len().checked_sub(FOUR) else {
        for (i, g) in groups.enumerate() {
            let mut halves = [[_mm256_setzero_si256(); T]; 2];
            for k in 0..T {
                // SAFETY: the group has 8 bytes of each plane.
                let bytes = unsafe { one_group(&planes[k], 8 * g) };
                (halves[0][k], halves[1][k]) = (bytes[0], bytes[1]);
            }
            for (half, joined) in halves.into_iter().enumerate() {
                // SAFETY: the group lies in `out`.
                unsafe { store_interleaved(joined, out, 2 * i + half) };
            }
        }
        return;
    };
    // The last four overlap the ones before, unless the number of groups is a multiple of four.
    for i in (0..last).step_by(FOUR).chain([last]) {
        // SAFETY: the four groups lie in the planes and in `out`.
        unsafe { four_groups::<T, HIGH_BITS>(planes, 8 * (groups.start + i), out, 2 * T * i) };
    }
}

/// Joins four groups, whose bits begin at byte `at` of each plane, into vectors from `first` on.
///
/// # Safety
/// Every plane has the groups' bytes, and `out` their vectors.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn four_groups<const T: usize, const HIGH_BITS: u8>(
    planes: &[[*const u8; BITS]; T],
    at: usize,
    out: VectorPtrs<HALF>,
    first: usize,
) {
    out.prefetch(first..first + BITS * T);
    // By element (of eight), then by byte: the order in memory.
    let mut units = [const { [const { MaybeUninit::<__m256i>::uninit() }; T] }; BITS];
    for (k, planes) in planes.iter().enumerate() {
        // SAFETY: each plane has the four groups' 32 bytes; loads need no alignment.
        let row = |j: usize| unsafe { _mm256_loadu_si256(planes[j].add(at).cast()) };
        let high_bits = if k + 1 < T { HighBits::Any as u8 } else { HIGH_BITS };
        let bytes = if high_bits == HighBits::Same as u8 {
            all_or_none(row(0))
        } else if high_bits == HighBits::Sign as u8 {
            nibbles([row(0), row(1), row(2), row(3)], SIGNED)
        } else if high_bits == HighBits::Zero as u8 {
            nibbles([row(0), row(1), row(2), row(3)], UNSIGNED)
        } else {
            transposed([0, 1, 2, 3, 4, 5, 6, 7].map(row))
        };
        for (unit, bytes) in units.iter_mut().zip(bytes) {
            unit[k].write(bytes);
        }
    }
    // SAFETY: the loop has written all of them, for every byte k.
    let units =
        unsafe { slice::from_raw_parts_mut(units.as_mut_ptr().cast::<__m256i>(), BITS * T) };
    // The two lanes of vectors are interleaved independently; all second lanes follow the first
    // ones.
    let behind = units.len() / 2;
    let store = |low: __m256i, high: __m256i, at: usize| {
        let (first_lanes, second_lanes) = (lanes::<0x20>(low, high), lanes::<0x31>(low, high));
        // SAFETY: our caller's promise; stores need no alignment.
        unsafe {
            _mm256_storeu_si256(out.at(first + at).cast(), first_lanes);
            _mm256_storeu_si256(out.at(first + behind + at).cast(), second_lanes);
        }
    };
    if T == 1 {
        let (eights, _) = units.as_chunks_mut::<8>();
        for eight in eights {
            *eight = interleaved(*eight);
        }
    } else {
        let (sixteens, _) = units.as_chunks_mut::<16>();
        for sixteen in sixteens {
            *sixteen = interleaved(*sixteen);
        }
    }
    if T <= 2 {
        for (at, pair) in units.chunks_exact(2).enumerate() {
            store(pair[0], pair[1], at);
        }
    } else {
        // A lane holds sixteen bytes of eight elements, which have more than two each.
        for (part, pair) in units.chunks_exact(32).enumerate() {
            for at in 0..16 {
                store(pair[at], pair[16 + at], at * (T / 4) + part);
            }
        }
    }
}

/// `_mm256_permute2x128_si256` that the compiler cannot merge with earlier permutations: it would
/// make three others of them.
#[target_feature(enable = "avx2")]
#[inline]
fn lanes<const CHOICE: i32>(a: __m256i, b: __m256i) -> __m256i {
    let chosen;
    // SAFETY: the instruction is part of AVX2 and only accesses registers.
    unsafe {
        asm!(
            "vperm2i128 {chosen}, {a}, {b}, {choice}",
            chosen = lateout(ymm_reg) chosen,
            a = in(ymm_reg) a,
            b = in(ymm_reg) b,
            choice = const CHOICE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    chosen
}

/// Exchanges bits `$distance` apart in a byte between vectors as far apart: a step of transposing
/// bit matrices.
macro_rules! exchange {
    ($rows:ident, $distance:literal, $mask:literal) => {
        let mask = _mm256_set1_epi8($mask);
        for i in (0..$rows.len()).filter(|i| i & $distance == 0) {
            let (a, b) = ($rows[i], $rows[i + $distance]);
            let other =
                _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi16::<$distance>(a), b), mask);
            $rows[i] = _mm256_xor_si256(a, _mm256_slli_epi16::<$distance>(other));
            $rows[i + $distance] = _mm256_xor_si256(b, other);
        }
    };
}

/// Transposes 8×8 bit matrices, one in each byte of eight vectors: exchanges halves, quarters, then
/// single bits.
#[target_feature(enable = "avx2")]
#[inline]
fn transposed(mut rows: [__m256i; BITS]) -> [__m256i; BITS] {
    exchange!(rows, 4, 0x0f);
    exchange!(rows, 2, 0x33);
    exchange!(rows, 1, 0x55);
    rows
}

/// The bytes that unsigned and signed numbers of four bits extend to.
const UNSIGNED: [i64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
const SIGNED: [i64; 2] = [UNSIGNED[0], 0xfffe_fdfc_fbfa_f9f8_u64.cast_signed()];

/// As [`transposed`], where the lower four bits determine the byte: it is looked up in `values`.
#[target_feature(enable = "avx2")]
#[inline]
fn nibbles(mut rows: [__m256i; BITS / 2], values: [i64; 2]) -> [__m256i; BITS] {
    exchange!(rows, 2, 0x33);
    exchange!(rows, 1, 0x55);
    let values = _mm256_setr_epi64x(values[0], values[1], values[0], values[1]);
    let lower = _mm256_set1_epi8(0x0f);
    let mut bytes = [lower; BITS];
    for (e, pair) in rows.into_iter().enumerate() {
        // Elements e and e + 4.
        let second = _mm256_srli_epi16::<4>(pair);
        bytes[e] = _mm256_shuffle_epi8(values, _mm256_and_si256(pair, lower));
        bytes[e + BITS / 2] = _mm256_shuffle_epi8(values, _mm256_and_si256(second, lower));
    }
    bytes
}

/// As [`transposed`], where all rows are equal to this one.
#[target_feature(enable = "avx2")]
#[inline]
fn all_or_none(row: __m256i) -> [__m256i; BITS] {
    let mut bytes = [row; BITS];
    for (e, byte) in bytes.iter_mut().enumerate() {
        let bit = _mm256_set1_epi8((1u8 << e).cast_signed());
        *byte = _mm256_cmpeq_epi8(_mm256_and_si256(row, bit), bit);
    }
    bytes
}

/// Interleaves the bytes of `N` vectors (8 or 16) in each lane: first bytes, then second bytes, and
/// so on.
#[target_feature(enable = "avx2")]
#[inline]
fn interleaved<const N: usize>(mut units: [__m256i; N]) -> [__m256i; N] {
    // Interleaved bytes are pairs, interleaved pairs fours, and so on: `run` vectors hold 16 units
    // of `run` bytes in each lane.
    for power in 0..N.ilog2() {
        let (run, given) = (1 << power, units);
        for first in (0..N).step_by(2 * run) {
            for i in 0..run {
                let (a, b) = (given[first + i], given[first + run + i]);
                (units[first + 2 * i], units[first + 2 * i + 1]) = match run {
                    1 => (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)),
                    2 => (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)),
                    4 => (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)),
                    _ => (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)),
                };
            }
        }
    }
    units
}

/// Stores 32 elements of T bytes, given as one vector for each byte, as half group `i` of `out`.
///
/// # Safety
/// `out` has that half group.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store_interleaved<const T: usize>(joined: [__m256i; T], out: VectorPtrs<HALF>, i: usize) {
    // Unpacking works on each lane separately: the lanes are put in order after each step.
    let mut units = joined;
    for power in 0..T.ilog2() {
        let (run, given) = (1 << power, units);
        for first in (0..T).step_by(2 * run) {
            for i in 0..run {
                let (a, b) = (given[first + i], given[first + run + i]);
                let (low, high) = match run {
                    1 => (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)),
                    2 => (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)),
                    _ => (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)),
                };
                units[first + 2 * i] = _mm256_permute2x128_si256::<0x20>(low, high);
                units[first + 2 * i + 1] = _mm256_permute2x128_si256::<0x31>(low, high);
            }
        }
    }
    for (k, vector) in units.into_iter().enumerate() {
        // SAFETY: our caller's promise; stores need no alignment.
        unsafe { _mm256_storeu_si256(out.at(i * T + k).cast(), vector) };
    }
}

/// The bytes of one group, whose bits begin at byte `at` of each plane: a plane's bits are spread
/// over bytes and compared.
///
/// # Safety
/// Each plane is valid for reads of 8 bytes from `at` on.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn one_group(planes: &[*const u8; BITS], at: usize) -> [__m256i; 2] {
    let mut halves = [_mm256_setzero_si256(); 2];
    // Byte i of the spread bits is byte i / 8 of the plane's four; its bit is i mod 8.
    let spread = _mm256_setr_epi64x(
        0x0000_0000_0000_0000,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    for (j, plane) in planes.iter().enumerate() {
        // SAFETY: our caller's promise.
        let bits = unsafe { plane.add(at).cast::<u64>().read_unaligned() };
        let value = _mm256_set1_epi8((1u8 << j).cast_signed());
        for (half, bits) in halves.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
            let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits.cast_signed()), spread);
            let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
            *half = _mm256_or_si256(*half, _mm256_and_si256(is_set, value));
        }
    }
    halves
}
