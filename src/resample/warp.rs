//! Where each voxel of a patch lies in its volume: an affine map and a displacement grid.
//!
//! # Invariants
//! - All numbers are finite and within stated bounds, so that no index of a tap overflows.

use std::ops::Range;

use crate::{Error, Result, Size3};

/// The farthest displacement of a knot, in voxels.
const DISPLACEMENT_VOXELS: f64 = 65_536.0;

/// The farthest index that a voxel of a patch may be mapped to: fixed-point indices of 2⁻²³ voxel
/// are computed exactly up to it.
const FARTHEST_INDEX: f64 = (1u64 << 27) as f64;

/// The determinant that a matrix must have, relative to the lengths of its columns; an
/// [`crate::Affine`] has the same limit.
const LEAST_DETERMINANT: f64 = 1e-6;

/// How values between voxels are computed.
///
/// ```
/// use voxquarry::Order;
///
/// assert_eq!(Order::from_number(3), Some(Order::Cubic));
/// assert_eq!(Order::from_number(2), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The value of the nearest voxel; the only order for labels.
    Nearest,
    /// Trilinear, between 8 voxels.
    Linear,
    /// Cubic convolution between 64 voxels (Keys 1981, a = −½, also called Catmull-Rom).
    Cubic,
}

impl Order {
    /// The order of that number: 0, 1 or 3.
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Nearest),
            1 => Some(Self::Linear),
            3 => Some(Self::Cubic),
            _ => None,
        }
    }

    /// 0, 1 or 3.
    pub const fn number(self) -> u8 {
        match self {
            Self::Nearest => 0,
            Self::Linear => 1,
            Self::Cubic => 3,
        }
    }
}

/// Displacements of the voxels of a patch, given at the knots of a coarse grid.
///
/// Along an axis of `size` voxels, knot `k` of `n` lies at output index `k · size / (n − 1)`, so
/// that 7 knots over 96 voxels are 16 voxels apart; one knot counts for the whole axis. Between
/// knots the displacement is trilinear.
#[derive(Clone, Debug, PartialEq)]
pub struct Displacement {
    knots: Size3,
    values: Vec<[f64; 3]>,
}

impl Displacement {
    /// A grid of `knots` along `(z, y, x)`; `values` has one displacement `(z, y, x)` for each
    /// knot, in voxels of the volume, in C order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the numbers of knots and values differ, if there is none, or
    /// if a value is not finite or farther than 65 536 voxels.
    pub fn new(knots: Size3, values: Vec<[f64; 3]>) -> Result<Self> {
        let count = knots.iter().try_fold(1usize, |n, &k| n.checked_mul(k));
        if values.is_empty() || count != Some(values.len()) {
            let found = format!("{} values for {knots:?} knots", values.len());
            return Err(Error::invalid("displacement", found, "one value for each knot"));
        }
        let is_near = |v: &f64| v.abs() <= DISPLACEMENT_VOXELS;
        if let Some(far) = values.iter().flatten().find(|&v| !is_near(v)) {
            let expected = format!("finite numbers of at most {DISPLACEMENT_VOXELS} voxels");
            return Err(Error::invalid("displacement", far, expected));
        }
        Ok(Self { knots, values })
    }

    /// The number of knots along `(z, y, x)`.
    pub fn knots(&self) -> Size3 {
        self.knots
    }

    /// The displacements of all knots, in C order.
    pub(crate) fn values(&self) -> &[[f64; 3]] {
        &self.values
    }

    /// The displacement of a knot.
    pub(super) fn at(&self, [z, y, x]: Size3) -> [f64; 3] {
        self.values[(z * self.knots[1] + y) * self.knots[2] + x]
    }

    /// The knot at or before output index `i` of an axis of `size` voxels, the next one, and the
    /// way from one to the other, from 0 to 1.
    pub(super) fn place(&self, axis: usize, i: usize, size: usize) -> (usize, usize, f64) {
        let intervals = self.knots[axis] - 1;
        if intervals == 0 {
            return (0, 0, 0.0);
        }
        let k = i * intervals / size;
        (k, k + 1, (i * intervals - k * size) as f64 / size as f64)
    }

