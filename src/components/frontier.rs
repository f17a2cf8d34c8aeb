//! The pieces at the last planes of earlier boxes, which later boxes may touch.
//!
//! # Invariants
//! - Boxes come in C order, and each touches only boxes that came before: those below it along z,
//!   those before it along y in its own layer, and the one before it along x.
//! - What a box reads, no box of the same layer or row has overwritten: planes are double.

use std::mem::swap;
use std::ops::Range;

use super::cells::{Cell, CellGrid};
use super::options::Connectivity;
use super::pieces::{BACKGROUND, Pieces};
use super::runs::BoxRuns;
use crate::memory::zeroed;
use crate::{Error, Result, Size3};

/// The last planes of earlier boxes.
pub(super) struct Frontier {
    connectivity: Connectivity,
    size: Size3,
    counts: Size3,
    /// The last z plane of the layer below, `(y, x)`, and that of this layer.
    below: [Vec<u32>; 2],
    /// The last y plane of the row of boxes before this one, `(z, x)`, and that of this row.
    before: [Vec<u32>; 2],
    /// The last x plane of the box before this one, `(z, y)`.
    left: Vec<u32>,
}

impl Frontier {
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::TooLarge`].
    pub(super) fn new(size: Size3, grid: &CellGrid, connectivity: Connectivity) -> Result<Self> {
        let step = grid.step();
        let plane = |one: usize, other: usize| {
            let what = || format!("a plane of {one} × {other} voxels");
            let voxels = one.checked_mul(other).filter(|&n| n <= isize::MAX as usize / 4);
            zeroed::<u32>(voxels.ok_or_else(|| Error::TooLarge { what: what() })?, what)
        };
        Ok(Self {
            connectivity,
            size,
            counts: grid.counts(),
            below: [plane(size[1], size[2])?, plane(size[1], size[2])?],
            before: [plane(step[0], size[2])?, plane(step[0], size[2])?],
            left: plane(step[0], step[1])?,
        })
    }

    /// Takes the next box, whose runs are of the pieces `ids`.
    pub(super) fn take(&mut self, cell: &Cell, runs: &BoxRuns, ids: &[u32], pieces: &mut Pieces) {
        for ([z, y], row) in runs.rows() {
            for i in row {
                let run = runs.runs()[i];
                if z == 0 && cell.at[0] > 0 {
                    self.touch_below(cell, y, run.start..run.end, ids[i], pieces);
                }
                if y == 0 && cell.at[1] > 0 {
                    self.touch_before(cell, z, run.start..run.end, ids[i], pieces);
                }
                if run.start == 0 && cell.at[2] > 0 {
                    self.touch_left(cell, [z, y], ids[i], pieces);
                }
            }
        }
        self.keep(cell, runs, ids);
    }

    fn touch_below(&self, cell: &Cell, y: usize, run: Range<u32>, piece: u32, pieces: &mut Pieces) {
        for dy in -1..=1isize {
            let Some(reach) = self.connectivity.reach(1 + dy.unsigned_abs()) else { continue };
            let y = (cell.start[1] + y).checked_add_signed(dy).filter(|&y| y < self.size[1]);
            let Some(y) = y else { continue };
            let x = self.reached(cell, &run, reach);
            touch_all(&self.below[0][y * self.size[2]..][x], piece, pieces);
        }
    }

    fn touch_before(
        &self,
        cell: &Cell,
        z: usize,
        run: Range<u32>,
        piece: u32,
        pieces: &mut Pieces,
    ) {
        for dz in -1..=1isize {
            let Some(reach) = self.connectivity.reach(1 + dz.unsigned_abs()) else { continue };
            let Some(z) = z.checked_add_signed(dz).filter(|&z| z < cell.size[0]) else { continue };
            let x = self.reached(cell, &run, reach);
            touch_all(&self.before[0][z * self.size[2]..][x], piece, pieces);
        }
    }

    fn touch_left(&self, cell: &Cell, [z, y]: [usize; 2], piece: u32, pieces: &mut Pieces) {
        for (dz, dy) in (-1..=1isize).flat_map(|dz| (-1..=1isize).map(move |dy| (dz, dy))) {
            if self.connectivity.reach(1 + dz.unsigned_abs() + dy.unsigned_abs()).is_none() {
                continue;
            }
            let z = z.checked_add_signed(dz).filter(|&z| z < cell.size[0]);
            let y = y.checked_add_signed(dy).filter(|&y| y < cell.size[1]);
            if let (Some(z), Some(y)) = (z, y) {
                let at = z * cell.size[1] + y;
                touch_all(&self.left[at..=at], piece, pieces);
            }
        }
    }

    /// The voxels of a row of the volume that touch a run of a box.
    fn reached(&self, cell: &Cell, run: &Range<u32>, reach: usize) -> Range<usize> {
        let [start, end] = [run.start, run.end].map(|x| cell.start[2] + x as usize);
        start.saturating_sub(reach)..(end + reach).min(self.size[2])
    }

    /// Keeps the last planes of a box.
    fn keep(&mut self, cell: &Cell, runs: &BoxRuns, ids: &[u32]) {
        let ([nz, ny, nx], [_, y0, x0], width) = (cell.size, cell.start, self.size[2]);
        for y in y0..y0 + ny {
            self.below[1][y * width + x0..][..nx].fill(BACKGROUND);
        }
        for z in 0..nz {
            self.before[1][z * width + x0..][..nx].fill(BACKGROUND);
        }
        self.left.fill(BACKGROUND);
        for ([z, y], row) in runs.rows() {
            for i in row {
                let run = runs.runs()[i];
                let (start, end) = (x0 + run.start as usize, x0 + run.end as usize);
                if z + 1 == nz {
                    let row = (y0 + y) * width;
                    self.below[1][row + start..row + end].fill(ids[i]);
                }
                if y + 1 == ny {
                    self.before[1][z * width + start..z * width + end].fill(ids[i]);
                }
                if end == x0 + nx {
                    self.left[z * ny + y] = ids[i];
                }
            }
        }
        let is_last = |a: usize| cell.at[a] + 1 == self.counts[a];
        if is_last(2) {
            let [before, kept] = &mut self.before;
            swap(before, kept);
        }
        if is_last(2) && is_last(1) {
            let [below, kept] = &mut self.below;
            swap(below, kept);
        }
    }
}

/// Notes that a piece touches `others`, where these are pieces.
fn touch_all(others: &[u32], piece: u32, pieces: &mut Pieces) {
    let mut last = BACKGROUND;
    for &other in others {
        if other != BACKGROUND && other != last {
            pieces.touch(piece, other);
            last = other;
        }
    }
}
