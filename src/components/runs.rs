//! Runs of voxels in the rows of a box, and the pieces that touching runs form in it.

use std::ops::Range;

use super::options::Connectivity;
use crate::memory::{collected, reserve};
use crate::{Error, Result, Size3, Voxel};

/// Neighbouring voxels of one row that are no background.
#[derive(Clone, Copy, Debug)]
pub(super) struct VoxelRun {
    pub(super) start: u32,
    pub(super) end: u32,
    /// The bits of its voxels; 0 where values do not matter.
    pub(super) value: u64,
}

impl VoxelRun {
    pub(super) fn len(self) -> u64 {
        u64::from(self.end - self.start)
    }
}

/// Whether a run ends where the value changes, or only at the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunValues {
    Any,
    Equal,
}

/// The runs of a box, row by row in C order.
#[derive(Debug)]
pub(super) struct BoxRuns {
    size: Size3,
    /// The first run of each row, and the number of all.
    rows: Vec<usize>,
    runs: Vec<VoxelRun>,
}

/// The piece of each run, numbered in C order of their first voxels, and how many there are.
#[derive(Debug)]
pub(super) struct BoxPieces {
    pub(super) of_run: Vec<u32>,
    pub(super) count: u32,
}

impl BoxRuns {
    /// The runs of `voxels`, a box of `size`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn of<T: Voxel>(voxels: &[T], size: Size3, values: RunValues) -> Result<Self> {
        let what = || format!("the runs of a box of {size:?} voxels");
        let mut rows = collected([0], (size[0] * size[1] + 1) as u64, what)?;
        let mut runs = Vec::new();
        let background = T::default();
        for row in voxels.chunks_exact(size[2]) {
            let mut x = 0;
            while let Some(skipped) = row[x..].iter().position(|&v| v != background) {
                let start = x + skipped;
                let (first, rest) = (row[start], &row[start..]);
                let length = match values {
                    RunValues::Any => rest.iter().position(|&v| v == background),
                    RunValues::Equal => rest.iter().position(|&v| v != first),
                };
                x = length.map_or(row.len(), |length| start + length);
                let value = if values == RunValues::Any { 0 } else { bits(first) };
                reserve(&mut runs, 1, what)?;
                runs.push(VoxelRun { start: start as u32, end: x as u32, value });
            }
            rows.push(runs.len());
        }
        Ok(Self { size, rows, runs })
    }

    pub(super) fn runs(&self) -> &[VoxelRun] {
        &self.runs
    }

    /// Of each row `z` and `y`, and the numbers of its runs; rows without runs are left out.
    pub(super) fn rows(&self) -> impl Iterator<Item = ([usize; 2], Range<usize>)> + '_ {
        let ny = self.size[1];
        let rows = self.rows.windows(2).enumerate();
        rows.filter(|(_, ends)| ends[0] < ends[1])
            .map(move |(row, ends)| ([row / ny, row % ny], ends[0]..ends[1]))
    }

    fn row(&self, z: usize, y: usize) -> Range<usize> {
        let row = z * self.size[1] + y;
        self.rows[row]..self.rows[row + 1]
    }

    /// The pieces of runs that touch, those of equal values where values matter.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::TooLarge`].
    pub(super) fn pieces(&self, connectivity: Connectivity) -> Result<BoxPieces> {
        let count = u32::try_from(self.runs.len())
            .map_err(|_| Error::TooLarge { what: format!("{} runs of a box", self.runs.len()) })?;
        let mut parent =
            collected(0..count, u64::from(count), || format!("{count} runs of a box"))?;
        // Of each row the earlier ones that may touch it, and the axes along which they differ.
        let earlier = [(0, -1, 1), (-1, 0, 1), (-1, -1, 2), (-1, 1, 2)];
        for ([z, y], row) in self.rows() {
            for (dz, dy, axes) in earlier {
                let Some(reach) = connectivity.reach(axes) else { continue };
                let Some(z) = z.checked_add_signed(dz) else { continue };
                let Some(y) = y.checked_add_signed(dy).filter(|&y| y < self.size[1]) else {
                    continue;
                };
                self.join_rows(row.clone(), self.row(z, y), reach as u32, &mut parent);
            }
        }
        // A parent comes before its runs, so it has its number already.
        let mut pieces = 0;
        for run in 0..parent.len() {
            let above = parent[run] as usize;
            parent[run] = if above == run {
                pieces += 1;
                pieces - 1
            } else {
                parent[above]
            };
        }
        Ok(BoxPieces { of_run: parent, count: pieces })
    }

    fn join_rows(&self, row: Range<usize>, other: Range<usize>, reach: u32, parent: &mut [u32]) {
        let mut from = other.start;
        for i in row {
            let run = self.runs[i];
            while from < other.end && self.runs[from].end + reach <= run.start {
                from += 1;
            }
            let touching = (from..other.end).take_while(|&j| self.runs[j].start < run.end + reach);
            for j in touching.filter(|&j| self.runs[j].value == run.value) {
                join(parent, i as u32, j as u32);
            }
        }
    }
}

/// The bits of a voxel.
fn bits<T: Voxel>(voxel: T) -> u64 {
    let mut bytes = [0; 8];
    bytes[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&voxel));
    u64::from_le_bytes(bytes)
}

/// Joins the sets of two members; the first member of a set stands for it.
pub(super) fn join(parent: &mut [u32], one: u32, other: u32) {
    let (one, other) = (root(parent, one), root(parent, other));
    parent[one.max(other) as usize] = one.min(other);
}

/// The first member of the set of `member`, whose path becomes half as long.
fn root(parent: &mut [u32], mut member: u32) -> u32 {
    loop {
        let above = parent[member as usize];
        if above == member {
            return member;
        }
        let next = parent[above as usize];
        parent[member as usize] = next;
        member = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_touch_as_their_voxels_do() {
        // (2, 2, 4); 5 and 7 meet at corners, edges and faces.
        let voxels: [u16; 16] = [5, 0, 0, 7, 0, 5, 7, 7, 0, 0, 0, 0, 0, 0, 5, 0];
        let of = |values| BoxRuns::of(&voxels, [2, 2, 4], values).unwrap();
        let pieces = |values, connectivity| of(values).pieces(connectivity).unwrap();
        let any = |connectivity| pieces(RunValues::Any, connectivity).count;
        assert_eq!(any(Connectivity::Faces), 2);
        assert_eq!(any(Connectivity::Edges), 1);
        let equal = |connectivity| pieces(RunValues::Equal, connectivity);
        assert_eq!(equal(Connectivity::Faces).of_run, [0, 1, 2, 1, 3]);
        assert_eq!(equal(Connectivity::Edges).of_run, [0, 1, 0, 1, 0]);
        let rows: Vec<_> = of(RunValues::Equal).rows().collect();
        assert_eq!(rows, [([0, 0], 0..2), ([0, 1], 2..4), ([1, 1], 4..5)]);
    }
}
