//! Lays grids of overlapping patches that cover a volume.
//!
//! # Invariants
//! - A grid is a Cartesian product of ascending starts, and every voxel of the volume lies in at
//!   least one patch.

use std::sync::Arc;

use super::border::check_fits;
use super::location::PatchLocation;
use crate::format::grid::check_patch_size;
use crate::memory::collected;
use crate::{Error, Padding, Region, Result, Size3, Subject};

/// The overlap of neighbouring patches; an integer means the same number of voxels on each axis.
///
/// ```
/// use voxquarry::{GridSampler, Overlap};
///
/// let half = GridSampler::new([32, 96, 96], Overlap::Fraction(0.5))?;
/// assert_eq!(half.grid([32, 200, 200])?.overlap(), [16, 48, 48]);
/// let fixed = GridSampler::new([32, 96, 96], 8)?;
/// assert_eq!(fixed.overlap(), Overlap::Voxels([8, 8, 8]));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Overlap {
    /// That many voxels on each axis, `(z, y, x)`; stride = patch − overlap.
    Voxels(Size3),
    /// That fraction of the patch, in `0.0..1.0`; stride = patch × (1 − overlap), at least 1, and
    /// rounded down for [`Placement::Flush`].
    Fraction(f64),
}

impl From<usize> for Overlap {
    fn from(voxels: usize) -> Self {
        Self::Voxels([voxels; 3])
    }
}

impl From<Size3> for Overlap {
    fn from(voxels: Size3) -> Self {
        Self::Voxels(voxels)
    }
}

/// The placement of starts along an axis.
///
/// ```
/// use voxquarry::{GridSampler, Placement};
///
/// let flush = GridSampler::new([4, 4, 4], 0)?.grid([4, 4, 10])?;
/// assert_eq!(flush.axis_starts(2), [0, 4, 6]);
/// let even = GridSampler::new([4, 4, 4], 0)?.placement(Placement::Even).grid([4, 4, 10])?;
/// assert_eq!(even.axis_starts(2), [0, 3, 6]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Placement {
    /// One start every stride, the last moved back to end with the volume (as in TorchIO and
    /// MONAI).
    #[default]
    Flush,
    /// As few starts as the stride allows, evenly spread (as in nnU-Net).
    Even,
}

/// The distance that a padded grid reaches beyond the volume.
///
/// ```
/// use voxquarry::{GridSampler, Margin, Padding};
///
/// let sampler = GridSampler::new([4, 4, 4], 2)?.padding(Padding::Reflect);
/// assert_eq!(sampler.grid([10, 10, 10])?.margins(), [1, 1, 1]);
/// assert_eq!(sampler.margin(Margin::None).grid([10, 10, 10])?.margins(), [0, 0, 0]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Margin {
    /// Half an overlap, rounded down, on each side of every axis (as in TorchIO).
    #[default]
    HalfOverlap,
    /// None: only axes that are shorter than a patch are padded (as in MONAI and nnU-Net).
    None,
}

/// Lays grids of overlapping patches over volumes.
///
/// ```
/// use voxquarry::{GridSampler, Padding};
///
/// let sampler = GridSampler::new([96, 96, 96], 48)?.padding(Padding::Edge);
/// let grid = sampler.grid([155, 240, 240])?;
/// assert_eq!(grid.start(0), [-24, -24, -24]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GridSampler {
    patch_size: Size3,
    overlap: Overlap,
    /// `None`: patches stay inside the volume.
    padding: Option<Padding>,
    placement: Placement,
    margin: Margin,
}

