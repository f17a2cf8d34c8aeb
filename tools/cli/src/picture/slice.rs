//! Reads a slice of a volume band by band, reduced to the resolution of a picture.

use voxquarry::{Padding, Result, Volume, Voxel, with_voxel};

use super::orient::View;

/// More cells than a panel has pixels would not be visible.
const MOST_CELLS: usize = 1024;
/// Bytes of voxels to read at once.
const BAND_BYTES: usize = 32 << 20;

/// How the voxels of a cell are reduced to one value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduce {
    /// The mean, also over colours; for images.
    Mean,
    /// The voxel in the middle; for labels.
    Pick,
}

/// A reduced slice, with rows along the slower of its two axes.
pub(super) struct SliceImage {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

/// The number of channels if they are colours: 3 or 4 of `uint8`.
pub(super) fn colours(volume: &Volume) -> Option<usize> {
    let is_byte = volume.dtype() == voxquarry::Dtype::UInt8;
    volume.channels().filter(|n| is_byte && (3..=4).contains(n))
}

impl SliceImage {
    /// Reads the slice of `view` as real values, with slope and intercept applied; NaN for cells
    /// without a finite voxel.
    pub(super) fn read(volume: &Volume, view: &View, reduce: Reduce) -> Result<Self> {
        with_voxel!(volume.dtype(), T => Self::read_as::<T>(volume, view, reduce))
    }

    fn read_as<T: Voxel>(volume: &Volume, view: &View, reduce: Reduce) -> Result<Self> {
        let size = volume.size();
        let (slow, fast) = (view.up.min(view.across), view.up.max(view.across));
        let (rows, columns) = (size[slow].min(MOST_CELLS), size[fast].min(MOST_CELLS));
        // The fourth channel is opacity, not brightness.
        let channels = if reduce == Reduce::Mean { colours(volume).map_or(1, |_| 3) } else { 1 };
        let mut sums = vec![0.0; rows * columns];
        let mut counts = vec![0u32; rows * columns];
        // The cell of each voxel along an axis, and whether the voxel counts.
        let cells = |n: usize, cells: usize| -> Vec<(usize, bool)> {
            let cell = |i: usize| {
                let cell = i * cells / n;
                (cell, reduce == Reduce::Mean || i == (2 * cell + 1) * n / (2 * cells))
            };
            (0..n).map(cell).collect()
        };
        let (row_of, column_of) = (cells(size[slow], rows), cells(size[fast], columns));
        let row_bytes = size[fast] * channels * size_of::<T>();
        let layer = volume.layout().chunk[slow];
        // Whole layers of chunks where they fit, so that each chunk is decoded once.
        let fitting = (BAND_BYTES / row_bytes).max(1);
        let depth = if fitting > layer { fitting / layer * layer } else { fitting };
        for first in (0..size[slow]).step_by(depth) {
            let depth = depth.min(size[slow] - first);
            let (mut start, mut extent) = ([0; 3], [1; 3]);
            (start[view.normal], start[slow]) = (view.index as i64, first as i64);
            (extent[slow], extent[fast]) = (depth, size[fast]);
            let mut voxels = vec![T::default(); channels * depth * size[fast]];
            let bytes = bytemuck::cast_slice_mut(&mut voxels);
            volume.read_bytes(&[start], extent, Padding::None, 0..channels, bytes)?;
            for (i, line) in voxels.chunks_exact(size[fast]).enumerate() {
                let (row, counts_row) = row_of[first + i % depth];
                for (voxel, &(column, counts_column)) in line.iter().zip(&column_of) {
                    let value = voxel.to_f64();
                    if counts_row && counts_column && value.is_finite() {
                        sums[row * columns + column] += value;
                        counts[row * columns + column] += 1;
                    }
                }
            }
        }
        let (slope, intercept) = match reduce {
            Reduce::Mean => volume.slope_intercept(),
            Reduce::Pick => (1.0, 0.0),
        };
        let value = |(sum, count): (&f64, &u32)| sum / f64::from(*count) * slope + intercept;
        Ok(Self { rows, columns, values: sums.iter().zip(&counts).map(value).collect() })
    }

    /// The values of all cells; NaN for those without a finite voxel.
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    /// The number of cells up and across in `view`.
    pub(super) fn cells(&self, view: &View) -> [usize; 2] {
        if view.up < view.across { [self.rows, self.columns] } else { [self.columns, self.rows] }
    }

    /// The value of the cell that contains the point `(up, across)`.
    pub(super) fn nearest(&self, view: &View, [up, across]: [f64; 2]) -> f64 {
        self.cell(view, [up.floor() as i64, across.floor() as i64])
    }

    /// The value at a point, interpolated between the centres of four cells.
    pub(super) fn linear(&self, view: &View, at: [f64; 2]) -> f64 {
        let [up, across] = at.map(|v| v - 0.5);
        let (i, j) = (up.floor(), across.floor());
        let (u, v) = (up - i, across - j);
        let cell = |di: i64, dj: i64| self.cell(view, [i as i64 + di, j as i64 + dj]);
        (cell(0, 0) * (1.0 - v) + cell(0, 1) * v) * (1.0 - u)
            + (cell(1, 0) * (1.0 - v) + cell(1, 1) * v) * u
    }

    /// The value of a cell, or of the nearest one beyond the border.
    fn cell(&self, view: &View, [up, across]: [i64; 2]) -> f64 {
        let (row, column) = if view.up < view.across { (up, across) } else { (across, up) };
        let row = row.clamp(0, self.rows as i64 - 1) as usize;
        let column = column.clamp(0, self.columns as i64 - 1) as usize;
        self.values[row * self.columns + column]
    }
}
