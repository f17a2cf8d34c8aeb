//! Splits whole vectors of elements into planes with AVX2 or AVX-512.
//!
//! Vectors are split into their even and odd bytes until each holds one byte of all elements. Bit
//! planes come from the instructions that collect one bit of each byte.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_permute4x64_epi64,
    _mm256_setr_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi64,
    _mm256_storeu_si256, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm512_loadu_si512,
    _mm512_permutex2var_epi8, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_test_epi8_mask,
};

use crate::codec::planes::PlaneKind;
use crate::sys::isa::Isa;

/// Splits the elements that fill whole vectors, as [`super::split()`] does; returns their number.
pub(super) fn split<const T: usize>(
    isa: Isa,
    kind: PlaneKind,
    elements: &[u8],
    out: &mut [u8],
) -> usize {
    let m = elements.len() / T;
    assert!(m * T == elements.len() && out.len() == elements.len(), "whole elements");
    // SAFETY: `Isa::detect`, the only source of values, has detected these instructions. Both
    // slices have m elements, of which only whole vectors are accessed.
    unsafe {
        match isa {
            Isa::Base => 0,
            Isa::Avx2 | Isa::Avx512 => {
                avx2::<T>(kind, elements.as_ptr(), out.as_mut_ptr(), m);
                m - m % size_of::<__m256i>()
            }
            Isa::Avx512Gfni => {
                avx512::<T>(kind, elements.as_ptr(), out.as_mut_ptr(), m);
                m - m % size_of::<__m512i>()
            }
        }
    }
}

/// # Safety
/// `elements` is valid for reads of `m` elements, `out` for writes of as many; for bits `m` is a
/// multiple of 8.
#[target_feature(enable = "avx2")]
unsafe fn avx2<const T: usize>(kind: PlaneKind, elements: *const u8, out: *mut u8, m: usize) {
    const WIDTH: usize = size_of::<__m256i>();
    // Even bytes of each half, then odd ones.
    let apart = _mm256_setr_epi64x(
        0x0e0c_0a08_0604_0200,
        0x0f0d_0b09_0705_0301,
        0x0e0c_0a08_0604_0200,
        0x0f0d_0b09_0705_0301,
    );
    for first in (0..m / WIDTH).map(|n| n * WIDTH) {
        let mut planes = [_mm256_setzero_si256(); T];
        for (n, plane) in planes.iter_mut().enumerate() {
            // SAFETY: T vectors hold the elements from `first` on; loads need no alignment.
            *plane = unsafe { _mm256_loadu_si256(elements.add(first * T + n * WIDTH).cast()) };
        }
        for _ in 0..T.ilog2() {
            let from = planes;
            for n in 0..T / 2 {
                let (a, b) = (
                    _mm256_shuffle_epi8(from[2 * n], apart),
                    _mm256_shuffle_epi8(from[2 * n + 1], apart),
                );
                planes[n] = _mm256_permute4x64_epi64::<0xd8>(_mm256_unpacklo_epi64(a, b));
                planes[n + T / 2] = _mm256_permute4x64_epi64::<0xd8>(_mm256_unpackhi_epi64(a, b));
            }
        }
        for (k, mut plane) in planes.into_iter().enumerate() {
            match kind {
                // SAFETY: plane k has m bytes, of which these begin at `first`.
                PlaneKind::Bytes => unsafe {
                    _mm256_storeu_si256(out.add(k * m + first).cast(), plane);
                },
                PlaneKind::Bits => {
                    for j in (0..8).rev() {
                        let bits = _mm256_movemask_epi8(plane).cast_unsigned();
                        // SAFETY: bit plane j has m / 8 bytes; these 4 begin at `first` / 8.
                        unsafe {
                            let to = out.add(k * m + j * (m / 8) + first / 8);
                            to.cast::<u32>().write_unaligned(bits);
                        }
                        plane = _mm256_slli_epi64::<1>(plane);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`avx2`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn avx512<const T: usize>(kind: PlaneKind, elements: *const u8, out: *mut u8, m: usize) {
    const WIDTH: usize = size_of::<__m512i>();
    // SAFETY: each array has the vector's 64 bytes; loads need no alignment.
    let [even, odd] =
        ALTERNATE.each_ref().map(|from| unsafe { _mm512_loadu_si512(from.as_ptr().cast()) });
    for first in (0..m / WIDTH).map(|n| n * WIDTH) {
        let mut planes = [_mm512_setzero_si512(); T];
        for (n, plane) in planes.iter_mut().enumerate() {
            // SAFETY: T vectors hold the elements from `first` on; loads need no alignment.
            *plane = unsafe { _mm512_loadu_si512(elements.add(first * T + n * WIDTH).cast()) };
        }
        for _ in 0..T.ilog2() {
            let from = planes;
            for n in 0..T / 2 {
                let (a, b) = (from[2 * n], from[2 * n + 1]);
                planes[n] = _mm512_permutex2var_epi8(a, even, b);
                planes[n + T / 2] = _mm512_permutex2var_epi8(a, odd, b);
            }
        }
        for (k, plane) in planes.into_iter().enumerate() {
            match kind {
                // SAFETY: plane k has m bytes, of which these begin at `first`.
                PlaneKind::Bytes => unsafe {
                    _mm512_storeu_si512(out.add(k * m + first).cast(), plane);
                },
                PlaneKind::Bits => {
                    for j in 0..8 {
                        let one = _mm512_set1_epi8((1u8 << j).cast_signed());
                        let bits = _mm512_test_epi8_mask(plane, one);
                        // SAFETY: bit plane j has m / 8 bytes; these 8 begin at `first` / 8.
                        unsafe {
                            let to = out.add(k * m + j * (m / 8) + first / 8);
                            to.cast::<u64>().write_unaligned(bits);
                        }
                    }
                }
            }
        }
    }
}

/// The even and the odd bytes of two vectors.
const ALTERNATE: [[u8; size_of::<__m512i>()]; 2] = {
    let mut from = [[0; size_of::<__m512i>()]; 2];
    let mut i = 0;
    while i < size_of::<__m512i>() {
        from[0][i] = 2 * i as u8;
        from[1][i] = 2 * i as u8 + 1;
        i += 1;
    }
    from
};
