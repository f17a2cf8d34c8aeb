//! Runs the measured steps of the demo: random patches, and a sliding window with an identity
//! model.

use std::time::Instant;

use voxquarry::{
    AggregateOptions, Aggregator, Dataset, Dtype, Epoch, GridSampler, OpenOptions, Padding, Result,
    Size3, StoreWriter, UniformSampler, Volume, Voxel, Window, with_voxel,
};

use super::{IDENTITY, IMAGE, SUBJECT};
use crate::progress::check_interrupt;

pub(super) const PATCHES: u64 = 1000;
/// Channels beyond these are not read, so that patches of a long time series fit into memory.
const MOST_CHANNELS: usize = 4;

/// The number of channels that are read.
pub(super) fn channels_of(volume: &Volume) -> usize {
    volume.channels().unwrap_or(1).min(MOST_CHANNELS)
}

/// A patch of 96³, clipped to the volume.
pub(super) fn patch_size(volume: &Volume) -> Size3 {
    volume.size().map(|n| n.min(96))
}

/// Reads the patches into one buffer, one after another; returns the seconds that it took.
///
/// # Errors
/// Those of reading.
pub(super) fn read_patches(store: &std::path::Path, cache_bytes: usize) -> Result<f64> {
    let options = OpenOptions::default().cache_bytes(cache_bytes);
    let subject = Dataset::open(store, &options)?.subject(SUBJECT)?;
    let volume = subject.volume(IMAGE)?;
    let (size, channels) = (patch_size(&volume), channels_of(&volume));
    let sampler = UniformSampler::new(size)?;
    let locations = sampler.locations(&subject, PATCHES, Epoch::default(), 0)?;
    let voxels = size.iter().product::<usize>() * channels;
    let mut patch = vec![0; voxels * volume.dtype().size()];
    let started = Instant::now();
    for location in &locations {
        check_interrupt()?;
        let start = [location.region.start];
        volume.read_bytes(&start, size, Padding::None, 0..channels, &mut patch)?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// The result of the sliding window.
pub(super) struct BlendReport {
    pub(super) patches: usize,
    pub(super) seconds: f64,
    /// Largest difference between a blended voxel and that of the image, as `float32`.
    pub(super) max_difference: f64,
    /// Whether every difference is at most rounding.
    pub(super) is_equal: bool,
}

/// Reads a grid of patches that overlap by one half, and blends them unchanged into a new volume.
///
/// # Errors
/// Those of reading and writing.
pub(super) fn slide(store: &std::path::Path) -> Result<BlendReport> {
    let subject = Dataset::open(store, &OpenOptions::default())?.subject(SUBJECT)?;
    let volume = subject.volume(IMAGE)?;
    with_voxel!(volume.dtype(), T => slide_as::<T>(store, &volume))
}

fn slide_as<T: Voxel>(store: &std::path::Path, volume: &Volume) -> Result<BlendReport> {
    let (size, channels) = (patch_size(volume), channels_of(volume));
    let grid = GridSampler::new(size, size.map(|n| n / 2))?.grid(volume.size())?;
    let options = AggregateOptions::default()
        .channels(volume.channels().map(|_| channels))
        .window(Window::Hann);
    let writer = StoreWriter::open(store, None)?;
    let (target, affine) = ((SUBJECT, IDENTITY), *volume.affine());
    let started = Instant::now();
    let aggregator =
        Aggregator::to_store(grid.clone(), &options, Dtype::Float32, &writer, target, affine)?;
    let mut patch = vec![T::default(); size.iter().product::<usize>() * channels];
    for start in grid.starts() {
        check_interrupt()?;
        let bytes = bytemuck::cast_slice_mut(&mut patch);
        volume.read_bytes(&[start], size, Padding::None, 0..channels, bytes)?;
        // A model would make its prediction here.
        aggregator.add(&patch, &[start])?;
    }
    let blended = aggregator.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let (max_difference, is_equal) = compare::<T>(volume, &blended, channels)?;
    Ok(BlendReport { patches: grid.len(), seconds, max_difference, is_equal })
}

/// Compares layer by layer; returns the largest difference, and whether all are at most rounding.
fn compare<T: Voxel>(volume: &Volume, blended: &Volume, channels: usize) -> Result<(f64, bool)> {
    let [nz, ny, nx] = volume.size();
    let depth = blended.layout().chunk[0];
    let (mut largest, mut is_equal) = (0.0f64, true);
    for z in (0..nz).step_by(depth) {
        let extent = [depth.min(nz - z), ny, nx];
        let voxels = extent.iter().product::<usize>() * channels;
        let (mut expected, mut found) = (vec![T::default(); voxels], vec![0.0f32; voxels]);
        let start = [[z as i64, 0, 0]];
        let (a, b) =
            (bytemuck::cast_slice_mut(&mut expected), bytemuck::cast_slice_mut(&mut found));
        volume.read_bytes(&start, extent, Padding::None, 0..channels, a)?;
        blended.read_bytes(&start, extent, Padding::None, 0..channels, b)?;
        for (expected, found) in expected.iter().zip(found) {
            let expected = f32::from_f64_rounded(expected.to_f64());
            // The difference of equal infinities is NaN, and NaN has to stay NaN.
            if expected.to_bits() == found.to_bits() || (expected.is_nan() && found.is_nan()) {
                continue;
            }
            let difference = (f64::from(found) - f64::from(expected)).abs();
            largest = largest.max(difference);
            // One unit in the last place of float32; false for NaN.
            let is_close = difference <= f64::from(expected.abs()) * f64::from(f32::EPSILON);
            is_equal &= is_close;
        }
    }
    Ok((largest, is_equal))
}
