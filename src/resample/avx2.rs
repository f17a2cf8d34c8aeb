//! Kernels with AVX2 and FMA: eight voxels at a time.
//!
//! Neighbours along x are loaded as pairs by ordinary loads and transposed: the gathers of AMD's
//! processors are slower. Planes to come are prefetched, because a turned row touches a cache line
//! for each of its voxels.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128, __m128i, __m256, __m256i, _CMP_EQ_OQ, _CMP_NEQ_UQ, _MM_HINT_T1, _mm_add_ps,
    _mm_castpd_ps, _mm_cvtepi8_epi32, _mm_cvtepi16_epi32, _mm_cvtepi32_ps, _mm_cvtepu8_epi32,
    _mm_cvtepu16_epi32, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_insert_epi32, _mm_load_sd,
    _mm_loadh_pd, _mm_loadl_epi64, _mm_loadu_ps, _mm_prefetch, _mm256_and_ps, _mm256_and_si256,
    _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtph_ps,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_madd_epi16, _mm256_mul_ps, _mm256_permute_ps, _mm256_permute2f128_ps,
    _mm256_permute4x64_epi64, _mm256_permutevar_ps, _mm256_set_m128, _mm256_set_m128i,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi8, _mm256_setr_epi32, _mm256_setzero_ps,
    _mm256_shuffle_epi8, _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_srai_epi32,
    _mm256_srli_epi32, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps, _mm256_unpackhi_ps,
    _mm256_unpacklo_ps,
};

use super::interpolate::{Cubic, Linear, Real};
use super::level::{Level, portable};
use super::source::{Run, Taps};
use crate::{Dtype, Voxel};

/// Voxels of a vector.
const WIDE: usize = 8;

/// Kernels with AVX2, FMA and F16C.
pub(super) struct Avx2;

impl Avx2 {
    /// Whether this machine has the instructions.
    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }
}

impl Level for Avx2 {
    #[inline(always)]
    fn enabled<R>(work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: a value of this type is used only where `is_available`.
        unsafe { compiled(work) }
    }

    #[inline(always)]
    fn linear<T: Voxel, C: Real>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [C], count: usize) {
        if C::DTYPE != Dtype::Float32 || !has_kernel(T::DTYPE) {
            return Self::enabled(|| portable::<T, Linear<C>>(taps, run, out, count));
        }
        let count = check(taps, run, count, 2);
        let out = bytemuck::cast_slice_mut(&mut out[..count]);
        // SAFETY: a value of this type is used only where `is_available`; `check` has found the
        // taps of all voxels in the box. `tests/resample.rs` watches both under ASan.
        unsafe {
            if T::DTYPE == Dtype::Float32 {
                linear_f32(bytemuck::cast_slice(taps.voxels), taps.strides, run, out);
            } else {
                linear_pairs(taps, run, out);
            }
        }
    }

    #[inline(always)]
    fn cubic<T: Voxel, C: Real>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [C], count: usize) {
        if C::DTYPE != Dtype::Float32 || !has_kernel(T::DTYPE) {
            return Self::enabled(|| portable::<T, Cubic<C>>(taps, run, out, count));
        }
        let count = check(taps, run, count, 4);
        // SAFETY: as for `linear`.
        unsafe { cubic(taps, run, bytemuck::cast_slice_mut(&mut out[..count])) };
    }
}

/// Whether there are kernels for voxels of a type: those that `f32` represents.
const fn has_kernel(dtype: Dtype) -> bool {
    dtype.size() <= 2 || matches!(dtype, Dtype::Float32)
}

/// The voxels of a run and of its last vector, whose taps, `taps` along each axis, all lie in the
/// box.
#[inline(always)]
fn check<T>(voxels: &Taps<'_, T>, run: &Run<'_>, count: usize, taps: usize) -> usize {
    let whole = count.next_multiple_of(WIDE);
    assert!(run.fractions.iter().all(|f| f.len() >= whole), "fractions for whole vectors");
    let last = run.offsets[..whole].iter().fold(0, |last, &offset| offset.max(last)) as usize;
    let [plane, row] = voxels.strides;
    // A load of 4 elements of a row reads at most 4 elements more than the two of a pair.
    let end = last + (taps - 1) * (plane + row) + taps + 4;
    assert!(end <= voxels.voxels.len(), "the taps of a run lie in the box");
    whole
}

