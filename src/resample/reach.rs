//! The voxels of a volume that the taps of a part of a patch touch, and the chunks that hold them.
//!
//! # Invariants
//! - Every chunk that a tap with a weight touches is found, and others only where a tap comes
//!   closer to them than indices are rounded.

use std::ops::{Range, RangeInclusive};

use super::border::TapBorder;
use super::rows::{FRACTION_BITS, fixed};
use super::warp::{Order, Warp};
use crate::format::grid::iter_box;
use crate::memory::zeroed;
use crate::{Result, Size3};

/// By how much an index in fixed point may differ from the exact one: a start and a lane are
/// rounded, and in a displaced patch each of up to 15 steps.
const ROUNDING: i64 = 16;

/// A patch, and the volume that its taps lie in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach<'a> {
    pub(super) warp: &'a Warp,
    pub(super) size: Size3,
    pub(super) order: Order,
    pub(super) border: TapBorder,
    pub(super) volume: Size3,
    exact: [bool; 3],
    whole: [bool; 3],
}

/// Indices along `(z, y, x)`.
pub(super) type Box3 = [RangeInclusive<i64>; 3];

impl<'a> Reach<'a> {
    /// The reach of a patch of `size` in a volume of extents `volume`.
    pub(super) fn new(
        warp: &'a Warp,
        size: Size3,
        order: Order,
        border: TapBorder,
        volume: Size3,
    ) -> Self {
        let exact = [0, 1, 2].map(|a| warp.is_exact(a));
        let whole = [0, 1, 2].map(|a| warp.is_whole(a));
        Self { warp, size, order, border, volume, exact, whole }
    }

    /// Taps below the index rounded down, and above it.
    fn margins(&self) -> (i64, i64) {
        match self.order {
            Order::Nearest => (0, 0),
            Order::Linear => (0, 1),
            Order::Cubic => (1, 2),
        }
    }

    /// A box that holds the taps with a weight of a part of the patch, some of which may lie
    /// outside of the volume.
    pub(super) fn taps(&self, part: &[Range<usize>; 3]) -> Box3 {
        let (below, above) = self.margins();
        let bounds = self.bounds(part);
        let mut taps = [const { 0..=0 }; 3];
        for a in 0..3 {
            let rounding = if self.exact[a] { 0 } else { ROUNDING };
            let (low, high) = (fixed(bounds[a].0) - rounding, fixed(bounds[a].1) + rounding);
            taps[a] = if self.order == Order::Nearest {
                let half = 1 << (FRACTION_BITS - 1);
                (low + half) >> FRACTION_BITS..=(high + half) >> FRACTION_BITS
            } else if self.whole[a] {
                low >> FRACTION_BITS..=high >> FRACTION_BITS
            } else {
                // A whole index has one tap; the last index below it reaches as far as it does.
                let last = ((high + (1 << FRACTION_BITS) - 1) >> FRACTION_BITS) - 1 + above;
                (low >> FRACTION_BITS) - below..=last
            };
        }
        taps
    }

    /// The box of voxels in the volume that stand for those of [`taps`](Self::taps); `None` if
    /// there is none.
    pub(super) fn touched(&self, part: &[Range<usize>; 3]) -> Option<Box3> {
        let taps = self.taps(part);
        let mut touched = [const { 0..=0 }; 3];
        for a in 0..3 {
            touched[a] = self.border.range(*taps[a].start(), *taps[a].end(), self.volume[a])?;
        }
        Some(touched)
    }

    /// The least and the greatest index along each axis of the volume.
    fn bounds(&self, part: &[Range<usize>; 3]) -> [(f64, f64); 3] {
        let first = [part[0].start, part[1].start, part[2].start];
        let last = [part[0].end - 1, part[1].end - 1, part[2].end - 1];
        let Some(displacement) = self.warp.displacement() else {
            return self.affine_bounds(first, last);
        };
        if let Some(corners) = displacement.corners(first, last, self.size) {
            // Between knots an index is linear in each of z, y and x, so its extremes are at
            // corners.
            let mut bounds = [(f64::INFINITY, f64::NEG_INFINITY); 3];
            for corner in 0..8 {
                let [g, f, e] = [corner >> 2, corner >> 1 & 1, corner & 1];
                let at = |a: usize, end: usize| if end == 0 { first[a] } else { last[a] } as f64;
                let index = self.warp.apply([at(0, g), at(1, f), at(2, e)]);
                for a in 0..3 {
                    let index = index[a] + corners[g][f][e][a];
                    bounds[a] = (bounds[a].0.min(index), bounds[a].1.max(index));
                }
            }
            return bounds;
        }
        let by = displacement.bounds(first, last, self.size);
        let mut bounds = self.affine_bounds(first, last);
        for (bound, by) in bounds.iter_mut().zip(by) {
            *bound = (bound.0 + by.0, bound.1 + by.1);
        }
        bounds
    }