impl GridSampler {
    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`, that stay inside the volume.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a size of zero, an overlap that is not smaller than the
    /// patch, or a fraction outside `0.0..1.0`.
    pub fn new(patch_size: Size3, overlap: impl Into<Overlap>) -> Result<Self> {
        check_patch_size(patch_size)?;
        let overlap = overlap.into();
        match overlap {
            Overlap::Voxels(voxels) if (0..3).any(|a| voxels[a] >= patch_size[a]) => {
                let expected = format!("less than the patch size {patch_size:?} on each axis");
                return Err(Error::invalid("overlap", format!("{voxels:?}"), expected));
            }
            Overlap::Fraction(fraction) if !(0.0..1.0).contains(&fraction) => {
                return Err(Error::invalid(
                    "overlap",
                    fraction,
                    "a fraction from 0.0 to below 1.0",
                ));
            }
            _ => {}
        }
        let (placement, margin) = (Placement::default(), Margin::default());
        Ok(Self { patch_size, overlap, padding: None, placement, margin })
    }

    /// Lets patches leave the volume, to be read with `padding`; [`Padding::None`] keeps them
    /// inside, which is the default.
    ///
    /// A padded grid covers the volume and a [`Margin`] around it. An axis that is shorter than the
    /// patch even then gets one patch about its middle; of an odd difference the smaller half lies
    /// in front.
    #[must_use]
    pub fn padding(self, padding: Padding) -> Self {
        Self { padding: Some(padding).filter(|&padding| padding != Padding::None), ..self }
    }

    /// Sets how starts are placed along an axis.
    #[must_use]
    pub fn placement(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// Sets how far a padded grid reaches beyond the volume; without padding there is no margin.
    #[must_use]
    pub fn margin(self, margin: Margin) -> Self {
        Self { margin, ..self }
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// The overlap of neighbouring patches.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// How patches that leave the volume are to be read.
    pub fn get_padding(&self) -> Padding {
        self.padding.unwrap_or(Padding::None)
    }

    /// How starts are placed along an axis.
    pub fn get_placement(&self) -> Placement {
        self.placement
    }

    /// How far a padded grid reaches beyond the volume.
    pub fn get_margin(&self) -> Margin {
        self.margin
    }

    /// The grid over a volume of `size` voxels.
    ///
    /// # Errors
    /// [`Error::PatchTooLarge`] if the patch does not fit and there is no padding.
    pub fn grid(&self, size: Size3) -> Result<Grid> {
        if self.padding.is_none() {
            check_fits(self.patch_size, size)?;
        }
        let strides = [0, 1, 2].map(|a| self.stride(a));
        // With even placement the stride of a fraction may be fractional: two patches then share at
        // least this much.
        let overlap = [0, 1, 2].map(|a| self.patch_size[a] - strides[a].ceil() as usize);
        let margins = match (self.padding, self.margin) {
            (Some(_), Margin::HalfOverlap) => overlap.map(|o| o / 2),
            _ => [0; 3],
        };
        let axis = |a: usize| -> Result<Vec<i64>> {
            let (p, s) = (self.patch_size[a], size[a] + 2 * margins[a]);
            if p > s {
                return Ok(vec![-(((p - size[a]) / 2) as i64)]);
            }
            let mut starts = match self.placement {
                Placement::Flush => flush(s - p, strides[a] as usize)?,
                Placement::Even => even(s - p, strides[a])?,
            };
            for start in &mut starts {
                *start -= margins[a] as i64;
            }
            Ok(starts)
        };
        let starts = [axis(0)?, axis(1)?, axis(2)?];
        let patches = starts.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.len()));
        patches.ok_or_else(|| Error::TooLarge { what: format!("a grid over {size:?} voxels") })?;
        Ok(Grid { size, patch_size: self.patch_size, overlap, margins, starts })
    }

    /// Every patch of `subject`, lexicographic in `(z, y, x)`.
    ///
    /// # Errors
    /// As [`GridSampler::grid`]; errors of opening a volume.
    pub fn locations(&self, subject: &Subject) -> Result<Vec<PatchLocation>> {
        let (grid, name) = (self.grid(subject.size()?)?, Arc::<str>::from(subject.name()));
        let location = |start| PatchLocation {
            subject: name.clone(),
            region: Region::new(start, self.patch_size),
        };
        let count = grid.len() as u64;
        collected(grid.starts().map(location), count, || format!("a list of {count} patches"))
    }

    /// Voxels from one start to the next; a fraction only with even placement.
    fn stride(&self, axis: usize) -> f64 {
        let p = self.patch_size[axis] as f64;
        let stride = match (self.overlap, self.placement) {
            (Overlap::Voxels(overlap), _) => p - overlap[axis] as f64,
            (Overlap::Fraction(f), Placement::Flush) => (p * (1.0 - f)).floor(),
            (Overlap::Fraction(f), Placement::Even) => p * (1.0 - f),
        };
        stride.max(1.0)
    }
}

/// Every multiple of `stride` below `last`, and `last`.
fn flush(last: usize, stride: usize) -> Result<Vec<i64>> {
    let steps = last.div_ceil(stride);
    let starts = (0..=steps).map(|i| last.min(i * stride) as i64);
    collected(starts, steps as u64 + 1, || format!("{steps} starts along an axis"))
}

/// The fewest starts from 0 to `last` with at most `stride` between them, rounded half to even as
/// numpy does.
fn even(last: usize, stride: f64) -> Result<Vec<i64>> {
    let steps = (last as f64 / stride).ceil() as usize;
    let step = last as f64 / steps.max(1) as f64;
    let starts = (0..=steps).map(|i| (i as f64 * step).round_ties_even() as i64);
    collected(starts, steps as u64 + 1, || format!("{steps} starts along an axis"))
}

/// The patches that cover one volume: starts for each axis, of which every combination is a patch.
///
/// ```
/// use voxquarry::GridSampler;
///
/// let grid = GridSampler::new([4, 4, 4], 2)?.grid([4, 6, 8])?;
/// assert_eq!(grid.len(), 6);
/// assert_eq!(grid.axis_starts(2), [0, 2, 4]);
/// assert_eq!(grid.starts().last(), Some([0, 2, 4]));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    size: Size3,
    patch_size: Size3,
    overlap: Size3,
    margins: Size3,
    starts: [Vec<i64>; 3],
}

