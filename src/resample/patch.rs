//! Resamples a plane of a patch out of a box in memory.
//!
//! Blocks of voxels whose taps all lie in the volume go to a kernel; the taps of the others are
//! looked up one by one, as the border says. Both give the same values. What depends on the dtype
//! or the order is behind [`Values`], so that the rest is compiled once for each instruction set.
#![allow(unsafe_code)]

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::border::TapBorder;
use super::finish::ValueWriter;
use super::interpolate::TapShape;
use super::rows::{
    BlockGroup, FRACTION, FRACTION_BITS, GROUP, INDEX_BITS, LANES, Row, RowBlock, Rows, Starts,
};
use super::source::{Coordinates, GROUP_VOXELS, Source};
use super::values::{OUTSIDE, Places, Values};

/// A part of a patch's plane: some rows, and some of each row's blocks.
pub(super) struct PlanePart<'a> {
    pub(super) z: usize,
    pub(super) y: Range<usize>,
    pub(super) groups: &'a [BlockGroup<'a>],
}

/// Which kernels may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernels {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Kernels {
    /// The fastest that this machine has.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if Avx2::is_available() {
            return Self::Avx2;
        }
        Self::Portable
    }
}

/// Fills `part` of a plane of the patch, whose bytes are `plane`, with the `values` of voxels.
pub(super) fn resample(
    kernels: Kernels,
    rows: &Rows<'_>,
    source: &Source,
    part: &PlanePart<'_>,
    values: &mut dyn Values,
    finish: &ValueWriter,
    plane: &mut [u8],
) {
    let ahead = ahead(rows, source);
    let coordinates = Coordinates::new();
    let outside = Vec::with_capacity(GROUP_VOXELS);
    let shape = values.shape();
    let origin = source.start;
    let is_small = (0..3).all(|a| *source.filled[a].end() - origin[a] < (1 << INDEX_BITS) - 4);
    let inside = inside(source, shape);
    let mut group = Group {
        rows,
        source,
        shape,
        values,
        ahead,
        origin,
        is_small,
        inside,
        coordinates,
        outside,
    };
    match kernels {
        Kernels::Portable => group.fill(part, finish, plane),
        #[cfg(target_arch = "x86_64")]
        Kernels::Avx2 => {
            #[target_feature(enable = "avx2,fma")]
            fn compiled(
                group: &mut Group<'_>,
                part: &PlanePart<'_>,
                finish: &ValueWriter,
                plane: &mut [u8],
            ) {
                group.fill(part, finish, plane);
            }
            // SAFETY: `detect` has found these instructions; the tests run both kernels.
            unsafe { compiled(&mut group, part, finish, plane) };
        }
    }
}

/// Elements from a tap of a voxel to that of the voxel two planes later.
fn ahead(rows: &Rows<'_>, source: &Source) -> isize {
    let voxels = rows.warp.matrix().map(|row| (2.0 * row[0]).round() as isize);
    let [plane, row] = source.strides.map(|n| n as isize);
    voxels[0].wrapping_mul(plane).wrapping_add(voxels[1].wrapping_mul(row)).wrapping_add(voxels[2])
}

/// The least and the greatest index along each axis whose taps were read.
fn inside(source: &Source, shape: TapShape) -> [[i64; 2]; 3] {
    let TapShape { count, below, .. } = shape;
    [0, 1, 2].map(|a| {
        let (first, last) = (*source.filled[a].start(), *source.filled[a].end());
        // Between two indices both have taps, unless there is one tap.
        let greatest = if count == 1 {
            ((last + 1) << FRACTION_BITS) - 1
        } else {
            (last - below) << FRACTION_BITS
        };
        [(first + below) << FRACTION_BITS, greatest]
    })
}

/// What a block of voxels needs.
enum Place {
    /// All taps lie in the volume: the index of the first voxel, rounded down.
    Inside([i64; 3]),
    /// No tap lies in the volume, and the border is a constant.
    Outside,
    /// Neither: each voxel is looked at.
    Mixed,
}