    fn affine_bounds(&self, first: Size3, last: Size3) -> [(f64, f64); 3] {
        let mut bounds = [(0.0, 0.0); 3];
        for (bound, row) in bounds.iter_mut().zip(self.warp.matrix()) {
            *bound = (row[3], row[3]);
            for a in 0..3 {
                let (low, high) = (row[a] * first[a] as f64, row[a] * last[a] as f64);
                *bound = (bound.0 + low.min(high), bound.1 + low.max(high));
            }
        }
        bounds
    }

    /// The cells of the grid of `chunk`s that taps of the patch's `part` touch, in C order;
    /// `touched` is the box that [`touched`](Self::touched) finds.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn cells(
        &self,
        part: &[Range<usize>; 3],
        touched: &Box3,
        chunk: Size3,
    ) -> Result<Vec<Size3>> {
        let all = cells_of(touched, chunk);
        let count = all.iter().map(ExactSizeIterator::len).product();
        let marked = zeroed(count, || format!("a list of {count} chunks"))?;
        let mut marks = Marks { reach: *self, chunk, all, marked };
        marks.mark(part.clone());
        let cells = iter_box(marks.all.clone()).zip(&marks.marked);
        Ok(cells.filter(|&(_, &marked)| marked == 1).map(|(at, _)| at).collect())
    }
}

/// The cells of a grid that meet a box.
fn cells_of(touched: &Box3, chunk: Size3) -> [Range<usize>; 3] {
    std::array::from_fn(|a| {
        let (low, high) = (*touched[a].start() as usize, *touched[a].end() as usize);
        low / chunk[a]..high / chunk[a] + 1
    })
}

/// Cells that are touched.
struct Marks<'a> {
    reach: Reach<'a>,
    chunk: Size3,
    all: [Range<usize>; 3],
    /// 1 for each cell of `all` that is touched.
    marked: Vec<u8>,
}

