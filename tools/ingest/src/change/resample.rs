//! Resamples a copy into the volume that a subject gets, layer by layer.

use std::ops::Range;

use voxquarry::format::attributes::{Kind, SourceFile};
use voxquarry::{
    Dtype, Error, FinishedVolume, Normalization, Order, Padding, Resampling, Result, Size3,
    SubjectWriter, Volume, VolumeWriter, Warp,
};

use super::native::NativeCopy;
use super::planned::{PlannedChange, part_bytes};
use super::values::{Moments, ValueConversion, ValueNormalization};
use crate::copy::{finish, spec_of};
use crate::files::zeroed;
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::planned::PlannedVolume;

/// Writes a planned volume from the copy of its source, and returns it complete.
///
/// # Errors
/// [`Error::Data`] for a value that the type does not hold, or for labels that are none;
/// [`Error::Interrupted`], [`Error::Io`].
pub(super) fn write_changed(
    subject: &mut SubjectWriter,
    planned: &PlannedVolume,
    change: &PlannedChange,
    copy: &NativeCopy,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<FinishedVolume> {
    let reader = LayerReader::new(planned, change, &copy.volume, options, observer)?;
    let location = planned.source.input.location();
    let mut record = change.record();
    let rescale = match change.changes.normalization {
        None => None,
        Some(normalization) => {
            let mut moments = Moments::default();
            if normalization == Normalization::ZScore {
                moments = reader.measure()?;
                record.insert("mean".into(), moments.mean.into());
                record.insert("std".into(), moments.std().into());
            }
            let rescale = ValueNormalization::new(normalization, &moments);
            Some(rescale.map_err(|reason| Error::data(location, reason))?)
        }
    };
    let mut writer = subject.volume(spec_of(planned, options))?;
    let to = planned.header.dtype;
    reader.write(&mut writer, &ValueConversion { from: change.read_dtype, to, rescale })?;
    let mut origin = change.native.origin.clone();
    origin.extend(copy.digest.origin.clone());
    origin.insert("changes".into(), record.into());
    let (name, digest) = (planned.source.input.name(), &copy.digest);
    let sha256 = digest.sha256.clone();
    writer.set_source(SourceFile { name, bytes: digest.bytes, sha256, origin });
    finish(writer, observer)
}

/// Reads layers of the changed volume, part by part.
struct LayerReader<'a> {
    planned: &'a PlannedVolume,
    volume: &'a Volume,
    /// The index `(z, y, x, 1)` in the changed volume to that in the copy.
    matrix: [[f64; 4]; 3],
    resampling: Resampling,
    dtype: Dtype,
    part_bytes: usize,
    observer: &'a dyn Observer,
}

impl<'a> LayerReader<'a> {
    fn new(
        planned: &'a PlannedVolume,
        change: &PlannedChange,
        volume: &'a Volume,
        options: &IngestOptions,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
        let mut matrix = *change.grid.matrix();
        if let Some(region) = change.crop.filter(|_| !change.copies_crop()) {
            for (row, start) in matrix.iter_mut().zip(region.start) {
                row[3] += start as f64;
            }
        }
        let is_linear = change.changes.interpolates() && planned.source.kind == Kind::Image;
        let order = if is_linear { Order::Linear } else { Order::Nearest };
        let dtype = change.read_dtype;
        let resampling = Resampling { order, padding: Padding::Edge, dtype: Some(dtype) };
        let part_bytes = part_bytes(options) as usize;
        // Refuses a map that no read takes, before the work.
        Warp::new(matrix)?;
        Ok(Self { planned, volume, matrix, resampling, dtype, part_bytes, observer })
    }

    /// Mean and deviation of all values.
    fn measure(&self) -> Result<Moments> {
        let (mut moments, mut part) = (Moments::default(), Vec::new());
        let size = self.planned.header.size;
        let layer = self.planned.layout.chunk[0];
        for channel in 0..self.volume.layout().channel_count() {
            for z in (0..size[0]).step_by(layer) {
                check_interrupt(self.observer)?;
                let planes = layer.min(size[0] - z);
                self.parts(channel, z..z + planes, &mut part, |_, voxels| {
                    moments.take(self.dtype, voxels);
                    Ok(())
                })?;
                let voxels = planes * size[1] * size[2] * self.planned.header.dtype.size();
                self.observer.event(Event::Encoded(voxels as u64));
            }
        }
        Ok(moments)
    }

