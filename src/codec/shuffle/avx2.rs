//! Joins planes with AVX2: a bit plane's answers are spread over bytes and compared.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_set1_epi32, _mm256_set1_epi64x,
    _mm256_setr_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_storeu_si256,
    _mm256_unpackhi_epi8, _mm256_unpackhi_epi16, _mm256_unpackhi_epi32, _mm256_unpacklo_epi8,
    _mm256_unpacklo_epi16, _mm256_unpacklo_epi32,
};
use std::ops::Range;

use super::{GROUP, Grouping};

/// As [`super::join`], for whole groups.
pub(super) fn join<const T: usize>(
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
) {
    debug_assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: `Kernel::Avx2` comes from `Kernel::available` alone, which asked the machine for AVX2.
    unsafe { avx2(grouping, planes, groups, out) }
}

/// Elements whose bytes fill a vector, one of each.
const HALF: usize = GROUP / 2;

#[target_feature(enable = "avx2")]
fn avx2<const T: usize>(
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
) {
    for (g, out) in groups.zip(out.chunks_exact_mut(GROUP * T)) {
        let mut halves = [[_mm256_setzero_si256(); T]; 2];
        for k in 0..T {
            let bytes = match grouping {
                Grouping::Bytes => bytes_group_avx2(planes[k], g),
                Grouping::Bits => bits_group_avx2(planes[k], g),
            };
            (halves[0][k], halves[1][k]) = (bytes[0], bytes[1]);
        }
        for (half, out) in halves.into_iter().zip(out.chunks_exact_mut(HALF * T)) {
            store_interleaved(half, out);
        }
    }
}

/// Stores 32 elements of T bytes, given byte by byte.
#[target_feature(enable = "avx2")]
#[inline]
fn store_interleaved<const T: usize>(joined: [__m256i; T], out: &mut [u8]) {
    assert!(out.len() == T * HALF, "half a group");
    // Bytes in turn are pairs, pairs in turn fours, fours in turn eights: `run` vectors hold 32 units of `run` bytes.
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
                // Vectors are unpacked in two lanes, each for itself.
                units[first + 2 * i] = _mm256_permute2x128_si256::<0x20>(low, high);
                units[first + 2 * i + 1] = _mm256_permute2x128_si256::<0x31>(low, high);
            }
        }
    }
    for (vector, out) in units.into_iter().zip(out.chunks_exact_mut(HALF)) {
        // SAFETY: the part of `out` has the vector's 32 bytes, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), vector) };
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn bytes_group_avx2(plane: &[u8], g: usize) -> [__m256i; 2] {
    let (halves, _) = plane[g * GROUP..][..GROUP].as_chunks::<HALF>();
    // SAFETY: a half has the vector's 32 bytes, and the load needs no alignment.
    [0, 1].map(|i| unsafe { _mm256_loadu_si256(halves[i].as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn bits_group_avx2(plane: &[u8], g: usize) -> [__m256i; 2] {
    let row = plane.len() / 8;
    let mut halves = [_mm256_setzero_si256(); 2];
    // Byte i of the spread answers is byte i / 8 of the plane's four; its bit is i mod 8.
    let spread = _mm256_setr_epi64x(
        0x0000_0000_0000_0000,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    for j in 0..8 {
        let answers = u64_at(plane, j * row + 8 * g);
        let value = _mm256_set1_epi8((1u8 << j).cast_signed());
        for (half, answers) in halves.iter_mut().zip([answers as u32, (answers >> 32) as u32]) {
            let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(answers.cast_signed()), spread);
            let yes = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
            *half = _mm256_or_si256(*half, _mm256_and_si256(yes, value));
        }
    }
    halves
}

#[inline(always)]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
