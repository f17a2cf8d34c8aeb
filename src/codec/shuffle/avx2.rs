//! Joins planes with AVX2: a bit plane's answers are spread over bytes and compared.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_setr_epi64x, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_storeu_si256,
};
use std::ops::Range;

use super::{GROUP, Grouping, bytes_group, groups_of};

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

#[target_feature(enable = "avx2")]
fn avx2<const T: usize>(
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
) {
    match grouping {
        Grouping::Bytes => groups_of(planes, groups, out, bytes_group),
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

#[inline(always)]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
