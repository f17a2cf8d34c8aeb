//! The values of a row's voxels: what depends on the dtype and the order.

use std::marker::PhantomData;
use std::ops::Range;

use super::finish::ValueWriter;
use super::interpolate::TapShape;
use super::level::{Kernel, Level};
use super::source::{Coordinates, GROUP_VOXELS, Run, Taps};
use crate::Voxel;

/// The place of a tap outside of the volume.
pub(super) const OUTSIDE: i64 = i64::MIN;

/// For z, y and x the places of a voxel's taps: their distances in elements from the first voxel of
/// the box, or [`OUTSIDE`].
pub(super) struct Places(pub(super) [[i64; 4]; 3]);

/// The values of a group of blocks, for whatever dtype and order.
pub(super) trait Values {
    fn shape(&self) -> TapShape;

    /// Computes a run of voxels whose taps lie in the box; the voxel two planes later lies `ahead`
    /// elements behind.
    fn run(&mut self, coordinates: &Coordinates, run: Range<usize>, ahead: isize);

    /// Computes a voxel from taps that may lie outside.
    fn look_up(&mut self, voxel: usize, fraction: [f32; 3], places: &Places);

    /// Writes the first values as voxels of the patch.
    fn write(&self, voxels: usize, finish: &ValueWriter, out: &mut [u8]);
}

/// [`Values`] of voxels of type `T`, by kernel `K` on the instruction set `L`.
pub(super) struct RowValues<'a, T: Voxel, K: Kernel<T>, L> {
    taps: Taps<'a, T>,
    outside: K::Value,
    values: [K::Value; GROUP_VOXELS],
    level: PhantomData<L>,
}

impl<'a, T: Voxel, K: Kernel<T>, L> RowValues<'a, T, K, L> {
    /// Values of a box; taps outside of the volume have the stored value `outside`.
    pub(super) fn new(taps: Taps<'a, T>, outside: f64) -> Self {
        Self {
            taps,
            outside: K::Value::from_f64_rounded(outside),
            values: [K::Value::default(); GROUP_VOXELS],
            level: PhantomData,
        }
    }
}

impl<T: Voxel, K: Kernel<T>, L: Level> Values for RowValues<'_, T, K, L> {
    fn shape(&self) -> TapShape {
        K::SHAPE
    }

    fn run(&mut self, coordinates: &Coordinates, run: Range<usize>, ahead: isize) {
        let Coordinates { offsets, fractions: [z, y, x] } = coordinates;
        let first = run.start;
        let run_of = Run {
            offsets: &offsets[first..],
            fractions: [&z[first..], &y[first..], &x[first..]],
            ahead,
        };
        K::run::<L>(&self.taps, &run_of, &mut self.values[first..], run.len());
    }

    fn look_up(&mut self, voxel: usize, fraction: [f32; 3], places: &Places) {
        let Places([places_z, places_y, places_x]) = places;
        let (taps, outside) = (&self.taps, self.outside);
        self.values[voxel] = L::enabled(
            #[inline(always)]
            || {
                K::value(fraction, |z, y, x| {
                    let (z, y, x) = (places_z[z], places_y[y], places_x[x]);
                    if z == OUTSIDE || y == OUTSIDE || x == OUTSIDE {
                        outside
                    } else {
                        K::convert(taps.voxels[(z + y + x) as usize])
                    }
                })
            },
        );
    }

    fn write(&self, voxels: usize, finish: &ValueWriter, out: &mut [u8]) {
        finish.write(&self.values[..voxels], out);
    }
}
