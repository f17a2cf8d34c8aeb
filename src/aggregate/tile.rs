//! A box of the result while it is unfinished: patches are added, then weights divided away.
//!
//! Sums are `f64`, so that rounding stays far below the result's last bit: a constant comes out as it went in. Where only
//! the largest channel is asked for they are `f32`. Means are another matter (`mean`).

use std::ops::Range;

use super::ledger::Bits;
use super::options::Finish;
use super::plan::{Kept, Plan};
use super::row;
use super::value::Value;
use super::window::Window;
use crate::sys::prefetch::prefetch;
use crate::{Region, Size3, Voxel, with_voxel};

/// A row is asked for while those so many rows before it are added: patches and sums lie in distant memory.
pub(super) const ROWS_AHEAD: usize = 2;

/// One patch: its elements, `(c, z, y, x)` in C order, and its places among the starts of each axis.
pub(super) struct Patch<'a, T> {
    pub(super) values: &'a [T],
    pub(super) places: Size3,
}

/// Buffers of one task, used row after row.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) widened: Vec<f32>,
    pub(super) weights: Vec<f32>,
    pub(super) sums: Vec<f32>,
    channels: Vec<f32>,
    best: Vec<f32>,
    labels: Vec<u32>,
    totals: Vec<f64>,
}

/// The part of a patch that counts for a tile.
pub(super) struct Part<'a, T> {
    pub(super) values: &'a [T],
    pub(super) places: Size3,
    /// First voxel of the patch, which may lie outside the volume.
    starts: [i64; 3],
    patch_size: Size3,
    /// Voxels of the result.
    pub(super) z: Range<usize>,
    pub(super) y: Range<usize>,
    pub(super) x: Range<usize>,
    /// Weights of `x`.
    profile: &'a [f64],
}

impl<T: Value> Part<'_, T> {
    /// Where on each axis of the patch a voxel of the result lies.
    fn inside(&self, voxel: Size3) -> Size3 {
        [0, 1, 2].map(|a| (voxel[a] as i64 - self.starts[a]) as usize)
    }

    /// The element of channel 0 for a voxel of the result.
    pub(super) fn offset(&self, voxel: Size3) -> usize {
        let ([z, y, x], [_, ny, nx]) = (self.inside(voxel), self.patch_size);
        (z * ny + y) * nx + x
    }

    /// Asks for as many elements as a row has, from the patch's `from`-th on.
    fn prefetch(&self, from: usize) {
        let row = self.values.get(from..from + self.x.len()).unwrap_or_default();
        prefetch(bytemuck::cast_slice(row));
    }
}

/// A row of a patch that counts, and where it goes.
struct Place {
    /// First element of the row in channel 0 of the patch.
    from: usize,
    /// First voxel of the row in channel 0 of the tile.
    to: usize,
    /// Weight of its z and y.
    outer: f64,
}

impl Plan {
    /// Prepares the bytes of a tile for its first patch.
    pub(super) fn clear(&self, sums: &mut [u8]) {
        // Added to −0.0 every number stays what it is; +0.0 would turn −0.0 into itself. What is assigned needs nothing.
        match (&self.window, self.kept) {
            (Window::Crop, _) | (_, Kept::Voxels | Kept::Means) => {}
            (_, Kept::Wide) => bytemuck::cast_slice_mut::<u8, f64>(sums).fill(-0.0),
            (_, Kept::Narrow) => bytemuck::cast_slice_mut::<u8, f32>(sums).fill(-0.0),
        }
    }

