//! Figures of chunks, and their union over a volume: statistics and label counts.
//!
//! # Invariants
//! - Chunks are merged in C order, so the figures do not depend on the number of threads, nor on the machine's registers.

use std::mem;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::format::array::ArrayLayout;
use crate::format::attributes::Statistics;
use crate::level::{Level, for_levels};
use crate::{Dtype, Region, Size3, Voxel, with_voxel};

/// Statistics of some voxels; merged pairwise (Chan, Golub and `LeVeque` 1979).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    finite: u64,
    non_finite: u64,
    extremes: Option<Extremes>,
    #[serde(with = "bits")]
    mean: f64,
    #[serde(with = "bits")]
    squares: f64,
}

/// A number as its bits: sums may overflow, and JSON knows no infinity.
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

impl Figures {
    pub(super) const NONE: Self =
        Self { finite: 0, non_finite: 0, extremes: None, mean: 0.0, squares: 0.0 };

    /// Figures of a chunk's voxels inside the volume.
    pub(super) fn of(voxels: &[u8], layout: &ArrayLayout, at: Size3) -> Self {
        let mut figures = Self::NONE;
        let inside = layout.chunk_region(at);
        with_voxel!(layout.dtype, T => {
            let voxels: &[T] = bytemuck::cast_slice(voxels);
            figure(Level::detect(), &mut figures, voxels, layout.chunk, inside);
        });
        figures
    }

