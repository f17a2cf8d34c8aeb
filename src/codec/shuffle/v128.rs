//! Vectors of 16 bytes, which every CPU of these architectures has: SSE2 on x86-64, NEON on
//! aarch64.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::{
    vcombine_u8, vdup_n_u8, vdupq_n_u8, vld1_u8, vld1q_u8, vreinterpretq_u8_u16,
    vreinterpretq_u8_u32, vreinterpretq_u8_u64, vreinterpretq_u16_u8, vreinterpretq_u32_u8,
    vreinterpretq_u64_u8, vst1q_u8, vzip1q_u8, vzip1q_u16, vzip1q_u32, vzip1q_u64, vzip2q_u8,
    vzip2q_u16, vzip2q_u32, vzip2q_u64,
};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm_loadl_epi64, _mm_loadu_si128, _mm_setzero_si128, _mm_storeu_si128, _mm_unpackhi_epi8,
    _mm_unpackhi_epi16, _mm_unpackhi_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi8,
    _mm_unpacklo_epi16, _mm_unpacklo_epi32, _mm_unpacklo_epi64,
};

#[cfg(target_arch = "aarch64")]
pub(super) use std::arch::aarch64::uint8x16_t as V128;
#[cfg(target_arch = "x86_64")]
pub(super) use std::arch::x86_64::__m128i as V128;

/// Bytes of a vector.
pub(super) const BYTES: usize = size_of::<V128>();

/// A vector of zeros.
#[inline(always)]
pub(super) fn zero() -> V128 {
    // SAFETY: every CPU has the instruction.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        return _mm_setzero_si128();
        #[cfg(target_arch = "aarch64")]
        return vdupq_n_u8(0);
    }
}

/// Loads [`BYTES`] bytes, or the lower half of a vector whose upper half is 0.
///
/// # Safety
/// `from` is valid for reads of `N` bytes.
#[inline(always)]
pub(super) unsafe fn load<const N: usize>(from: *const u8) -> V128 {
    const { assert!(N == BYTES || N == BYTES / 2, "a vector or half of one") };
    // SAFETY: our caller's promise; loads need no alignment, and every CPU has the instructions.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        return if N == BYTES {
            _mm_loadu_si128(from.cast())
        } else {
            _mm_loadl_epi64(from.cast())
        };
        #[cfg(target_arch = "aarch64")]
        return if N == BYTES { vld1q_u8(from) } else { vcombine_u8(vld1_u8(from), vdup_n_u8(0)) };
    }
}

/// Stores a vector.
///
/// # Safety
/// `to` is valid for writes of [`BYTES`] bytes.
#[inline(always)]
pub(super) unsafe fn store(to: *mut u8, vector: V128) {
    // SAFETY: our caller's promise; stores need no alignment, and every CPU has the instruction.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        _mm_storeu_si128(to.cast(), vector);
        #[cfg(target_arch = "aarch64")]
        vst1q_u8(to, vector);
    }
}

/// Interleaves the bytes of up to 16 vectors: first bytes, then second bytes, and so on.
#[inline(always)]
pub(super) fn interleaved<const N: usize>(mut units: [V128; N]) -> [V128; N] {
    const { assert!(N.is_power_of_two() && N <= BYTES, "vectors that interleave") };
    // Interleaved bytes are pairs, interleaved pairs fours, and so on: `run` vectors hold 16 units
    // of `run` bytes.
    for power in 0..N.ilog2() {
        let (run, given) = (1 << power, units);
        for first in (0..N).step_by(2 * run) {
            for i in 0..run {
                let (a, b) = (given[first + i], given[first + run + i]);
                (units[first + 2 * i], units[first + 2 * i + 1]) = zip(a, b, run);
            }
        }
    }
    units
}

/// Interleaves two vectors in units of `bytes` bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn zip(a: V128, b: V128, bytes: usize) -> (V128, V128) {
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        match bytes {
            1 => (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)),
            2 => (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)),
            4 => (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)),
            _ => (_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)),
        }
    }
}

/// Interleaves two vectors in units of `bytes` bytes.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn zip(a: V128, b: V128, bytes: usize) -> (V128, V128) {
    /// Zips two vectors as `$to` and back.
    macro_rules! zip {
        ($low:ident, $high:ident, $to:ident, $from:ident) => {{
            let (a, b) = ($to(a), $to(b));
            ($from($low(a, b)), $from($high(a, b)))
        }};
    }
    // SAFETY: NEON is part of aarch64.
    unsafe {
        match bytes {
            1 => (vzip1q_u8(a, b), vzip2q_u8(a, b)),
            2 => zip!(vzip1q_u16, vzip2q_u16, vreinterpretq_u16_u8, vreinterpretq_u8_u16),
            4 => zip!(vzip1q_u32, vzip2q_u32, vreinterpretq_u32_u8, vreinterpretq_u8_u32),
            _ => zip!(vzip1q_u64, vzip2q_u64, vreinterpretq_u64_u8, vreinterpretq_u8_u64),
        }
    }
}
