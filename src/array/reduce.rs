//! Makes one voxel of a coarser level of the up to eight that it covers (§8): the mean of images,
//! the mode of label maps.
//!
//! # Invariants
//! - The same bits on every machine: sums are exact or added in C order, and rounded once.

use half::f16;

use crate::{Size3, Voxel};

/// What a voxel becomes of those that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Mean,
    Mode,
}

/// The most voxels that become one.
const MOST: usize = 8;

/// Reduces a box of `size` by `step`, 1 or 2 along each axis, into `out`, whose extents are rounded
/// up.
pub(crate) fn reduce<T: Averaged>(
    voxels: &[T],
    size: Size3,
    step: Size3,
    reduction: Reduction,
    out: &mut [T],
) {
    debug_assert!(step.iter().all(|n| (1..=2).contains(n)));
    let [_, ny, nx] = [0, 1, 2].map(|a| size[a].div_ceil(step[a]));
    for (number, row) in out.chunks_exact_mut(nx).enumerate() {
        let first = [number / ny * step[0], number % ny * step[1]];
        let last = [0, 1].map(|a| (first[a] + step[a]).min(size[a]));
        let mut rows: [&[T]; MOST / 2] = [&[]; MOST / 2];
        let mut count = 0;
        for z in first[0]..last[0] {
            for y in first[1]..last[1] {
                rows[count] = &voxels[(z * size[1] + y) * size[2]..][..size[2]];
                count += 1;
            }
        }
        for (x, voxel) in row.iter_mut().enumerate() {
            let (begin, end) = (x * step[2], ((x + 1) * step[2]).min(size[2]));
            let (mut taps, mut n) = ([T::default(); MOST], 0);
            for row in &rows[..count] {
                for &tap in &row[begin..end] {
                    taps[n] = tap;
                    n += 1;
                }
            }
            *voxel = match reduction {
                Reduction::Mean => T::mean(&taps[..n]),
                Reduction::Mode => mode(&taps[..n]),
            };
        }
    }
}

/// The most frequent of some labels; of several the least, but 0 last.
fn mode<T: Voxel>(labels: &[T]) -> T {
    let first = labels[0];
    if labels.iter().all(|&label| label == first) {
        // Of floats, −0 is 0.
        return if first == T::default() { T::default() } else { first };
    }
    let id = |label: T| label.to_label().unwrap_or(0);
    let better = |label: T, count: usize, best: T, most: usize| {
        let rank = |label: T| (id(label) != 0, std::cmp::Reverse(id(label)));
        count > most || (count == most && rank(label) > rank(best))
    };
    let (mut best, mut most) = (first, 0);
    for &label in labels {
        let count = labels.iter().filter(|&&other| other == label).count();
        if better(label, count, best, most) {
            (best, most) = (label, count);
        }
    }
    if best == T::default() { T::default() } else { best }
}

/// A voxel that has a mean.
pub(crate) trait Averaged: Voxel {
    /// The mean of 1, 2, 4 or 8 voxels.
    fn mean(voxels: &[Self]) -> Self;
}

macro_rules! integer_mean {
    ($sum:ty: $($t:ty),*) => {$(
        impl Averaged for $t {
            fn mean(voxels: &[Self]) -> Self {
                let sum: $sum = voxels.iter().map(|&voxel| <$sum>::from(voxel)).sum();
                let count = voxels.len() as $sum;
                let (down, rest) = (sum.div_euclid(count), sum.rem_euclid(count));
                let is_up = 2 * rest > count || (2 * rest == count && down % 2 != 0);
                // Between the least and the greatest voxel.
                (down + <$sum>::from(is_up)) as Self
            }
        }
    )*};
}
integer_mean!(i32: u8, i8, u16, i16);
integer_mean!(i64: u32, i32);
integer_mean!(i128: u64, i64);

