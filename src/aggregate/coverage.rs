//! Coverage of one axis: which patches of a grid count for which voxels.
//!
//! A grid is a product of starts along three axes, so a patch counts for a voxel if it does on each
//! axis alone.
//!
//! # Invariants
//! - On each axis, at least one patch counts for every voxel, and those that do are consecutive.

use std::ops::Range;

use super::window::{Window, WindowWeights};
use crate::memory::{collected, zeroed};
use crate::sample::Grid;
use crate::{Error, Result};

/// The patches along one axis.
#[derive(Debug)]
pub(super) struct AxisCoverage {
    /// For each start on the axis, the voxels of the volume that its patch counts for; ascending.
    pub(super) used: Vec<Range<usize>>,
    /// The first voxel of each patch, which may lie outside the volume.
    pub(super) starts: Vec<i64>,
    /// For each voxel, the sum of the axis' weights over the patches that count for it.
    pub(super) sums: Vec<f64>,
}

impl AxisCoverage {
    /// The patches of one axis of `grid` under `window`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a crop of an odd overlap, [`Error::OutOfMemory`].
    pub(super) fn new(
        grid: &Grid,
        axis: usize,
        window: &Window,
        weights: &WindowWeights,
    ) -> Result<Self> {
        let (starts, p, size) =
            (grid.axis_starts(axis), grid.patch_size()[axis], grid.size()[axis]);
        let (count, what) = (starts.len() as u64, || format!("the weights of {size} voxels"));
        let starts = collected(starts.iter().copied(), count, what)?;
        let inside = |at: i64| at.clamp(0, size as i64) as usize;
        let used = starts.iter().map(|&s| inside(s)..inside(s + p as i64));
        let mut used = collected(used, count, what)?;
        if *window == Window::Crop {
            let overlap = grid.overlap()[axis];
            if overlap % 2 == 1 && starts.len() > 1 {
                return Err(Error::unsupported(
                    format!(
                        "window crop cuts half the overlap from both faces, and {overlap} (axis \
                         {axis} of z, y, x) is odd"
                    ),
                    "make it even, or choose another window",
                ));
            }
            crop(&mut used, &starts, p, size, overlap / 2, grid.margins()[axis]);
        }
        let mut sums = zeroed::<f64>(size, what)?;
        for (range, &start) in used.iter().zip(&starts) {
            for i in range.clone() {
                sums[i] += weights.profiles[axis][(i as i64 - start) as usize];
            }
        }
        Ok(Self { used, starts, sums })
    }

    /// The largest number of patches that count for one voxel.
    pub(super) fn most(&self) -> usize {
        // A patch's first voxel also has those before it that end behind that voxel.
        let at_first =
            |(i, used): (usize, &Range<usize>)| i + 1 - self.patches_at(used.start).start;
        self.used.iter().enumerate().map(at_first).max().unwrap_or(0)
    }

    /// The patches that count for voxel `i`.
    pub(super) fn patches_at(&self, i: usize) -> Range<usize> {
        self.patches_meeting(&(i..i + 1))
    }

    /// The patches that count for any of `voxels`.
    pub(super) fn patches_meeting(&self, voxels: &Range<usize>) -> Range<usize> {
        let first = self.used.partition_point(|used| used.end <= voxels.start);
        let end = self.used.partition_point(|used| used.start < voxels.end);
        first..end
    }
}

/// Cuts `half` an overlap from faces inside the volume and `margin` from those outside; where
/// patches still overlap, the later one counts.
fn crop(
    used: &mut [Range<usize>],
    starts: &[i64],
    p: usize,
    size: usize,
    half: usize,
    margin: usize,
) {
    let inside = |at: i64| at.clamp(0, size as i64) as usize;
    let cut = |is_inside: bool| (if is_inside { half } else { margin }) as i64;
    for (range, &start) in used.iter_mut().zip(starts) {
        let end = start + p as i64;
        *range = inside(start + cut(start > 0))..inside(end - cut(end < size as i64));
    }
    // A lone patch counts for all voxels: no neighbour has what would be cut.
    if let [only] = used {
        *only = 0..size;
    }
    for i in 1..used.len() {
        used[i - 1].end = used[i - 1].end.min(used[i].start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::GridSampler;
    use crate::{Padding, Size3};

    fn used(
        p: usize,
        overlap: usize,
        padded: bool,
        s: usize,
        window: &Window,
    ) -> Vec<Range<usize>> {
        let padding = if padded { Padding::Edge } else { Padding::None };
        let patch: Size3 = [1, 1, p];
        let sampler = GridSampler::new(patch, [0, 0, overlap]).unwrap().padding(padding);
        let grid = sampler.grid([1, 1, s]).unwrap();
        AxisCoverage::new(&grid, 2, window, &window.weights(patch).unwrap()).unwrap().used
    }

    #[test]
    fn crop_gives_every_voxel_to_one_patch() {
        // Starts 0, 2, 4, 6 of patches of 4: one voxel is cut from each inner face.
        assert_eq!(used(4, 2, false, 10, &Window::Crop), [0..3, 3..5, 5..7, 7..10]);
        // Starts 0, 4, 6: nothing is cut, the later patch wins.
        assert_eq!(used(4, 0, false, 10, &Window::Crop), [0..4, 4..6, 6..10]);
        // Starts −1, 1, 3, 5, 7.
        assert_eq!(used(4, 2, true, 10, &Window::Crop), [0..2, 2..4, 4..6, 6..8, 8..10]);
        assert_eq!(used(12, 2, true, 5, &Window::Crop), [0..5]);
    }

    #[test]
    fn other_windows_use_all_that_lies_inside() {
        assert_eq!(used(4, 2, true, 5, &Window::Hann), [0..3, 1..5, 2..5]);
    }

    #[test]
    fn patches_are_found_by_voxel() {
        let window = Window::Average;
        let grid = GridSampler::new([1, 1, 4], [0, 0, 2]).unwrap().grid([1, 1, 10]).unwrap();
        let axis =
            AxisCoverage::new(&grid, 2, &window, &window.weights([1, 1, 4]).unwrap()).unwrap();
        assert_eq!([0, 2, 9].map(|i| axis.patches_at(i)), [0..1, 0..2, 3..4]);
        assert_eq!(axis.patches_meeting(&(3..5)), 0..3);
        assert_eq!(axis.most(), 2);
        assert_eq!(axis.sums, [1., 1., 2., 2., 2., 2., 2., 2., 1., 1.]);
    }
}
