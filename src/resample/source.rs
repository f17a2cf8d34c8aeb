//! The voxels that a patch is resampled from, and runs of its voxels.

use std::ops::RangeInclusive;

use super::border::TapBorder;
use super::rows::{FRACTION_BITS, LANES};
use crate::Size3;

/// Elements behind the voxels of a box that vectors may read.
pub(super) const SLACK: usize = 16;

/// Room for the voxels of a group of blocks, and for one block that is stored whole behind it.
pub(super) const GROUP_VOXELS: usize = super::rows::GROUP * LANES + LANES;

/// The voxels of a box in memory: C order, and [`SLACK`] elements behind them.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a, T> {
    pub(super) voxels: &'a [T],
    /// Elements from one plane and from one row to the next.
    pub(super) strides: [usize; 2],
}

/// A box of a volume in memory, without its voxels.
pub(super) struct Source {
    /// Elements from one plane and from one row to the next.
    pub(super) strides: [usize; 2],
    /// The index in the volume of the box's first voxel, which may lie outside.
    pub(super) start: [i64; 3],
    /// The indices along each axis whose voxels were read.
    pub(super) filled: [RangeInclusive<i64>; 3],
    /// The size of the volume.
    pub(super) volume: Size3,
    pub(super) border: TapBorder,
}

impl Source {
    /// The element at an index of the volume.
    #[inline(always)]
    pub(super) fn offset(&self, index: [i64; 3]) -> i64 {
        (index[0] - self.start[0]) * self.strides[0] as i64
            + (index[1] - self.start[1]) * self.strides[1] as i64
            + index[2]
            - self.start[2]
    }
}

/// Neighbouring voxels of a row whose taps all lie in the box.
pub(super) struct Run<'a> {
    /// The element of each voxel's first tap. Behind the run's own there are zeros, up to a whole
    /// vector.
    pub(super) offsets: &'a [u32],
    /// The fractions of the indices along z, y, x; as many as offsets.
    pub(super) fractions: [&'a [f32]; 3],
    /// Elements from a voxel's first tap to that of the voxel two planes later, for prefetching.
    pub(super) ahead: isize,
}

/// The offsets and fractions of the voxels of a group of blocks.
pub(super) struct Coordinates {
    pub(super) offsets: [u32; GROUP_VOXELS],
    pub(super) fractions: [[f32; GROUP_VOXELS]; 3],
}

impl Coordinates {
    pub(super) fn new() -> Self {
        Self { offsets: [0; GROUP_VOXELS], fractions: [[0.0; GROUP_VOXELS]; 3] }
    }

    /// Computes those of a block of 16 from place `at` on. Its first voxel's index is `floor` plus
    /// `relative` in fixed point; `first` is the element of the tap at `floor`, and `lanes` are the
    /// distances of the other voxels. The fractions are left out if there is one tap.
    #[inline(always)]
    pub(super) fn set(
        &mut self,
        at: usize,
        has_one_tap: bool,
        first: u32,
        relative: [u32; 3],
        lanes: &[[i32; LANES]; 3],
        strides: [usize; 2],
    ) {
        let (plane, row) = (strides[0] as u32, strides[1] as u32);
        let offsets: &mut [u32; LANES] =
            (&mut self.offsets[at..at + LANES]).try_into().expect("a block");
        for i in 0..LANES {
            let z = relative[0].wrapping_add(lanes[0][i] as u32) >> FRACTION_BITS;
            let y = relative[1].wrapping_add(lanes[1][i] as u32) >> FRACTION_BITS;
            let x = relative[2].wrapping_add(lanes[2][i] as u32) >> FRACTION_BITS;
            offsets[i] = first
                .wrapping_add(z.wrapping_mul(plane))
                .wrapping_add(y.wrapping_mul(row))
                .wrapping_add(x);
        }
        if has_one_tap {
            return;
        }
        for a in 0..3 {
            let fractions: &mut [f32; LANES] =
                (&mut self.fractions[a][at..at + LANES]).try_into().expect("a block");
            for i in 0..LANES {
                let c = relative[a].wrapping_add(lanes[a][i] as u32);
                // 23 bits behind a one are a number from 1 to 2.
                fractions[i] = f32::from_bits(0x3f80_0000 | (c & 0x7f_ffff)) - 1.0;
            }
        }
    }
}