impl Marks<'_> {
    /// Marks the cells that a part of the patch touches: the one that its box lies in, otherwise
    /// those of its halves.
    fn mark(&mut self, part: [Range<usize>; 3]) {
        let Some(touched) = self.reach.touched(&part) else { return };
        let cells = cells_of(&touched, self.chunk);
        let count: usize = cells.iter().map(ExactSizeIterator::len).product();
        if count == 1 || part.iter().all(|range| range.len() == 1) {
            self.each(cells, |mark| {
                *mark = 1;
                false
            });
        } else if self.each(cells, |mark| *mark == 0) {
            let axis = (0..3).max_by_key(|&a| part[a].len()).expect("three axes");
            // The box of a part between knots is tight.
            let knot = self.reach.warp.displacement().and_then(|displacement| {
                displacement.division(axis, &part[axis], self.reach.size[axis])
            });
            let middle = knot.unwrap_or(part[axis].start + part[axis].len() / 2);
            let (mut low, mut high) = (part.clone(), part);
            (low[axis].end, high[axis].start) = (middle, middle);
            self.mark(low);
            self.mark(high);
        }
    }

    /// Whether `of` holds for a mark of the cells; stops at the first.
    fn each(&mut self, cells: [Range<usize>; 3], mut of: impl FnMut(&mut u8) -> bool) -> bool {
        let [_, y, x] = [0, 1, 2].map(|a| self.all[a].len());
        let [cz, cy, cx] = cells;
        for z in cz {
            for cell_y in cy.clone() {
                let row = (z - self.all[0].start) * y + cell_y - self.all[1].start;
                let first = row * x + cx.start - self.all[2].start;
                if self.marked[first..first + cx.len()].iter_mut().any(&mut of) {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Displacement;
    use crate::resample::rows::FRACTION;

    const VOLUME: Size3 = [150, 170, 200];
    const CHUNK: Size3 = [16, 32, 24];

    /// The cells that the voxels of a patch touch with a weight, one voxel after the other.
    fn brute_force(reach: &Reach<'_>) -> BTreeSet<Size3> {
        let (mut cells, size) = (BTreeSet::new(), reach.size);
        for at in iter_box(size.map(|n| 0..n)) {
            let mut index = reach.warp.apply(at.map(|i| i as f64));
            if let Some(displacement) = reach.warp.displacement() {
                let by = displacement.corners(at, at, size).unwrap()[0][0][0];
                (0..3).for_each(|a| index[a] += by[a]);
            }
            let touched = [0, 1, 2].map(|a| {
                let bits = fixed(index[a]);
                let floor = bits >> FRACTION_BITS;
                let half = bits & FRACTION >= 1 << (FRACTION_BITS - 1);
                let taps = match reach.order {
                    Order::Nearest => floor + i64::from(half)..=floor + i64::from(half),
                    _ if bits & FRACTION == 0 => floor..=floor,
                    Order::Linear => floor..=floor + 1,
                    Order::Cubic => floor - 1..=floor + 2,
                };
                let inside = taps.filter_map(|i| reach.border.index(i, VOLUME[a]));
                inside.map(|i| i / CHUNK[a]).collect::<BTreeSet<_>>()
            });
            for &z in &touched[0] {
                for &y in &touched[1] {
                    cells.extend(touched[2].iter().map(|&x| [z, y, x]));
                }
            }
        }
        cells
    }

    fn compare(reach: &Reach<'_>) -> (usize, usize, usize) {
        let part = reach.size.map(|n| 0..n);
        let expected = brute_force(reach);
        let Some(touched) = reach.touched(&part) else {
            assert!(expected.is_empty());
            return (0, 0, 0);
        };
        let found = reach.cells(&part, &touched, CHUNK).unwrap();
        let set: BTreeSet<Size3> = found.iter().copied().collect();
        assert_eq!(set.len(), found.len(), "no cell twice");
        assert!(expected.is_subset(&set), "{reach:?} lacks {:?}", expected.difference(&set));
        let boxed = cells_of(&touched, CHUNK).iter().map(ExactSizeIterator::len).product();
        (found.len(), expected.len(), boxed)
    }

    /// All chunks that a tap touches, and at most a twentieth more; far fewer than the box has.
    #[test]
    fn chunks_are_those_that_taps_touch() {
        let mut state = 5u64;
        let mut random = |low: f64, high: f64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            low + (high - low) * (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let size = [40, 41, 50];
        for order in [Order::Nearest, Order::Linear, Order::Cubic] {
            let mut sums = (0, 0, 0);
            for i in 0..40 {
                let (c, s) = (random(0.4, 1.3), random(-0.6, 0.6));
                let rows = [[c, -s, 0.2], [s, c, 0.1], [-0.2, s / 2.0, 0.9]];
                let at = |a: usize| random(0.0, VOLUME[a] as f64 - 40.0);
                let corner = [0, 1, 2].map(at);
                let matrix = [0, 1, 2].map(|a| [rows[a][0], rows[a][1], rows[a][2], corner[a]]);
                let values = (0..4 * 4 * 4).map(|_| [0, 1, 2].map(|_| random(-4.0, 4.0)));
                let mut warp = Warp::new(matrix).unwrap();
                if i % 2 == 1 {
                    warp = warp.displaced(Displacement::new([4; 3], values.collect()).unwrap());
                }
                let border = [TapBorder::Constant, TapBorder::Edge, TapBorder::Reflect][i % 3];
                let found = compare(&Reach::new(&warp, size, order, border, VOLUME));
                sums = (sums.0 + found.0, sums.1 + found.1, sums.2 + found.2);
            }
            assert!(sums.0 as f64 <= 1.05 * sums.1 as f64, "{order:?}: {sums:?}");
            assert!(sums.0 * 3 < sums.2 * 2, "{order:?}: {sums:?}");
        }
    }

    /// Whole indices touch no chunk beside their own; far and single ones none too many.
    #[test]
    fn whole_indices_have_one_tap() {
        for (offset, scale) in [(0.0, 1.0), (16.0, 1.0), (-8.0, 1.0), (3.0, 0.5), (-900.0, 1.0)] {
            let row = |a: usize| {
                let mut row = [0.0, 0.0, 0.0, offset * CHUNK[a] as f64 / 16.0];
                row[a] = scale;
                row
            };
            let warp = Warp::new([row(0), row(1), row(2)]).unwrap();
            for order in [Order::Nearest, Order::Linear, Order::Cubic] {
                for border in [TapBorder::Constant, TapBorder::Edge, TapBorder::Reflect] {
                    let size = [32, 32, 24];
                    let reach = Reach::new(&warp, size, order, border, VOLUME);
                    let (found, expected, _) = compare(&reach);
                    assert!(scale != 1.0 || found == expected, "{reach:?}: {found}, {expected}");
                }
            }
        }
    }
}
