//! Joins planes with AVX2 and AVX-512.
//!
//! A bit plane's eight bytes are 64 yes-or-no answers. AVX-512 takes them as a mask and adds the plane's bit to those 64
//! bytes that say yes; AVX2 spreads them over bytes and compares.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_setr_epi64x, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_storeu_si256, _mm512_loadu_si512, _mm512_mask_add_epi8,
    _mm512_permutex2var_epi64, _mm512_set1_epi8, _mm512_setr_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_unpackhi_epi8, _mm512_unpacklo_epi8,
};
use std::ops::Range;

use super::{GROUP, Grouping, bytes_group, groups_of};

/// As [`super::join`], for whole groups.
pub(super) fn join_avx2<const T: usize>(
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
) {
    debug_assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: `Kernel::Avx2` comes from `Kernel::available` alone, which asked the machine for AVX2.
    unsafe { avx2(grouping, planes, groups, out) }
}

#[target_feature(enable = "avx2")]
fn avx2<const T: usize>(
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
) {
    match grouping {
        Grouping::Bytes => groups_of(planes, groups, out, |plane, g| bytes_group(plane, g)),
        Grouping::Bits => groups_of(planes, groups, out, |plane, g| bits_group_avx2(plane, g)),
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn bits_group_avx2(plane: &[u8], g: usize) -> [u8; GROUP] {
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
    let mut bytes = [0; GROUP];
    for (out, half) in bytes.chunks_exact_mut(size_of::<__m256i>()).zip(halves) {
        // SAFETY: each half of the array has the vector's 32 bytes, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), half) };
    }
    bytes
}

/// As [`super::join`], for whole groups.
pub(super) fn join_avx512<const T: usize>(
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
) {
    debug_assert!(is_x86_feature_detected!("avx512bw"));
    let whole = |plane: &&[u8]| groups.end * GROUP <= plane.len();
    assert!(planes.iter().all(whole) && out.len() == groups.len() * GROUP * T, "whole groups");
    // SAFETY: `Kernel::Avx512` comes from `Kernel::available` alone, which asked the machine for AVX-512 F and BW. The groups lie
    // in the planes and in `out`, as was just checked.
    unsafe {
        match grouping {
            Grouping::Bytes => avx512_bytes(planes, groups, out),
            Grouping::Bits => avx512_bits(planes, groups, out),
        }
    }
}

/// # Safety
/// Every plane has the bytes of `groups`, and `out` those of all planes.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn avx512_bytes<const T: usize>(planes: [&[u8]; T], groups: Range<usize>, out: &mut [u8]) {
    for (g, out) in groups.zip(out.chunks_exact_mut(GROUP * T)) {
        let mut joined = [_mm512_setzero_si512(); T];
        for k in 0..T {
            // SAFETY: the group lies in the plane; loads need no alignment.
            joined[k] = unsafe { _mm512_loadu_si512(planes[k].as_ptr().add(g * GROUP).cast()) };
        }
        store_interleaved(joined, out);
    }
}

/// # Safety
/// As [`avx512_bytes`]; the planes have a multiple of 8 bytes.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn avx512_bits<const T: usize>(planes: [&[u8]; T], groups: Range<usize>, out: &mut [u8]) {
    let row = planes[0].len() / 8;
    for (g, out) in groups.zip(out.chunks_exact_mut(GROUP * T)) {
        let mut joined = [_mm512_setzero_si512(); T];
        for k in 0..T {
            for j in 0..8 {
                // SAFETY: bit plane j has the plane's j-th eighth, of which the group has 8 bytes.
                let answers: u64 = unsafe {
                    planes[k].as_ptr().add(j * row + 8 * g).cast::<u64>().read_unaligned()
                };
                let value = _mm512_set1_epi8((1u8 << j).cast_signed());
                joined[k] = _mm512_mask_add_epi8(joined[k], answers, joined[k], value);
            }
        }
        store_interleaved(joined, out);
    }
}

/// Stores 64 elements of T bytes, given byte by byte.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn store_interleaved<const T: usize>(joined: [__m512i; T], out: &mut [u8]) {
    assert!(out.len() == T * GROUP, "a whole group");
    let store = |vector: __m512i, at: usize| {
        // SAFETY: `at` counts vectors of `out`, which has T of them; the store needs no alignment.
        unsafe { _mm512_storeu_si512(out.as_ptr().add(at * GROUP).cast_mut().cast(), vector) };
    };
    match T {
        1 => store(joined[0], 0),
        2 => {
            // Unpacking works within 128-bit lanes: lanes are put in order afterwards.
            let a = _mm512_unpacklo_epi8(joined[0], joined[1]);
            let b = _mm512_unpackhi_epi8(joined[0], joined[1]);
            let first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
            let second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
            store(_mm512_permutex2var_epi64(a, first, b), 0);
            store(_mm512_permutex2var_epi64(a, second, b), 1);
        }
        _ => {
            let mut bytes = [[0; GROUP]; T];
            for (bytes, joined) in bytes.iter_mut().zip(joined) {
                // SAFETY: the array has the vector's 64 bytes, and the store needs no alignment.
                unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), joined) };
            }
            super::interleave(&bytes, out);
        }
    }
}

#[inline(always)]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
