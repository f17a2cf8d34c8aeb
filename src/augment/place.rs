//! Where the voxels of an augmented patch lie in the volume.

use super::draw::{SampleKey, SpatialDraw};
use super::math::cos_sin_degrees;
use super::options::Augment;
use crate::{Displacement, Region, Result, Size3, Warp};

/// The grid that a patch is taken from: distances of voxels along z, y and x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PatchGrid {
    pub(crate) region: Region,
    pub(crate) spacing: [f64; 3],
}

/// Where a patch lies.
#[derive(Clone, Debug)]
pub(crate) enum PatchPlace {
    /// Its voxels are the region's, mirrored along some axes.
    Mirrored([bool; 3]),
    /// It is interpolated.
    Warped(Box<Warp>),
}

impl Augment {
    /// Where the patch of a region lies.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for a map that is singular, or that leads too far away.
    pub(crate) fn place(&self, key: &SampleKey<'_>, grid: &PatchGrid) -> Result<PatchPlace> {
        if !self.is_spatial() {
            return Ok(PatchPlace::Mirrored([false; 3]));
        }
        let size = grid.region.size;
        let draw = self.draw_spatial(key, size);
        let stays = draw.degrees == [0.0; 3]
            && draw.scale == [1.0; 3]
            && draw.shear == [0.0; 6]
            && draw.translation == [0.0; 3]
            && draw.knots.is_none();
        if stays {
            return Ok(PatchPlace::Mirrored(draw.flips));
        }
        let warp = Warp::new(draw.matrix(grid))?;
        Ok(PatchPlace::Warped(Box::new(match draw.knots {
            Some((knots, values)) => warp.displaced(Displacement::new(knots, values)?),
            None => warp,
        })))
    }
}

impl PatchPlace {
    /// The map of indices of the patch of a region to those of the volume; displacements are left
    /// out.
    pub(crate) fn matrix(&self, region: &Region) -> [[f64; 4]; 3] {
        match self {
            Self::Warped(warp) => *warp.matrix(),
            Self::Mirrored(flips) => std::array::from_fn(|a| {
                let mut row = [0.0, 0.0, 0.0, region.start[a] as f64];
                row[a] = if flips[a] { -1.0 } else { 1.0 };
                if flips[a] {
                    row[3] += region.size[a] as f64 - 1.0;
                }
                row
            }),
        }
    }
}

impl PatchPlace {
    /// The map of the patch's indices to those of a volume that `view`, a map of indices, shows.
    ///
    /// # Errors
    /// As [`Warp::new`] and [`Displacement::new`].
    pub(crate) fn seen_through(&self, region: &Region, view: &[[f64; 4]; 3]) -> Result<Warp> {
        let own = self.matrix(region);
        let warp = Warp::new(view.map(|row| {
            std::array::from_fn(|j| {
                let sum: f64 = (0..3).map(|k| row[k] * own[k][j]).sum();
                if j == 3 { sum + row[3] } else { sum }
            })
        }))?;
        let Self::Warped(inner) = self else { return Ok(warp) };
        let Some(displacement) = inner.displacement() else { return Ok(warp) };
        let turned = displacement
            .values()
            .iter()
            .map(|value| view.map(|row| row[0] * value[0] + row[1] * value[1] + row[2] * value[2]));
        let turned = Displacement::new(displacement.knots(), turned.collect())?;
        Ok(warp.displaced(turned))
    }
}

type Square = [[f64; 3]; 3];

fn product(a: &Square, b: &Square) -> Square {
    a.map(|row| [0, 1, 2].map(|j| row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]))
}

impl SpatialDraw {
    /// The map of indices: about the middle of the patch, mirrored, sheared, scaled, turned about
    /// x, y and z, in millimetres, and then shifted.
    fn matrix(&self, grid: &PatchGrid) -> [[f64; 4]; 3] {
        let PatchGrid { region, spacing } = grid;
        let turn = self.turn();
        let [zy, zx, yz, yx, xz, xy] = self.shear;
        let shear = [[1.0, zy, zx], [yz, 1.0, yx], [xz, xy, 1.0]];
        let mut all = turn.map(|row| [0, 1, 2].map(|j| row[j] / self.scale[j]));
        if self.shear != [0.0; 6] {
            all = product(&all, &shear);
        }
        std::array::from_fn(|a| {
            let mut row = [0.0; 4];
            let mut from = 0.0;
            for j in 0..3 {
                let sign = if self.flips[j] { -1.0 } else { 1.0 };
                row[j] = all[a][j] * sign * (spacing[j] / spacing[a]);
                from += row[j] * middle(region.size, j);
            }
            row[3] = region.start[a] as f64 + middle(region.size, a) + self.translation[a] - from;
            row
        })
    }

