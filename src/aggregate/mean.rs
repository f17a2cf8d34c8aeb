//! Tiles of running means: each patch moves a voxel's mean towards its own value, by its share of the weights that have come.
//!
//! `mean ← mean − (mean − value) · w / (W + w)`, where `W` is the weight of earlier patches. Against sums in `f64` that is half
//! the memory, which is what blending waits for, and nothing is left to divide. Where all values are one, so is the mean.
//!
//! # Invariants
//! - A mean is read where an earlier patch has left one, and nowhere else: fresh tiles need no clearing.
//!
//! Not here: which results are kept so (`plan`).

use std::ops::Range;

use super::ledger::Bits;
use super::plan::Plan;
use super::row;
use super::tile::{Part, Patch, ROWS_AHEAD, Rows, offset_in, put};
use super::value::Value;
use crate::sys::prefetch::prefetch;
use crate::{Region, Size3};

/// The patches that count for a tile: places on each axis.
struct Meeting([Range<usize>; 3]);

impl Meeting {
    fn new(plan: &Plan, region: &Region) -> Self {
        let voxels = [0, 1, 2].map(|a| region.start[a] as usize..region.end(a) as usize);
        Self(plan.patches_meeting(&voxels))
    }

    /// Bit of the patch at `places`.
    fn bit(&self, places: Size3) -> usize {
        let [z, y, x] = [0, 1, 2].map(|a| places[a] - self.0[a].start);
        (z * self.0[1].len() + y) * self.0[2].len() + x
    }
}

/// Weights in a box over which the same patches count, as multiples of the patch's own on z and y.
struct Shares {
    /// The patch itself, along x.
    own: Vec<f32>,
    /// With those before it at the same z and y.
    beside: Vec<f32>,
    /// Those of other z and y.
    others: Vec<Columns>,
}

/// Columns of patches, each of one z and y, whose patches have the same x.
struct Columns {
    /// Their patches' sum along x.
    sums: Vec<f32>,
    /// For each the quotients by the patch's own weights, along z and along y.
    quotients: Vec<[Vec<f64>; 2]>,
}

impl Columns {
    /// The sum of quotients in a row of the box.
    fn ratio(&self, z: usize, y: usize) -> f32 {
        self.quotients.iter().map(|[along_z, along_y]| along_z[z] * along_y[y]).sum::<f64>() as f32
    }
}