impl Grid {
    /// Voxels of the volume, `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.size
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// Voxels that neighbouring patches share at least, `(z, y, x)`.
    pub fn overlap(&self) -> Size3 {
        self.overlap
    }

    /// Voxels on each side of the volume that the grid covers too, `(z, y, x)`.
    pub fn margins(&self) -> Size3 {
        self.margins
    }

    /// The same grid over voxels of another size: on axis `a`, `up[a]` voxels replace each
    /// `down[a]` voxels.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the volume, the patch, an overlap or a start is not a multiple of
    /// `down`; [`Error::TooLarge`] for numbers that overflow.
    pub fn scaled(&self, up: Size3, down: Size3) -> Result<Self> {
        let mut scaled = self.clone();
        for a in 0..3 {
            let scale = |what: &str, n: i64| scale_axis(what, n, a, (up[a], down[a]));
            scaled.size[a] = scale("volume", self.size[a] as i64)? as usize;
            scaled.patch_size[a] = scale("patch", self.patch_size[a] as i64)? as usize;
            if self.starts[a].len() > 1 {
                scaled.overlap[a] = scale("overlap", self.overlap[a] as i64)? as usize;
                scaled.margins[a] = scale("margin", self.margins[a] as i64)? as usize;
            }
            scaled.starts[a] =
                self.starts[a].iter().map(|&s| scale("start", s)).collect::<Result<_>>()?;
        }
        Ok(scaled)
    }

    /// Starts along an axis, ascending.
    pub fn axis_starts(&self, axis: usize) -> &[i64] {
        &self.starts[axis]
    }

    /// Number of patches.
    pub fn len(&self) -> usize {
        self.starts.iter().map(Vec::len).product()
    }

    /// Always false: a grid covers its volume.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The start of patch `n`, lexicographic; `n < len()`.
    pub fn start(&self, n: usize) -> [i64; 3] {
        let [_, ny, nx] = self.counts();
        [self.starts[0][n / (ny * nx)], self.starts[1][n / nx % ny], self.starts[2][n % nx]]
    }

    /// Every start, lexicographic.
    pub fn starts(&self) -> impl Iterator<Item = [i64; 3]> + '_ {
        (0..self.len()).map(|n| self.start(n))
    }

    /// The index of `start` among the starts of each axis; `None` if no patch begins there.
    pub(crate) fn indices_of(&self, start: [i64; 3]) -> Option<Size3> {
        let index = |a: usize| self.starts[a].binary_search(&start[a]).ok();
        Some([index(0)?, index(1)?, index(2)?])
    }

    /// The number of the patch with those indices.
    pub(crate) fn number_of(&self, [z, y, x]: Size3) -> usize {
        let [_, ny, nx] = self.counts();
        (z * ny + y) * nx + x
    }

    /// Starts along each axis.
    pub(crate) fn counts(&self) -> Size3 {
        [0, 1, 2].map(|a| self.starts[a].len())
    }
}

