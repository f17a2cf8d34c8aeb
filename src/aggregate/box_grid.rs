//! A regular grid of boxes over the result: the tiles, or the boxes that a sink takes.

use std::ops::Range;

use super::coverage::AxisCoverage;
use crate::memory::{collected, zeroed};
use crate::{Region, Result, Size3};

/// A regular grid of boxes; those at the end of an axis are cut off there.
#[derive(Clone, Debug)]
pub(super) struct BoxGrid {
    size: Size3,
    box_size: Size3,
}

impl BoxGrid {
    pub(super) fn new(size: Size3, box_size: Size3) -> Self {
        Self { size, box_size }
    }

    /// Extents of what the boxes cover.
    #[cfg(feature = "ndarray")]
    pub(super) fn size(&self) -> Size3 {
        self.size
    }

    /// Extents of a whole box.
    pub(super) fn box_size(&self) -> Size3 {
        self.box_size
    }

    fn counts(&self) -> Size3 {
        [0, 1, 2].map(|a| self.size[a].div_ceil(self.box_size[a]))
    }

    pub(super) fn len(&self) -> usize {
        self.counts().iter().product()
    }

    /// The number of the box at an index `(z, y, x)`.
    pub(super) fn number(&self, [z, y, x]: Size3) -> usize {
        let [_, ny, nx] = self.counts();
        (z * ny + y) * nx + x
    }

    fn index(&self, number: usize) -> Size3 {
        let [_, ny, nx] = self.counts();
        [number / (ny * nx), number / nx % ny, number % nx]
    }

    /// The voxels of a box.
    pub(super) fn region(&self, number: usize) -> Region {
        let index = self.index(number);
        let start = [0, 1, 2].map(|a| (index[a] * self.box_size[a]) as i64);
        Region::new(start, self.box_size).clip(self.size)
    }

    /// The number of the box that contains a voxel.
    pub(super) fn containing(&self, voxel: [i64; 3]) -> usize {
        self.number([0, 1, 2].map(|a| voxel[a] as usize / self.box_size[a]))
    }

    /// Indices on `axis` of the boxes that contain any of `voxels`.
    pub(super) fn meeting(&self, axis: usize, voxels: &Range<usize>) -> Range<usize> {
        if voxels.is_empty() {
            return 0..0;
        }
        voxels.start / self.box_size[axis]..voxels.end.div_ceil(self.box_size[axis])
    }

    /// Indices on each axis of the boxes that the patch at index `patch` counts for.
    pub(super) fn met_by(&self, axes: &[AxisCoverage; 3], patch: Size3) -> [Range<usize>; 3] {
        [0, 1, 2].map(|a| self.meeting(a, &axes[a].used[patch[a]]))
    }

    /// How many patches count for each box, by number.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn patch_counts(&self, axes: &[AxisCoverage; 3]) -> Result<Vec<usize>> {
        let counts = self.counts();
        let along = |a: usize| -> Result<Vec<usize>> {
            let mut patches = zeroed(counts[a], || format!("a list of {} boxes", counts[a]))?;
            for used in &axes[a].used {
                patches[self.meeting(a, used)].iter_mut().for_each(|n| *n += 1);
            }
            Ok(patches)
        };
        let [z, y, x] = [along(0)?, along(1)?, along(2)?];
        let patches_of = |[i, j, k]: Size3| z[i] * y[j] * x[k];
        self.for_each(|number| patches_of(self.index(number)))
    }

    /// The results of `make` for the number of each box.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn for_each<T>(&self, make: impl FnMut(usize) -> T) -> Result<Vec<T>> {
        let count = self.len();
        collected((0..count).map(make), count as u64, || format!("a list of {count} boxes"))
    }
}