/// The blocks of a row that are computed together.
struct Group<'a> {
    rows: &'a Rows<'a>,
    source: &'a Source,
    shape: TapShape,
    values: &'a mut dyn Values,
    ahead: isize,
    /// The index in the volume of the box's first voxel, and whether 9 bits count its voxels along
    /// each axis: then distances from it fit into the lanes of a block.
    origin: [i64; 3],
    is_small: bool,
    /// The least and the greatest index, in fixed point, whose taps lie in the box.
    inside: [[i64; 2]; 3],
    coordinates: Coordinates,
    /// Voxels outside of the volume, counted from the first block's first.
    outside: Vec<Range<usize>>,
}

impl Group<'_> {
    /// Fills a part of a plane.
    #[inline(always)]
    fn fill(&mut self, part: &PlanePart<'_>, finish: &ValueWriter, plane: &mut [u8]) {
        let (voxel_bytes, width) = (finish.dtype.size(), self.rows.size[2]);
        let mut row = Row::default();
        for y in part.y.clone() {
            self.rows.begin(part.z, y, &mut row);
            let out = &mut plane[y * width * voxel_bytes..][..width * voxel_bytes];
            for group in part.groups {
                self.compute(&row, group);
                let blocks = group.blocks;
                let first = blocks[0].x;
                let last = &blocks[blocks.len() - 1];
                let voxels = last.x + last.count - first;
                let out = &mut out[first * voxel_bytes..][..voxels * voxel_bytes];
                self.values.write(voxels, finish, out);
                for outside in &self.outside {
                    finish.fill(&mut out[outside.start * voxel_bytes..outside.end * voxel_bytes]);
                }
            }
        }
    }

    /// Computes the values of all blocks.
    #[inline(always)]
    fn compute(&mut self, row: &Row, group: &BlockGroup<'_>) {
        self.outside.clear();
        let (starts, blocks) = (self.rows.starts(row, group, self.shape.bias), group.blocks);
        let first = blocks[0].x;
        if self.is_small && self.are_inside(&starts) {
            for (b, block) in blocks.iter().enumerate() {
                self.set(&starts, b, block, self.origin, block.x - first);
            }
            let last = &blocks[blocks.len() - 1];
            self.finish_run(&mut (0..last.x + last.count - first));
            return;
        }
        // The run of blocks inside that is not computed yet.
        let mut run = 0..0;
        for (b, block) in blocks.iter().enumerate() {
            let voxels = block.x - first..block.x - first + block.count;
            match self.place(&starts, b, block) {
                Place::Inside(floor) => {
                    self.set(&starts, b, block, floor, voxels.start);
                    if run.start == run.end {
                        run.start = voxels.start;
                    }
                    run.end = voxels.end;
                }
                // A kernel writes whole vectors, so what is behind the run comes later.
                Place::Outside => {
                    self.finish_run(&mut run);
                    self.outside.push(voxels);
                }
                Place::Mixed => {
                    self.finish_run(&mut run);
                    let at = [starts.at[0][b], starts.at[1][b], starts.at[2][b]];
                    let mut buffer = [[0; LANES]; 3];
                    let lanes = self.rows.lanes(&starts, b, block, &mut buffer);
                    for (i, voxel) in voxels.enumerate() {
                        let mut index = at;
                        for a in 0..3 {
                            index[a] += i64::from(lanes[a][i]);
                        }
                        if !look_up(self.source, self.shape, index, voxel, self.values) {
                            self.outside.push(voxel..voxel + 1);
                        }
                    }
                }
            }
        }
        self.finish_run(&mut run);
    }

    /// Whether all taps of all blocks lie in the box, as those of most rows do.
    #[inline(always)]
    fn are_inside(&self, starts: &Starts) -> bool {
        let mut signs = [0; GROUP];
        for a in 0..3 {
            let [least, greatest] = self.inside[a];
            for b in 0..GROUP {
                let (at, end) = (starts.at[a][b], starts.at[a][b] + starts.spans[a][b]);
                signs[b] |= (at - least) | (greatest - at) | (end - least) | (greatest - end);
            }
        }
        signs.iter().fold(0, |all, sign| all | sign) >= 0
    }

    /// Computes the coordinates of a block whose taps lie in the box, from place `at` on. No index
    /// of the block is less than `floor`, or 2⁹ or more above it.
    #[inline(always)]
    fn set(&mut self, starts: &Starts, b: usize, block: &RowBlock, floor: [i64; 3], at: usize) {
        let (mut relative, mut tap) = ([0; 3], [0; 3]);
        for a in 0..3 {
            relative[a] = (starts.at[a][b] - (floor[a] << FRACTION_BITS)) as u32;
            tap[a] = floor[a] - self.shape.below;
        }
        let (first, strides) = (self.source.offset(tap) as u32, self.source.strides);
        let mut buffer = [[0; LANES]; 3];
        let lanes = self.rows.lanes(starts, b, block, &mut buffer);
        self.coordinates.set(at, self.shape.count == 1, first, relative, lanes, strides);
    }

    /// Computes a run of voxels inside, and empties it.
    #[inline(always)]
    fn finish_run(&mut self, run: &mut Range<usize>) {
        if run.start == run.end {
            return;
        }
        // Vectors go on behind the run; the first voxel of the box is always there.
        let behind = run.end..(run.end + LANES).min(GROUP_VOXELS);
        self.coordinates.offsets[behind].fill(0);
        self.values.run(&self.coordinates, run.clone(), self.ahead);
        *run = 0..0;
    }

    /// Where the taps of block `b` lie.
    #[inline(always)]
    fn place(&self, starts: &Starts, b: usize, block: &RowBlock) -> Place {
        let TapShape { count, below, .. } = self.shape;
        let (mut floor, mut is_inside, mut is_outside) = ([0; 3], true, false);
        for a in 0..3 {
            let at = starts.at[a][b];
            let (end, bits) = (at + starts.spans[a][b], self.rows.bits(starts, b, block, a));
            let (low, high) = (at.min(end), at.max(end));
            floor[a] = low >> FRACTION_BITS;
            // A whole index has one tap with a weight.
            let ceil = if count == 1 { high } else { high + FRACTION } >> FRACTION_BITS;
            let mut taps = (floor[a] - below, ceil + below);
            is_outside |= taps.1 < 0 || taps.0 >= self.source.volume[a] as i64;
            if (at | bits) & FRACTION == 0 {
                taps = (floor[a], high >> FRACTION_BITS);
            }
            let filled = &self.source.filled[a];
            is_inside &= taps.0 >= *filled.start() && taps.1 <= *filled.end();
        }
        if is_inside {
            Place::Inside(floor)
        } else if is_outside && self.source.border == TapBorder::Constant {
            Place::Outside
        } else {
            Place::Mixed
        }
    }
}