/// `n` voxels of axis `a`, of which `up` replace each `down`.
fn scale_axis(what: &str, n: i64, a: usize, (up, down): (usize, usize)) -> Result<i64> {
    if up == 0 || down == 0 || n % down as i64 != 0 {
        let axis = ["z", "y", "x"][a];
        return Err(Error::unsupported(
            format!("scale {up}/{down} along {axis}: {what} {n} is not a multiple of {down}"),
            "choose a volume size, patch size and overlap that are, or pad the volume",
        ));
    }
    let scaled = (n / down as i64).checked_mul(up as i64);
    scaled.ok_or_else(|| Error::TooLarge { what: "the scaled grid".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(
        p: usize,
        overlap: Overlap,
        padding: Padding,
        placement: Placement,
        s: usize,
    ) -> Vec<i64> {
        let sampler = GridSampler::new([1, 1, p], overlap).unwrap();
        let sampler = sampler.padding(padding).placement(placement);
        sampler.grid([1, 1, s]).unwrap().axis_starts(2).to_vec()
    }

    #[test]
    fn flush_grids_are_torchios() {
        let voxels = |o| Overlap::Voxels([0, 0, o]);
        // range(0, 10 + 1 − 4, 2), and 10 − 4 is in it.
        assert_eq!(starts(4, voxels(2), Padding::None, Placement::Flush, 10), [0, 2, 4, 6]);
        assert_eq!(starts(4, voxels(0), Padding::None, Placement::Flush, 10), [0, 4, 6]);
        assert_eq!(starts(10, voxels(0), Padding::None, Placement::Flush, 10), [0]);
        assert_eq!(starts(4, voxels(3), Padding::None, Placement::Flush, 6), [0, 1, 2]);
        // Padded by 1: an axis of 12 from −1 on.
        let padding = Padding::Edge;
        assert_eq!(starts(4, voxels(2), padding, Placement::Flush, 10), [-1, 1, 3, 5, 7]);
        // One patch about the middle of what is too short.
        assert_eq!(starts(9, voxels(2), padding, Placement::Flush, 4), [-2]);
    }

    #[test]
    fn without_a_margin_only_short_axes_are_padded() {
        let sampler = GridSampler::new([4; 3], Overlap::Fraction(0.5)).unwrap();
        for placement in [Placement::Flush, Placement::Even] {
            let sampler = sampler.clone().padding(Padding::Edge).placement(placement);
            assert_eq!(sampler.grid([10, 4, 1]).unwrap().margins(), [1; 3]);
            let grid = sampler.margin(Margin::None).grid([10, 4, 1]).unwrap();
            assert_eq!(grid.margins(), [0; 3]);
            // Three voxels are missing: one in front, two behind.
            assert_eq!([0, 1, 2].map(|a| grid.axis_starts(a)), [&[0, 2, 4, 6][..], &[0], &[-1]]);
        }
    }

    #[test]
    fn even_grids_are_nnunets() {
        // ceil((100 − 32) / 16) + 1 = 6 starts, 68 / 5 = 13.6 apart.
        let half = Overlap::Fraction(0.5);
        assert_eq!(starts(32, half, Padding::None, Placement::Even, 100), [0, 14, 27, 41, 54, 68]);
        assert_eq!(starts(32, half, Padding::None, Placement::Even, 32), [0]);
        // A step of 2.5 voxels: ceil(5 / 2.5) + 1 = 3 starts, at 2.5 rounded half to even.
        assert_eq!(starts(5, half, Padding::None, Placement::Even, 10), [0, 2, 5]);
    }

    #[test]
    fn fractions_are_monais_when_flush() {
        // Interval max(int(5 · 0.5), 1) = 2.
        assert_eq!(
            starts(5, Overlap::Fraction(0.5), Padding::None, Placement::Flush, 10),
            [0, 2, 4, 5]
        );
        assert_eq!(
            starts(1, Overlap::Fraction(0.9), Padding::None, Placement::Flush, 3),
            [0, 1, 2]
        );
    }

    #[test]
    fn numbers_and_indices_agree() {
        let grid = GridSampler::new([2; 3], [0, 1, 1]).unwrap().grid([4, 5, 3]).unwrap();
        assert_eq!(grid.counts(), [2, 4, 2]);
        for (n, start) in grid.starts().enumerate() {
            assert_eq!(grid.number_of(grid.indices_of(start).unwrap()), n);
        }
        assert_eq!(grid.start(15), [2, 3, 1]);
        assert!(grid.indices_of([1, 0, 0]).is_none());
    }

    #[test]
    fn impossible_grids_are_refused() {
        let refused = |overlap| GridSampler::new([4; 3], overlap).is_err();
        assert!(refused(Overlap::Voxels([0, 4, 0])));
        assert!(
            refused(Overlap::Fraction(1.0))
                && refused(Overlap::Fraction(-0.1))
                && refused(Overlap::Fraction(f64::NAN))
        );
        let error = GridSampler::new([4; 3], 0).unwrap().grid([4, 3, 4]).unwrap_err();
        assert!(error.to_string().contains("larger than the volume"));
    }
}
