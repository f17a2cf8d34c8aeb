//! Maps a region of one volume to the same place in a volume of another spacing.
//!
//! # Invariants
//! - A region is mapped exactly or refused: no start or size is ever rounded.

use crate::{Affine, Error, Region, Result, Size3, Volume};

/// The largest numerator and denominator of a ratio of spacings.
const MAX_TERM: u64 = 64;

/// The scale between the voxels of two volumes that cover the same box of space.
///
/// Along each axis, `(z, y, x)`, `numerator` voxels of the other volume cover `denominator` voxels
/// of the first; the outer faces of the first voxels coincide.
///
/// ```
/// use voxquarry::{Dataset, OpenOptions, PatchScale, Region};
///
/// # let store = "format-spec/golden/v1";
/// let subject = Dataset::open(store, &OpenOptions::default())?.subject("grid")?;
/// // Two volumes of the same spacing.
/// let scale = PatchScale::between(&subject.volume("u8")?, &subject.volume("f32")?)?;
/// assert_eq!(scale.ratios(), [(1, 1), (1, 1), (1, 1)]);
/// let region = Region::new([1, 2, 3], [4, 4, 4]);
/// assert_eq!(scale.region(&region)?, region);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchScale {
    numerator: [u64; 3],
    denominator: [u64; 3],
}

impl PatchScale {
    /// The scale from regions of `one` to regions of `other`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the volumes do not cover the same box along the same axes, to
    /// within a hundredth of a voxel, or if a ratio of their extents has no terms up to 64.
    pub fn between(one: &Volume, other: &Volume) -> Result<Self> {
        Self::new((one.size(), one.affine()), (other.size(), other.affine())).map_err(
            |(reason, remedy)| {
                let (one, other) = (one.path().display(), other.path().display());
                Error::unsupported(format!("{one} and {other}: {reason}"), remedy)
            },
        )
    }

    /// The scale between extents with their affines; an error is a reason and a remedy.
    fn new(one: (Size3, &Affine), other: (Size3, &Affine)) -> Result<Self, (String, &'static str)> {
        let divisor = [0, 1, 2].map(|a| gcd(one.0[a] as u64, other.0[a] as u64));
        let numerator = [0, 1, 2].map(|a| other.0[a] as u64 / divisor[a]);
        let denominator = [0, 1, 2].map(|a| one.0[a] as u64 / divisor[a]);
        for (a, axis) in ["z", "y", "x"].into_iter().enumerate() {
            if numerator[a].max(denominator[a]) > MAX_TERM {
                let reason = format!(
                    "the ratio of {} to {} voxels along {axis} has no terms up to {MAX_TERM}",
                    one.0[a], other.0[a]
                );
                return Err((reason, "resample one of the volumes"));
            }
        }
        // Centres of voxels lie half a voxel inside the box, so its corners are compared.
        let smallest =
            |affine: &Affine| affine.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        let tolerance_mm = 0.01 * smallest(one.1).min(smallest(other.1));
        for corner in 0..8usize {
            let position = |(size, affine): (Size3, &Affine)| {
                let face = |a: usize| if corner >> a & 1 == 1 { size[a] as f64 } else { 0.0 };
                affine.apply([0, 1, 2].map(|a| face(a) - 0.5))
            };
            let (here, there) = (position(one), position(other));
            if here.iter().zip(there).any(|(a, b)| (a - b).abs() > tolerance_mm) {
                let reason = format!(
                    "a corner of the first lies at {here:?} mm, that of the second at {there:?} mm"
                );
                return Err((reason, "choose volumes that cover the same box"));
            }
        }
        Ok(Self { numerator, denominator })
    }

    /// Voxels of the other volume for those of the first, `(z, y, x)`, as numerator and
    /// denominator.
    pub fn ratios(&self) -> [(u64, u64); 3] {
        [0, 1, 2].map(|a| (self.numerator[a], self.denominator[a]))
    }

    /// The region of the other volume that covers the same space.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if its faces would cut voxels of the other volume.
    pub fn region(&self, region: &Region) -> Result<Region> {
        let scaled = |a: usize, v: i128| {
            let (n, d) = (i128::from(self.numerator[a]), i128::from(self.denominator[a]));
            (v * n % d == 0).then(|| i64::try_from(v * n / d).ok()).flatten()
        };
        let cut = |a: usize| {
            let (start, size, axis) = (region.start, region.size, ["z", "y", "x"][a]);
            let (n, d) = (self.numerator[a], self.denominator[a]);
            Error::unsupported(
                format!(
                    "region {start:?} of size {size:?} would cut voxels of the other volume along \
                     {axis}, where {n} of them cover {d} of this volume"
                ),
                format!("choose starts and sizes that are multiples of {d}"),
            )
        };
        let (mut start, mut size) = ([0; 3], [0; 3]);
        for a in 0..3 {
            start[a] = scaled(a, i128::from(region.start[a])).ok_or_else(|| cut(a))?;
            let voxels = scaled(a, region.size[a] as i128).ok_or_else(|| cut(a))?;
            size[a] = usize::try_from(voxels).map_err(|_| cut(a))?;
        }
        Ok(Region::new(start, size))
    }
}

/// The greatest common divisor; 1 for zeros.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affine(spacing: [f64; 3]) -> Affine {
        // The outer face of the first voxel lies at (1, 2, 3).
        let mut affine = Affine::diagonal(spacing);
        for (row, axis) in [(0, 2), (1, 1), (2, 0)] {
            affine.0[row][3] = row as f64 + 1.0 + spacing[axis] / 2.0;
        }
        affine
    }

    #[test]
    fn regions_are_exact_or_refused() {
        let (fine, coarse) = (affine([1.0, 1.0, 2.0]), affine([4.0, 1.5, 2.0]));
        let scale = PatchScale::new(([40, 30, 20], &fine), ([10, 20, 20], &coarse)).unwrap();
        assert_eq!(scale.ratios(), [(1, 4), (2, 3), (1, 1)]);
        let region = scale.region(&Region::new([-8, 3, 7], [16, 6, 5])).unwrap();
        assert_eq!(region, Region::new([-2, 2, 7], [4, 4, 5]));
        let back = PatchScale::new(([10, 20, 20], &coarse), ([40, 30, 20], &fine)).unwrap();
        assert_eq!(back.region(&region).unwrap(), Region::new([-8, 3, 7], [16, 6, 5]));
        for (start, size) in [([1, 3, 7], [16, 6, 5]), ([0; 3], [16, 5, 5]), ([0; 3], [15, 6, 5])] {
            let message = scale.region(&Region::new(start, size)).unwrap_err().to_string();
            assert!(message.contains("multiples of"), "{message}");
        }
    }

    #[test]
    fn other_boxes_and_odd_ratios_are_refused() {
        let (one, mut shifted) = (affine([1.0; 3]), affine([2.0; 3]));
        assert!(PatchScale::new(([8; 3], &one), ([4; 3], &shifted)).is_ok());
        shifted.0[0][3] += 0.5;
        assert!(
            PatchScale::new(([8; 3], &one), ([4; 3], &shifted)).unwrap_err().1.contains("same box")
        );
        // Where the centres coincide, the faces do not.
        let centred = Affine::diagonal([2.0; 3]);
        assert!(PatchScale::new(([8; 3], &Affine::IDENTITY), ([4; 3], &centred)).is_err());
        let odd = affine([100.0 / 99.0; 3]);
        assert!(
            PatchScale::new(([100; 3], &one), ([99; 3], &odd)).unwrap_err().0.contains("terms")
        );
    }
}