    pub(super) fn merge(&mut self, other: &Self) {
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

    pub(super) fn statistics(&self) -> Statistics {
        let (min, max) = match self.extremes {
            Some(Extremes::Integer(min, max)) => (integer(min), integer(max)),
            Some(Extremes::Float(min, max)) => (Number::from_f64(min), Number::from_f64(max)),
            None => (None, None),
        };
        // Sums of float64 near its limits overflow; JSON knows no infinity.
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

/// The rows of `inside`, the first voxels of a box of extents `chunk`.
pub(in crate::store) fn rows<T: Voxel>(
    voxels: &[u8],
    chunk: Size3,
    inside: Region,
) -> impl Iterator<Item = &[T]> + Clone {
    let voxels: &[T] = bytemuck::cast_slice(voxels);
    let [nz, ny, nx] = inside.size;
    (0..nz).flat_map(move |z| (0..ny).map(move |y| &voxels[(z * chunk[1] + y) * chunk[2]..][..nx]))
}

/// A row of so many voxels is long enough.
const LONG_ROW: usize = 256;

for_levels! {
    /// Figures of the voxels of `inside`, the first of a box of extents `chunk`.
    figure<T: Voxel>(figures: &mut Figures, voxels: &[T], chunk: Size3, inside: Region), figure_loop
}

#[inline(always)]
fn figure_loop<T: Voxel>(figures: &mut Figures, voxels: &[T], chunk: Size3, inside: Region) {
    let ([cz, mut cy, mut cx], [nz, mut ny, mut nx]) = (chunk, inside.size);
    // Rows that lie together are taken as one: short ones cost more than their voxels.
    while nx == cx && cx < LONG_ROW && cy % 2 == 0 && ny % 2 == 0 {
        (cy, cx, ny, nx) = (cy / 2, 2 * cx, ny / 2, 2 * nx);
    }
    let inside = Region::new(inside.start, [nz, ny, nx]);
    *figures = figures_of(nx, rows::<T>(bytemuck::cast_slice(voxels), [cz, cy, cx], inside));
}

/// Figures of rows of at most `nx` voxels. Each column has sums and extremes of its own: a processor takes many at a time.
#[inline(always)]
fn figures_of<'a, T: Voxel>(nx: usize, rows: impl Iterator<Item = &'a [T]> + Clone) -> Figures {
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
    let Some([least, most]) = extremes else { return Figures { non_finite, ..Figures::NONE } };
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
    Figures { finite, non_finite, extremes: Some(extremes), mean, squares }
}

/// The finite voxels of a row, in `room` if they are not all; the others are counted.
#[inline(always)]
fn finite_of<'a, T: Voxel>(row: &'a [T], room: &'a mut Vec<T>, others: &mut u64) -> &'a [T] {
    let is_finite = |v: &T| v.to_f64().is_finite();
    if !T::DTYPE.is_float() || row.iter().fold(true, |all, v| all & is_finite(v)) {
        return row;
    }
    room.clear();
    room.extend(row.iter().copied().filter(is_finite));
    *others += (row.len() - room.len()) as u64;
    room
}

/// What each column has of the rows so far.
struct Columns<R> {
    now: Vec<R>,
    /// Results are written here in turn: in their own place, a store would be masked where nothing changes, which is slow.
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

/// An integer voxel as it is; labels cover all but the upper half of `uint64`, where the bits are the value.
fn wide<T: Voxel>(voxel: T) -> i128 {
    voxel.to_label().map_or_else(
        || i128::from(u64::from_le_bytes(bytemuck::bytes_of(&voxel).try_into().expect("a uint64"))),
        i128::from,
    )
}

/// Labels of the voxels of `inside`, the first of a box of `extents`, ascending and without 0, and how many voxels each has.
///
/// # Errors
/// A sentence about the first voxel that is no label.
pub(in crate::store) fn labels_in(
    voxels: &[u8],
    dtype: Dtype,
    extents: Size3,
    inside: Region,
) -> Result<Vec<(i64, u32)>, String> {
    with_voxel!(dtype, T => labels(rows::<T>(voxels, extents, inside))).map_err(|(value, row, x)| {
        let (z, y) = (row / inside.size[1], row % inside.size[1]);
        let place = [z as i64 + inside.start[0], y as i64 + inside.start[1], x as i64 + inside.start[2]];
        format!("voxel (z, y, x) = {place:?} is {value}: label maps hold integers, ingest it as an image")
    })
}

fn labels<'a, T: Voxel>(
    rows: impl Iterator<Item = &'a [T]>,
) -> Result<Vec<(i64, u32)>, (f64, usize, usize)> {
    let mut runs: Vec<(i64, u32)> = Vec::new();
    for (y, row) in rows.enumerate() {
        let mut x = 0;
        while x < row.len() {
            let value = row[x];
            let length = row[x..].iter().take_while(|&&v| v == value).count();
            // NaN equals nothing, itself included: its run is empty, and it is no label.
            let label = value.to_label().ok_or_else(|| (value.to_f64(), y, x))?;
            x += length;
            match runs.last_mut() {
                _ if label == 0 => {}
                Some((last, count)) if *last == label => *count += length as u32,
                _ => runs.push((label, length as u32)),
            }
        }
    }
    runs.sort_unstable_by_key(|run| run.0);
    runs.dedup_by(|next, first| {
        first.0 == next.0 && {
            first.1 += next.1;
            true
        }
    });
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_parts_are_figures_of_the_whole() {
        let values: Vec<f32> =
            (0..1000u32).map(|i| ((i * 7919) % 1000) as f32 / 3.0 - 100.0).collect();
        let mut merged = Figures::NONE;
        for part in values.chunks(77) {
            merged.merge(&figures_of(10, part.chunks(10)));
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
        let found = figures_of(2, [&[u64::MAX, 3][..]].into_iter()).statistics();
        assert_eq!((found.min, found.max), (Some(3.into()), Some(u64::MAX.into())));
        let found = figures_of(3, [&[f32::NAN, f32::INFINITY, 2.0][..]].into_iter()).statistics();
        assert_eq!((found.non_finite, found.mean, found.std), (2, Some(2.0), Some(0.0)));
        let found = figures_of(1, [&[f32::NAN][..]].into_iter()).statistics();
        assert_eq!((found.voxels, found.min, found.mean), (1, None, None));
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        fn check<T: Voxel>(value: impl Fn(usize) -> T) {
            let (chunk, inside) = ([3, 5, 40], Region::new([0; 3], [2, 5, 37]));
            let voxels: Vec<T> = (0..600).map(value).collect();
            let figures = |level| {
                let mut figures = Figures::NONE;
                figure(level, &mut figures, &voxels, chunk, inside);
                serde_json::to_string(&figures).unwrap()
            };
            let expected = figures(Level::Base);
            for level in Level::all() {
                assert_eq!(figures(level), expected, "{level:?} {}", T::DTYPE);
            }
        }
        check(|i| (i * 37 % 251) as f32 / 7.0 - 9.0);
        check(|i| if i % 11 == 0 { f32::NAN } else { i as f32 });
        check(|i| ((i * 37) as i16).wrapping_mul(991));
        check(|i| (i * 91) as u8);
        check(|i| i as f64 * 1e300);
    }

    #[test]
    fn labels_are_counted_and_fractions_placed() {
        let found = labels([&[3i16, 3, 0, -1][..], &[0, 3, 7, 7]].into_iter()).unwrap();
        assert_eq!(found, [(-1, 1), (3, 3), (7, 2)]);
        assert_eq!(labels([&[1.0f32, 0.5][..]].into_iter()).unwrap_err(), (0.5, 0, 1));
        assert_eq!(labels([&[0.0f32][..], &[f32::NAN]].into_iter()).unwrap_err().1, 1);
    }
}
