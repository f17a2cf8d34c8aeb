//! Boxes of voxels, padding, and the affine that places voxels in the world.
//!
//! Axes are the array's, `(z, y, x)` with x fastest. Only [`Affine`] uses `(x, y, z)`, as nibabel
//! does.
//!
//! # Invariants
//! - A [`Region`] may leave the volume: its start is signed. Its end never overflows.

use serde::{Deserialize, Serialize};

/// A number of voxels along each axis, `(z, y, x)`.
pub type Size3 = [usize; 3];

/// A half-open box of voxels, `start .. start + size`, in `(z, y, x)`, of all channels.
///
/// # Examples
/// ```
/// use voxquarry::Region;
///
/// let patch = Region::new([-3, 2, 8], [5, 3, 9]);
/// assert_eq!(patch.len(), 135);
/// assert_eq!(patch.clip([10, 10, 10]), Region::new([0, 2, 8], [2, 3, 2]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// The first voxel along each axis; negative if the box begins before the volume.
    pub start: [i64; 3],
    /// Voxels along each axis.
    pub size: Size3,
}

impl Region {
    /// The box of `size` voxels that begins at `start`.
    pub fn new(start: [i64; 3], size: Size3) -> Self {
        Self { start, size }
    }

    /// All of a volume of `size`.
    pub fn whole(size: Size3) -> Self {
        Self { start: [0; 3], size }
    }

    /// The number of voxels in one channel.
    pub fn len(&self) -> usize {
        self.size.iter().product()
    }

    /// Whether it holds no voxel.
    pub fn is_empty(&self) -> bool {
        self.size.contains(&0)
    }

    /// The index after the last voxel along `axis`; saturates.
    pub fn end(&self, axis: usize) -> i64 {
        self.start[axis].saturating_add_unsigned(self.size[axis] as u64)
    }

    /// Whether every voxel lies in a volume of `shape`.
    pub fn is_inside(&self, shape: Size3) -> bool {
        (0..3).all(|a| self.start[a] >= 0 && self.end(a) <= shape[a] as i64)
    }

    /// The part inside of a volume of `shape`; empty if the two do not meet.
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

/// The values of voxels outside of the volume.
///
/// # Examples
/// ```
/// use voxquarry::Padding;
///
/// assert_eq!(Padding::default(), Padding::None);
/// let air = Padding::Constant(-1024.0);
/// # let _ = air;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Padding {
    /// None: a region that leaves the volume is refused with [`crate::Error::OutOfBounds`].
    #[default]
    None,
    /// This value. It is refused if the dtype cannot represent it.
    Constant(f64),
    /// The nearest voxel of the volume (numpy's `edge`).
    Edge,
    /// The volume mirrored about its border voxels, as often as needed (numpy's `reflect`).
    Reflect,
}

impl Padding {
    /// The index in `0..n` whose voxel stands for `index`, for edge and reflect; `n` is at least 1.
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

/// The unit of an affine's positions.
///
/// ```
/// use voxquarry::LengthUnit;
///
/// assert_eq!(LengthUnit::default(), LengthUnit::Millimeter);
/// assert_eq!(LengthUnit::from_name("micrometer"), Some(LengthUnit::Micrometer));
/// assert_eq!(LengthUnit::Micrometer.symbol(), "µm");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LengthUnit {
    /// m
    Meter,
    /// mm
    #[default]
    Millimeter,
    /// µm
    Micrometer,
}

impl LengthUnit {
    const ALL: [Self; 3] = [Self::Meter, Self::Millimeter, Self::Micrometer];

    /// The name in metadata, OME-Zarr's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meter => "meter",
            Self::Millimeter => "millimeter",
            Self::Micrometer => "micrometer",
        }
    }

    /// The unit with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// The symbol, for people.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Meter => "m",
            Self::Millimeter => "mm",
            Self::Micrometer => "µm",
        }
    }

    /// Millimetres in one of these.
    pub const fn millimeters(self) -> f64 {
        match self {
            Self::Meter => 1e3,
            Self::Millimeter => 1.0,
            Self::Micrometer => 1e-3,
        }
    }
}

/// A 4×4 matrix that maps `(x, y, z, 1)`, the index of a voxel's centre, to RAS+ millimetres.
///
/// # Examples
/// ```
/// use voxquarry::Affine;
///
/// let affine = Affine::diagonal([5.0, 0.8, 0.8]);
/// assert_eq!(affine.spacing_mm(), [5.0, 0.8, 0.8]);
/// assert_eq!(affine.apply([1.0, 0.0, 0.0]), [0.0, 0.0, 5.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Affine(pub [[f64; 4]; 4]);

impl Affine {
    /// Voxels of 1 mm, with the origin at the first voxel.
    pub const IDENTITY: Self = Self::diagonal([1.0; 3]);

    /// Axes parallel to the world's, with a spacing of `spacing_mm` along `(z, y, x)`.
    pub const fn diagonal(spacing_mm: [f64; 3]) -> Self {
        let [z, y, x] = spacing_mm;
        Self([[x, 0., 0., 0.], [0., y, 0., 0.], [0., 0., z, 0.], [0., 0., 0., 1.]])
    }

    /// Millimetres between voxel centres along `(z, y, x)`: the norms of the matrix's columns.
    pub fn spacing_mm(&self) -> [f64; 3] {
        [2, 1, 0].map(|column| (0..3).map(|row| self.0[row][column].powi(2)).sum::<f64>().sqrt())
    }

    /// The position `(x, y, z)` in millimetres of the index `(z, y, x)`.
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

    /// The affine of the same space in voxels of another size: along axis `a` of `(z, y, x)`,
    /// `down[a]` voxels become `up[a]`.
    #[must_use]
    pub fn scaled(&self, up: Size3, down: Size3) -> Self {
        let ratio = [0, 1, 2].map(|a| down[a] as f64 / up[a] as f64);
        // The outer faces stay in place: index i of the new voxels lies at (i + ½) ratio − ½ of the
        // old.
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

    /// Checks that every number is finite, the last row is `0 0 0 1`, and the axes span space.
    ///
    /// # Errors
    /// A sentence about the first condition that does not hold.
    pub fn validate(&self) -> Result<(), String> {
        if self.0.iter().flatten().any(|v| !v.is_finite()) {
            return Err(format!("affine {:?} has a number that is not finite", self.0));
        }
        if self.0[3] != [0.0, 0.0, 0.0, 1.0] {
            return Err(format!("affine's last row is {:?}, expected 0 0 0 1", self.0[3]));
        }
        let volume: f64 = self.spacing_mm().iter().product();
        // Relative to the product of the column lengths, so that the small spacings of microscopy
        // pass.
        if volume == 0.0 || !volume.is_finite() || (self.determinant() / volume).abs() < 1e-6 {
            return Err(format!("affine {:?} is singular: its axes do not span space", self.0));
        }
        Ok(())
    }

    /// Whether both map every voxel of a volume of `shape` to the same point, within a hundredth of
    /// a voxel.
    pub fn agrees_with(&self, other: &Self, shape: Size3) -> bool {
        let tolerance_mm = 0.01 * self.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        (0..8).all(|corner: usize| {
            let at = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { shape[a] as f64 } else { 0.0 });
            self.apply(at).iter().zip(other.apply(at)).all(|(a, b)| (a - b).abs() <= tolerance_mm)
        })
    }
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
    fn affine_has_spacing_and_detects_singularity() {
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