    /// The displacements of the corners of the part from voxel `first` to `last` of a patch of
    /// `size`, `[z][y][x]`; `None` if it is not between neighbouring knots.
    pub(super) fn corners(
        &self,
        first: Size3,
        last: Size3,
        size: Size3,
    ) -> Option<[[[[f64; 3]; 2]; 2]; 2]> {
        let mut ways = [[0.0; 2]; 3];
        let mut knots = [[0; 2]; 3];
        for a in 0..3 {
            let (begin, end) = (self.place(a, first[a], size[a]), self.place(a, last[a], size[a]));
            if begin.0 != end.0 {
                return None;
            }
            knots[a] = [begin.0, begin.1];
            ways[a] = [begin.2, end.2];
        }
        let mut corners = [[[[0.0; 3]; 2]; 2]; 2];
        let [z, y, x] = knots;
        let row = |z, y, way| lerp(self.at([z, y, x[0]]), self.at([z, y, x[1]]), way);
        for (e, &way) in ways[2].iter().enumerate() {
            let rows = z.map(|z| y.map(|y| row(z, y, way)));
            for (f, &way) in ways[1].iter().enumerate() {
                let planes = rows.map(|rows| lerp(rows[0], rows[1], way));
                for (g, &way) in ways[0].iter().enumerate() {
                    corners[g][f][e] = lerp(planes[0], planes[1], way);
                }
            }
        }
        Some(corners)
    }

    /// The first voxel behind a knot of an axis of `size` voxels, near the middle of `part`; `None`
    /// if the part is not divided by a knot.
    pub(super) fn division(&self, axis: usize, part: &Range<usize>, size: usize) -> Option<usize> {
        let intervals = self.knots[axis] - 1;
        let (begin, end) =
            (self.place(axis, part.start, size).0, self.place(axis, part.end - 1, size).0);
        (begin < end).then(|| ((begin + end).div_ceil(2) * size).div_ceil(intervals))
    }

    /// The least and the greatest displacement along each axis of the knots that voxels from
    /// `first` to `last` lie between.
    pub(super) fn bounds(&self, first: Size3, last: Size3, size: Size3) -> [(f64, f64); 3] {
        let knots = [0, 1, 2]
            .map(|a| self.place(a, first[a], size[a]).0..self.place(a, last[a], size[a]).1 + 1);
        let mut bounds = [(f64::INFINITY, f64::NEG_INFINITY); 3];
        for at in crate::format::grid::iter_box(knots) {
            for (bound, value) in bounds.iter_mut().zip(self.at(at)) {
                *bound = (bound.0.min(value), bound.1.max(value));
            }
        }
        bounds
    }

    /// The greatest change of a displacement from one voxel to the next along x, in a patch of
    /// `size`.
    fn steepest(&self, size: Size3) -> f64 {
        let intervals = self.knots[2] - 1;
        let rows = self.values.chunks_exact(self.knots[2]);
        let changes = rows.flat_map(|row| {
            row.windows(2).flat_map(|pair| [0, 1, 2].map(|a| (pair[1][a] - pair[0][a]).abs()))
        });
        changes.fold(0.0, f64::max) * intervals as f64 / size[2] as f64
    }
}

#[inline(always)]
fn lerp(a: [f64; 3], b: [f64; 3], t: f64) -> [f64; 3] {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

/// Where the voxels of a patch lie in the volume that it is resampled from.
///
/// The matrix maps `(z, y, x, 1)`, the index of a voxel of the patch, to the index `(z, y, x)` in
/// the volume; both count from the centre of the first voxel. A displacement is added to it.
///
/// # Examples
/// ```
/// use voxquarry::Warp;
///
/// // A patch that begins at voxel (10, 20, 30), of half the resolution along x.
/// let warp = Warp::new([[1., 0., 0., 10.], [0., 1., 0., 20.], [0., 0., 2., 30.]])?;
/// assert_eq!(warp.apply([1.0, 1.0, 1.0]), [11.0, 21.0, 32.0]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Warp {
    matrix: [[f64; 4]; 3],
    displacement: Option<Displacement>,
}

