//! Counts how many patches cover each voxel, as a map of the mean along a view.
//!
//! # Invariants
//! - A map has at most [`MOST_CELLS`] cells along each side, whatever the volume's size.

use voxquarry::{Region, Size3};

use super::orient::View;
use super::raster::Colour;

/// More cells than a panel has pixels would not be visible.
const MOST_CELLS: usize = 1024;

/// The mean number of patches that cover a voxel, along the view, for cells up and across.
pub(super) struct CoverageMap {
    pub(super) cells: [usize; 2],
    values: Vec<f64>,
}

impl CoverageMap {
    /// Counts the parts of patches inside a volume of `size`.
    pub(super) fn new(patches: &[Region], size: Size3, view: &View) -> Self {
        let axes = [view.up, view.across];
        let cells = axes.map(|axis| size[axis].min(MOST_CELLS));
        // Adds differences at the corners of each rectangle; their prefix sums over both axes are
        // the counts.
        let width = cells[1] + 1;
        let mut sums = vec![0.0; (cells[0] + 1) * width];
        for patch in patches.iter().map(|patch| patch.clip(size)).filter(|p| !p.is_empty()) {
            let depth = patch.size[view.normal] as f64 / size[view.normal] as f64;
            let [rows, columns] = [0, 1].map(|i| {
                let scale = cells[i] as f64 / size[axes[i]] as f64;
                let ends = [patch.start[axes[i]] as f64, patch.end(axes[i]) as f64];
                let [begin, end] = ends.map(|at| (at * scale).round() as usize);
                [begin.min(cells[i] - 1), end.max(begin + 1).min(cells[i])]
            });
            for (row, sign) in [(rows[0], depth), (rows[1], -depth)] {
                sums[row * width + columns[0]] += sign;
                sums[row * width + columns[1]] -= sign;
            }
        }
        for row in sums.chunks_exact_mut(width) {
            for x in 1..width {
                row[x] += row[x - 1];
            }
        }
        for i in width..sums.len() {
            sums[i] += sums[i - width];
        }
        let values = sums.chunks_exact(width).take(cells[0]).flat_map(|row| &row[..cells[1]]);
        Self { values: values.copied().collect(), cells }
    }

    /// The largest value.
    pub(super) fn highest(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }

    /// The cell that holds the point `(up, across)`.
    pub(super) fn at(&self, [up, across]: [f64; 2]) -> f64 {
        let cell = |at: f64, n: usize| (at as usize).min(n - 1);
        self.values[cell(up, self.cells[0]) * self.cells[1] + cell(across, self.cells[1])]
    }
}

/// The colour for a fraction of the highest count: black for 0, then purple, orange, light yellow
/// for 1.
pub(super) fn colour(part: f64) -> Colour {
    const STOPS: [[f64; 3]; 4] =
        [[0.0, 0.0, 0.0], [110.0, 25.0, 120.0], [240.0, 110.0, 30.0], [255.0, 250.0, 190.0]];
    let at = part.clamp(0.0, 1.0) * 3.0;
    let i = (at as usize).min(2);
    let t = at - i as f64;
    [0, 1, 2].map(|c| (STOPS[i][c] * (1.0 - t) + STOPS[i + 1][c] * t).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::super::{orient, style::Style};
    use super::*;
    use voxquarry::Affine;

    #[test]
    fn coverage_equals_a_naive_count() {
        let size = [5, 7, 4];
        let patches: Vec<Region> = (0..40)
            .map(|i: i64| {
                Region::new([i % 7 - 2, i % 9 - 1, i % 5 - 1], [3, 2, 1 + i as usize % 3])
            })
            .collect();
        for view in orient::views_of(size, &Affine::IDENTITY, &Style::default()) {
            let coverage = CoverageMap::new(&patches, size, &view);
            let mut expected = vec![0.0; size[view.up] * size[view.across]];
            let is_in = |patch: &Region, at: Size3| {
                (0..3).all(|a| (patch.start[a]..patch.end(a)).contains(&(at[a] as i64)))
            };
            for z in 0..size[0] {
                for (y, x) in (0..size[1]).flat_map(|y| (0..size[2]).map(move |x| (y, x))) {
                    let at = [z, y, x];
                    let covered = patches.iter().filter(|patch| is_in(patch, at)).count();
                    expected[at[view.up] * size[view.across] + at[view.across]] +=
                        covered as f64 / size[view.normal] as f64;
                }
            }
            for (found, expected) in coverage.values.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-9);
            }
        }
        assert_eq!([0.0, 1.0].map(colour), [[0; 3], [255, 250, 190]]);
    }
}
