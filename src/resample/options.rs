//! What a patch is resampled to: interpolation, padding and element type, checked together.

use super::border::TapBorder;
use super::finish::ValueWriter;
use super::warp::Order;
use crate::{Dtype, Error, Padding, Result, with_voxel};

/// Facts about a volume that decide how it may be resampled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredValues {
    pub(crate) dtype: Dtype,
    /// Whether voxels are labels, between which nothing lies.
    pub(crate) are_labels: bool,
    pub(crate) slope_intercept: (f64, f64),
}

/// How patches are resampled.
///
/// ```
/// use voxquarry::{Order, Padding, Resampling};
///
/// let labels = Resampling { order: Order::Nearest, padding: Padding::Edge, dtype: None };
/// assert_eq!(labels.order.number(), 0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Resampling {
    /// How values between voxels are computed.
    pub order: Order,
    /// What lies outside of the volume.
    pub padding: Padding,
    /// The type of the patch; `None` chooses float32 for images and the volume's own for labels.
    pub dtype: Option<Dtype>,
}

/// Checked [`Resampling`] of one volume.
#[derive(Clone, Debug)]
pub(super) struct Method {
    pub(super) order: Order,
    pub(super) border: TapBorder,
    /// Whether taps outside of the volume are an error.
    pub(super) refuses_outside: bool,
    /// Whether `f32` suffices to compute values.
    pub(super) is_single: bool,
    /// The constant of the border, as a stored value.
    pub(super) outside: f64,
    pub(super) finish: ValueWriter,
}

impl Resampling {
    /// The type of the patches of a volume.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the volume cannot be resampled to the type that is asked for.
    pub(crate) fn patch_dtype(&self, stored: &StoredValues) -> Result<Dtype> {
        let own = stored.dtype;
        if stored.are_labels {
            return match self.dtype {
                None => Ok(own),
                Some(dtype) if dtype == own => Ok(own),
                Some(dtype) => {
                    let expected = format!("{own}: labels keep the type that they are stored as");
                    Err(Error::invalid("dtype", dtype, expected))
                }
            };
        }
        let dtype = self.dtype.unwrap_or(Dtype::Float32);
        if dtype == own || dtype.is_float() {
            return Ok(dtype);
        }
        let own = if own.is_float() { String::new() } else { format!(", or the volume's {own}") };
        Err(Error::invalid("dtype", dtype, format!("float16, float32 or float64{own}")))
    }

    /// Checks everything about a volume's values.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub(super) fn method(&self, stored: &StoredValues) -> Result<Method> {
        if stored.are_labels && self.order != Order::Nearest {
            let expected = "0 (nearest) for labels: there is nothing between two labels";
            return Err(Error::invalid("order", self.order.number(), expected));
        }
        let dtype = self.patch_dtype(stored)?;
        let (slope, intercept) = stored.slope_intercept;
        let is_real = dtype.is_float() && !stored.are_labels;
        let is_scaled = is_real && (slope, intercept) != (1.0, 0.0);
        let (border, constant) = match self.padding {
            Padding::Constant(value) => (TapBorder::Constant, value),
            Padding::None => (TapBorder::Constant, 0.0),
            Padding::Edge => (TapBorder::Edge, 0.0),
            Padding::Reflect => (TapBorder::Reflect, 0.0),
        };
        let outside = with_voxel!(dtype, T => {
            <T as crate::Voxel>::from_f64_exact(constant)
                .map(|voxel| bytemuck::bytes_of(&voxel).to_vec())
        });
        let outside = outside
            .ok_or_else(|| Error::invalid("padding", constant, format!("a value of {dtype}")))?;
        Ok(Method {
            order: self.order,
            border,
            refuses_outside: self.padding == Padding::None,
            is_single: dtype != Dtype::Float64
                && (stored.dtype.size() <= 2 || stored.dtype == Dtype::Float32),
            outside: if is_scaled { (constant - intercept) / slope } else { constant },
            finish: ValueWriter { dtype, scale: is_scaled.then_some((slope, intercept)), outside },
        })
    }
}