    /// Writes all layers.
    fn write(&self, writer: &mut VolumeWriter, conversion: &ValueConversion) -> Result<()> {
        let size = self.planned.header.size;
        let width = conversion.to.size();
        let (mut layer, mut part) = (zeroed(writer.layer_bytes())?, Vec::new());
        for channel in 0..self.volume.layout().channel_count() {
            let mut z = 0;
            while z < size[0] {
                check_interrupt(self.observer)?;
                let planes = writer.next_planes();
                let bytes = &mut layer[..planes * size[1] * size[2] * width];
                self.parts(channel, z..z + planes, &mut part, |first, voxels| {
                    let count = voxels.len() / self.dtype.size();
                    let out = &mut bytes[first * width..(first + count) * width];
                    let converted = conversion.run(voxels, out);
                    converted.map_err(|(i, value)| self.unfit(z, first + i, value, conversion.to))
                })?;
                writer.write_layer(bytes).map_err(|error| self.located(error))?;
                self.observer.event(Event::Encoded(bytes.len() as u64));
                z += planes;
            }
        }
        Ok(())
    }

    /// Calls `take` with the parts of a layer in order: the number of voxels before the part, and
    /// its voxels, which lie in `part`.
    fn parts(
        &self,
        channel: usize,
        layer: Range<usize>,
        part: &mut Vec<u64>,
        mut take: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (z, planes) = (layer.start, layer.len());
        let [_, ny, nx] = self.planned.header.size;
        let [deep, high] = self.part_size(planes);
        // 64-bit words, so that voxels of every type are aligned.
        grow(part, (deep * high * nx * self.dtype.size()).div_ceil(8))?;
        for first in (0..planes).step_by(deep) {
            for row in (0..ny).step_by(high) {
                let size = [deep.min(planes - first), high.min(ny - row), nx];
                let count = size.iter().product::<usize>();
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(part);
                let bytes = &mut bytes[..count * self.dtype.size()];
                let warp = self.warp([z + first, row, 0])?;
                let channels = channel..channel + 1;
                self.volume.read_affine_channels(
                    &[warp],
                    size,
                    self.resampling,
                    channels,
                    bytes,
                )?;
                take((first * ny + row) * nx, bytes)?;
            }
        }
        Ok(())
    }

    /// The map of a part that begins there.
    fn warp(&self, start: Size3) -> Result<Warp> {
        let at = start.map(|i| i as f64);
        Warp::new(
            self.matrix
                .map(|m| [m[0], m[1], m[2], m[3] + m[0] * at[0] + m[1] * at[1] + m[2] * at[2]]),
        )
    }

    /// Planes and rows of the parts of a layer: whole planes, or rows of one plane.
    fn part_size(&self, planes: usize) -> [usize; 2] {
        let [_, ny, nx] = self.planned.header.size;
        let (mut deep, mut high) = (planes, ny);
        let is_large = |deep: usize, high: usize| {
            let part = (deep * high * nx) as f64 * self.dtype.size() as f64;
            let extent = |axis: usize| {
                let m = &self.matrix[axis];
                let steps = [deep, high, nx].map(|n| (n - 1) as f64);
                let reach = m[0].abs() * steps[0] + m[1].abs() * steps[1] + m[2].abs() * steps[2];
                // Taps on both sides, and what vectors load beside them.
                (reach + 5.0).min(self.volume.size()[axis] as f64 + 3.0)
            };
            let voxels: f64 = (0..3).map(extent).product();
            part.max(voxels * self.volume.dtype().size() as f64) > self.part_bytes as f64
        };
        while deep > 1 && is_large(deep, high) {
            deep = deep.div_ceil(2);
        }
        while high > 1 && is_large(deep, high) {
            high = high.div_ceil(2);
        }
        [deep, high]
    }

    /// The error of a value that the type of the volume does not hold.
    fn unfit(&self, z: usize, i: usize, value: f64, dtype: Dtype) -> Error {
        let [_, ny, nx] = self.planned.header.size;
        let index = [z + i / (ny * nx), i / nx % ny, i % nx];
        let message = format!(
            "voxel {index:?} (z, y, x) of the result is {value}, which {dtype} does not hold: clip \
             the values, or choose a wider dtype; nothing is wrapped"
        );
        Error::data(self.planned.source.input.location(), message)
    }

    /// The writer does not know the source file, whose voxels it complains about.
    fn located(&self, error: Error) -> Error {
        crate::copy::located(&self.planned.source, error)
    }
}

/// Makes room for so many words of voxels on their way.
fn grow(part: &mut Vec<u64>, words: usize) -> Result<()> {
    let (missing, bytes) = (words.saturating_sub(part.len()), 8 * words as u64);
    let lacking = |_| Error::OutOfMemory { what: "a part of a layer".into(), bytes };
    part.try_reserve_exact(missing).map_err(lacking)?;
    part.resize(words.max(part.len()), 0);
    Ok(())
}
