//! Patches that cover a volume, overlapping.
//!
//! # Invariants
//! - A grid is a Cartesian product of ascending starts, and every voxel of the volume lies in at least one patch.

use std::sync::Arc;

use super::{PatchLocation, check_fits};
use crate::geometry::check_patch_size;
use crate::{Error, Padding, Region, Result, Size3, Subject};

/// Voxels that neighbouring patches share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Overlap {
    /// So many voxels on each axis, `(z, y, x)`; stride = patch − overlap.
    Voxels(Size3),
    /// This part of the patch, in `0.0..1.0`; stride = patch × (1 − overlap), at least 1, and rounded down when flush.
    Fraction(f64),
}

/// How starts are laid along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// At every stride, the last moved back to end with the volume (TorchIO, MONAI).
    #[default]
    Flush,
    /// As few as the stride allows, evenly spread (nnU-Net).
    Even,
}

/// How far around the volume a padded grid reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Margin {
    /// Half an overlap, rounded down, on each side of every axis (TorchIO).
    #[default]
    HalfOverlap,
    /// Not at all: axes that hold a patch are laid as without padding (MONAI, nnU-Net).
    None,
}

/// Lays patches over a volume.
#[derive(Clone, Debug)]
pub struct GridSampler {
    patch_size: Size3,
    overlap: Overlap,
    padding: Option<Padding>,
    placement: Placement,
    margin: Margin,
}

/// The patches of one volume: starts for each axis, of which every combination is a patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    size: Size3,
    patch_size: Size3,
    overlap: Size3,
    margins: Size3,
    starts: [Vec<i64>; 3],
}

impl GridSampler {
    /// A sampler of patches of `patch_size`, `(z, y, x)`.
    ///
    /// With a `padding`, the grid covers the volume and half an overlap around it, or only the volume
    /// ([`GridSampler::with_margin`]). An axis that is shorter than the patch even then gets one patch about its middle; of an
    /// odd difference the smaller half lies in front.
    ///
    /// # Errors
    /// [`Error::Usage`] for a size of zero, an overlap that is not smaller than the patch, or a fraction outside `0.0..1.0`.
    pub fn new(
        patch_size: Size3,
        overlap: Overlap,
        padding: Option<Padding>,
        placement: Placement,
    ) -> Result<Self> {
        check_patch_size(patch_size)?;
        match overlap {
            Overlap::Voxels(overlap) if (0..3).any(|a| overlap[a] >= patch_size[a]) => {
                return Err(Error::usage(format!(
                    "overlap {overlap:?} is not smaller than the patch of {patch_size:?} voxels: the stride is their difference"
                )));
            }
            Overlap::Fraction(f) if !(0.0..1.0).contains(&f) => {
                return Err(Error::usage(format!(
                    "overlap {f}: a fraction lies in 0.0 to below 1.0"
                )));
            }
            _ => {}
        }
        if padding == Some(Padding::Refuse) {
            return Err(Error::usage(
                "a grid's padding is a constant, edge or reflect; without one it is None",
            ));
        }
        Ok(Self { patch_size, overlap, padding, placement, margin: Margin::default() })
    }

