//! A volume as it would be at another spacing or orientation; nothing is stored.
//!
//! # Invariants
//! - Axes are exchanged, mirrored and scaled, never turned: an oblique volume stays oblique.
//! - The outer faces at the begin of each axis stay in place.

use super::orientation::Orientation;
use super::volume::Volume;
use crate::{Affine, Error, Order, Padding, Region, Result, Size3, Voxel, Warp};

/// A remainder of so many voxels at the end of an axis gets no plane of its own.
const REMAINDER: f64 = 1e-3;

/// More voxels than this along an axis are a mistake.
const MOST_VOXELS: f64 = (1u64 << 26) as f64;

/// A grid of voxels at another spacing or orientation.
///
/// ```
/// use voxquarry::{Affine, ResampledGrid};
///
/// let affine = Affine::diagonal([5.0, 0.8, 0.8]);
/// let grid = ResampledGrid::new([40, 512, 512], &affine, Some([2.5, 1.6, 1.6]), None)?;
/// assert_eq!(grid.size(), [80, 256, 256]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResampledGrid {
    size: Size3,
    affine: Affine,
    /// The index `(z, y, x, 1)` here to the index in the volume.
    matrix: [[f64; 4]; 3],
}

impl ResampledGrid {
    /// The grid of a volume of that `size` and `affine` at another spacing `(z, y, x)`, in the
    /// affine's unit, and in another orientation; what is `None` stays as it is. Spacings belong to
    /// the axes of the result.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a spacing that is not finite and above 0, or that gives an
    /// axis of more than 2²⁶ voxels.
    pub fn new(
        size: Size3,
        affine: &Affine,
        spacing: Option<[f64; 3]>,
        orientation: Option<Orientation>,
    ) -> Result<Self> {
        let own = Orientation::of(affine);
        let wanted = orientation.unwrap_or(own);
        let old = affine.spacing_mm();
        let (mut resampled, mut matrix) = ([0; 3], [[0.0; 4]; 3]);
        // Axes are (z, y, x) here and (x, y, z) in an orientation.
        for to in 0..3 {
            let (world, descends) = wanted.axes()[2 - to];
            let is_same = |axis: &(usize, bool)| axis.0 == world;
            let from = 2 - own.axes().iter().position(is_same).expect("each axis once");
            let flips = own.axes()[2 - from].1 != descends;
            let new = spacing.map_or(old[from], |spacing| spacing[to]);
            let (ratio, n) = (new / old[from], size[from] as f64);
            let extent = n / ratio;
            if !(new > 0.0 && new.is_finite() && extent <= MOST_VOXELS && ratio <= MOST_VOXELS) {
                let expected = "finite numbers above 0, in the unit of the affine";
                return Err(Error::invalid("spacing", format!("{spacing:?}"), expected));
            }
            resampled[to] = ((extent - REMAINDER).ceil() as usize).max(1);
            matrix[from][to] = if flips { -ratio } else { ratio };
            matrix[from][3] = (ratio - 1.0) / 2.0;
            if flips {
                matrix[from][3] = n - 1.0 - matrix[from][3];
            }
        }
        Ok(Self { size: resampled, affine: composed(affine, &matrix), matrix })
    }

    /// Extents in `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.size
    }

    /// The affine from voxel centres `(x, y, z)` here to RAS+ positions, in the volume's unit.
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// The map of indices `(z, y, x, 1)` here to those in the volume.
    pub fn matrix(&self) -> &[[f64; 4]; 3] {
        &self.matrix
    }

    /// The map for the patch that begins at `start`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the start is too far away.
    pub fn warp(&self, start: [i64; 3]) -> Result<Warp> {
        let at = start.map(|i| i as f64);
        Warp::new(
            self.matrix
                .map(|m| [m[0], m[1], m[2], m[3] + m[0] * at[0] + m[1] * at[1] + m[2] * at[2]]),
        )
    }
}

