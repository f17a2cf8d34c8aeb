//! Turns interpolated values into those of the patch: slope, intercept, rounding.
//!
//! # Invariants
//! - Slope and intercept are applied in `f64`, as to plain reads, and rounded once.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::{Dtype, Voxel, with_voxel};

/// What becomes of interpolated stored values.
#[derive(Clone, Debug)]
pub(super) struct ValueWriter {
    /// The type of the patch.
    pub(super) dtype: Dtype,
    /// Slope and intercept, where they change anything.
    pub(super) scale: Option<(f64, f64)>,
    /// The bytes of a voxel outside of the volume, for a constant border.
    pub(super) outside: Vec<u8>,
}

impl ValueWriter {
    /// Writes the values as voxels of the patch.
    pub(super) fn write<V: Voxel>(&self, values: &[V], out: &mut [u8]) {
        match (V::DTYPE, self.dtype, self.scale) {
            (from, to, None) if from == to => out.copy_from_slice(bytemuck::cast_slice(values)),
            (Dtype::Float32, Dtype::Float32, Some((slope, intercept))) => {
                let values: &[f32] = bytemuck::cast_slice(values);
                let out: &mut [f32] = bytemuck::cast_slice_mut(out);
                for (out, &value) in out.iter_mut().zip(values) {
                    *out = (f64::from(value) * slope + intercept) as f32;
                }
            }
            (Dtype::Float32, Dtype::Float16, None) => {
                let out: &mut [f16] = bytemuck::cast_slice_mut(out);
                out.convert_from_f32_slice(bytemuck::cast_slice(values));
            }
            (_, to, scale) => with_voxel!(to, T => {
                let (slope, intercept) = scale.unwrap_or((1.0, 0.0));
                let out: &mut [T] = bytemuck::cast_slice_mut(out);
                for (out, &value) in out.iter_mut().zip(values) {
                    let value = value.to_f64();
                    let real = if scale.is_some() { value * slope + intercept } else { value };
                    *out = T::from_f64_rounded(real);
                }
            }),
        }
    }

    /// Fills voxels that lie outside of the volume.
    pub(super) fn fill(&self, out: &mut [u8]) {
        out.chunks_exact_mut(self.outside.len()).for_each(|v| v.copy_from_slice(&self.outside));
    }
}