impl Plan {
    /// Takes the parts of `patches` that count for the tile `region` into its means; `had` says who has come.
    pub(super) fn take<T: Value>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        had: &mut Bits,
        means: &mut [f32],
        rows: &mut Rows,
    ) {
        let meeting = Meeting::new(self, region);
        for patch in patches {
            let part = self.part(patch, region);
            let near = self.patches_meeting(&[part.z.clone(), part.y.clone(), part.x.clone()]);
            let earlier: Vec<Size3> = crate::format::grid::iter_box(near)
                .filter(|&places| had.has(meeting.bit(places)))
                .collect();
            self.take_part(&part, &earlier, region, means, rows);
            had.insert(meeting.bit(patch.places));
        }
    }

    /// Takes one part: box by box, over each of which the same `earlier` patches count on z and y.
    fn take_part<T: Value>(
        &self,
        part: &Part<'_, T>,
        earlier: &[Size3],
        region: &Region,
        means: &mut [f32],
        rows: &mut Rows,
    ) {
        let reaches = |axis: usize, earlier: Size3, voxel: usize| {
            self.axes[axis].used[earlier[axis]].contains(&voxel)
        };
        for z in self.runs(0, &part.z, earlier) {
            for y in self.runs(1, &part.y, earlier) {
                let mut before = earlier.to_vec();
                before.retain(|&e| reaches(0, e, z.start) && reaches(1, e, y.start));
                let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
                for x in self.runs(2, &part.x, &before) {
                    let is_first = !before.iter().any(|&e| reaches(2, e, x.start));
                    match runs.last_mut() {
                        Some((last, same)) if *same == is_first => last.end = x.end,
                        _ => runs.push((x, is_first)),
                    }
                }
                for (x, is_first) in runs {
                    let cut = [z.clone(), y.clone(), x];
                    let shares = (!is_first).then(|| self.shares(part.places, &before, &cut));
                    self.take_box(part, &cut, shares.as_ref(), region, means, rows);
                }
            }
        }
    }

    /// `voxels` of an axis, cut where one of `patches` begins or ends.
    fn runs(&self, axis: usize, voxels: &Range<usize>, patches: &[Size3]) -> Vec<Range<usize>> {
        let used = patches.iter().map(|places| &self.axes[axis].used[places[axis]]);
        let mut cuts: Vec<usize> = used.flat_map(|used| [used.start, used.end]).collect();
        cuts.retain(|&cut| voxels.start < cut && cut < voxels.end);
        cuts.extend([voxels.start, voxels.end]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|ends| ends[0]..ends[1]).collect()
    }

    /// Weights of the patch at `places` and of those `before` it, in a box of `(z, y, x)`.
    fn shares(&self, places: Size3, before: &[Size3], [z, y, x]: &[Range<usize>; 3]) -> Shares {
        let used = |place: usize| {
            let used = &self.axes[2].used[place];
            used.start.max(x.start)..used.end.min(x.end)
        };
        let add = |sums: &mut [f32], place: usize| {
            let (used, start) = (used(place), self.axes[2].starts[place]);
            let weights = &self.weights.along_x[(used.start as i64 - start) as usize..];
            let sums = &mut sums[used.start - x.start..used.end - x.start];
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        };
        let mut own = vec![0.0; x.len()];
        add(&mut own, places[2]);
        let mut beside = own.clone();
        let mut others: Vec<(Vec<usize>, Columns)> = Vec::new();
        // The patches of a column come one after the other.
        for column in before.chunk_by(|a, b| a[..2] == b[..2]) {
            let xs: Vec<usize> =
                column.iter().map(|e| e[2]).filter(|&place| !used(place).is_empty()).collect();
            if xs.is_empty() {
                continue;
            }
            if column[0][..2] == places[..2] {
                for place in xs {
                    add(&mut beside, place);
                }
                continue;
            }
            let quotients = [(0, z), (1, y)].map(|(axis, voxels)| {
                let weight = |place: Size3, i: usize| self.weight(axis, place[axis], i);
                voxels.clone().map(|i| weight(column[0], i) / weight(places, i)).collect()
            });
            if let Some((_, columns)) = others.iter_mut().find(|(same, _)| *same == xs) {
                columns.quotients.push(quotients);
            } else {
                let mut sums = vec![0.0; x.len()];
                for &place in &xs {
                    add(&mut sums, place);
                }
                others.push((xs, Columns { sums, quotients: vec![quotients] }));
            }
        }
        Shares { own, beside, others: others.into_iter().map(|(_, columns)| columns).collect() }
    }

    /// Weight on an axis of the patch at `place` for a voxel that it reaches.
    fn weight(&self, axis: usize, place: usize, voxel: usize) -> f64 {
        self.weights.profiles[axis][(voxel as i64 - self.axes[axis].starts[place]) as usize]
    }

    /// Takes a box `(z, y, x)` of a part; without `shares` it is the first there.
    fn take_box<T: Value>(
        &self,
        part: &Part<'_, T>,
        [zs, ys, xs]: &[Range<usize>; 3],
        shares: Option<&Shares>,
        region: &Region,
        means: &mut [f32],
        rows: &mut Rows,
    ) {
        let patch_channel = part.values.len() / self.channel_count();
        let nx = xs.len();
        for z in zs.clone() {
            for y in ys.clone() {
                let ahead = match y + ROWS_AHEAD {
                    ahead if ahead < ys.end => [z, ahead, xs.start],
                    // The next plane's first rows; in a box of fewer rows, a later one.
                    beyond => [z + 1, (beyond - ys.len()).clamp(ys.start, ys.end - 1), xs.start],
                };
                let from = part.offset([z, y, xs.start]);
                let to = offset_in(region, [z, y, xs.start]);
                if let Some(shares) = shares {
                    self.share(shares, [z - zs.start, y - ys.start], rows);
                }
                for c in 0..self.channel_count() {
                    let (from, to) = (from + c * patch_channel, to + c * region.len());
                    let row = &part.values[from..from + nx];
                    if ahead[0] < zs.end {
                        let from = part.offset(ahead) + c * patch_channel;
                        prefetch(bytemuck::cast_slice(&part.values[from..from + nx]));
                        let to = offset_in(region, ahead) + c * region.len();
                        prefetch(bytemuck::cast_slice(&means[to..to + nx]));
                    }
                    let means = &mut means[to..to + nx];
                    match (shares, T::widened(row, &mut rows.widened)) {
                        (None, None) => put(means, row, Value::to_f32),
                        (None, Some(wide)) => means.copy_from_slice(wide),
                        (Some(_), None) => row::approach(self.level, means, row, &rows.weights),
                        (Some(_), Some(wide)) => {
                            row::approach(self.level, means, wide, &rows.weights);
                        }
                    }
                }
            }
        }
    }

    /// The patch's shares along a row of a box, into `rows.weights`.
    fn share(&self, shares: &Shares, [z, y]: [usize; 2], rows: &mut Rows) {
        let Shares { own, beside, others } = shares;
        rows.weights.resize(own.len(), 0.0);
        match &others[..] {
            [] => row::share(self.level, &mut rows.weights, own, beside, own, 0.0),
            [columns] => {
                let ratio = columns.ratio(z, y);
                row::share(self.level, &mut rows.weights, own, beside, &columns.sums, ratio);
            }
            several => {
                rows.sums.clear();
                rows.sums.resize(own.len(), 0.0);
                for columns in several {
                    let ratio = columns.ratio(z, y);
                    rows.sums
                        .iter_mut()
                        .zip(&columns.sums)
                        .for_each(|(sum, of)| *sum += ratio * of);
                }
                row::share(self.level, &mut rows.weights, own, beside, &rows.sums, 1.0);
            }
        }
    }
}
