//! Elements that patches come in: every dtype of a volume, and bfloat16, which no volume has.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use crate::{Dtype, Voxel, f16};

/// An element of a patch.
pub trait Value: bytemuck::Pod + Default + Send + Sync {
    /// The dtype of a volume with the same elements.
    const DTYPE: Option<Dtype>;

    /// The nearest `f64`; exact but for 64-bit integers above 2⁵³.
    fn to_f64(self) -> f64;

    /// The nearest `f32`.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f64() as f32
    }

    /// Half-width elements are widened a row at a time, by the processor where it can; others are read as they are.
    fn widened<'a>(row: &[Self], room: &'a mut Vec<f32>) -> Option<&'a [f32]>;
}

impl<T: Voxel> Value for T {
    const DTYPE: Option<Dtype> = Some(T::DTYPE);

    #[inline(always)]
    fn to_f64(self) -> f64 {
        Voxel::to_f64(self)
    }

    fn widened<'a>(row: &[Self], room: &'a mut Vec<f32>) -> Option<&'a [f32]> {
        if T::DTYPE != Dtype::Float16 {
            return None;
        }
        room.resize(row.len(), 0.0);
        bytemuck::cast_slice::<T, f16>(row).convert_to_f32_slice(room);
        Some(room)
    }
}

impl Value for bf16 {
    const DTYPE: Option<Dtype> = None;

    fn to_f64(self) -> f64 {
        Self::to_f64(self)
    }

    fn widened<'a>(row: &[Self], room: &'a mut Vec<f32>) -> Option<&'a [f32]> {
        room.resize(row.len(), 0.0);
        row.convert_to_f32_slice(room);
        Some(room)
    }
}
