//! The same place in a volume of another spacing.
//!
//! # Invariants
//! - A place is exact or refused: no start or size is ever rounded.

use crate::{Affine, Error, Region, Result, Size3, Volume};

/// Ratios of spacings have numerators and denominators up to this.
const MOST: u64 = 64;

/// How the voxels of one volume lie on those of another that covers the same box of space.
///
/// Along each axis `(z, y, x)`, `numerator` voxels of the other take the place of `denominator` voxels of the one; the faces of
/// the first voxels coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    numerator: [u64; 3],
    denominator: [u64; 3],
}

impl Scale {
    /// From places in `one` to places in `other`.
    ///
    /// # Errors
    /// [`Error::Usage`] if they do not cover the same box along the same axes, within a hundredth of a voxel, or if a ratio of
    /// their extents has no terms up to 64.
    pub fn between(one: &Volume, other: &Volume) -> Result<Self> {
        Self::of((one.size(), one.affine()), (other.size(), other.affine())).map_err(|message| {
            Error::usage(format!(
                "{} and {}: {message}",
                one.path().display(),
                other.path().display()
            ))
        })
    }

    fn of(one: (Size3, &Affine), other: (Size3, &Affine)) -> Result<Self, String> {
        let divisor = [0, 1, 2].map(|a| gcd(one.0[a] as u64, other.0[a] as u64));
        let numerator = [0, 1, 2].map(|a| other.0[a] as u64 / divisor[a]);
        let denominator = [0, 1, 2].map(|a| one.0[a] as u64 / divisor[a]);
        for a in 0..3 {
            if numerator[a].max(denominator[a]) > MOST {
                return Err(format!(
                    "{} and {} voxels along {}: the ratio has no terms up to {MOST}",
                    one.0[a],
                    other.0[a],
                    ["z", "y", "x"][a]
                ));
            }
        }
        // A voxel's centre lies half a voxel behind its face: corners of the box are compared, not centres.
        let smallest =
            |affine: &Affine| affine.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        let tolerance_mm = 0.01 * smallest(one.1).min(smallest(other.1));
        for corner in 0..8usize {
            let at = |(size, affine): (Size3, &Affine)| {
                let face = |a: usize| if corner >> a & 1 == 1 { size[a] as f64 } else { 0.0 };
                affine.apply([0, 1, 2].map(|a| face(a) - 0.5))
            };
            let (here, there) = (at(one), at(other));
            if here.iter().zip(there).any(|(a, b)| (a - b).abs() > tolerance_mm) {
                return Err(format!(
                    "a corner of the one lies at {here:?} mm, of the other at {there:?}: they cover other boxes"
                ));
            }
        }
        Ok(Self { numerator, denominator })
    }

    /// Voxels of the other for each voxel of the one, `(z, y, x)`, as numerator and denominator.
    pub fn ratios(&self) -> [(u64, u64); 3] {
        [0, 1, 2].map(|a| (self.numerator[a], self.denominator[a]))
    }

    /// The region of the other that covers the same space.
    ///
    /// # Errors
    /// [`Error::Usage`] if its faces would cut voxels of the other.
    pub fn region(&self, region: &Region) -> Result<Region> {
        let scaled = |a: usize, v: i128| {
            let (n, d) = (i128::from(self.numerator[a]), i128::from(self.denominator[a]));
            (v * n % d == 0).then(|| i64::try_from(v * n / d).ok()).flatten()
        };
        let cuts = |a: usize| {
            Error::usage(format!(
                "region {:?} of size {:?}: along {} it would cut voxels of the other volume, which has {} for {} of this one: starts \
                 and sizes have to be multiples of {}",
                region.start,
                region.size,
                ["z", "y", "x"][a],
                self.numerator[a],
                self.denominator[a],
                self.denominator[a]
            ))
        };
        let (mut start, mut size) = ([0; 3], [0; 3]);
        for a in 0..3 {
            start[a] = scaled(a, i128::from(region.start[a])).ok_or_else(|| cuts(a))?;
            let voxels = scaled(a, region.size[a] as i128).ok_or_else(|| cuts(a))?;
            size[a] = usize::try_from(voxels).map_err(|_| cuts(a))?;
        }
        Ok(Region::new(start, size))
    }
}

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
    fn places_are_exact_or_refused() {
        let (fine, coarse) = (affine([1.0, 1.0, 2.0]), affine([4.0, 1.5, 2.0]));
        let scale = Scale::of(([40, 30, 20], &fine), ([10, 20, 20], &coarse)).unwrap();
        assert_eq!(scale.ratios(), [(1, 4), (2, 3), (1, 1)]);
        let region = scale.region(&Region::new([-8, 3, 7], [16, 6, 5])).unwrap();
        assert_eq!(region, Region::new([-2, 2, 7], [4, 4, 5]));
        let back = Scale::of(([10, 20, 20], &coarse), ([40, 30, 20], &fine)).unwrap();
        assert_eq!(back.region(&region).unwrap(), Region::new([-8, 3, 7], [16, 6, 5]));
        for (start, size) in [([1, 3, 7], [16, 6, 5]), ([0; 3], [16, 5, 5]), ([0; 3], [15, 6, 5])] {
            let message = scale.region(&Region::new(start, size)).unwrap_err().to_string();
            assert!(message.contains("multiples of"), "{message}");
        }
    }

    #[test]
    fn other_boxes_and_odd_ratios_are_refused() {
        let (one, mut shifted) = (affine([1.0; 3]), affine([2.0; 3]));
        assert!(Scale::of(([8; 3], &one), ([4; 3], &shifted)).is_ok());
        shifted.0[0][3] += 0.5;
        assert!(Scale::of(([8; 3], &one), ([4; 3], &shifted)).unwrap_err().contains("boxes"));
        // Centres that coincide are faces that do not.
        let centred = Affine::diagonal([2.0; 3]);
        assert!(Scale::of(([8; 3], &Affine::IDENTITY), ([4; 3], &centred)).is_err());
        let odd = affine([100.0 / 99.0; 3]);
        assert!(Scale::of(([100; 3], &one), ([99; 3], &odd)).unwrap_err().contains("terms"));
    }
}