impl Warp {
    /// An affine map.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a number is not finite or the matrix is singular.
    pub fn new(matrix: [[f64; 4]; 3]) -> Result<Self> {
        let refused = |expected: &str| Error::invalid("matrix", format!("{matrix:?}"), expected);
        if matrix.iter().flatten().any(|v| !v.is_finite()) {
            return Err(refused("finite numbers"));
        }
        let m = &matrix;
        let minor = |r: usize, s: usize| m[1][r] * m[2][s] - m[1][s] * m[2][r];
        let determinant = m[0][0] * minor(1, 2) - m[0][1] * minor(0, 2) + m[0][2] * minor(0, 1);
        let length = |column: usize| (0..3).map(|a| m[a][column].powi(2)).sum::<f64>().sqrt();
        let volume = length(0) * length(1) * length(2);
        if !volume.is_finite()
            || (determinant / volume).abs().partial_cmp(&LEAST_DETERMINANT)
                != Some(std::cmp::Ordering::Greater)
        {
            return Err(refused("a matrix whose three columns span space, it is singular"));
        }
        Ok(Self { matrix, displacement: None })
    }

    /// The same map with a displacement, which is added to its indices.
    #[must_use]
    pub fn displaced(mut self, displacement: Displacement) -> Self {
        self.displacement = Some(displacement);
        self
    }

    /// The matrix.
    pub fn matrix(&self) -> &[[f64; 4]; 3] {
        &self.matrix
    }

    /// The displacement, if there is one.
    pub fn displacement(&self) -> Option<&Displacement> {
        self.displacement.as_ref()
    }

    /// The index in the volume that the matrix alone maps an index of the patch to.
    pub fn apply(&self, [z, y, x]: [f64; 3]) -> [f64; 3] {
        let [a, b, c] = &self.matrix;
        let at = |row: &[f64; 4]| row[3] + row[0] * z + row[1] * y + row[2] * x;
        [at(a), at(b), at(c)]
    }

    /// The greatest distance along any axis of the volume from one voxel of a row of a patch of
    /// `size` to the next.
    pub(super) fn greatest_step(&self, size: Size3) -> f64 {
        let step = self.matrix.iter().map(|row| row[2].abs()).fold(0.0, f64::max);
        step + self.displacement.as_ref().map_or(0.0, |d| d.steepest(size))
    }

    /// Whether all indices along an axis of the volume are computed without rounding.
    pub(super) fn is_exact(&self, axis: usize) -> bool {
        let is_exact = |v: &f64| (v * (1u64 << 23) as f64).fract() == 0.0;
        self.displacement.is_none() && self.matrix[axis].iter().all(is_exact)
    }

    /// Whether all indices along an axis of the volume are whole numbers.
    pub(super) fn is_whole(&self, axis: usize) -> bool {
        self.displacement.is_none() && self.matrix[axis].iter().all(|v| v.fract() == 0.0)
    }

    /// Checks that a patch of `size` stays within the bounds of indices.
    pub(super) fn check(&self, size: Size3) -> Result<()> {
        let too_far = |index: f64| {
            let expected = format!("a map to indices of at most ±{FARTHEST_INDEX}");
            Error::invalid("matrix", format!("maps a voxel to index {index}"), expected)
        };
        for row in &self.matrix {
            let reach: f64 = (0..3).map(|a| row[a].abs() * size[a] as f64).sum();
            let farthest = row[3].abs() + reach + DISPLACEMENT_VOXELS;
            if farthest.partial_cmp(&FARTHEST_INDEX) != Some(std::cmp::Ordering::Less) {
                return Err(too_far(farthest));
            }
        }
        if let Some(displacement) = &self.displacement
            && let Some(a) = (0..3).find(|&a| displacement.knots[a] > size[a] + 1)
        {
            let expected = format!("at most {} along that axis of the patch", size[a] + 1);
            let found = format!("{} knots", displacement.knots[a]);
            return Err(Error::invalid("displacement", found, expected));
        }
        Ok(())
    }
}