    /// Adds the parts of `patches` that count for the tile `region`: row after row of the tile, so that its sums come out of
    /// memory once for all of them.
    pub(super) fn add<T: Value>(
        &self,
        patches: &[&Patch<'_, T>],
        region: &Region,
        had: &mut Bits,
        sums: &mut [u8],
        rows: &mut Rows,
    ) {
        if self.kept == Kept::Means {
            return self.take(patches, region, had, bytemuck::cast_slice_mut(sums), rows);
        }
        let parts: Vec<Part<'_, T>> = patches.iter().map(|p| self.part(p, region)).collect();
        let [nz, ny, nx] = region.size;
        let [z0, y0, x0] = region.start.map(|v| v as usize);
        for z in 0..nz {
            for y in 0..ny {
                let row = (z * ny + y) * nx;
                for part in &parts {
                    if part.z.contains(&(z0 + z)) && part.y.contains(&(y0 + y)) {
                        let place = self.place(part, [z0 + z, y0 + y], row + part.x.start - x0);
                        self.add_row(part, &place, region, sums, rows);
                    }
                }
            }
        }
    }

    /// Adds one row of all channels.
    fn add_row<T: Value>(
        &self,
        part: &Part<'_, T>,
        place: &Place,
        region: &Region,
        sums: &mut [u8],
        rows: &mut Rows,
    ) {
        let Part { values, x, profile, .. } = part;
        let patch_channel = values.len() / self.channel_count();
        let softmax = self.finish == Finish::SoftmaxArgmax;
        let crop = self.window == Window::Crop;
        let (level, floor) = (self.level, self.weights.floor);
        if self.kept == Kept::Narrow && !crop {
            rows.weights.resize(x.len(), 0.0);
            row::weigh_f32(level, &mut rows.weights, profile, place.outer, floor);
        }
        if softmax {
            softmax_of(values, patch_channel, place.from, x.len(), &mut rows.channels);
        }
        let px = self.target.patch_size()[2];
        for c in 0..self.channel_count() {
            let from = place.from + c * patch_channel;
            let row = &values[from..from + x.len()];
            let to = place.to + c * region.len();
            let to = to..to + x.len();
            part.prefetch(from + ROWS_AHEAD * px);
            let ahead = (to.start + ROWS_AHEAD * region.size[2]) * self.kept_bytes();
            prefetch(sums.get(ahead..ahead + x.len() * self.kept_bytes()).unwrap_or_default());
            if softmax {
                let values = &rows.channels[c * x.len()..][..x.len()];
                let sums = &mut bytemuck::cast_slice_mut(sums)[to];
                add_narrow(self, sums, values, &rows.weights);
                continue;
            }
            match self.kept {
                Kept::Voxels => with_voxel!(self.dtype, Out => {
                    assign(row, &mut bytemuck::cast_slice_mut::<u8, Out>(sums)[to]);
                }),
                Kept::Wide => {
                    let sums: &mut [f64] = &mut bytemuck::cast_slice_mut(sums)[to];
                    match T::widened(row, &mut rows.widened) {
                        _ if crop => put(sums, row, Value::to_f64),
                        None => row::add_f64(level, sums, row, profile, place.outer, floor),
                        Some(wide) => {
                            row::add_f64(level, sums, wide, profile, place.outer, floor);
                        }
                    }
                }
                Kept::Means => unreachable!("`Plan::take` has them"),
                Kept::Narrow => {
                    let sums: &mut [f32] = &mut bytemuck::cast_slice_mut(sums)[to];
                    match T::widened(row, &mut rows.widened) {
                        None => add_narrow(self, sums, row, &rows.weights),
                        Some(wide) => add_narrow(self, sums, wide, &rows.weights),
                    }
                }
            }
        }
    }

    /// The part of `patch` that counts for the tile `region`.
    pub(super) fn part<'a, T>(&'a self, patch: &Patch<'a, T>, region: &Region) -> Part<'a, T> {
        let starts = [0, 1, 2].map(|a| self.axes[a].starts[patch.places[a]]);
        let [z, y, x] = [0, 1, 2].map(|a| {
            let used = &self.axes[a].used[patch.places[a]];
            used.start.max(region.start[a] as usize)..used.end.min(region.end(a) as usize)
        });
        let inside = |i: usize| (i as i64 - starts[2]) as usize;
        let profile = &self.weights.profiles[2][inside(x.start)..inside(x.end)];
        let (values, places) = (patch.values, patch.places);
        Part { values, places, starts, patch_size: self.target.patch_size(), z, y, x, profile }
    }

    /// Where the row at `(z, y)` of the result lies, which goes to `to` in the tile.
    fn place<T: Value>(&self, part: &Part<'_, T>, [z, y]: [usize; 2], to: usize) -> Place {
        let voxel = [z, y, part.x.start];
        let ([lz, ly, _], [wz, wy, _]) = (part.inside(voxel), &self.weights.profiles);
        Place { from: part.offset(voxel), to, outer: wz[lz] * wy[ly] }
    }

    /// Writes the finished voxels of the tile `region`, whose patches are all there, into `out`: `(c, z, y, x)` of the
    /// result's dtype over the box `canvas`, which holds the tile.
    pub(super) fn finish(
        &self,
        region: &Region,
        sums: &[u8],
        canvas: &Region,
        out: &mut [u8],
        rows: &mut Rows,
    ) {
        let [nz, ny, nx] = region.size;
        let [dz, dy, dx] = [0, 1, 2].map(|a| (region.start[a] - canvas.start[a]) as usize);
        for z in 0..nz {
            for y in 0..ny {
                let from = (z * ny + y) * nx;
                let to = ((dz + z) * canvas.size[1] + dy + y) * canvas.size[2] + dx;
                with_voxel!(self.dtype, Out => {
                    let out: &mut [Out] = bytemuck::cast_slice_mut(out);
                    match self.kept {
                        Kept::Narrow => {
                            self.label(bytemuck::cast_slice(sums), from, region.len(), rows, &mut out[to..to + nx]);
                        }
                        Kept::Voxels => unreachable!("its tiles hold results"),
                        Kept::Means => {
                            let means: &[f32] = bytemuck::cast_slice(sums);
                            for c in 0..self.channel_count() {
                                let (from, to) = (from + c * region.len(), to + c * canvas.len());
                                assign(&means[from..from + nx], &mut out[to..to + nx]);
                            }
                        }
                        Kept::Wide => {
                            let at = [region.start[0] as usize + z, region.start[1] as usize + y];
                            let x = region.start[2] as usize..region.end(2) as usize;
                            self.total_weights(at, x, &mut rows.totals);
                            let sums: &[f64] = bytemuck::cast_slice(sums);
                            for c in 0..self.channel_count() {
                                let (from, to) = (from + c * region.len(), to + c * canvas.len());
                                self.divide(&sums[from..from + nx], &rows.totals, &mut out[to..to + nx]);
                            }
                        }
                    }
                });
            }
        }
    }

    /// The channel with the largest sum, for a row that begins at `from` in each channel of `channel_len` voxels.
    fn label<Out: Voxel>(
        &self,
        sums: &[f32],
        from: usize,
        channel_len: usize,
        rows: &mut Rows,
        out: &mut [Out],
    ) {
        let nx = out.len();
        rows.best.clear();
        rows.best.extend_from_slice(&sums[from..from + nx]);
        rows.labels.clear();
        rows.labels.resize(nx, 0);
        for c in 1..self.channel_count() {
            let values = &sums[from + c * channel_len..][..nx];
            row::take_larger(self.level, &mut rows.best, &mut rows.labels, values, c as u32);
        }
        for (out, label) in out.iter_mut().zip(&rows.labels) {
            *out = Out::from_f64_rounded(f64::from(*label));
        }
    }

    fn divide<Out: Voxel>(&self, sums: &[f64], totals: &[f64], out: &mut [Out]) {
        let means = sums.iter().zip(totals).map(|(sum, total)| sum / total);
        let pairs = out.iter_mut().zip(means);
        match self.finish {
            Finish::Threshold(at) => pairs.for_each(|(out, mean)| {
                *out = Out::from_f64_rounded(if mean >= at { 1.0 } else { 0.0 });
            }),
            Finish::Quantize { slope, intercept } => pairs.for_each(|(out, mean)| {
                *out = Out::from_f64_rounded((mean - intercept) / slope);
            }),
            _ => match bytemuck::try_cast_slice_mut::<Out, f32>(out) {
                Ok(out) if Out::DTYPE == crate::Dtype::Float32 => {
                    row::divide_f32(self.level, out, sums, totals);
                }
                _ => {
                    for ((out, sum), total) in out.iter_mut().zip(sums).zip(totals) {
                        *out = Out::from_f64_rounded(sum / total);
                    }
                }
            },
        }
    }

    /// Sums of all weights along part of one row of the result; 1 under crop, where one patch counts.
    fn total_weights(&self, [z, y]: [usize; 2], x: Range<usize>, totals: &mut Vec<f64>) {
        let [az, ay, ax] = &self.axes;
        totals.clear();
        if self.window == Window::Crop {
            totals.resize(x.len(), 1.0);
            return;
        }
        if self.weights.floor == 0.0 {
            // The sum over a product grid is the product of the axes' sums.
            let outer = az.sums[z] * ay.sums[y];
            totals.extend(ax.sums[x].iter().map(|inner| outer * inner));
            return;
        }
        // Lifted to a floor, the window is no product any more: the few patches over the row are walked.
        totals.resize(x.len(), 0.0);
        let [wz, wy, wx] = &self.weights.profiles;
        for pz in az.patches_at(z) {
            for py in ay.patches_at(y) {
                let outer = wz[(z as i64 - az.starts[pz]) as usize]
                    * wy[(y as i64 - ay.starts[py]) as usize];
                for px in ax.patches_meeting(&x) {
                    let used = ax.used[px].start.max(x.start)..ax.used[px].end.min(x.end);
                    let profile = &wx[(used.start as i64 - ax.starts[px]) as usize..];
                    let row = &mut totals[used.start - x.start..used.end - x.start];
                    for (total, inner) in row.iter_mut().zip(profile) {
                        *total += self.weights.product(outer, *inner);
                    }
                }
            }
        }
    }
}

/// The element of channel 0 for a voxel of the result, in a tile.
pub(super) fn offset_in(tile: &Region, voxel: Size3) -> usize {
    let [z, y, x] = [0, 1, 2].map(|a| voxel[a] - tile.start[a] as usize);
    (z * tile.size[1] + y) * tile.size[2] + x
}

/// Adds a row to sums in `f32`, or under crop puts it there.
fn add_narrow<T: Value>(plan: &Plan, sums: &mut [f32], values: &[T], weights: &[f32]) {
    if plan.window == Window::Crop {
        put(sums, values, Value::to_f32);
    } else {
        row::add_f32(plan.level, sums, values, weights);
    }
}

pub(super) fn put<T: Copy, U>(to: &mut [U], from: &[T], convert: impl Fn(T) -> U) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = convert(*from));
}

/// Writes voxels of one dtype as another: the same bits, or the nearest value.
fn assign<In: Value, Out: Voxel>(from: &[In], to: &mut [Out]) {
    if In::DTYPE == Some(Out::DTYPE) {
        bytemuck::cast_slice_mut::<Out, u8>(to).copy_from_slice(bytemuck::cast_slice(from));
    } else {
        put(to, from, |from| Out::from_f64_rounded(from.to_f64()));
    }
}

/// Softmax over the channels of one row of a patch: `exp(v − max) / Σ exp(v − max)`, into `out`, channel after channel.
fn softmax_of<T: Value>(
    values: &[T],
    channel_len: usize,
    from: usize,
    nx: usize,
    out: &mut Vec<f32>,
) {
    out.clear();
    for row in values.chunks_exact(channel_len) {
        out.extend(row[from..from + nx].iter().map(|value| value.to_f32()));
    }
    for x in 0..nx {
        let at = (x..out.len()).step_by(nx);
        let largest = at.clone().fold(f32::NEG_INFINITY, |max, i| max.max(out[i]));
        let mut sum = 0.0;
        for i in at.clone() {
            out[i] = (out[i] - largest).exp();
            sum += out[i];
        }
        at.for_each(|i| out[i] /= sum);
    }
}
