//! Converts the scaled voxels of a label map to its labels.
//!
//! A label map may be stored as scaled integers: nibabel writes a floating point mask of 0 and 1 as
//! −32768 and 32767 with a slope of 1.5e-5. The labels are the real values, which must be integers.
//!
//! # Invariants
//! - Voxels are converted in the caller's buffer, so memory does not grow.
//!
//! Not here: label maps without scaling, whose voxels the writer checks.

use std::path::PathBuf;

use voxquarry::{Dtype, Error, Result, Size3, Voxel, with_voxel};

use crate::source::{SourceDigest, SourceVolume, VoxelStream};

/// Real values within this many units in the last place of `float32` of an integer are that
/// integer, because headers store slope and intercept as `float32`.
const TOLERANCE_ULP: f64 = 4.0;
/// Upper bound of the tolerance.
const MAX_TOLERANCE: f64 = 0.01;
/// Voxels that are converted together.
const BLOCK: usize = 1024;

/// Describes the labels in a label map: unscaled, with a dtype that holds them.
pub(crate) fn describe_labels(header: SourceVolume) -> SourceVolume {
    if is_unscaled(&header) {
        return header;
    }
    let dtype = label_dtype(header.dtype, header.slope, header.intercept);
    SourceVolume { dtype, slope: 1.0, intercept: 0.0, ..header }
}

/// Converts the voxels of a label map to those that [`describe_labels`] describes.
pub(crate) fn labels_of(
    path: PathBuf,
    header: &SourceVolume,
    voxels: Box<dyn VoxelStream>,
) -> Box<dyn VoxelStream> {
    if is_unscaled(header) {
        return voxels;
    }
    let stored = header.dtype;
    let dtype = label_dtype(stored, header.slope, header.intercept);
    let scaling = Scaling { slope: header.slope, intercept: header.intercept };
    Box::new(LabelStream { path, voxels, stored, dtype, scaling, size: header.size, done: 0 })
}

fn is_unscaled(header: &SourceVolume) -> bool {
    (header.slope, header.intercept) == (1.0, 0.0)
}

/// The stored dtype if it can hold every label, otherwise the smallest wider integer that can. The
/// conversion checks each voxel, for dtypes that hold only some of the labels.
fn label_dtype(stored: Dtype, slope: f64, intercept: f64) -> Dtype {
    let [low, high] = match stored {
        Dtype::UInt8 => [0.0, f64::from(u8::MAX)],
        Dtype::Int8 => [f64::from(i8::MIN), f64::from(i8::MAX)],
        Dtype::UInt16 => [0.0, f64::from(u16::MAX)],
        Dtype::Int16 => [f64::from(i16::MIN), f64::from(i16::MAX)],
        Dtype::UInt32 => [0.0, f64::from(u32::MAX)],
        Dtype::Int32 => [f64::from(i32::MIN), f64::from(i32::MAX)],
        _ => return stored,
    };
    let ends = [low, high].map(|value| (value * slope + intercept).round());
    let holds = |dtype: Dtype| {
        let exact = |end: f64| with_voxel!(dtype, T => T::from_f64_exact(end).is_some());
        ends.into_iter().all(exact)
    };
    let wider = [Dtype::Int16, Dtype::Int32, Dtype::Int64];
    let wider = wider.into_iter().filter(|dtype| dtype.size() > stored.size());
    [stored].into_iter().chain(wider).find(|&dtype| holds(dtype)).unwrap_or(Dtype::Int64)
}

/// The linear map from stored to real values.
#[derive(Clone, Copy)]
struct Scaling {
    slope: f64,
    intercept: f64,
}

impl Scaling {
    /// The real value, and the integer that it stands for, if it stands for one.
    fn label(self, stored: f64) -> (f64, Option<f64>) {
        let product = stored * self.slope;
        let (real, scale) = (product + self.intercept, product.abs() + self.intercept.abs());
        let tolerance = (TOLERANCE_ULP * f64::from(f32::EPSILON) * scale).min(MAX_TOLERANCE);
        let label = real.round();
        (real, ((real - label).abs() <= tolerance).then_some(label))
    }
}

/// Yields labels in place of stored voxels.
struct LabelStream {
    path: PathBuf,
    voxels: Box<dyn VoxelStream>,
    stored: Dtype,
    /// The dtype of the labels, at least as wide as `stored`.
    dtype: Dtype,
    scaling: Scaling,
    size: Size3,
    /// Voxels before the current step.
    done: usize,
}

