//! The element types of volumes, and their names in Zarr.
//!
//! Not here: applying slope and intercept to stored values.

use std::fmt;

use half::f16;
use serde::{Deserialize, Serialize};

/// The element type of a volume; the names are those of Zarr v3.
///
/// # Examples
/// ```
/// use voxquarry::Dtype;
///
/// assert_eq!(Dtype::from_name("int16"), Some(Dtype::Int16));
/// assert_eq!(Dtype::Int16.size(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Dtype {
    UInt8,
    Int8,
    UInt16,
    Int16,
    UInt32,
    Int32,
    UInt64,
    Int64,
    Float16,
    Float32,
    Float64,
}

/// Evaluates a block with the Rust type of a [`Dtype`]: `with_voxel!(dtype, T => body)`.
///
/// # Examples
/// ```
/// use voxquarry::{Dtype, with_voxel};
///
/// assert_eq!(with_voxel!(Dtype::Float64, T => size_of::<T>()), 8);
/// ```
#[macro_export]
macro_rules! with_voxel {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::UInt8 => {
                type $t = u8;
                $body
            }
            $crate::Dtype::Int8 => {
                type $t = i8;
                $body
            }
            $crate::Dtype::UInt16 => {
                type $t = u16;
                $body
            }
            $crate::Dtype::Int16 => {
                type $t = i16;
                $body
            }
            $crate::Dtype::UInt32 => {
                type $t = u32;
                $body
            }
            $crate::Dtype::Int32 => {
                type $t = i32;
                $body
            }
            $crate::Dtype::UInt64 => {
                type $t = u64;
                $body
            }
            $crate::Dtype::Int64 => {
                type $t = i64;
                $body
            }
            $crate::Dtype::Float16 => {
                type $t = $crate::f16;
                $body
            }
            $crate::Dtype::Float32 => {
                type $t = f32;
                $body
            }
            $crate::Dtype::Float64 => {
                type $t = f64;
                $body
            }
        }
    };
}

impl Dtype {
    /// Every dtype of the profile.
    pub const ALL: [Self; 11] = [
        Self::UInt8,
        Self::Int8,
        Self::UInt16,
        Self::Int16,
        Self::UInt32,
        Self::Int32,
        Self::UInt64,
        Self::Int64,
        Self::Float16,
        Self::Float32,
        Self::Float64,
    ];

    /// Bytes per voxel.
    pub const fn size(self) -> usize {
        match self {
            Self::UInt8 | Self::Int8 => 1,
            Self::UInt16 | Self::Int16 | Self::Float16 => 2,
            Self::UInt32 | Self::Int32 | Self::Float32 => 4,
            Self::UInt64 | Self::Int64 | Self::Float64 => 8,
        }
    }

    /// The name in Zarr v3 metadata and in numpy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UInt8 => "uint8",
            Self::Int8 => "int8",
            Self::UInt16 => "uint16",
            Self::Int16 => "int16",
            Self::UInt32 => "uint32",
            Self::Int32 => "int32",
            Self::UInt64 => "uint64",
            Self::Int64 => "int64",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }

    /// The dtype of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// Whether voxels are floating point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that a volume may hold.
///
/// ```
/// use voxquarry::Voxel;
///
/// fn mean<T: Voxel>(voxels: &[T]) -> f64 {
///     voxels.iter().map(|voxel| voxel.to_f64()).sum::<f64>() / voxels.len() as f64
/// }
/// assert_eq!(mean(&[1i16, 2]), 1.5);
/// assert_eq!(u8::from_f64_rounded(300.0), 255);
/// ```
pub trait Voxel: bytemuck::Pod + Default + PartialOrd + Send + Sync + 'static {
    /// Its dtype.
    const DTYPE: Dtype;

    /// The nearest `f64`; exact but for 64-bit integers above 2⁵³.
    fn to_f64(self) -> f64;

    /// The voxel equal to `value`, or `None` if this type has none. A float type has NaN and the
    /// infinities.
    fn from_f64_exact(value: f64) -> Option<Self>;

    /// The voxel nearest to `value`. Integers round half to even and saturate; NaN becomes 0.
    fn from_f64_rounded(value: f64) -> Self;

    /// The value as a label; `None` if it is fractional, not finite, or outside of `i64`.
    fn to_label(self) -> Option<i64>;
}

