//! Some z planes of the result while they are unfinished: patches are added, then weights divided away.
//!
//! Sums are `f64`, so that rounding stays far below the result's last bit: a constant comes out as it went in.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::Plan;
use super::buffer::{Budget, Buffer};
use super::window::Window;
use crate::{Result, Size3, Voxel, with_voxel};

/// Unfinished planes: sums `(c, z, y, x)` of `f64`, or, under crop, the voxels themselves.
#[derive(Debug)]
pub(super) struct Band {
    /// Its planes of the volume.
    pub(super) planes: Range<usize>,
    /// Patches that will still be added.
    pub(super) awaited: usize,
    /// Made for the first patch.
    pub(super) buffer: Option<Buffer>,
}

/// One patch: its voxels, `(c, z, y, x)` in C order, and its places among the starts of each axis.
pub(super) struct Patch<'a, T> {
    pub(super) voxels: &'a [T],
    pub(super) places: Size3,
}

impl Plan {
    /// Room for a band of so many planes.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub(super) fn empty_band(&self, planes: usize, budget: &Arc<Budget>) -> Result<Buffer> {
        let [_, ny, nx] = self.grid.size();
        let voxels = self.channel_count() * planes * ny * nx;
        if self.window == Window::Crop {
            return Buffer::new(voxels * self.dtype.size(), budget);
        }
        let mut buffer = Buffer::new(voxels * size_of::<f64>(), budget)?;
        // Added to −0.0 every number stays what it is; +0.0 would turn −0.0 into itself.
        bytemuck::cast_slice_mut::<u8, f64>(buffer.bytes()).fill(-0.0);
        Ok(buffer)
    }

    /// Adds the part of `patch` that counts for `planes` to their sums.
    pub(super) fn add<T: Voxel>(
        &self,
        patch: &Patch<'_, T>,
        planes: &Range<usize>,
        buffer: &mut [u8],
    ) {
        if self.window == Window::Crop {
            with_voxel!(self.dtype, Out => {
                let voxels: &mut [Out] = bytemuck::cast_slice_mut(buffer);
                self.rows(patch, planes, |at, from, _, _| assign(from, &mut voxels[at..at + from.len()]));
            });
        } else {
            let sums: &mut [f64] = bytemuck::cast_slice_mut(buffer);
            let floor = self.weights.floor;
            self.rows(patch, planes, |at, from, outer, weights| {
                accumulate(&mut sums[at..at + from.len()], from, weights, outer, floor);
            });
        }
    }

    /// Calls `row(at, voxels, outer, weights)` for each row of the patch that counts: where it goes in the band, its voxels,
    /// the weight of its z and y, the weights along x.
    fn rows<T>(
        &self,
        patch: &Patch<'_, T>,
        planes: &Range<usize>,
        mut row: impl FnMut(usize, &[T], f64, &[f64]),
    ) {
        let [_, ny, nx] = self.grid.size();
        let [pz, py, px] = self.grid.patch_size();
        let axis = |a: usize| {
            let (coverage, place) = (&self.axes[a], patch.places[a]);
            (coverage.used[place].clone(), coverage.starts[place])
        };
        let [(zs, z0), (ys, y0), (xs, x0)] = [axis(0), axis(1), axis(2)];
        if xs.is_empty() {
            return;
        }
        let local = |i: usize, start: i64| (i as i64 - start) as usize;
        let x = local(xs.start, x0)..local(xs.end, x0);
        let [wz, wy, wx] = &self.weights.profiles;
        for c in 0..self.channel_count() {
            for z in zs.start.max(planes.start)..zs.end.min(planes.end) {
                for y in ys.clone() {
                    let (lz, ly) = (local(z, z0), local(y, y0));
                    let from = ((c * pz + lz) * py + ly) * px;
                    let at = ((c * planes.len() + z - planes.start) * ny + y) * nx + xs.start;
                    row(
                        at,
                        &patch.voxels[from + x.start..from + x.end],
                        wz[lz] * wy[ly],
                        &wx[x.clone()],
                    );
                }
            }
        }
    }

    /// The finished voxels of a band whose patches are all there: `(c, z, y, x)` of the result's dtype.
    pub(super) fn finish(&self, planes: &Range<usize>, sums: &[u8], out: &mut [u8]) {
        if self.window == Window::Crop {
            out.copy_from_slice(sums);
            return;
        }
        let [_, ny, nx] = self.grid.size();
        let sums: &[f64] = bytemuck::cast_slice(sums);
        with_voxel!(self.dtype, Out => {
            let out: &mut [Out] = bytemuck::cast_slice_mut(out);
            let planes_of_all = sums.par_chunks_exact(ny * nx).zip(out.par_chunks_exact_mut(ny * nx));
            planes_of_all.enumerate().for_each(|(i, (sums, out))| {
                let mut totals = vec![0.0; nx];
                let rows = sums.chunks_exact(nx).zip(out.chunks_exact_mut(nx)).enumerate();
                for (y, (sums, out)) in rows {
                    self.total_weights(planes.start + i % planes.len(), y, &mut totals);
                    for ((out, sum), total) in out.iter_mut().zip(sums).zip(&totals) {
                        *out = Out::from_f64_rounded(sum / total);
                    }
                }
            });
        });
    }

    /// Sums of all weights along one row of the volume.
    fn total_weights(&self, z: usize, y: usize, totals: &mut [f64]) {
        let [az, ay, ax] = &self.axes;
        if self.weights.floor == 0.0 {
            // The sum over a product grid is the product of the axes' sums.
            let outer = az.sums[z] * ay.sums[y];
            totals.iter_mut().zip(&ax.sums).for_each(|(total, inner)| *total = outer * inner);
            return;
        }
        // Lifted to a floor, the window is no product any more: the few patches over the row are walked.
        totals.fill(0.0);
        let [wz, wy, wx] = &self.weights.profiles;
        for pz in az.patches_at(z) {
            for py in ay.patches_at(y) {
                let outer = wz[(z as i64 - az.starts[pz]) as usize]
                    * wy[(y as i64 - ay.starts[py]) as usize];
                for (used, &start) in ax.used.iter().zip(&ax.starts) {
                    let profile = &wx[(used.start as i64 - start) as usize..];
                    for (total, inner) in totals[used.clone()].iter_mut().zip(profile) {
                        *total += self.weights.product(outer, *inner);
                    }
                }
            }
        }
    }
}

/// Writes voxels of one dtype as another: the same bits, or the nearest value.
fn assign<In: Voxel, Out: Voxel>(from: &[In], to: &mut [Out]) {
    if In::DTYPE == Out::DTYPE {
        bytemuck::cast_slice_mut::<Out, u8>(to).copy_from_slice(bytemuck::cast_slice(from));
    } else {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = Out::from_f64_rounded(from.to_f64()));
    }
}

/// `sums += voxels × max(outer × weights, floor)`.
fn accumulate<T: Voxel>(sums: &mut [f64], voxels: &[T], weights: &[f64], outer: f64, floor: f64) {
    for ((sum, voxel), weight) in sums.iter_mut().zip(voxels).zip(weights) {
        *sum += voxel.to_f64() * (outer * weight).max(floor);
    }
}
