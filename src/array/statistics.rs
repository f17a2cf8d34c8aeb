//! Statistics of the voxels of chunks, and their merging over a volume.
//!
//! # Invariants
//! - Chunks are merged in an order that depends on the layout alone, so the result depends neither
//!   on the number of threads nor on the instruction set.

use std::mem;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::rows::rows;
use crate::format::array::ArrayLayout;
use crate::format::attributes::Statistics;
use crate::sys::isa::{Isa, for_isas};
use crate::{Dtype, Region, Size3, Voxel, with_voxel};

/// Statistics of some voxels; merged pairwise (Chan, Golub and `LeVeque` 1979).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RunningStatistics {
    finite: u64,
    non_finite: u64,
    extremes: Option<Extremes>,
    #[serde(with = "bits")]
    mean: f64,
    #[serde(with = "bits")]
    squares: f64,
}

/// Stores a number as its bits: sums may overflow, and JSON has no infinity.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // Serde's own signature.
    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Extremes {
    Integer(i128, i128),
    Float(f64, f64),
}

impl RunningStatistics {
    pub(crate) const NONE: Self =
        Self { finite: 0, non_finite: 0, extremes: None, mean: 0.0, squares: 0.0 };

    /// Statistics of a chunk's voxels, those beyond the array's edge excluded.
    pub(crate) fn of(voxels: &[u8], layout: &ArrayLayout, at: Size3) -> Self {
        let mut statistics = Self::NONE;
        let inside = layout.chunk_region(at);
        with_voxel!(layout.dtype, T => {
            let voxels: &[T] = bytemuck::cast_slice(voxels);
            measure(Isa::detect(), &mut statistics, voxels, layout.chunk, inside);
        });
        statistics
    }

    /// Statistics of the voxels of a box of extents `size`.
    pub(crate) fn of_box(voxels: &[u8], dtype: Dtype, size: Size3) -> Self {
        let mut statistics = Self::NONE;
        with_voxel!(dtype, T => {
            let voxels: &[T] = bytemuck::cast_slice(voxels);
            measure(Isa::detect(), &mut statistics, voxels, size, Region::whole(size));
        });
        statistics
    }

    /// The voxels that were counted; `None` if they are more than can be counted.
    pub(crate) fn voxels(&self) -> Option<u64> {
        self.finite.checked_add(self.non_finite)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.non_finite += other.non_finite;
        let Some(theirs) = other.extremes else { return };
        self.extremes = Some(match (self.extremes, theirs) {
            (Some(Extremes::Integer(a, b)), Extremes::Integer(c, d)) => {
                Extremes::Integer(a.min(c), b.max(d))
            }
            (Some(Extremes::Float(a, b)), Extremes::Float(c, d)) => {
                Extremes::Float(a.min(c), b.max(d))
            }
            _ => theirs,
        });
        let (n, m) = (self.finite as f64, other.finite as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * m / (n + m);
        self.squares += other.squares + delta * delta * n * m / (n + m);
        self.finite += other.finite;
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let (min, max) = match self.extremes {
            Some(Extremes::Integer(min, max)) => (integer(min), integer(max)),
            Some(Extremes::Float(min, max)) => (Number::from_f64(min), Number::from_f64(max)),
            None => (None, None),
        };
        // Sums of float64 near its limits overflow, and JSON has no infinity.
        let finite = |value: f64| (self.finite > 0 && value.is_finite()).then_some(value);
        Statistics {
            voxels: self.finite + self.non_finite,
            non_finite: self.non_finite,
            min,
            max,
            mean: finite(self.mean),
            std: finite((self.squares / self.finite as f64).sqrt()),
        }
    }
}

fn integer(value: i128) -> Option<Number> {
    u64::try_from(value).map(Number::from).or_else(|_| i64::try_from(value).map(Number::from)).ok()
}

/// Rows of this many voxels need not be joined.
const LONG_ROW: usize = 256;

for_isas! {
    /// Statistics of the voxels of `inside`, the first of a box of extents `chunk`.
    measure<T: Voxel>(
        statistics: &mut RunningStatistics, voxels: &[T], chunk: Size3, inside: Region
    ), measure_loop
}

#[inline(always)]
fn measure_loop<T: Voxel>(
    statistics: &mut RunningStatistics,
    voxels: &[T],
    chunk: Size3,
    inside: Region,
) {
    let ([cz, mut cy, mut cx], [nz, mut ny, mut nx]) = (chunk, inside.size);
    // Adjacent rows are joined: the overhead of a short row exceeds that of its voxels.
    while nx == cx && cx < LONG_ROW && cy % 2 == 0 && ny % 2 == 0 {
        (cy, cx, ny, nx) = (cy / 2, 2 * cx, ny / 2, 2 * nx);
    }
    let inside = Region::new(inside.start, [nz, ny, nx]);
    *statistics = statistics_of(nx, rows::<T>(bytemuck::cast_slice(voxels), [cz, cy, cx], inside));
}

/// Statistics of rows of at most `nx` voxels. Each column has its own sums and extremes, so that
/// the compiler can vectorise along the row.
#[inline(always)]
fn statistics_of<'a, T: Voxel>(
    nx: usize,
    rows: impl Iterator<Item = &'a [T]> + Clone,
) -> RunningStatistics {
    let (mut finite, mut non_finite, mut sums) = (0, 0, Columns::new(nx, 0.0f64));
    let mut extremes: Option<[Columns<T>; 2]> = None;
    let mut finite_row = Vec::new();
    for row in rows.clone() {
        let row = finite_of(row, &mut finite_row, &mut non_finite);
        let Some(&first) = row.first() else { continue };
        finite += row.len() as u64;
        sums.take(row, |sum, v| sum + v.to_f64());
        let [least, most] = extremes.get_or_insert_with(|| [0, 1].map(|_| Columns::new(nx, first)));
        least.take(row, |least, v| if v < least { v } else { least });
        most.take(row, |most, v| if v > most { v } else { most });
    }
    let Some([least, most]) = extremes else {
        return RunningStatistics { non_finite, ..RunningStatistics::NONE };
    };
    let min = least.now.iter().fold(least.now[0], |a, &b| if b < a { b } else { a });
    let max = most.now.iter().fold(most.now[0], |a, &b| if b > a { b } else { a });
    let mean = sums.now.iter().sum::<f64>() / finite as f64;
    let mut squares = Columns::new(nx, 0.0f64);
    for row in rows {
        let row = if non_finite == 0 { row } else { finite_of(row, &mut finite_row, &mut 0) };
        squares.take(row, |sum, v| sum + (v.to_f64() - mean) * (v.to_f64() - mean));
    }
    let squares = squares.now.iter().sum();
    let extremes = if T::DTYPE.is_float() {
        Extremes::Float(min.to_f64(), max.to_f64())
    } else {
        Extremes::Integer(wide(min), wide(max))
    };
    RunningStatistics { finite, non_finite, extremes: Some(extremes), mean, squares }
}