macro_rules! integer_voxel {
    ($($t:ty => $d:ident),*) => {$(
        impl Voxel for $t {
            const DTYPE: Dtype = Dtype::$d;
            #[allow(clippy::cast_lossless)]
            fn to_f64(self) -> f64 { self as f64 }
            #[allow(clippy::cast_lossless)]
            fn from_f64_exact(value: f64) -> Option<Self> {
                // The cast saturates and the maximum rounds up to 2⁶⁴ as f64, so that value needs
                // the second comparison.
                let cast = value as $t;
                (cast as f64 == value && cast as i128 == value as i128).then_some(cast)
            }
            fn from_f64_rounded(value: f64) -> Self { value.round_ties_even() as $t }
            fn to_label(self) -> Option<i64> { i64::try_from(self).ok() }
        }
    )*};
}
integer_voxel!(
    u8 => UInt8, i8 => Int8, u16 => UInt16, i16 => Int16,
    u32 => UInt32, i32 => Int32, u64 => UInt64, i64 => Int64
);

macro_rules! float_voxel {
    ($($t:ty => $d:ident, $to:expr, $from:expr);*) => {$(
        impl Voxel for $t {
            const DTYPE: Dtype = Dtype::$d;
            fn to_f64(self) -> f64 { $to(self) }
            fn from_f64_exact(value: f64) -> Option<Self> {
                let cast: $t = $from(value);
                // A padding constant such as 0.1 has no exact f32; numpy stores the nearest.
                (value.is_nan() || value.is_infinite() || $to(cast).is_finite()).then_some(cast)
            }
            fn from_f64_rounded(value: f64) -> Self { $from(value) }
            fn to_label(self) -> Option<i64> {
                i64::from_f64_exact($to(self))
            }
        }
    )*};
}
float_voxel!(
    f16 => Float16, f16::to_f64, f16::from_f64;
    f32 => Float32, f64::from, |v| v as f32;
    f64 => Float64, |v| v, |v| v
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sizes_are_rusts() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
            assert_eq!(with_voxel!(dtype, T => (size_of::<T>(), T::DTYPE)), (dtype.size(), dtype));
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("\"{dtype}\""));
        }
        assert_eq!(Dtype::from_name("complex64"), None);
    }

    #[test]
    fn constants_convert_only_when_the_type_has_them() {
        assert_eq!(u8::from_f64_exact(255.0), Some(255));
        assert_eq!(u8::from_f64_exact(256.0), None);
        assert_eq!(u8::from_f64_exact(-1.0), None);
        assert_eq!(i16::from_f64_exact(0.5), None);
        assert_eq!(i16::from_f64_exact(f64::NAN), None);
        assert_eq!(u64::from_f64_exact(18_446_744_073_709_551_616.0), None);
        assert_eq!(i64::from_f64_exact(-9_223_372_036_854_775_808.0), Some(i64::MIN));
        assert_eq!(f32::from_f64_exact(0.1), Some(0.1));
        assert_eq!(f16::from_f64_exact(1e6), None);
        assert!(f32::from_f64_exact(f64::NAN).unwrap().is_nan());
    }

    #[test]
    fn labels_are_integers() {
        assert_eq!(3.0f32.to_label(), Some(3));
        assert_eq!(3.5f32.to_label(), None);
        assert_eq!((-1i8).to_label(), Some(-1));
        assert_eq!(f64::NAN.to_label(), None);
        assert_eq!(f64::INFINITY.to_label(), None);
        assert_eq!(u64::MAX.to_label(), None);
    }
}
