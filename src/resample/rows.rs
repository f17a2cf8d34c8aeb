//! The indices in a volume of the voxels of a patch, row by row, in fixed point.
//!
//! An index is a multiple of 2⁻²³ voxel. The first voxel of each block of up to 16 is computed in
//! `f64` and rounded, the others are a rounded distance away, so no error grows along a row.
//!
//! # Invariants
//! - An index depends on the warp and on the voxel alone: not on threads, instruction sets, or the
//!   part of the patch that is read at a time.

use std::ops::Range;

use super::warp::Warp;
use crate::memory::reserve;
use crate::{Result, Size3};

/// Bits of an index behind the point.
pub(super) const FRACTION_BITS: u32 = 23;

/// Bits of a distance before the point, in a lane.
pub(super) const INDEX_BITS: u32 = 32 - FRACTION_BITS;

/// The bits of an index behind the point.
pub(super) const FRACTION: i64 = (1 << FRACTION_BITS) - 1;

/// The greatest number of voxels in a block.
pub(super) const LANES: usize = 16;

/// Blocks whose starts are computed together.
pub(super) const GROUP: usize = 8;

/// From this distance between neighbouring voxels on, a block is one voxel: the distance of 16
/// voxels would not fit into the 32 bits of a lane.
const GREATEST_STEP: f64 = 16.0;

/// A number in fixed point, rounded half to even; below 2²⁸.
pub(super) fn fixed(value: f64) -> i64 {
    // A sum with this number has ones where its bits are, and the hardware rounds it; unlike a
    // cast, the compiler can do it for several numbers at once.
    const MAGIC: f64 = 1.5 * (1u64 << 52) as f64;
    let sum = value * (1u64 << FRACTION_BITS) as f64 + MAGIC;
    (sum.to_bits() as i64).wrapping_sub(MAGIC.to_bits() as i64)
}

/// Neighbouring voxels of a row whose indices lie on a straight line.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowBlock {
    /// The first voxel's index in the row.
    pub(super) x: usize,
    pub(super) count: usize,
    /// The knots before and after the block, and the way of the first voxel between them.
    knots: (usize, usize, f64),
}

/// The distances, along the axes of the volume, of the voxels of a block from its first; those
/// after the block's last voxel are the last's.
pub(super) type Lanes = [[i32; LANES]; 3];

/// The indices of blocks' first voxels along the axes of the volume, the distances of their last
/// voxels from these, and, in a displaced patch, the distance of one voxel to the next. Places
/// without a block are as the first block's.
pub(super) struct Starts {
    pub(super) at: [[i64; GROUP]; 3],
    pub(super) spans: [[i64; GROUP]; 3],
    steps: [[i32; GROUP]; 3],
}

/// Blocks of every row that are computed together: at most [`GROUP`]. Places without a block are as
/// the first block's.
pub(super) struct BlockGroup<'a> {
    pub(super) blocks: &'a [RowBlock],
    /// What the matrix adds to the indices of a row's first voxel.
    ways: [[f64; GROUP]; 3],
    /// The distances of the blocks' last voxels from their first; of no use in a displaced patch.
    spans: [[i64; GROUP]; 3],
}

/// What the blocks of one row share.
#[derive(Default)]
pub(super) struct Row {
    base: [f64; 3],
    /// The displacements of the row's knots, interpolated along z and y.
    knots: Vec<[f64; 3]>,
}

/// The rows of a patch.
pub(super) struct Rows<'a> {
    pub(super) warp: &'a Warp,
    pub(super) size: Size3,
    blocks: Vec<RowBlock>,
    /// The lanes of blocks of 1, 2, … 16 voxels, and the union of their bits; of no use in a
    /// displaced patch.
    lanes: [(Lanes, [i32; 3]); LANES],
}

impl<'a> Rows<'a> {
    /// The rows of a patch of `size`, whose indices were checked.
    pub(super) fn new(warp: &'a Warp, size: Size3) -> Result<Self> {
        let longest = if warp.greatest_step(size) < GREATEST_STEP { LANES } else { 1 };
        let mut blocks = Vec::new();
        let knots = warp.displacement().map_or(1, |d| d.knots()[2]);
        let count = size[2].div_ceil(longest).saturating_add(knots);
        reserve(&mut blocks, count, || format!("the rows of a patch of {size:?} voxels"))?;
        let mut x = 0;
        while x < size[2] {
            let mut block = RowBlock { x, count: longest.min(size[2] - x), knots: (0, 0, 0.0) };
            if let Some(displacement) = warp.displacement() {
                block.knots = displacement.place(2, x, size[2]);
                let intervals = knots - 1;
                if intervals > 0 {
                    let end = ((block.knots.0 + 1) * size[2]).div_ceil(intervals);
                    block.count = block.count.min(end - x);
                }
            }
            blocks.push(block);
            x += block.count;
        }
        let lanes = std::array::from_fn(|n| {
            let lanes: Lanes = warp.matrix().map(|row| {
                std::array::from_fn(|i| fixed(row[2] * i.min(n).min(longest - 1) as f64) as i32)
            });
            (lanes, lanes.map(|lanes| lanes.iter().fold(0, |bits, lane| bits | lane)))
        });
        Ok(Self { warp, size, blocks, lanes })
    }