/// A volume at another spacing or orientation, resampled as it is read; made by [`Volume::at`].
///
/// It has the interface of a volume: extents, affine, and reads of patches whose voxels are its
/// own. `docs/resampling.md` defines their values.
#[derive(Clone, Debug)]
pub struct ResampledVolume {
    volume: Volume,
    grid: ResampledGrid,
}

impl ResampledVolume {
    /// The volume that is read.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Extents in `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.grid.size
    }

    /// Extents as numpy would show them: `(z, y, x)` or `(c, z, y, x)`.
    pub fn shape(&self) -> Vec<usize> {
        self.volume.channels().into_iter().chain(self.grid.size).collect()
    }

    /// The affine from voxel centres `(x, y, z)` here to RAS+ positions, in the volume's unit.
    pub fn affine(&self) -> &Affine {
        &self.grid.affine
    }

    /// The map of indices `(z, y, x, 1)` here to those in the volume.
    pub fn matrix(&self) -> &[[f64; 4]; 3] {
        &self.grid.matrix
    }

    /// The map for the patch that begins at `start`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the start is too far away.
    pub fn warp(&self, start: [i64; 3]) -> Result<Warp> {
        self.grid.warp(start)
    }

    /// As [`Volume::read_affine_into`], for the patch of each of `starts`.
    ///
    /// # Errors
    /// As [`Volume::read_affine_into`].
    pub fn read_batch_into<T: Voxel>(
        &self,
        starts: &[[i64; 3]],
        size: Size3,
        order: Order,
        padding: Padding,
        out: &mut [T],
    ) -> Result<()> {
        if padding == Padding::None
            && let Some(start) =
                starts.iter().find(|&&s| !Region::new(s, size).is_inside(self.grid.size))
        {
            return Err(Error::OutOfBounds { start: *start, size, shape: self.grid.size });
        }
        // The last voxels of an axis may lie up to half a voxel outside of the volume.
        let padding = if padding == Padding::None { Padding::Edge } else { padding };
        let warps = starts.iter().map(|&start| self.warp(start)).collect::<Result<Vec<_>>>()?;
        self.volume.read_affine_into(&warps, size, order, padding, out)
    }
}

impl Volume {
    /// The volume at another spacing `(z, y, x)`, in the affine's unit, and in another orientation;
    /// what is `None` stays as it is. Spacings belong to the axes of the result.
    ///
    /// ```
    /// use voxquarry::{Order, Padding};
    ///
    /// # let store = "format-spec/golden/v1";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("f32")?;
    /// let coarse = volume.at(Some([4.0; 3]), Some("LPS".parse()?))?;
    /// assert!(coarse.affine().spacing_mm().iter().all(|mm| (mm - 4.0).abs() < 1e-9));
    /// let mut patch = vec![0f32; 8];
    /// coarse.read_batch_into(&[[0; 3]], [2; 3], Order::Linear, Padding::Edge, &mut patch)?;
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a spacing that is not finite and above 0, or that gives an
    /// axis of more than 2²⁶ voxels.
    pub fn at(
        &self,
        spacing: Option<[f64; 3]>,
        orientation: Option<Orientation>,
    ) -> Result<ResampledVolume> {
        let grid = ResampledGrid::new(self.size(), self.affine(), spacing, orientation)?;
        Ok(ResampledVolume { volume: self.clone(), grid })
    }
}

/// An affine after a map of indices `(z, y, x, 1)`.
fn composed(affine: &Affine, matrix: &[[f64; 4]; 3]) -> Affine {
    let mut composed = Affine::IDENTITY;
    for row in 0..3 {
        for column in 0..4 {
            let index = if column == 3 { 3 } else { 2 - column };
            let sum: f64 = (0..3).map(|axis| affine.0[row][axis] * matrix[2 - axis][index]).sum();
            composed.0[row][column] = if column == 3 { sum + affine.0[row][3] } else { sum };
        }
    }
    composed
}