macro_rules! float_mean {
    ($($t:ty => $round:expr),*) => {$(
        impl Averaged for $t {
            fn mean(voxels: &[Self]) -> Self {
                let (mut sum, mut count) = (0.0, 0.0);
                for voxel in voxels.iter().map(|voxel| voxel.to_f64()).filter(|v| !v.is_nan()) {
                    sum += voxel;
                    count += 1.0;
                }
                $round(if count == 0.0 { f64::NAN } else { sum / count })
            }
        }
    )*};
}
float_mean!(f16 => rounded_to_half, f32 => |mean| mean as f32, f64 => |mean| mean);

/// The nearest half, halves to even. Processors convert by way of f32, which would round twice:
/// here the way there rounds to odd, which loses no tie.
fn rounded_to_half(value: f64) -> f16 {
    let nearest = value as f32;
    let mut bits = nearest.to_bits();
    if f64::from(nearest).abs() > value.abs() {
        bits -= 1;
    }
    if !value.is_nan() && f64::from(f32::from_bits(bits)) != value {
        bits |= 1;
    }
    f16::from_f32(f32::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_of_integers_round_to_the_nearest_and_ties_to_even() {
        assert_eq!([0u8, 1].map(|n| u8::mean(&[n, n + 1])), [0, 2]);
        assert_eq!(i8::mean(&[-1, -2]), -2);
        assert_eq!(i8::mean(&[-1, 0]), 0);
        assert_eq!(i16::mean(&[-3, -3, -3, -2]), -3);
        assert_eq!(u64::mean(&[u64::MAX; 8]), u64::MAX);
        assert_eq!(u64::mean(&[u64::MAX, u64::MAX - 1]), u64::MAX - 1);
        assert_eq!(i64::mean(&[i64::MIN, i64::MIN, i64::MIN, i64::MIN + 3]), i64::MIN + 1);
        assert_eq!(i64::mean(&[i64::MIN, i64::MAX]), 0);
    }

    #[test]
    fn means_of_floats_leave_nan_out() {
        assert_eq!(f32::mean(&[f32::NAN, 1.0, 2.0, f32::NAN]), 1.5);
        assert!(f64::mean(&[f64::NAN; 8]).is_nan());
        assert_eq!(f64::mean(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(f64::mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(f64::mean(&[-0.0, -0.0]).to_bits(), 0);
        assert_eq!(f16::mean(&[f16::MAX; 8]), f16::MAX);
    }

    /// A tie of halves that f32 hides: 2048 + 1 is a tie, and a little less is below it.
    #[test]
    fn halves_are_rounded_once() {
        let tie = 2049.0;
        assert_eq!(rounded_to_half(tie).to_f64(), 2048.0);
        assert_eq!(rounded_to_half(tie + 1e-9).to_f64(), 2050.0);
        assert_eq!(rounded_to_half(2051.0 - 1e-9).to_f64(), 2050.0);
        assert_eq!(rounded_to_half(-(tie + 1e-9)).to_f64(), -2050.0);
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let again = rounded_to_half(half.to_f64());
            assert!(again == half || (half.is_nan() && again.is_nan()), "{half}");
        }
    }

    #[test]
    fn the_mode_is_the_most_frequent_and_never_a_tied_background() {
        assert_eq!(mode(&[0u8, 0, 0, 7]), 0);
        assert_eq!(mode(&[0u8, 0, 7, 7]), 7);
        assert_eq!(mode(&[0i32, 0, 7, 7, -3, -3]), -3);
        assert_eq!(mode(&[9i64, i64::MIN, i64::MAX, 0]), i64::MIN);
        assert_eq!(mode(&[(1u64 << 63) - 1, (1 << 63) - 2]), (1 << 63) - 2);
        assert_eq!(mode(&[-0.0f32, -0.0]).to_bits(), 0);
        assert_eq!(mode(&[5.0f32, 0.0, -0.0, -0.0]).to_bits(), 0);
    }

    #[test]
    fn odd_extents_end_with_fewer_voxels() {
        // (2, 3, 3), reduced to (2, 2, 2).
        let voxels: Vec<i16> = (0..18).collect();
        let mut out = [0; 8];
        reduce(&voxels, [2, 3, 3], [1, 2, 2], Reduction::Mean, &mut out);
        assert_eq!(out, [2, 4, 6, 8, 11, 12, 16, 17]);
    }
}
