//! Kernels for runs of voxels: the portable ones, and the choice among instruction sets.

use super::interpolate::{Cubic, Interpolation, Linear, Nearest, Real};
use super::source::{Run, Taps};
use crate::Voxel;

/// The kernels of an instruction set. All give the same bits.
pub(super) trait Level {
    /// Runs `work`, compiled for the instruction set.
    #[inline(always)]
    fn enabled<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// Copies the voxels that `run` says.
    #[inline(always)]
    fn nearest<T: Voxel>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [T], count: usize) {
        portable::<T, Nearest>(taps, run, out, count);
    }

    /// Trilinear interpolation.
    #[inline(always)]
    fn linear<T: Voxel, C: Real>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [C], count: usize) {
        portable::<T, Linear<C>>(taps, run, out, count);
    }

    /// Cubic convolution.
    #[inline(always)]
    fn cubic<T: Voxel, C: Real>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [C], count: usize) {
        portable::<T, Cubic<C>>(taps, run, out, count);
    }
}

/// Portable kernels.
pub(super) struct Base;

impl Level for Base {}

/// One voxel after the other.
#[inline(always)]
pub(super) fn portable<T: Voxel, I: Interpolation<T>>(
    taps: &Taps<'_, T>,
    run: &Run<'_>,
    out: &mut [I::Value],
    count: usize,
) {
    let [plane, row] = taps.strides;
    let [fz, fy, fx] = run.fractions;
    for (i, out) in out[..count].iter_mut().enumerate() {
        let first = run.offsets[i] as usize;
        *out = I::value([fz[i], fy[i], fx[i]], |z, y, x| {
            I::convert(taps.voxels[first + z * plane + y * row + x])
        });
    }
}

/// An interpolation with a kernel on every instruction set.
pub(super) trait Kernel<T: Voxel>: Interpolation<T> {
    /// The values of a run of `count` voxels whose taps lie in the box; `out` may be filled up
    /// to a whole vector.
    fn run<L: Level>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [Self::Value], count: usize);
}

impl<T: Voxel> Kernel<T> for Nearest {
    #[inline(always)]
    fn run<L: Level>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [T], count: usize) {
        L::nearest(taps, run, out, count);
    }
}

impl<T: Voxel, C: Real> Kernel<T> for Linear<C> {
    #[inline(always)]
    fn run<L: Level>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [C], count: usize) {
        L::linear(taps, run, out, count);
    }
}

impl<T: Voxel, C: Real> Kernel<T> for Cubic<C> {
    #[inline(always)]
    fn run<L: Level>(taps: &Taps<'_, T>, run: &Run<'_>, out: &mut [C], count: usize) {
        L::cubic(taps, run, out, count);
    }
}
