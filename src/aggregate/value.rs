//! Elements of patches: every dtype of a volume, and bfloat16, which no volume has.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use crate::{Dtype, Voxel, f16};

/// The dtype of a patch's elements, for callers that know it only at run time.
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, Dtype, GridSampler, PatchDtype};
///
/// let grid = GridSampler::new([2, 2, 2], 0)?.grid([2, 2, 2])?;
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &AggregateOptions::default())?;
/// let patch: Vec<f32> = vec![0.5; 8];
/// let bytes: &[u8] = bytemuck::cast_slice(&patch);
/// aggregator.add_bytes(PatchDtype::Volume(Dtype::Float32), bytes, &[[0, 0, 0]])?;
/// # assert!(aggregator.finish()?.iter().all(|&voxel| voxel == 0.5));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchDtype {
    /// A dtype that volumes have too.
    Volume(Dtype),
    /// bfloat16, which no volume has.
    BFloat16,
}

impl PatchDtype {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Volume(dtype) => dtype.size(),
            Self::BFloat16 => size_of::<bf16>(),
        }
    }
}

/// An element of a patch: any [`Voxel`], or [`bf16`].
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler, bf16};
///
/// let grid = GridSampler::new([2, 2, 2], 0)?.grid([2, 2, 2])?;
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &AggregateOptions::default())?;
/// aggregator.add(&[bf16::from_f32(0.5); 8], &[[0, 0, 0]])?;
/// # assert!(aggregator.finish()?.iter().all(|&voxel| voxel == 0.5));
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub trait PatchValue: bytemuck::Pod + Default + Send + Sync {
    /// The dtype of these elements.
    const PATCH_DTYPE: PatchDtype;

    /// The nearest `f64`; exact except for 64-bit integers above 2⁵³.
    fn to_f64(self) -> f64;

    /// The nearest `f32`.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f64() as f32
    }

    /// Converts a row of 16-bit floats to `f32` in `buffer`, with the processor's own instruction
    /// where it has one; `None` for other elements, which the loops convert one at a time.
    fn widened<'a>(row: &[Self], buffer: &'a mut Vec<f32>) -> Option<&'a [f32]>;
}

impl<T: Voxel> PatchValue for T {
    const PATCH_DTYPE: PatchDtype = PatchDtype::Volume(T::DTYPE);

    #[inline(always)]
    fn to_f64(self) -> f64 {
        Voxel::to_f64(self)
    }

    fn widened<'a>(row: &[Self], buffer: &'a mut Vec<f32>) -> Option<&'a [f32]> {
        if T::DTYPE != Dtype::Float16 {
            return None;
        }
        buffer.resize(row.len(), 0.0);
        bytemuck::cast_slice::<T, f16>(row).convert_to_f32_slice(buffer);
        Some(buffer)
    }
}

impl PatchValue for bf16 {
    const PATCH_DTYPE: PatchDtype = PatchDtype::BFloat16;

    fn to_f64(self) -> f64 {
        Self::to_f64(self)
    }

    fn widened<'a>(row: &[Self], buffer: &'a mut Vec<f32>) -> Option<&'a [f32]> {
        buffer.resize(row.len(), 0.0);
        row.convert_to_f32_slice(buffer);
        Some(buffer)
    }
}
