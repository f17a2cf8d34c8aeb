//! The three interpolations, one voxel at a time: the portable twin of every kernel.
//!
//! Kernels give the same bits, so the operations, their order and the fused multiplications are
//! part of what is defined here.
//!
//! # Invariants
//! - A tap of weight 0 has no influence, whatever its value.

use std::marker::PhantomData;
use std::ops::{Add, Mul, Sub};

use super::rows::FRACTION_BITS;
use crate::Voxel;

/// The numbers that values are interpolated in.
pub(super) trait Real:
    Voxel + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// `self · a + b`, rounded once.
    fn fused(self, a: Self, b: Self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn fused(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn fused(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
}

/// The taps of an interpolation along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct TapShape {
    pub(super) count: usize,
    /// Taps before the one at the index rounded down.
    pub(super) below: i64,
    /// What is added to an index, in fixed point, before it is rounded down.
    pub(super) bias: i64,
}

/// An interpolation of voxels of type `T`.
pub(super) trait Interpolation<T: Voxel> {
    /// The values that it computes.
    type Value: Voxel;
    const SHAPE: TapShape;

    /// The value of a voxel as a tap.
    fn convert(voxel: T) -> Self::Value;

    /// The value at `fraction` between the taps, which `tap` yields by their numbers `(z, y, x)`.
    fn value(fraction: [f32; 3], tap: impl Fn(usize, usize, usize) -> Self::Value) -> Self::Value;
}

/// The value of the nearest voxel; halves are rounded up.
pub(super) struct Nearest;

impl<T: Voxel> Interpolation<T> for Nearest {
    type Value = T;
    const SHAPE: TapShape = TapShape { count: 1, below: 0, bias: 1 << (FRACTION_BITS - 1) };

    #[inline(always)]
    fn convert(voxel: T) -> T {
        voxel
    }

    #[inline(always)]
    fn value(_: [f32; 3], tap: impl Fn(usize, usize, usize) -> T) -> T {
        tap(0, 0, 0)
    }
}

/// Trilinear interpolation in `C`.
pub(super) struct Linear<C>(PhantomData<C>);

impl<T: Voxel, C: Real> Interpolation<T> for Linear<C> {
    type Value = C;
    const SHAPE: TapShape = TapShape { count: 2, below: 0, bias: 0 };

    #[inline(always)]
    fn convert(voxel: T) -> C {
        C::from_f64_rounded(voxel.to_f64())
    }

    #[inline(always)]
    fn value(fraction: [f32; 3], tap: impl Fn(usize, usize, usize) -> C) -> C {
        let [fz, fy, fx] = fraction.map(|f| C::from_f64_rounded(f64::from(f)));
        // No closures that interpolate: those would be compiled for the least processor.
        let near =
            lerp(lerp(tap(0, 0, 0), tap(0, 0, 1), fx), lerp(tap(0, 1, 0), tap(0, 1, 1), fx), fy);
        let far =
            lerp(lerp(tap(1, 0, 0), tap(1, 0, 1), fx), lerp(tap(1, 1, 0), tap(1, 1, 1), fx), fy);
        lerp(near, far, fz)
    }
}

#[inline(always)]
fn lerp<C: Real>(a: C, b: C, f: C) -> C {
    // Without the comparison, a NaN in `b` would spread at a weight of 0.
    if f == C::default() { a } else { f.fused(b - a, a) }
}

/// Cubic convolution in `C`.
pub(super) struct Cubic<C>(PhantomData<C>);

impl<T: Voxel, C: Real> Interpolation<T> for Cubic<C> {
    type Value = C;
    const SHAPE: TapShape = TapShape { count: 4, below: 1, bias: 0 };

    #[inline(always)]
    fn convert(voxel: T) -> C {
        C::from_f64_rounded(voxel.to_f64())
    }

    #[inline(always)]
    fn value(fraction: [f32; 3], tap: impl Fn(usize, usize, usize) -> C) -> C {
        let zero = C::default();
        let wz = keys(C::from_f64_rounded(f64::from(fraction[0])));
        let wy = keys(C::from_f64_rounded(f64::from(fraction[1])));
        let wx = keys(C::from_f64_rounded(f64::from(fraction[2])));
        let mut columns = [[zero; 4]; 4];
        for z in 0..4 {
            for y in 0..4 {
                for x in 0..4 {
                    let is_used = wz[z] != zero && wy[y] != zero && wx[x] != zero;
                    let value = if is_used { tap(z, y, x) } else { zero };
                    let sum = columns[y][x];
                    columns[y][x] = if z == 0 { wz[0] * value } else { wz[z].fused(value, sum) };
                }
            }
        }
        // The order of an 8-lane vector that holds rows y and y + 1.
        let mut along_x = [zero; 4];
        for x in 0..4 {
            let even = wy[2].fused(columns[2][x], wy[0] * columns[0][x]);
            let odd = wy[3].fused(columns[3][x], wy[1] * columns[1][x]);
            along_x[x] = even + odd;
        }
        let sum = wx[1].fused(along_x[1], wx[0] * along_x[0]);
        wx[3].fused(along_x[3], wx[2].fused(along_x[2], sum))
    }
}

/// The weights of the four taps around `f` (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = −½).
#[inline(always)]
pub(super) fn keys<C: Real>(f: C) -> [C; 4] {
    let k = C::from_f64_rounded;
    let square = f * f;
    [
        f.fused(k(-0.5), k(1.0)).fused(f, k(-0.5)) * f,
        f.fused(k(1.5), k(-2.5)).fused(square, k(1.0)),
        f.fused(k(-1.5), k(2.0)).fused(f, k(0.5)) * f,
        f.fused(k(0.5), k(-0.5)) * square,
    ]
}
