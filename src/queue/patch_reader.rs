//! Reads one patch of a queue: as it is stored, or where and as an augmentation puts it.
//!
//! # Invariants
//! - The voxels of a patch depend on its subject, region and number alone.

use std::mem;

use half::slice::HalfFloatSliceExt;

use super::batch_layout::{BatchArray, BatchValues};
use super::changes::{PatchChanges, VolumeReading};
use super::lookahead_cache::LookaheadCache;
use super::subject_cache::OpenSubject;
use super::view::SubjectView;
use crate::array::cache::{ChunkCache, ChunkKey};
use crate::augment::{IntensityScratch, PatchGrid, PatchPlace, SampleKey};
use crate::memory::reserve;
use crate::sample::Epoch;
use crate::store::{RealPatch, WarpedRead};
use crate::{
    Augment, Dtype, Order, PatchLocation, Region, Result, Size3, Volume, Warp, f16, with_voxel,
};

/// A patch that is due: where the sampler has put it, and the number of its sample.
#[derive(Clone, Debug)]
pub(super) struct PlannedPatch {
    pub(super) location: PatchLocation,
    pub(super) number: u64,
}

/// A map of the indices `(z, y, x, 1)` of a patch to positions, the last row `0 0 0 1`.
pub(super) type PatchTransform = [[f64; 4]; 4];

/// Memory that a thread keeps for its next patch.
#[derive(Debug, Default)]
pub(super) struct ReadScratch {
    /// What is stored of real values.
    stored: Vec<u64>,
    /// The values of a patch of `f16`.
    values: Vec<f32>,
    filters: IntensityScratch,
}

/// One patch of an open subject.
pub(super) struct PatchReader<'a> {
    changes: &'a PatchChanges,
    open: &'a OpenSubject,
    key: SampleKey<'a>,
    region: Region,
    place: PatchPlace,
}

impl<'a> PatchReader<'a> {
    /// Finds out where the patch lies.
    ///
    /// # Errors
    /// As `Augment::place`.
    pub(super) fn new(
        changes: &'a PatchChanges,
        open: &'a OpenSubject,
        planned: &'a PlannedPatch,
        epoch: Epoch,
    ) -> Result<Self> {
        let PlannedPatch { location, number } = planned;
        let (subject, region) = (&*location.subject, location.region);
        let key = SampleKey { epoch, subject, n: *number };
        let view = open.view.as_ref().map(SubjectView::volume);
        let place = match &changes.augment {
            Some(augment) => {
                let own = || open.volumes.first().map_or([1.0; 3], Volume::spacing);
                let spacing = view.map_or_else(own, |view| view.affine().spacing_mm());
                augment.place(&key, &PatchGrid { region, spacing })?
            }
            None => PatchPlace::Mirrored([false; 3]),
        };
        let place = match view {
            Some(view) => PatchPlace::Warped(Box::new(place.seen_through(&region, view.matrix())?)),
            None => place,
        };
        Ok(Self { changes, open, key, region, place })
    }

    /// The map of the patch's indices to positions, where patches may lie anywhere.
    pub(super) fn transform(&self) -> Option<PatchTransform> {
        let is_told = self.changes.augment.is_some() || self.open.view.is_some();
        let matrix = is_told.then(|| self.place.matrix(&self.region))?;
        let affine = &self.open.volumes.first()?.affine().0;
        let mut transform = [[0.0, 0.0, 0.0, 1.0]; 4];
        for (row, affine) in transform.iter_mut().zip(affine).take(3) {
            for (column, value) in row.iter_mut().enumerate() {
                let sum: f64 = (0..3).map(|axis| affine[2 - axis] * matrix[axis][column]).sum();
                *value = if column == 3 { sum + affine[3] } else { sum };
            }
        }
        transform[3] = [0.0, 0.0, 0.0, 1.0];
        Some(transform)
    }