/// Computes one voxel at an index in fixed point; `false` if no tap lies in the volume.
fn look_up(
    source: &Source,
    shape: TapShape,
    index: [i64; 3],
    voxel: usize,
    values: &mut dyn Values,
) -> bool {
    let (mut fraction, mut places) = ([0.0; 3], Places([[OUTSIDE; 4]; 3]));
    let strides = [source.strides[0] as i64, source.strides[1] as i64, 1];
    for a in 0..3 {
        let (floor, bits) = (index[a] >> FRACTION_BITS, index[a] & FRACTION);
        fraction[a] = bits as f32 / (FRACTION + 1) as f32;
        let mut has_tap = false;
        for tap in 0..shape.count {
            if bits == 0 && tap as i64 != shape.below {
                continue;
            }
            let index = floor - shape.below + tap as i64;
            if let Some(index) = source.border.index(index, source.volume[a]) {
                places.0[a][tap] = (index as i64 - source.start[a]) * strides[a];
                has_tap = true;
            }
        }
        if !has_tap {
            return false;
        }
    }
    values.look_up(voxel, fraction, &places);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resample::interpolate::{Cubic, Linear, Nearest};
    use crate::resample::level::{Base, Kernel};
    use crate::resample::source::{SLACK, Taps};
    use crate::resample::values::RowValues;
    use crate::resample::warp::{Displacement, Warp};
    use crate::{Dtype, Voxel, f16};

    const SIZE: [usize; 3] = [14, 15, 40];

    /// Elements of all bit patterns, NaN and infinities among the floats.
    fn elements<T: Voxel>(count: usize) -> Vec<T> {
        let mut state = 9u64;
        let mut bytes = vec![0u8; count * size_of::<T>()];
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_889);
            *byte = (state >> 56) as u8;
        }
        bytemuck::pod_collect_to_vec(&bytes)
    }

    fn planes<T: Voxel, K: Kernel<T>>(kernels: Kernels, warp: &Warp, voxels: &[T]) -> Vec<u8> {
        let size = [5, 6, 37];
        let rows = Rows::new(warp, size).unwrap();
        let strides = [SIZE[1] * SIZE[2], SIZE[2]];
        let source = Source {
            strides,
            start: [-1; 3],
            filled: SIZE.map(|n| 0..=n as i64 - 4),
            volume: SIZE.map(|n| n - 3),
            border: TapBorder::Constant,
        };
        let taps = Taps { voxels, strides };
        let mut values: Box<dyn Values> = match kernels {
            Kernels::Portable => Box::new(RowValues::<T, K, Base>::new(taps, 2.0)),
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2 => Box::new(RowValues::<T, K, Avx2>::new(taps, 2.0)),
        };
        let dtype = K::Value::DTYPE;
        let outside = vec![0; dtype.size()];
        let finish = ValueWriter { dtype, scale: None, outside };
        let plane_bytes = size[1] * size[2] * dtype.size();
        let mut out = vec![K::Value::default(); size.iter().product()];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
        let groups = rows.groups(0..rows.blocks().len()).unwrap();
        for (z, plane) in bytes.chunks_exact_mut(plane_bytes).enumerate() {
            let part = PlanePart { z, y: 0..size[1], groups: &groups };
            resample(kernels, &rows, &source, &part, &mut *values, &finish, plane);
        }
        bytes.to_vec()
    }

    fn compare<T: Voxel>() {
        let voxels = elements::<T>(SIZE.iter().product::<usize>() + SLACK);
        let values = (0..27).map(|i| [f64::from(i % 5), f64::from(i % 3), f64::from(i % 4)]);
        let bent = Displacement::new([3; 3], values.collect()).unwrap();
        let matrices = [
            [[1., 0., 0., 2.], [0., 1., 0., 1.], [0., 0., 1., 0.]],
            [[1., 0., 0., 2.], [0., 1., 0., 1.], [0., 0., 0.5, 9.]],
            [[0.9, 0.1, 0.05, 1.], [-0.2, 1., 0.1, 2.5], [0.3, -0.1, 0.8, 1.2]],
            [[1.1, 0., -0.1, 2.], [0., 1.3, 0.2, -3.], [0.1, 0., 1.3, -5.]],
        ];
        for matrix in matrices {
            let warp = Warp::new(matrix).unwrap();
            for warp in [warp.clone(), warp.displaced(bent.clone())] {
                let pairs = [
                    [Kernels::Portable, Kernels::detect()]
                        .map(|kernels| planes::<T, Nearest>(kernels, &warp, &voxels)),
                    [Kernels::Portable, Kernels::detect()]
                        .map(|kernels| planes::<T, Linear<f32>>(kernels, &warp, &voxels)),
                    [Kernels::Portable, Kernels::detect()]
                        .map(|kernels| planes::<T, Cubic<f32>>(kernels, &warp, &voxels)),
                ];
                for ([portable, found], order) in pairs.iter().zip([0, 1, 3]) {
                    let is_same = if order == 0 {
                        portable == found
                    } else {
                        // The bits of a NaN are nobody's promise.
                        let floats = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
                        let is_equal = |(a, b): (&f32, &f32)| {
                            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                        };
                        floats(portable).iter().zip(&floats(found)).all(is_equal)
                    };
                    assert!(is_same, "{} order {order} {matrix:?}", T::DTYPE);
                }
            }
        }
    }

    /// Kernels give the bits of the portable code, for every dtype that has one.
    #[test]
    fn kernels_equal_the_portable_code() {
        compare::<u8>();
        compare::<i8>();
        compare::<u16>();
        compare::<i16>();
        compare::<f16>();
        compare::<f32>();
        assert_eq!(f32::DTYPE, Dtype::Float32);
    }

    /// A run whose taps leave the box stops the program before anything is loaded.
    #[test]
    #[should_panic(expected = "box")]
    fn taps_outside_of_the_box_are_not_loaded() {
        let voxels = elements::<i16>(100);
        let warp = Warp::new([[1., 0., 0., 2.], [0., 1., 0., 1.], [0., 0., 1., 0.5]]).unwrap();
        let kernels = Kernels::detect();
        assert!(kernels != Kernels::Portable, "the box: portable code compares every index");
        planes::<i16, Linear<f32>>(kernels, &warp, &voxels);
    }
}