/// Asks for the cache line of the voxel that lies `ahead` of a tap.
#[inline(always)]
unsafe fn prefetch<T>(tap: *const T, ahead: isize) {
    // SAFETY: a prefetch changes nothing, and any address is allowed.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(tap.wrapping_offset(ahead).cast()) };
}

/// Four pairs of neighbours along x: at `p` and in the next row and plane.
///
/// # Safety
/// Four bytes may be read at each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pairs<T>(p: *const T, plane: usize, row: usize) -> __m128i {
    // SAFETY: the caller's promise.
    let at = |n: usize| unsafe { p.add(n).cast::<i32>().read_unaligned() };
    let v = _mm_insert_epi32::<1>(_mm_cvtsi32_si128(at(0)), at(row));
    _mm_insert_epi32::<3>(_mm_insert_epi32::<2>(v, at(plane)), at(plane + row))
}

/// Transposes 4×4 elements in each half.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn transposed(v: [__m256; 4]) -> [__m256; 4] {
    let (a, b) = (_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
    let (c, d) = (_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
    [
        _mm256_shuffle_ps::<0x44>(a, c),
        _mm256_shuffle_ps::<0xee>(a, c),
        _mm256_shuffle_ps::<0x44>(b, d),
        _mm256_shuffle_ps::<0xee>(b, d),
    ]
}

/// The first of each pair, and the second less the first.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn first_and_change<T: Voxel>(pairs: __m256i) -> (__m256, __m256) {
    let float = _mm256_cvtepi32_ps;
    match T::DTYPE {
        Dtype::Int16 => {
            // Sums of products: exact, and fewer instructions than shifting the halves apart.
            let first = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1));
            let change = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x1_ffff));
            (float(first), float(change))
        }
        Dtype::UInt16 => {
            let first = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff));
            (float(first), float(_mm256_sub_epi32(_mm256_srli_epi32::<16>(pairs), first)))
        }
        Dtype::UInt8 => {
            let mask = _mm256_set1_epi32(0xff);
            let first = _mm256_and_si256(pairs, mask);
            let second = _mm256_and_si256(_mm256_srli_epi32::<8>(pairs), mask);
            (float(first), float(_mm256_sub_epi32(second, first)))
        }
        Dtype::Int8 => {
            let first = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(pairs));
            let second = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<16>(pairs));
            (float(first), float(_mm256_sub_epi32(second, first)))
        }
        _ => {
            let order = _mm256_setr_epi8(
                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2,
                3, 6, 7, 10, 11, 14, 15,
            );
            let halves = _mm256_permute4x64_epi64::<0xd8>(_mm256_shuffle_epi8(pairs, order));
            let first = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
            let second = _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves));
            (first, _mm256_sub_ps(second, first))
        }
    }
}

/// `a + f · change`; where `FLOAT` and `f` is 0, `a`, whatever the change is.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn moved<const FLOAT: bool>(a: __m256, change: __m256, f: __m256) -> __m256 {
    let moved = _mm256_fmadd_ps(f, change, a);
    if FLOAT {
        _mm256_blendv_ps(moved, a, _mm256_cmp_ps::<_CMP_EQ_OQ>(f, _mm256_setzero_ps()))
    } else {
        moved
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn lerp<const FLOAT: bool>(a: __m256, b: __m256, f: __m256) -> __m256 {
    moved::<FLOAT>(a, _mm256_sub_ps(b, a), f)
}

/// # Safety
/// [`check`] has found all taps in the box, for as many voxels as `out` has.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn linear_pairs<T: Voxel>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [f32]) {
    let (p, [plane, row]) = (taps.voxels.as_ptr(), taps.strides);
    for i in (0..out.len()).step_by(WIDE) {
        let mut quads = [_mm256_setzero_ps(); 4];
        for k in 0..4 {
            // SAFETY: the caller's promise.
            unsafe {
                let a = p.add(*run.offsets.get_unchecked(i + k) as usize);
                let b = p.add(*run.offsets.get_unchecked(i + k + 4) as usize);
                if k == 0 {
                    prefetch(a, run.ahead);
                    prefetch(b, run.ahead);
                }
                let both = _mm256_set_m128i(pairs(b, plane, row), pairs(a, plane, row));
                quads[k] = _mm256_castsi256_ps(both);
            }
        }
        let quads = transposed(quads);
        let mut along_x = [_mm256_setzero_ps(); 4];
        // SAFETY: the caller's promise.
        unsafe {
            let [fz, fy, fx] = fractions(run, i);
            for k in 0..4 {
                let pairs = _mm256_castps_si256(quads[k]);
                let (first, change) = first_and_change::<T>(pairs);
                along_x[k] = if T::DTYPE.is_float() {
                    moved::<true>(first, change, fx)
                } else {
                    moved::<false>(first, change, fx)
                };
            }
            let [a, b, c, d] = along_x;
            let value = if T::DTYPE.is_float() {
                lerp::<true>(lerp::<true>(a, b, fy), lerp::<true>(c, d, fy), fz)
            } else {
                lerp::<false>(lerp::<false>(a, b, fy), lerp::<false>(c, d, fy), fz)
            };
            _mm256_storeu_ps(out.as_mut_ptr().add(i), value);
        }
    }
}