    /// The same with another margin; without a padding there is none.
    #[must_use]
    pub fn with_margin(self, margin: Margin) -> Self {
        Self { margin, ..self }
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// Voxels that neighbouring patches share.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// How starts are laid along an axis.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// How patches that leave the volume are to be read.
    pub fn padding(&self) -> Option<Padding> {
        self.padding
    }

    /// How far around the volume the grid reaches, if it is padded.
    pub fn margin(&self) -> Margin {
        self.margin
    }

    /// The grid over a volume of `size` voxels.
    ///
    /// # Errors
    /// [`Error::Usage`] if the patch does not fit and there is no padding.
    pub fn grid(&self, size: Size3) -> Result<Grid> {
        if self.padding.is_none() {
            check_fits(self.patch_size, size, "or give the grid a padding")?;
        }
        let strides = [0, 1, 2].map(|a| self.stride(a));
        // Even strides of a fraction may be fractional too: two patches then share at least this much.
        let overlap = [0, 1, 2].map(|a| self.patch_size[a] - strides[a].ceil() as usize);
        let margins = match (self.padding, self.margin) {
            (Some(_), Margin::HalfOverlap) => overlap.map(|o| o / 2),
            _ => [0; 3],
        };
        let starts = [0, 1, 2].map(|a| {
            let (p, s) = (self.patch_size[a], size[a] + 2 * margins[a]);
            if p > s {
                return vec![-(((p - size[a]) / 2) as i64)];
            }
            let starts = match self.placement {
                Placement::Flush => flush(s - p, strides[a] as usize),
                Placement::Even => even(s - p, strides[a]),
            };
            starts.into_iter().map(|start| start as i64 - margins[a] as i64).collect()
        });
        Ok(Grid { size, patch_size: self.patch_size, overlap, margins, starts })
    }

    /// Every patch of `subject`, lexicographic in `(z, y, x)`.
    ///
    /// # Errors
    /// As [`GridSampler::grid`]; what opening a volume returns.
    pub fn locations(&self, subject: &Subject) -> Result<Vec<PatchLocation>> {
        let (grid, name) = (self.grid(subject.size()?)?, Arc::<str>::from(subject.name()));
        let location = |start| PatchLocation {
            subject: name.clone(),
            region: Region::new(start, self.patch_size),
        };
        Ok(grid.starts().map(location).collect())
    }

    /// Voxels from one start to the next; a fraction only where placement is even.
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

/// Every `stride` from 0, and `last`.
fn flush(last: usize, stride: usize) -> Vec<usize> {
    let mut starts: Vec<usize> = (0..=last).step_by(stride).collect();
    if starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
}

/// As many as reach from 0 to `last` with at most `stride` between them, rounded half to even as numpy does.
fn even(last: usize, stride: f64) -> Vec<usize> {
    let steps = (last as f64 / stride).ceil() as usize;
    let step = last as f64 / steps.max(1) as f64;
    (0..=steps).map(|i| (i as f64 * step).round_ties_even() as usize).collect()
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

    /// Voxels that neighbours share at least, `(z, y, x)`.
    pub fn overlap(&self) -> Size3 {
        self.overlap
    }

    /// Voxels on each side of the volume that the grid covers too, `(z, y, x)`.
    pub fn margins(&self) -> Size3 {
        self.margins
    }

    /// The same grid over voxels of another size: of axis `a`, each `down[a]` voxels become `up[a]`.
    ///
    /// # Errors
    /// [`Error::Usage`] where the volume, the patch, an overlap or a start is no multiple of `down`.
    pub fn scaled(&self, up: Size3, down: Size3) -> Result<Self> {
        let mut scaled = self.clone();
        for a in 0..3 {
            let scale = |what: &str, n: i64| {
                if up[a] == 0 || down[a] == 0 || n % down[a] as i64 != 0 {
                    return Err(Error::usage(format!(
                        "scale {}/{} on axis {a} of z, y, x: {what} {n} is no multiple of {}: choose volume, patch and \
                         overlap that are, or pad the volume",
                        up[a], down[a], down[a]
                    )));
                }
                (n / down[a] as i64)
                    .checked_mul(up[a] as i64)
                    .ok_or_else(|| Error::usage("the scaled result exceeds the address space"))
            };
            scaled.size[a] = scale("the volume's", self.size[a] as i64)? as usize;
            scaled.patch_size[a] = scale("the patch's", self.patch_size[a] as i64)? as usize;
            if self.starts[a].len() > 1 {
                scaled.overlap[a] = scale("the overlap", self.overlap[a] as i64)? as usize;
                scaled.margins[a] = scale("the margin", self.margins[a] as i64)? as usize;
            }
            scaled.starts[a] =
                self.starts[a].iter().map(|&s| scale("a start", s)).collect::<Result<_>>()?;
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

    /// Never: a grid covers its volume.
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

    /// Places of `start` among the starts of each axis, or `None` if no patch begins there.
    pub(crate) fn places_of(&self, start: [i64; 3]) -> Option<Size3> {
        let place = |a: usize| self.starts[a].binary_search(&start[a]).ok();
        Some([place(0)?, place(1)?, place(2)?])
    }

    /// The number of the patch at those places.
    pub(crate) fn number_of(&self, [z, y, x]: Size3) -> usize {
        let [_, ny, nx] = self.counts();
        (z * ny + y) * nx + x
    }

    pub(crate) fn counts(&self) -> Size3 {
        [0, 1, 2].map(|a| self.starts[a].len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(
        p: usize,
        overlap: Overlap,
        padding: Option<Padding>,
        placement: Placement,
        s: usize,
    ) -> Vec<i64> {
        let sampler = GridSampler::new([1, 1, p], overlap, padding, placement).unwrap();
        sampler.grid([1, 1, s]).unwrap().axis_starts(2).to_vec()
    }

    #[test]
    fn flush_grids_are_torchios() {
        let voxels = |o| Overlap::Voxels([0, 0, o]);
        // range(0, 10 + 1 − 4, 2), and 10 − 4 is in it.
        assert_eq!(starts(4, voxels(2), None, Placement::Flush, 10), [0, 2, 4, 6]);
        assert_eq!(starts(4, voxels(0), None, Placement::Flush, 10), [0, 4, 6]);
        assert_eq!(starts(10, voxels(0), None, Placement::Flush, 10), [0]);
        assert_eq!(starts(4, voxels(3), None, Placement::Flush, 6), [0, 1, 2]);
        // Padded by 1: an axis of 12 from −1 on.
        let padding = Some(Padding::Edge);
        assert_eq!(starts(4, voxels(2), padding, Placement::Flush, 10), [-1, 1, 3, 5, 7]);
        // One patch about the middle of what is too short.
        assert_eq!(starts(9, voxels(2), padding, Placement::Flush, 4), [-2]);
    }

    #[test]
    fn without_a_margin_only_short_axes_are_padded() {
        let sampler = |placement| {
            GridSampler::new([4; 3], Overlap::Fraction(0.5), Some(Padding::Edge), placement)
        };
        for placement in [Placement::Flush, Placement::Even] {
            let grid =
                sampler(placement).unwrap().with_margin(Margin::None).grid([10, 4, 1]).unwrap();
            assert_eq!(grid.margins(), [0; 3]);
            // Three voxels are missing: one in front, two behind.
            assert_eq!([0, 1, 2].map(|a| grid.axis_starts(a)), [&[0, 2, 4, 6][..], &[0], &[-1]]);
            assert_eq!(sampler(placement).unwrap().grid([10, 4, 1]).unwrap().margins(), [1; 3]);
        }
    }

    #[test]
    fn even_grids_are_nnunets() {
        // ceil((100 − 32) / 16) + 1 = 6 starts, 68 / 5 = 13.6 apart.
        let half = Overlap::Fraction(0.5);
        assert_eq!(starts(32, half, None, Placement::Even, 100), [0, 14, 27, 41, 54, 68]);
        assert_eq!(starts(32, half, None, Placement::Even, 32), [0]);
        // A step of 2.5 voxels: ceil(5 / 2.5) + 1 = 3 starts, at 2.5 rounded half to even.
        assert_eq!(starts(5, half, None, Placement::Even, 10), [0, 2, 5]);
    }

    #[test]
    fn fractions_are_monais_when_flush() {
        // Interval max(int(5 · 0.5), 1) = 2.
        assert_eq!(starts(5, Overlap::Fraction(0.5), None, Placement::Flush, 10), [0, 2, 4, 5]);
        assert_eq!(starts(1, Overlap::Fraction(0.9), None, Placement::Flush, 3), [0, 1, 2]);
    }

    #[test]
    fn numbers_and_places_agree() {
        let sampler =
            GridSampler::new([2; 3], Overlap::Voxels([0, 1, 1]), None, Placement::Flush).unwrap();
        let grid = sampler.grid([4, 5, 3]).unwrap();
        assert_eq!(grid.counts(), [2, 4, 2]);
        for (n, start) in grid.starts().enumerate() {
            assert_eq!(grid.number_of(grid.places_of(start).unwrap()), n);
        }
        assert_eq!(grid.start(15), [2, 3, 1]);
        assert!(grid.places_of([1, 0, 0]).is_none());
    }

    #[test]
    fn impossible_grids_are_refused() {
        let refused = |overlap| GridSampler::new([4; 3], overlap, None, Placement::Flush).is_err();
        assert!(refused(Overlap::Voxels([0, 4, 0])));
        assert!(
            refused(Overlap::Fraction(1.0))
                && refused(Overlap::Fraction(-0.1))
                && refused(Overlap::Fraction(f64::NAN))
        );
        let sampler =
            GridSampler::new([4; 3], Overlap::Fraction(0.0), None, Placement::Flush).unwrap();
        assert!(
            sampler.grid([4, 3, 4]).unwrap_err().to_string().contains("larger than the volume")
        );
    }
}