    /// The volumes whose chunks are worth caching, with the chunks that the patch needs of each.
    pub(super) fn cached_chunks(&self) -> Vec<(&Volume, Vec<ChunkKey>)> {
        let worth = (0..self.open.volumes.len()).filter_map(|i| {
            let volume = &self.open.volumes[i];
            if !volume.is_worth_caching() {
                return None;
            }
            let channels = &self.open.channels[i];
            let keys = match &self.place {
                PatchPlace::Mirrored(_) => volume.chunks_meeting(&self.region, channels).collect(),
                // An error is left to the patch's own turn.
                PatchPlace::Warped(warp) => volume.chunks_of(&self.warped(i, warp)).ok()?,
            };
            Some((volume, keys))
        });
        worth.collect()
    }

    /// Requests the chunks of the patch from the disk that `cache` does not hold; errors are left
    /// to the patch's own turn.
    pub(super) fn read_ahead(&self, cache: &LookaheadCache) {
        for (i, volume) in self.open.volumes.iter().enumerate() {
            let cached = volume.is_worth_caching();
            let wanted = |key| !(cached && cache.holds(key));
            let _ = match &self.place {
                PatchPlace::Mirrored(_) => {
                    volume.read_region_ahead(&self.region, &self.open.channels[i], wanted)
                }
                PatchPlace::Warped(warp) => volume.read_warped_ahead(&self.warped(i, warp), wanted),
            };
        }
    }

    /// How volume `i` is resampled.
    fn warped<'b>(&'b self, i: usize, warp: &'b Warp) -> WarpedRead<'b> {
        let is_float = self.open.is_float[i];
        let order = self.changes.augment.as_ref().map_or(Order::Linear, Augment::get_order);
        WarpedRead {
            warp,
            size: self.region.size,
            order: if is_float { order } else { Order::Nearest },
            padding: self.open.readings[i].padding,
            dtype: is_float.then_some(Dtype::Float32),
            is_scaled: self.changes.is_scaled && is_float,
            channels: &self.open.channels[i],
        }
    }

