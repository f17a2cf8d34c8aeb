//! Joins byte planes straight into rows that begin and end anywhere.
//!
//! The kernels for whole groups would need a buffer, and a copy of a part of it. Here a row is
//! joined in vectors of elements, the last of which ends with the row, so a few elements are joined
//! twice but nothing is copied. SSE2 suffices, which every x86-64 has.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_loadl_epi64, _mm_loadu_si128, _mm_setzero_si128, _mm_storeu_si128,
    _mm_unpackhi_epi8, _mm_unpackhi_epi16, _mm_unpackhi_epi32, _mm_unpacklo_epi8,
    _mm_unpacklo_epi16, _mm_unpacklo_epi32,
};

use crate::codec::strided::RowsMut;

/// Elements that are joined at a time: bytes of a vector.
const STEP: usize = 16;

/// Elements that are joined at a time in rows with fewer than [`STEP`].
const SHORT_STEP: usize = STEP / 2;

/// Joins elements into `rows`: those of the first row begin at element `first`, those of each other
/// row `stride` elements after those of the row before.
pub(super) fn join<const T: usize>(
    planes: &[&[u8]; T],
    first: usize,
    stride: usize,
    rows: &mut RowsMut<'_>,
) {
    for (i, row) in rows.iter_mut().enumerate() {
        let (elements, _) = row.as_chunks_mut();
        let at = first + i * stride;
        let mut parts = *planes;
        for part in &mut parts {
            *part = &part[at..][..elements.len()];
        }
        match elements.len() {
            STEP.. => in_steps::<T, STEP>(&parts, elements),
            SHORT_STEP.. => in_steps::<T, SHORT_STEP>(&parts, elements),
            _ => {
                for (i, element) in elements.iter_mut().enumerate() {
                    *element = parts.map(|part| part[i]);
                }
            }
        }
    }
}

/// Joins a row of `N` elements or more.
#[inline(always)]
fn in_steps<const T: usize, const N: usize>(planes: &[&[u8]; T], row: &mut [[u8; T]]) {
    let last = row.len() - N;
    for at in (0..last).step_by(N).chain([last]) {
        // SAFETY: SSE2 is part of x86-64.
        let mut bytes = [unsafe { _mm_setzero_si128() }; T];
        for (bytes, plane) in bytes.iter_mut().zip(planes) {
            let part = plane[at..][..N].as_ptr();
            // SAFETY: `part` has N bytes; loads need no alignment.
            *bytes = unsafe {
                if N == STEP { _mm_loadu_si128(part.cast()) } else { _mm_loadl_epi64(part.cast()) }
            };
        }
        let step = &mut row[at..][..N];
        // The elements of a short step are in the first vectors.
        for (k, vector) in interleaved(bytes).into_iter().take(T * N / STEP).enumerate() {
            // SAFETY: the step has as many vectors; stores need no alignment.
            unsafe { _mm_storeu_si128(step.as_mut_ptr().cast::<__m128i>().add(k), vector) };
        }
    }
}

/// Interleaves the bytes of vectors: first bytes, then second bytes, and so on.
#[inline(always)]
fn interleaved<const T: usize>(mut units: [__m128i; T]) -> [__m128i; T] {
    for power in 0..T.ilog2() {
        let (run, given) = (1 << power, units);
        for first in (0..T).step_by(2 * run) {
            for i in 0..run {
                let (a, b) = (given[first + i], given[first + run + i]);
                // SAFETY: SSE2 is part of x86-64.
                (units[first + 2 * i], units[first + 2 * i + 1]) = unsafe {
                    match run {
                        1 => (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)),
                        2 => (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)),
                        _ => (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)),
                    }
                };
            }
        }
    }
    units
}