/// The finite voxels of a row, copied into `buffer` if some are not; the others are counted.
#[inline(always)]
fn finite_of<'a, T: Voxel>(row: &'a [T], buffer: &'a mut Vec<T>, others: &mut u64) -> &'a [T] {
    let is_finite = |v: &T| v.to_f64().is_finite();
    if !T::DTYPE.is_float() || row.iter().fold(true, |all, v| all & is_finite(v)) {
        return row;
    }
    buffer.clear();
    buffer.extend(row.iter().copied().filter(is_finite));
    *others += (row.len() - buffer.len()) as u64;
    buffer
}

/// One value for each column, over the rows so far.
struct Columns<R> {
    now: Vec<R>,
    /// The next values. Updating in place would compile to masked stores, which are slow.
    next: Vec<R>,
}

impl<R: Copy> Columns<R> {
    fn new(nx: usize, first: R) -> Self {
        Self { now: vec![first; nx], next: vec![first; nx] }
    }

    #[inline(always)]
    fn take<T: Copy>(&mut self, row: &[T], take: impl Fn(R, T) -> R) {
        for ((next, &now), &voxel) in self.next.iter_mut().zip(&self.now).zip(row) {
            *next = take(now, voxel);
        }
        let missing = row.len().min(self.now.len())..;
        self.next[missing.clone()].copy_from_slice(&self.now[missing]);
        mem::swap(&mut self.now, &mut self.next);
    }
}

/// The value of an integer voxel. `to_label` covers all but the upper half of `uint64`, whose bits
/// are the value.
fn wide<T: Voxel>(voxel: T) -> i128 {
    voxel.to_label().map_or_else(
        || i128::from(u64::from_le_bytes(bytemuck::bytes_of(&voxel).try_into().expect("a uint64"))),
        i128::from,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_parts_merge_to_those_of_the_whole() {
        let values: Vec<f32> =
            (0..1000u32).map(|i| ((i * 7919) % 1000) as f32 / 3.0 - 100.0).collect();
        let mut merged = RunningStatistics::NONE;
        for part in values.chunks(77) {
            merged.merge(&statistics_of(10, part.chunks(10)));
        }
        let (n, mean) = (1000.0, values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1000.0);
        let std = (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
        let found = merged.statistics();
        assert!(
            (found.mean.unwrap() - mean).abs() < 1e-9 && (found.std.unwrap() - std).abs() < 1e-9
        );
        assert_eq!((found.voxels, found.min.unwrap().as_f64()), (1000, Some(-100.0)));
    }

    #[test]
    fn extremes_are_exact_and_non_finite_voxels_apart() {
        let found = statistics_of(2, [&[u64::MAX, 3][..]].into_iter()).statistics();
        assert_eq!((found.min, found.max), (Some(3.into()), Some(u64::MAX.into())));
        let found =
            statistics_of(3, [&[f32::NAN, f32::INFINITY, 2.0][..]].into_iter()).statistics();
        assert_eq!((found.non_finite, found.mean, found.std), (2, Some(2.0), Some(0.0)));
        let found = statistics_of(1, [&[f32::NAN][..]].into_iter()).statistics();
        assert_eq!((found.voxels, found.min, found.mean), (1, None, None));
    }

    #[test]
    fn every_isa_gives_the_same_bits() {
        fn check<T: Voxel>(value: impl Fn(usize) -> T) {
            let (chunk, inside) = ([3, 5, 40], Region::new([0; 3], [2, 5, 37]));
            let voxels: Vec<T> = (0..600).map(value).collect();
            let bits = |isa| {
                let mut statistics = RunningStatistics::NONE;
                measure(isa, &mut statistics, &voxels, chunk, inside);
                serde_json::to_string(&statistics).unwrap()
            };
            let expected = bits(Isa::Base);
            for isa in Isa::all() {
                assert_eq!(bits(isa), expected, "{isa:?} {}", T::DTYPE);
            }
        }
        check(|i| (i * 37 % 251) as f32 / 7.0 - 9.0);
        check(|i| if i % 11 == 0 { f32::NAN } else { i as f32 });
        check(|i| ((i * 37) as i16).wrapping_mul(991));
        check(|i| (i * 91) as u8);
        check(|i| i as f64 * 1e300);
    }
}
