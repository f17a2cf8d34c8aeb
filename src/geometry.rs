//! Boxes of voxels and where they lie in the world.
//!
//! Axes are the array's, `(z, y, x)` with x fastest; only an [`Affine`] speaks `(x, y, z)`, as nibabel does.
//!
//! # Invariants
//! - A [`Region`] may leave the volume (its start is signed); its end never overflows.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Voxels along `(z, y, x)`.
pub type Size3 = [usize; 3];

/// A half-open box of voxels, `start .. start + size`, in `(z, y, x)`; it holds every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// First voxel of each axis; negative where the box begins before the volume.
    pub start: [i64; 3],
    /// Voxels along each axis.
    pub size: Size3,
}

impl Region {
    /// A box from its first voxel and size.
    pub fn new(start: [i64; 3], size: Size3) -> Self {
        Self { start, size }
    }

    /// The whole of a volume of that size.
    pub fn whole(size: Size3) -> Self {
        Self { start: [0; 3], size }
    }

    /// Voxels in one channel.
    pub fn len(&self) -> usize {
        self.size.iter().product()
    }

    /// Whether it holds no voxel.
    pub fn is_empty(&self) -> bool {
        self.size.contains(&0)
    }

    /// One past the last voxel of `axis`; saturates.
    pub fn end(&self, axis: usize) -> i64 {
        self.start[axis].saturating_add_unsigned(self.size[axis] as u64)
    }

    /// Whether every voxel lies in a volume of `shape`.
    pub fn is_inside(&self, shape: Size3) -> bool {
        (0..3).all(|a| self.start[a] >= 0 && self.end(a) <= shape[a] as i64)
    }

    /// The part inside a volume of `shape`; empty where they do not meet.
    #[must_use]
    pub fn clip(&self, shape: Size3) -> Self {
        let (mut start, mut size) = ([0; 3], [0; 3]);
        for a in 0..3 {
            start[a] = self.start[a].clamp(0, shape[a] as i64);
            size[a] = (self.end(a).clamp(0, shape[a] as i64) - start[a]) as usize;
        }
        Self { start, size }
    }
}

/// What a read outside the volume yields.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Padding {
    /// An error that names the region and the volume.
    #[default]
    None,
    /// This value; an error where the dtype does not have it.
    Constant(f64),
    /// The nearest voxel of the volume (numpy's `edge`).
    Edge,
    /// The volume mirrored about its border voxels, as often as needed (numpy's `reflect`).
    Reflect,
}

impl Padding {
    /// The index inside `0..n` that stands for `index`; `n ≥ 1`, and the policy is edge or reflect.
    pub(crate) fn source_index(self, index: i64, n: usize) -> usize {
        let last = n as i64 - 1;
        match self {
            Self::Reflect if last > 0 => {
                let folded = index.rem_euclid(2 * last);
                folded.min(2 * last - folded) as usize
            }
            _ => index.clamp(0, last) as usize,
        }
    }
}

/// A 4×4 matrix that takes `(x, y, z, 1)`, the index of a voxel's centre, to RAS+ millimetres.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Affine(pub [[f64; 4]; 4]);

impl Affine {
    /// Unit spacing, origin at the first voxel.
    pub const IDENTITY: Self = Self::diagonal([1.0; 3]);

    /// Axes along the world's, with `spacing_mm` in `(z, y, x)`.
    pub const fn diagonal(spacing_mm: [f64; 3]) -> Self {
        let [z, y, x] = spacing_mm;
        Self([[x, 0., 0., 0.], [0., y, 0., 0.], [0., 0., z, 0.], [0., 0., 0., 1.]])
    }

    /// Length of a voxel along each axis, `(z, y, x)`, in millimetres: the norms of the matrix's columns.
    pub fn spacing_mm(&self) -> [f64; 3] {
        [2, 1, 0].map(|column| (0..3).map(|row| self.0[row][column].powi(2)).sum::<f64>().sqrt())
    }

    /// Where the centre of the voxel at `start`, `(z, y, x)`, lies: `(x, y, z)` in millimetres.
    pub fn apply(&self, [z, y, x]: [f64; 3]) -> [f64; 3] {
        [0, 1, 2].map(|row| {
            let m = &self.0[row];
            m[0] * x + m[1] * y + m[2] * z + m[3]
        })
    }

    /// The affine of a patch that begins at `start`.
    #[must_use]
    pub fn shifted(&self, start: [i64; 3]) -> Self {
        let mut shifted = *self;
        for (row, value) in self.apply(start.map(|v| v as f64)).into_iter().enumerate() {
            shifted.0[row][3] = value;
        }
        shifted
    }