/// The fractions of eight voxels from `i` on.
///
/// # Safety
/// There are as many.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fractions(run: &Run<'_>, i: usize) -> [__m256; 3] {
    // SAFETY: the caller's promise.
    let at = |a: usize| unsafe { _mm256_loadu_ps(run.fractions[a].as_ptr().add(i)) };
    [at(0), at(1), at(2)]
}

/// Two pairs of neighbours along x: at `p` and `stride` elements behind.
///
/// # Safety
/// Both pairs may be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn two_pairs(p: *const f32, stride: usize) -> __m128 {
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe {
        let low = _mm_load_sd(p.cast());
        let both = _mm_loadh_pd(low, p.add(stride).cast());
        _mm_castpd_ps(both)
    }
}

/// # Safety
/// As [`linear_pairs`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn linear_f32(voxels: &[f32], strides: [usize; 2], run: &Run<'_>, out: &mut [f32]) {
    let (p, [plane, row]) = (voxels.as_ptr(), strides);
    for i in (0..out.len()).step_by(WIDE) {
        let (mut near, mut far) = ([_mm256_setzero_ps(); 4], [_mm256_setzero_ps(); 4]);
        for k in 0..4 {
            // SAFETY: the caller's promise.
            unsafe {
                let a = p.add(*run.offsets.get_unchecked(i + k) as usize);
                let b = p.add(*run.offsets.get_unchecked(i + k + 4) as usize);
                if k % 2 == 0 {
                    prefetch(a, run.ahead);
                    prefetch(b, run.ahead);
                }
                near[k] = _mm256_set_m128(two_pairs(b, row), two_pairs(a, row));
                far[k] =
                    _mm256_set_m128(two_pairs(b.add(plane), row), two_pairs(a.add(plane), row));
            }
        }
        let ([a0, a1, b0, b1], [c0, c1, d0, d1]) = (transposed(near), transposed(far));
        // SAFETY: the caller's promise.
        unsafe {
            let [fz, fy, fx] = fractions(run, i);
            let near = lerp::<true>(lerp::<true>(a0, a1, fx), lerp::<true>(b0, b1, fx), fy);
            let far = lerp::<true>(lerp::<true>(c0, c1, fx), lerp::<true>(d0, d1, fx), fy);
            _mm256_storeu_ps(out.as_mut_ptr().add(i), lerp::<true>(near, far, fz));
        }
    }
}

/// Four neighbours along x.
///
/// # Safety
/// Four elements, and eight bytes, may be read at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn four<T: Voxel>(p: *const T) -> __m128 {
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe {
        let eight_bytes = || _mm_loadl_epi64(p.cast());
        let four_bytes = || _mm_cvtsi32_si128(p.cast::<i32>().read_unaligned());
        match T::DTYPE {
            Dtype::Int16 => _mm_cvtepi32_ps(_mm_cvtepi16_epi32(eight_bytes())),
            Dtype::UInt16 => _mm_cvtepi32_ps(_mm_cvtepu16_epi32(eight_bytes())),
            Dtype::Float16 => _mm_cvtph_ps(eight_bytes()),
            Dtype::Int8 => _mm_cvtepi32_ps(_mm_cvtepi8_epi32(four_bytes())),
            Dtype::UInt8 => _mm_cvtepi32_ps(_mm_cvtepu8_epi32(four_bytes())),
            _ => _mm_loadu_ps(p.cast()),
        }
    }
}