    /// The turn about x, then y, then z.
    fn turn(&self) -> Square {
        let [(cz, sz), (cy, sy), (cx, sx)] = self.degrees.map(cos_sin_degrees);
        let about_z = [[1.0, 0.0, 0.0], [0.0, cz, -sz], [0.0, sz, cz]];
        let about_y = [[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]];
        let about_x = [[cx, -sx, 0.0], [sx, cx, 0.0], [0.0, 0.0, 1.0]];
        product(&product(&about_z, &about_y), &about_x)
    }
}

/// The index of the middle of an axis.
fn middle(size: Size3, axis: usize) -> f64 {
    (size[axis] as f64 - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: PatchGrid = PatchGrid {
        region: Region { start: [10, 20, 30], size: [4, 5, 6] },
        spacing: [3.0, 1.0, 1.0],
    };

    fn still() -> SpatialDraw {
        SpatialDraw {
            degrees: [0.0; 3],
            scale: [1.0; 3],
            shear: [0.0; 6],
            translation: [0.0; 3],
            flips: [false; 3],
            knots: None,
        }
    }

    /// Flips exchange the first and the last voxel exactly, by either way of writing them.
    #[test]
    fn flips_are_exact() {
        let draw = SpatialDraw { flips: [true, false, true], ..still() };
        let place = PatchPlace::Mirrored(draw.flips);
        assert_eq!(draw.matrix(&GRID), place.matrix(&GRID.region));
        let warp = Warp::new(draw.matrix(&GRID)).unwrap();
        assert_eq!(warp.apply([0.0, 0.0, 0.0]), [13.0, 20.0, 35.0]);
        assert_eq!(warp.apply([3.0, 4.0, 5.0]), [10.0, 24.0, 30.0]);
    }

    /// The middle of the patch stays where it is, apart from the translation; lengths in
    /// millimetres are those of the scale.
    #[test]
    fn turns_are_about_the_middle_and_in_millimetres() {
        let draw = SpatialDraw {
            degrees: [20.0, -50.0, 77.0],
            scale: [2.0; 3],
            translation: [1.0, -2.0, 0.5],
            ..still()
        };
        let warp = Warp::new(draw.matrix(&GRID)).unwrap();
        let centre = warp.apply([1.5, 2.0, 2.5]);
        for (found, expected) in centre.iter().zip([12.5, 20.0, 33.0]) {
            assert!((found - expected).abs() < 1e-12, "{centre:?}");
        }
        for axis in 0..3 {
            let mut at = [1.5, 2.0, 2.5];
            at[axis] += 1.0;
            let moved = warp.apply(at);
            let mm: f64 = (0..3).map(|a| ((moved[a] - centre[a]) * GRID.spacing[a]).powi(2)).sum();
            assert!((mm.sqrt() - GRID.spacing[axis] / 2.0).abs() < 1e-12);
        }
        // A quarter turn about x brings z to y.
        let quarter = SpatialDraw { degrees: [0.0, 0.0, 90.0], ..still() };
        let isotropic = PatchGrid { spacing: [1.0; 3], ..GRID };
        let [z, y, x, _] = [0, 1, 2, 3].map(|j| quarter.matrix(&isotropic).map(|row| row[j]));
        assert_eq!((z, y, x), ([0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]));
    }

    #[test]
    fn shears_move_axes_along_others() {
        let draw = SpatialDraw { shear: [0.1, 0.0, 0.0, 0.0, 0.0, 0.3], ..still() };
        let isotropic = PatchGrid { spacing: [1.0; 3], ..GRID };
        let rows = draw.matrix(&isotropic).map(|row| [row[0], row[1], row[2]]);
        assert_eq!(rows, [[1.0, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.3, 1.0]]);
    }
}