    /// The affine of the same space in voxels of another size: of axis `a` of `(z, y, x)`, each `down[a]` voxels become `up[a]`.
    #[must_use]
    pub fn scaled(&self, up: Size3, down: Size3) -> Self {
        let ratio = [0, 1, 2].map(|a| down[a] as f64 / up[a] as f64);
        // The outer faces stay where they are: index i of the new voxels lies at (i + ½) ratio − ½ of the old.
        let origin = self.apply(ratio.map(|r| (r - 1.0) / 2.0));
        let mut scaled = *self;
        for row in 0..3 {
            for column in 0..3 {
                scaled.0[row][column] *= ratio[2 - column];
            }
            scaled.0[row][3] = origin[row];
        }
        scaled
    }

    fn determinant(&self) -> f64 {
        let m = &self.0;
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
            - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    }

    /// Checks that every number is finite, the last row is `0 0 0 1` and the axes span space.
    ///
    /// # Errors
    /// A sentence about the first of these that does not hold.
    pub fn validate(&self) -> Result<(), String> {
        if self.0.iter().flatten().any(|v| !v.is_finite()) {
            return Err(format!("affine {:?} has a number that is not finite", self.0));
        }
        if self.0[3] != [0.0, 0.0, 0.0, 1.0] {
            return Err(format!("affine's last row is {:?}, expected 0 0 0 1", self.0[3]));
        }
        let volume: f64 = self.spacing_mm().iter().product();
        // Relative to the product of the column lengths, so that microscopy's tiny spacings pass.
        if volume == 0.0 || !volume.is_finite() || (self.determinant() / volume).abs() < 1e-6 {
            return Err(format!("affine {:?} is singular: its axes do not span space", self.0));
        }
        Ok(())
    }

    /// Whether both place every voxel of a volume of `shape` at the same point, within a hundredth of a voxel.
    pub fn agrees_with(&self, other: &Self, shape: Size3) -> bool {
        let tolerance_mm = 0.01 * self.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        (0..8).all(|corner: usize| {
            let at = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { shape[a] as f64 } else { 0.0 });
            self.apply(at).iter().zip(other.apply(at)).all(|(a, b)| (a - b).abs() <= tolerance_mm)
        })
    }
}

/// Checks that a patch has at least one voxel on each axis.
pub(crate) fn check_patch_size(size: Size3) -> Result<()> {
    if size.contains(&0) {
        return Err(Error::usage(format!(
            "patch size {size:?}: every axis needs at least one voxel"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_keeps_the_shared_box() {
        let region = Region::new([-3, 2, 8], [5, 3, 9]);
        assert_eq!(region.clip([10, 10, 10]), Region::new([0, 2, 8], [2, 3, 2]));
        assert!(!region.is_inside([10, 10, 10]));
        assert!(Region::new([20, 0, 0], [5, 3, 9]).clip([10, 10, 10]).is_empty());
        assert!(Region::new([i64::MAX - 1, 0, 0], [5, 3, 9]).clip([10, 10, 10]).is_empty());
    }

    #[test]
    fn reflect_and_edge_are_numpys() {
        // np.pad(np.arange(4), 7, mode="reflect")
        let expected = [1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2];
        let found: Vec<_> = (-7..11).map(|i| Padding::Reflect.source_index(i, 4)).collect();
        assert_eq!(found, expected);
        assert_eq!(Padding::Reflect.source_index(-9, 1), 0);
        assert_eq!([-2, 1, 9].map(|i| Padding::Edge.source_index(i, 4)), [0, 1, 3]);
    }

    #[test]
    fn affine_knows_spacing_and_singularity() {
        let affine = Affine::diagonal([3.0, 2.0, 1.0]);
        assert_eq!(affine.spacing_mm(), [3.0, 2.0, 1.0]);
        assert_eq!(affine.shifted([1, 1, -1]).apply([0.0; 3]), [-1.0, 2.0, 3.0]);
        assert!(Affine::diagonal([1e-7, 1e-7, 1e-7]).validate().is_ok());
        assert!(Affine::diagonal([1.0, 0.0, 1.0]).validate().unwrap_err().contains("singular"));
        let mut nan = affine;
        nan.0[0][0] = f64::NAN;
        assert!(nan.validate().is_err());
    }

    #[test]
    fn grids_agree_within_a_hundredth_of_a_voxel() {
        let (a, mut b) = (Affine::IDENTITY, Affine::IDENTITY);
        b.0[0][0] = 1.0 + 1e-6;
        assert!(a.agrees_with(&b, [100; 3]));
        b.0[0][3] = 0.5;
        assert!(!a.agrees_with(&b, [100; 3]));
    }
}
