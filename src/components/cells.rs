//! Cuts a volume into boxes that end where blocks end.

use crate::{Region, Size3};

/// The most voxels of a box along an axis, so that places in it fit 32 bits.
const MOST: usize = 1 << 31;

/// A volume cut into boxes of `step` voxels, which begin anew with every block.
#[derive(Clone, Debug)]
pub(super) struct CellGrid {
    size: Size3,
    block: Size3,
    step: Size3,
}

/// One box of the grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// Its place in the grid.
    pub(super) at: Size3,
    pub(super) start: Size3,
    pub(super) size: Size3,
}

impl Cell {
    pub(super) fn region(&self) -> Region {
        Region::new(self.start.map(|n| n as i64), self.size)
    }

    /// The part of the cell that lies in `other`, if they meet.
    pub(super) fn within(&self, other: &Cell) -> Option<Cell> {
        let start = [0, 1, 2].map(|a| self.start[a].max(other.start[a]));
        let end = |cell: &Cell, a: usize| cell.start[a] + cell.size[a];
        let ends = [0, 1, 2].map(|a| end(self, a).min(end(other, a)));
        let meets = (0..3).all(|a| start[a] < ends[a]);
        meets.then(|| Cell { at: self.at, start, size: [0, 1, 2].map(|a| ends[a] - start[a]) })
    }
}

impl CellGrid {
    /// Boxes of at most `step` voxels, in blocks of `block`.
    pub(super) fn new(size: Size3, block: Size3, step: Size3) -> Self {
        let block = [0, 1, 2].map(|a| block[a].clamp(1, size[a].max(1)));
        let step = [0, 1, 2].map(|a| step[a].clamp(1, block[a]).min(MOST));
        Self { size, block, step }
    }

    /// The largest extents of a box.
    pub(super) fn step(&self) -> Size3 {
        self.step
    }

    /// Boxes along each axis.
    pub(super) fn counts(&self) -> Size3 {
        [0, 1, 2].map(|a| {
            let whole = self.size[a] / self.block[a];
            let rest = self.size[a] % self.block[a];
            whole * self.block[a].div_ceil(self.step[a]) + rest.div_ceil(self.step[a])
        })
    }

    /// All boxes.
    pub(super) fn len(&self) -> usize {
        self.counts().iter().product()
    }

    /// Box `number`, in C order.
    pub(super) fn cell(&self, number: usize) -> Cell {
        let [_, ny, nx] = self.counts();
        self.cell_at([number / nx / ny, number / nx % ny, number % nx])
    }

    pub(super) fn number(&self, [z, y, x]: Size3) -> usize {
        let [_, ny, nx] = self.counts();
        (z * ny + y) * nx + x
    }

    fn cell_at(&self, at: Size3) -> Cell {
        let (mut start, mut size) = ([0; 3], [0; 3]);
        for a in 0..3 {
            let steps = self.block[a].div_ceil(self.step[a]);
            let block = at[a] / steps * self.block[a];
            start[a] = block + at[a] % steps * self.step[a];
            let end = (start[a] + self.step[a]).min(block + self.block[a]).min(self.size[a]);
            size[a] = end - start[a];
        }
        Cell { at, start, size }
    }

    /// The boxes that meet `other`, a box of another grid, in C order.
    pub(super) fn meeting(&self, other: &Cell) -> impl Iterator<Item = Cell> + '_ {
        let index = |a: usize, voxel: usize| {
            let steps = self.block[a].div_ceil(self.step[a]);
            voxel / self.block[a] * steps + voxel % self.block[a] / self.step[a]
        };
        let [z, y, x] = [0, 1, 2]
            .map(|a| index(a, other.start[a])..index(a, other.start[a] + other.size[a] - 1) + 1);
        z.flat_map(move |z| {
            let x = x.clone();
            y.clone().flat_map(move |y| x.clone().map(move |x| self.cell_at([z, y, x])))
        })
    }

    /// The number of the block that a box lies in.
    pub(super) fn block_of(&self, cell: &Cell) -> u64 {
        let blocks = [0, 1, 2].map(|a| self.size[a].div_ceil(self.block[a]) as u64);
        let at = [0, 1, 2].map(|a| (cell.start[a] / self.block[a]) as u64);
        (at[0] * blocks[1] + at[1]) * blocks[2] + at[2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_disjoint_and_end_with_blocks() {
        for (block, step) in [([7, 7, 7], [3, 7, 2]), ([4, 9, 30], [4, 4, 8]), ([1; 3], [5; 3])] {
            let grid = CellGrid::new([10, 9, 11], block, step);
            let mut seen = vec![0; 10 * 9 * 11];
            for number in 0..grid.len() {
                let cell = grid.cell(number);
                assert_eq!(grid.number(cell.at), number);
                assert!(cell.size.iter().all(|&n| n > 0));
                for a in 0..3 {
                    let last = cell.start[a] + cell.size[a] - 1;
                    assert_eq!(cell.start[a] / block[a], last / block[a], "{cell:?}");
                }
                for z in cell.start[0]..cell.start[0] + cell.size[0] {
                    for y in cell.start[1]..cell.start[1] + cell.size[1] {
                        for x in cell.start[2]..cell.start[2] + cell.size[2] {
                            seen[(z * 9 + y) * 11 + x] += 1;
                        }
                    }
                }
            }
            assert!(seen.iter().all(|&n| n == 1), "{block:?} {step:?}");
            let whole = Cell { at: [0; 3], start: [0; 3], size: [10, 9, 11] };
            assert_eq!(grid.meeting(&whole).count(), grid.len());
            let part = Cell { at: [0; 3], start: [2, 3, 4], size: [3, 2, 5] };
            let met: usize =
                grid.meeting(&part).map(|cell| cell.within(&part).unwrap().region().len()).sum();
            assert_eq!(met, 30);
        }
    }
}