impl VoxelStream for LabelStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let voxels = out.len() / self.dtype.size();
        let start = out.len() - voxels * self.stored.size();
        self.voxels.next_steps(steps, &mut out[start..])?;
        let (mut block, scaling) = ([0.0; BLOCK], self.scaling);
        for first in (0..voxels).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(voxels - first)];
            let stored = &out[start + first * self.stored.size()..];
            with_voxel!(self.stored, T => load::<T>(stored, block));
            // The labels of a block never reach the stored voxels of the next.
            let labels = &mut out[first * self.dtype.size()..];
            let store = with_voxel!(self.dtype, T => store::<T>(block, scaling, labels));
            store.map_err(|(i, real)| self.error(self.done + first + i, real))?;
        }
        self.done += voxels;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        self.voxels.finish()
    }
}

impl LabelStream {
    /// The error for voxel `i` of the stream.
    fn error(&self, i: usize, real: f64) -> Error {
        let [nz, ny, nx] = self.size;
        let index = [i / (ny * nx) % nz, i / nx % ny, i % nx];
        let Scaling { slope, intercept } = self.scaling;
        let message = format!(
            "voxel {index:?} (z, y, x) is {real} after scaling by {slope} and {intercept}: label \
             maps hold integers, store it as an image"
        );
        Error::data(&self.path, message)
    }
}

/// Reads stored voxels, one for each element of `block`.
fn load<T: Voxel>(stored: &[u8], block: &mut [f64]) {
    for (value, bytes) in block.iter_mut().zip(stored.chunks_exact(size_of::<T>())) {
        *value = bytemuck::pod_read_unaligned::<T>(bytes).to_f64();
    }
}

/// Writes the labels of a block. The error is the first value without a label, and its index.
fn store<T: Voxel>(block: &[f64], scaling: Scaling, labels: &mut [u8]) -> Result<(), (usize, f64)> {
    let labels = labels.chunks_exact_mut(size_of::<T>());
    for (i, (&stored, bytes)) in block.iter().zip(labels).enumerate() {
        let (real, label) = scaling.label(stored);
        let voxel = label.and_then(T::from_f64_exact).ok_or((i, real))?;
        bytes.copy_from_slice(bytemuck::bytes_of(&voxel));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dtypes_hold_every_label_and_stay_small() {
        for (stored, slope, intercept, expected) in [
            (Dtype::Int16, 1.0 / 65535.0, 0.5, Dtype::Int16),
            (Dtype::UInt8, 1.0, -1.0, Dtype::Int16),
            (Dtype::UInt8, 2.0, 0.0, Dtype::Int16),
            (Dtype::Int8, -1.0, 0.0, Dtype::Int16),
            (Dtype::UInt16, 2.0, 0.0, Dtype::Int32),
            (Dtype::UInt16, 1.0, 1.0, Dtype::Int32),
            (Dtype::Int32, 1.0, 1.0, Dtype::Int64),
            (Dtype::UInt32, -1.0, 0.0, Dtype::Int64),
            (Dtype::Int64, 2.0, 0.0, Dtype::Int64),
            (Dtype::Float32, 2.0, 0.0, Dtype::Float32),
            (Dtype::Int16, 1e30, 0.0, Dtype::Int64),
        ] {
            assert_eq!(label_dtype(stored, slope, intercept), expected, "{stored} {slope}");
        }
    }

    #[test]
    fn real_values_are_labels_up_to_the_rounding_of_a_header() {
        let float32 = |v: f64| f64::from(v as f32);
        // The largest 16-bit mask of 0 and n, with a slope and an intercept as nibabel rounds them.
        for n in [1.0, 3.0, 255.0, 65535.0] {
            let slope = float32(n / 65535.0);
            let scaling = Scaling { slope, intercept: float32(32768.0 * slope) };
            assert_eq!(scaling.label(-32768.0).1, Some(0.0));
            assert_eq!(scaling.label(32767.0).1, Some(n));
        }
        let mask = Scaling { slope: 1.0 / 65535.0, intercept: 0.5 };
        assert_eq!(mask.label(-32767.0).1, None, "1.5e-5 is a value of its own");
        let half = Scaling { slope: 0.5, intercept: 0.0 };
        assert_eq!((half.label(4.0).1, half.label(3.0).1), (Some(2.0), None));
        let large = Scaling { slope: 0.3, intercept: 0.0 };
        assert_eq!(large.label(3_000_001.0).1, None);
        assert_eq!(half.label(f64::NAN).1, None);
        assert_eq!(half.label(f64::INFINITY).1, None);
    }
}
