//! Separable filters of a channel `(z, y, x)`: Gaussian blur, and the detour by a coarser image.

use super::math::exp;
use crate::Size3;

/// A Gaussian filter reaches so many standard deviations, rounded to voxels.
const TRUNCATE: f64 = 3.0;

/// Blurs by a Gaussian of `sigma` voxels along each axis, mirrored about the border voxels.
/// `copy` holds values meanwhile, and grows.
pub(super) fn blur(values: &mut [f32], size: Size3, sigma: [f64; 3], copy: &mut Vec<f32>) {
    for axis in 0..3 {
        let weights = gaussian(sigma[axis]);
        if weights.len() > 1 {
            copy.clear();
            copy.extend_from_slice(values);
            convolve(copy, values, size, axis, &weights);
        }
    }
}

/// The weights of a Gaussian; their sum is 1.
fn gaussian(sigma: f64) -> Vec<f32> {
    let radius = (TRUNCATE * sigma + 0.5) as i32;
    let weight = |i: i32| exp(-0.5 * (f64::from(i) / sigma).powi(2));
    if radius == 0 {
        return vec![1.0];
    }
    let weights: Vec<f64> = (-radius..=radius).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| (w / sum) as f32).collect()
}

/// The voxel that stands for voxel `i` of an axis of `n`, mirrored about the border voxels.
fn mirrored(i: i64, n: usize) -> usize {
    let period = 2 * (n as i64 - 1);
    if period == 0 {
        return 0;
    }
    let i = i.rem_euclid(period);
    i.min(period - i) as usize
}

/// Sums neighbours along an axis by their weights.
fn convolve(from: &[f32], to: &mut [f32], size: Size3, axis: usize, weights: &[f32]) {
    let n = size[axis];
    let radius = (weights.len() / 2) as i64;
    let inner: usize = size[axis + 1..].iter().product();
    if inner == 1 {
        let mut row = vec![0f32; n + weights.len() - 1];
        for (from, to) in from.chunks_exact(n).zip(to.chunks_exact_mut(n)) {
            for (i, value) in row.iter_mut().enumerate() {
                *value = from[mirrored(i as i64 - radius, n)];
            }
            to.fill(0.0);
            for (k, &weight) in weights.iter().enumerate() {
                to.iter_mut().zip(&row[k..]).for_each(|(to, from)| *to += weight * from);
            }
        }
        return;
    }
    let slabs = from.chunks_exact(n * inner).zip(to.chunks_exact_mut(n * inner));
    for (from, to) in slabs {
        for (i, to) in to.chunks_exact_mut(inner).enumerate() {
            to.fill(0.0);
            for (k, &weight) in weights.iter().enumerate() {
                let at = mirrored(i as i64 + k as i64 - radius, n) * inner;
                let from = &from[at..at + inner];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
            }
        }
    }
}

/// Keeps every axis' nearest voxels of a grid that is `zoom` as fine, and interpolates between them
/// linearly; edges are continued. `copy` holds values meanwhile, and grows.
pub(super) fn coarsen(values: &mut [f32], size: Size3, zoom: f64, copy: &mut Vec<f32>) {
    for axis in 0..3 {
        let n = size[axis];
        let coarse = ((n as f64 * zoom).round() as usize).max(1);
        if coarse == n {
            continue;
        }
        copy.clear();
        copy.extend_from_slice(values);
        let taps: Vec<Tap> = (0..n).map(|i| Tap::new(i, n, coarse)).collect();
        interpolate(copy, values, size, axis, &taps);
    }
}

/// The two voxels that a voxel is interpolated between, and the way from the first to the second.
#[derive(Clone, Copy)]
struct Tap(usize, usize, f32);

impl Tap {
    /// Voxel `i` of an axis of `n`, by way of `coarse` voxels.
    fn new(i: usize, n: usize, coarse: usize) -> Self {
        let at =
            ((i as f64 + 0.5) * coarse as f64 / n as f64 - 0.5).clamp(0.0, coarse as f64 - 1.0);
        let low = at.floor() as usize;
        let high = (low + 1).min(coarse - 1);
        // The middle of a coarse voxel lies in this one.
        let nearest = |k: usize| ((2 * k + 1) * n / (2 * coarse)).min(n - 1);
        Self(nearest(low), nearest(high), (at - low as f64) as f32)
    }
}

fn interpolate(from: &[f32], to: &mut [f32], size: Size3, axis: usize, taps: &[Tap]) {
    let inner: usize = size[axis + 1..].iter().product();
    let length = size[axis] * inner;
    for (from, to) in from.chunks_exact(length).zip(to.chunks_exact_mut(length)) {
        for (to, &Tap(low, high, way)) in to.chunks_exact_mut(inner).zip(taps) {
            let (low, high) = (&from[low * inner..][..inner], &from[high * inner..][..inner]);
            for (to, (&a, &b)) in to.iter_mut().zip(low.iter().zip(high)) {
                *to = a + way * (b - a);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition, voxel by voxel, in double precision.
    #[test]
    fn blur_is_the_gaussian_of_its_definition() {
        let size = [5, 7, 6];
        let value = |z: usize, y: usize, x: usize| ((z * 31 + y * 17 + x * 7) % 23) as f64;
        let sigma = [0.9, 0.0, 1.4];
        let mut values: Vec<f32> = crate::format::grid::iter_box(size.map(|n| 0..n))
            .map(|[z, y, x]| value(z, y, x) as f32)
            .collect();
        blur(&mut values, size, sigma, &mut Vec::new());
        let kernel = |sigma: f64, radius: i64| -> Vec<(i64, f64)> {
            let w = |i: i64| (-(i * i) as f64 / (2.0 * sigma * sigma)).exp();
            let sum: f64 = (-radius..=radius).map(w).sum();
            (-radius..=radius).map(|i| (i, w(i) / sum)).collect()
        };
        let (along_z, along_x) = (kernel(0.9, 3), kernel(1.4, 4));
        for (n, at) in crate::format::grid::iter_box(size.map(|n| 0..n)).enumerate() {
            let mut sum = 0.0;
            for &(dz, wz) in &along_z {
                for &(dx, wx) in &along_x {
                    let z = mirrored(at[0] as i64 + dz, size[0]);
                    sum += wz * wx * value(z, at[1], mirrored(at[2] as i64 + dx, size[2]));
                }
            }
            assert!((f64::from(values[n]) - sum).abs() < 1e-5, "{at:?}");
        }
        assert_eq!([-2, -1, 0, 3, 4, 5, 9].map(|i| mirrored(i, 4)), [2, 1, 0, 3, 2, 1, 3]);
        assert_eq!(mirrored(-3, 1), 0);
    }

    /// Half of the voxels of a row: those of nearest middles, and the means of two.
    #[test]
    fn a_coarser_image_keeps_some_voxels_and_interpolates() {
        let mut row = [0f32, 10.0, 20.0, 30.0];
        coarsen(&mut row, [1, 1, 4], 0.5, &mut Vec::new());
        // Voxels 1 and 3 are kept; they stand at 0.5 and 2.5.
        assert_eq!(row, [10.0, 15.0, 25.0, 30.0]);
        let mut column = [0f32, 10.0, 20.0, 30.0];
        coarsen(&mut column, [4, 1, 1], 0.5, &mut Vec::new());
        assert_eq!(column, row);
        let mut one = [7f32, 8.0];
        coarsen(&mut one, [1, 2, 1], 0.01, &mut Vec::new());
        assert_eq!(one, [8.0, 8.0]);
    }
}
