//! The indices in a volume of the voxels of a patch, row by row, in fixed point.
//!
//! An index is a multiple of 2⁻²³ voxel. The first voxel of each block of up to 16 is computed in
//! `f64` and rounded, the others are a rounded distance away, so no error grows along a row.
//!
//! # Invariants
//! - An index depends on the warp and on the voxel alone: not on threads, instruction sets, or the
//!   part of the patch that is read at a time.

use super::warp::Warp;
use crate::memory::reserve;
use crate::{Result, Size3};

/// Bits of an index behind the point.
pub(super) const FRACTION_BITS: u32 = 23;

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

/// The indices of blocks' first voxels along the axes of the volume, and, in a displaced patch, the
/// distance of one voxel to the next.
pub(super) struct Starts {
    pub(super) at: [[i64; GROUP]; 3],
    steps: [[i32; GROUP]; 3],
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

    /// The starts of up to eight blocks of a row, with `bias` added.
    #[inline(always)]
    pub(super) fn starts(&self, row: &Row, blocks: &[RowBlock], bias: i64) -> Starts {
        let matrix = self.warp.matrix();
        let mut starts = Starts { at: [[0; GROUP]; 3], steps: [[0; GROUP]; 3] };
        let mut x = [0.0; GROUP];
        for (x, block) in x.iter_mut().zip(blocks) {
            *x = block.x as f64;
        }
        if !self.is_displaced() {
            for a in 0..3 {
                for b in 0..GROUP {
                    starts.at[a][b] = fixed(row.base[a] + matrix[a][2] * x[b]) + bias;
                }
            }
            return starts;
        }
        let intervals = self.warp.displacement().map_or(1, |d| d.knots()[2] - 1);
        let per_voxel = intervals as f64 / self.size[2] as f64;
        for (b, block) in blocks.iter().enumerate() {
            let (before, after, way) = block.knots;
            let (before, after) = (row.knots[before], row.knots[after]);
            for a in 0..3 {
                let change = after[a] - before[a];
                let start = row.base[a] + matrix[a][2] * x[b] + (before[a] + change * way);
                starts.at[a][b] = fixed(start) + bias;
                starts.steps[a][b] = fixed(matrix[a][2] + change * per_voxel) as i32;
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

    /// The distance of the last voxel of block `b` from its first along axis `a` of the volume, and
    /// bits that no distance of the block's has others than.
    #[inline(always)]
    pub(super) fn last_lane(
        &self,
        starts: &Starts,
        b: usize,
        block: &RowBlock,
        a: usize,
    ) -> (i64, i64) {
        if self.is_displaced() {
            let step = starts.steps[a][b];
            let last = step.wrapping_mul(block.count as i32 - 1);
            // Multiples of a whole number are whole.
            (i64::from(last), if block.count > 1 { i64::from(step) } else { 0 })
        } else {
            let (lanes, bits) = &self.lanes[block.count - 1];
            (i64::from(lanes[a][block.count - 1]), i64::from(bits[a]))
        }
    }
}