    /// The blocks of every row.
    pub(super) fn blocks(&self) -> &[RowBlock] {
        &self.blocks
    }

    /// Whether the patch is displaced.
    pub(super) fn is_displaced(&self) -> bool {
        self.warp.displacement().is_some()
    }

    /// Computes what the blocks of row `(z, y)` share.
    pub(super) fn begin(&self, z: usize, y: usize, row: &mut Row) {
        let matrix = self.warp.matrix();
        for a in 0..3 {
            let m = &matrix[a];
            row.base[a] = m[3] + m[0] * z as f64 + m[1] * y as f64;
        }
        let Some(displacement) = self.warp.displacement() else { return };
        let (z0, z1, tz) = displacement.place(0, z, self.size[0]);
        let (y0, y1, ty) = displacement.place(1, y, self.size[1]);
        row.knots.clear();
        for x in 0..displacement.knots()[2] {
            let at = |z, y| displacement.at([z, y, x]);
            let (a, b, c, d) = (at(z0, y0), at(z0, y1), at(z1, y0), at(z1, y1));
            let mut knot = [0.0; 3];
            for i in 0..3 {
                let (before, after) = (a[i] + (b[i] - a[i]) * ty, c[i] + (d[i] - c[i]) * ty);
                knot[i] = before + (after - before) * tz;
            }
            row.knots.push(knot);
        }
    }

    /// Blocks of every row, as many together as are computed together.
    pub(super) fn groups(&self, blocks: Range<usize>) -> Result<Vec<BlockGroup<'_>>> {
        let blocks = self.blocks[blocks].chunks(GROUP);
        let mut groups = Vec::new();
        reserve(&mut groups, blocks.len(), || format!("{} blocks of a row", self.blocks.len()))?;
        groups.extend(blocks.map(|blocks| {
            let block = |b: usize| blocks.get(b).unwrap_or(&blocks[0]);
            let matrix = self.warp.matrix();
            let ways = [0, 1, 2].map(|a| {
                let way: [f64; GROUP] = std::array::from_fn(|b| matrix[a][2] * block(b).x as f64);
                way
            });
            let spans = [0, 1, 2].map(|a| {
                let last = |b| block(b).count - 1;
                std::array::from_fn(|b| i64::from(self.lanes[last(b)].0[a][last(b)]))
            });
            BlockGroup { blocks, ways, spans }
        }));
        Ok(groups)
    }

    /// The starts of a group's blocks in a row, with `bias` added.
    #[inline(always)]
    pub(super) fn starts(&self, row: &Row, group: &BlockGroup<'_>, bias: i64) -> Starts {
        let (matrix, blocks) = (self.warp.matrix(), group.blocks);
        let mut starts = Starts { at: [[0; GROUP]; 3], spans: group.spans, steps: [[0; GROUP]; 3] };
        for a in 0..3 {
            for b in 0..GROUP {
                starts.at[a][b] = fixed(row.base[a] + group.ways[a][b]) + bias;
            }
        }
        if !self.is_displaced() {
            return starts;
        }
        let intervals = self.warp.displacement().map_or(1, |d| d.knots()[2] - 1);
        let per_voxel = intervals as f64 / self.size[2] as f64;
        for (b, block) in blocks.iter().enumerate() {
            let (before, after, way) = block.knots;
            let (before, after) = (row.knots[before], row.knots[after]);
            for a in 0..3 {
                let change = after[a] - before[a];
                let start = row.base[a] + group.ways[a][b] + (before[a] + change * way);
                let step = fixed(matrix[a][2] + change * per_voxel) as i32;
                let last = step.wrapping_mul(block.count as i32 - 1);
                starts.at[a][b] = fixed(start) + bias;
                starts.spans[a][b] = i64::from(last);
                starts.steps[a][b] = step;
            }
        }
        for a in 0..3 {
            for b in blocks.len()..GROUP {
                starts.at[a][b] = starts.at[a][0];
                starts.spans[a][b] = starts.spans[a][0];
            }
        }
        starts
    }

    /// The lanes of block `b` of a group, in `buffer` if they are its own.
    // No closures here and in the callers: those would be compiled for the least processor.
    #[inline(always)]
    pub(super) fn lanes<'b>(
        &'b self,
        starts: &Starts,
        b: usize,
        block: &RowBlock,
        buffer: &'b mut Lanes,
    ) -> &'b Lanes {
        if !self.is_displaced() {
            return &self.lanes[block.count - 1].0;
        }
        let last = block.count as i32 - 1;
        for a in 0..3 {
            let step = starts.steps[a][b];
            for i in 0..LANES {
                buffer[a][i] = step.wrapping_mul((i as i32).min(last));
            }
        }
        buffer
    }

    /// Bits that no distance of a voxel of block `b` from its first has others than, along axis `a`
    /// of the volume.
    #[inline(always)]
    pub(super) fn bits(&self, starts: &Starts, b: usize, block: &RowBlock, a: usize) -> i64 {
        if self.is_displaced() {
            // Multiples of a whole number are whole.
            if block.count > 1 { i64::from(starts.steps[a][b]) } else { 0 }
        } else {
            i64::from(self.lanes[block.count - 1].1[a])
        }
    }
}