/// The weights of the four taps of eight voxels, as [`keys`](super::interpolate::keys).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn weights(f: __m256) -> [__m256; 4] {
    let k = |v: f32| _mm256_set1_ps(v);
    let fused = |a: __m256, b: __m256, c: __m256| _mm256_fmadd_ps(a, b, c);
    let square = _mm256_mul_ps(f, f);
    [
        _mm256_mul_ps(fused(fused(f, k(-0.5), k(1.0)), f, k(-0.5)), f),
        fused(fused(f, k(1.5), k(-2.5)), square, k(1.0)),
        _mm256_mul_ps(fused(fused(f, k(-1.5), k(2.0)), f, k(0.5)), f),
        _mm256_mul_ps(fused(f, k(0.5), k(-0.5)), square),
    ]
}

/// The four sums over planes and rows of the taps at `p`; `z`, `y`, `x` hold the four weights of
/// each axis, twice.
///
/// # Safety
/// All 64 taps may be read as by [`four`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn over_rows<T: Voxel>(
    p: *const T,
    [plane, row]: [usize; 2],
    z: __m256,
    y: __m256,
    x: __m256,
) -> __m128 {
    let even_odd =
        |low: i32, high: i32| _mm256_setr_epi32(low, low, low, low, high, high, high, high);
    let near = _mm256_permutevar_ps(y, even_odd(0, 1));
    let far = _mm256_permutevar_ps(y, even_odd(2, 3));
    let by_plane = [
        _mm256_permute_ps::<0x00>(z),
        _mm256_permute_ps::<0x55>(z),
        _mm256_permute_ps::<0xaa>(z),
        _mm256_permute_ps::<0xff>(z),
    ];
    let is_used = |w: __m256| _mm256_cmp_ps::<_CMP_NEQ_UQ>(w, _mm256_setzero_ps());
    let zero = _mm256_setzero_ps();
    let mut sums = [zero; 2];
    for k in 0..4 {
        for (pair, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let mut taps = unsafe {
                let p = p.add(k * plane + 2 * pair * row);
                _mm256_set_m128(four(p.add(row)), four(p))
            };
            if T::DTYPE.is_float() {
                let used = _mm256_and_ps(is_used(if pair == 0 { near } else { far }), is_used(x));
                taps = _mm256_and_ps(taps, _mm256_and_ps(used, is_used(by_plane[k])));
            }
            *sum = if k == 0 {
                _mm256_mul_ps(by_plane[0], taps)
            } else {
                _mm256_fmadd_ps(by_plane[k], taps, *sum)
            };
        }
    }
    let both = _mm256_fmadd_ps(far, sums[1], _mm256_mul_ps(near, sums[0]));
    _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both))
}

/// # Safety
/// As [`linear_pairs`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn cubic<T: Voxel>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [f32]) {
    let (p, strides) = (taps.voxels.as_ptr(), taps.strides);
    let middle = strides[0] + strides[1];
    for i in (0..out.len()).step_by(WIDE) {
        // SAFETY: the caller's promise.
        unsafe {
            let [fz, fy, fx] = fractions(run, i);
            let wx = weights(fx);
            let (z, y, x) = (transposed(weights(fz)), transposed(weights(fy)), transposed(wx));
            let mut along_x = [_mm256_setzero_ps(); 4];
            for k in 0..4 {
                let a = p.add(*run.offsets.get_unchecked(i + k) as usize);
                let b = p.add(*run.offsets.get_unchecked(i + k + 4) as usize);
                prefetch(a.wrapping_add(middle), run.ahead);
                prefetch(b.wrapping_add(middle), run.ahead);
                let (za, ya, xa) = (low_twice(z[k]), low_twice(y[k]), low_twice(x[k]));
                let (zb, yb, xb) = (high_twice(z[k]), high_twice(y[k]), high_twice(x[k]));
                let low = over_rows(a, strides, za, ya, xa);
                along_x[k] = _mm256_set_m128(over_rows(b, strides, zb, yb, xb), low);
            }
            let [a, b, c, d] = transposed(along_x);
            let sum = _mm256_fmadd_ps(wx[1], b, _mm256_mul_ps(wx[0], a));
            let sum = _mm256_fmadd_ps(wx[3], d, _mm256_fmadd_ps(wx[2], c, sum));
            _mm256_storeu_ps(out.as_mut_ptr().add(i), sum);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn low_twice(v: __m256) -> __m256 {
    _mm256_permute2f128_ps::<0x00>(v, v)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn high_twice(v: __m256) -> __m256 {
    _mm256_permute2f128_ps::<0x11>(v, v)
}
