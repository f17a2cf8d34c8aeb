//! Weights of voxels, and their sums.
//!
//! # Invariants
//! - A sum has an order that never changes: each row of x from its first voxel on, then the rows of
//!   the box in C order.
//! - Sums are finite and not negative.

use super::rows::{InvalidVoxel, rows};
use crate::{Dtype, Region, Result, Size3, Voxel, with_voxel};

/// Turns stored voxels into weights: stored value × slope + intercept, in `f64`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightFunction {
    dtype: Dtype,
    slope: f64,
    intercept: f64,
}

impl WeightFunction {
    pub(crate) fn new(dtype: Dtype, (slope, intercept): (f64, f64)) -> Self {
        Self { dtype, slope, intercept }
    }

    fn weight<T: Voxel>(&self, voxel: T) -> f64 {
        voxel.to_f64() * self.slope + self.intercept
    }

    fn row<T: Voxel>(&self, row: &[T]) -> f64 {
        row.iter().fold(0.0, |sum, &voxel| sum + self.weight(voxel))
    }

    /// The sum over `inside`, the first voxels of a box of `extents`.
    ///
    /// # Errors
    /// The first voxel, in C order, that is negative or not finite.
    pub(crate) fn sum(
        &self,
        voxels: &[u8],
        extents: Size3,
        inside: Region,
    ) -> Result<f64, InvalidVoxel> {
        with_voxel!(self.dtype, T => {
            let mut sum = 0.0;
            for (y, row) in rows::<T>(voxels, extents, inside).enumerate() {
                // NaN compares false, so it is refused too.
                let is_good = |&voxel: &T| (0.0..f64::INFINITY).contains(&self.weight(voxel));
                if !row.iter().fold(true, |good, voxel| good & is_good(voxel)) {
                    let x = row.iter().position(|voxel| !is_good(voxel)).unwrap_or(0);
                    let index = [y / inside.size[1], y % inside.size[1], x];
                    return Err(InvalidVoxel {
                        index,
                        value: self.weight(row[x]).to_string(),
                        rule: "weights are finite and not negative",
                    });
                }
                sum += self.row(row);
            }
            Ok(sum)
        })
    }

    /// The weight of each voxel.
    pub(crate) fn weights(&self, voxels: &[u8]) -> Vec<f64> {
        with_voxel!(self.dtype, T => {
            bytemuck::cast_slice::<_, T>(voxels).iter().map(|&voxel| self.weight(voxel)).collect()
        })
    }

    /// The index `(z, y, x)` in a box of `size` at which the running sum passes `r`, which is
    /// smaller than the sum over the box.
    ///
    /// Finds the row first, then the voxel in it. If rounding leaves none, returns the last voxel
    /// of positive weight.
    pub(crate) fn pick(&self, voxels: &[u8], size: Size3, r: f64) -> Size3 {
        with_voxel!(self.dtype, T => {
            let voxels: &[T] = bytemuck::cast_slice(voxels);
            let (mut before, mut chosen) = (0.0, (0, 0.0));
            for (number, row) in voxels.chunks_exact(size[2]).enumerate() {
                let sum = self.row(row);
                if sum > 0.0 {
                    chosen = (number, before);
                }
                before += sum;
                if before > r {
                    break;
                }
            }
            let (number, before) = chosen;
            let (mut sum, mut last) = (0.0, 0);
            for (x, &voxel) in voxels[number * size[2]..][..size[2]].iter().enumerate() {
                let weight = self.weight(voxel);
                if weight > 0.0 {
                    last = x;
                }
                sum += weight;
                if sum > r - before {
                    break;
                }
            }
            [number / size[1], number % size[1], last]
        })
    }
}