    /// How volume `i` is read where the sampler says, as real values.
    fn real(&self, i: usize) -> RealPatch<'_> {
        let VolumeReading { padding, scale, .. } = self.open.readings[i];
        RealPatch { region: &self.region, padding, channels: &self.open.channels[i], scale }
    }

    /// Reads volume `i` into the bytes of its `array`.
    ///
    /// # Errors
    /// Those of reading; [`crate::Error::OutOfMemory`].
    pub(super) fn read(
        &self,
        i: usize,
        array: &BatchArray,
        out: &mut [u8],
        scratch: &mut ReadScratch,
        cache: &dyn ChunkCache,
    ) -> Result<()> {
        let (volume, channels) = (&self.open.volumes[i], &self.open.channels[i]);
        let padding = self.open.readings[i].padding;
        match (array.values, &self.place) {
            (BatchValues::Float(Dtype::Float32), _) => {
                self.read_floats(i, bytemuck::cast_slice_mut(out), scratch, cache)
            }
            (BatchValues::Float(_), _) => {
                let out: &mut [f16] = bytemuck::cast_slice_mut(out);
                let mut values = mem::take(&mut scratch.values);
                let more = out.len().saturating_sub(values.len());
                reserve(&mut values, more, || format!("a copy of {} voxels", out.len()))?;
                values.resize(values.len().max(out.len()), 0.0);
                let read = self.read_floats(i, &mut values[..out.len()], scratch, cache);
                out.convert_from_f32_slice(&values[..out.len()]);
                scratch.values = values;
                read
            }
            (BatchValues::Real, _) => {
                let (real, out) = (self.real(i), (array.dtype, out));
                volume.read_real_cached(&real, out, &mut scratch.stored, cache)
            }
            (_, PatchPlace::Warped(warp)) => volume.read_warped(&self.warped(i, warp), out, cache),
            (_, PatchPlace::Mirrored(flips)) => {
                volume.read_cached(&self.region, padding, channels, out, cache)?;
                with_voxel!(volume.dtype(), T => {
                    mirror::<T>(bytemuck::cast_slice_mut(out), self.region.size, *flips);
                });
                Ok(())
            }
        }
    }

    /// Reads volume `i`, an image, and changes its values.
    fn read_floats(
        &self,
        i: usize,
        out: &mut [f32],
        scratch: &mut ReadScratch,
        cache: &dyn ChunkCache,
    ) -> Result<()> {
        let (volume, channels) = (&self.open.volumes[i], &self.open.channels[i]);
        match &self.place {
            PatchPlace::Warped(warp) => {
                let bytes = bytemuck::cast_slice_mut(out);
                volume.read_warped(&self.warped(i, warp), bytes, cache)?;
            }
            PatchPlace::Mirrored(flips) => {
                if volume.dtype() == Dtype::Float64 {
                    // Rounds as it resamples; whole indices copy voxels.
                    let still = Warp::new(unmoved(&self.region))?;
                    let bytes = bytemuck::cast_slice_mut(out);
                    volume.read_warped(&self.warped(i, &still), bytes, cache)?;
                } else {
                    let bytes = (Dtype::Float32, bytemuck::cast_slice_mut(out));
                    let stored = &mut scratch.stored;
                    volume.read_real_cached(&self.real(i), bytes, stored, cache)?;
                }
                mirror(out, self.region.size, *flips);
            }
        }
        if let Some(map) = self.open.readings[i].map {
            map.normalize(out);
        }
        if let Some(augment) = &self.changes.augment {
            let voxels = out.len() / channels.len();
            for (channel, values) in
                channels.in_order().into_iter().zip(out.chunks_exact_mut(voxels))
            {
                let of = (volume.name(), channel);
                augment.change(&self.key, of, values, self.region.size, &mut scratch.filters);
            }
        }
        Ok(())
    }
}

/// The map of a region's own voxels.
fn unmoved(region: &Region) -> [[f64; 4]; 3] {
    PatchPlace::Mirrored([false; 3]).matrix(region)
}

/// Mirrors channels `(z, y, x)` along some axes.
fn mirror<T: Copy>(voxels: &mut [T], [nz, ny, nx]: Size3, [z, y, x]: [bool; 3]) {
    if x {
        voxels.chunks_exact_mut(nx).for_each(<[T]>::reverse);
    }
    if y {
        voxels.chunks_exact_mut(ny * nx).for_each(|plane| swap_ends(plane, nx));
    }
    if z {
        voxels.chunks_exact_mut(nz * ny * nx).for_each(|channel| swap_ends(channel, ny * nx));
    }
}

/// Reverses the order of parts of `length` voxels.
fn swap_ends<T: Copy>(mut voxels: &mut [T], length: usize) {
    while voxels.len() >= 2 * length {
        let (first, rest) = mem::take(&mut voxels).split_at_mut(length);
        let (middle, last) = rest.split_at_mut(rest.len() - length);
        first.swap_with_slice(last);
        voxels = middle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrored_voxels_are_those_of_the_other_end() {
        let size = [3, 4, 5];
        let place = |at: Size3| (at[0] * 4 + at[1]) * 5 + at[2];
        for flips in (0..8).map(|i| [i & 1 > 0, i & 2 > 0, i & 4 > 0]) {
            let mut voxels: Vec<usize> = (0..120).collect();
            mirror(&mut voxels, size, flips);
            for channel in 0..2 {
                for at in crate::format::grid::iter_box(size.map(|n| 0..n)) {
                    let from =
                        [0, 1, 2].map(|a| if flips[a] { size[a] - 1 - at[a] } else { at[a] });
                    assert_eq!(voxels[60 * channel + place(at)], 60 * channel + place(from));
                }
            }
        }
    }
}
