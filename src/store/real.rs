//! Real values of a volume: stored value × slope + intercept.
//!
//! # Invariants
//! - They are computed in double precision and rounded once, as ITK and nibabel do.
//! - A constant padding is a real value.

use super::volume::Volume;
use crate::array::cache::ChunkCache;
use crate::array::channels::Channels;
use crate::memory::reserve;
use crate::{Dtype, Padding, Region, Result, Size3, Voxel, with_voxel};

/// A type of real values: `f32` or `f64`.
///
/// ```
/// fn mean<F: voxquarry::RealVoxel>(values: &[F]) -> f64 {
///     values.iter().map(|value| value.to_f64()).sum::<f64>() / values.len() as f64
/// }
/// use voxquarry::Voxel;
/// assert_eq!(mean(&[1f32, 2.0]), 1.5);
/// ```
pub trait RealVoxel: Voxel + sealed::Sealed {}

impl RealVoxel for f32 {}
impl RealVoxel for f64 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Volume {
    /// Reads one patch of `size` for each of `starts` as real values, stored value × slope +
    /// intercept, into `out`: patches, then channels, z, y, x, in C order.
    ///
    /// ```
    /// use voxquarry::Padding;
    ///
    /// # let store = "format-spec/golden/v1";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("u8")?;
    /// let mut real = [0f32; 8];
    /// volume.read_real_into(&[[0, 0, 0]], [2, 2, 2], Padding::None, 0..1, &mut real)?;
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Volume::read_into`]; [`crate::Error::OutOfMemory`] for a copy of the stored values.
    pub fn read_real_into<F: RealVoxel>(
        &self,
        starts: &[[i64; 3]],
        size: Size3,
        padding: Padding,
        channels: impl Into<Channels>,
        out: &mut [F],
    ) -> Result<()> {
        let (scale, mut stored) = (self.slope_intercept(), Vec::new());
        let wanted = RealRead { starts, size, padding, scale };
        wanted.fill(self, out, &mut stored, |padding, out| {
            self.read_bytes(starts, size, padding, channels, out)
        })
    }

    /// Reads one patch as real values of `dtype` on the caller's thread alone, by way of `cache`;
    /// `stored` holds the stored values meanwhile, and grows.
    pub(crate) fn read_real_cached(
        &self,
        patch: &RealPatch<'_>,
        (dtype, out): (Dtype, &mut [u8]),
        stored: &mut Vec<u64>,
        cache: &dyn ChunkCache,
    ) -> Result<()> {
        let RealPatch { region, padding, channels, scale } = *patch;
        let wanted = RealRead { starts: &[region.start], size: region.size, padding, scale };
        let read =
            |padding, out: &mut [u8]| self.read_cached(region, padding, channels, out, cache);
        if dtype == Dtype::Float64 {
            wanted.fill::<f64>(self, bytemuck::cast_slice_mut(out), stored, read)
        } else {
            wanted.fill::<f32>(self, bytemuck::cast_slice_mut(out), stored, read)
        }
    }
}

/// One patch that is read as real values.
#[derive(Clone, Copy)]
pub(crate) struct RealPatch<'a> {
    pub(crate) region: &'a Region,
    pub(crate) padding: Padding,
    pub(crate) channels: &'a Channels,
    /// Slope and intercept.
    pub(crate) scale: (f64, f64),
}

/// What is read of a volume.
#[derive(Clone, Copy)]
struct RealRead<'a> {
    starts: &'a [[i64; 3]],
    size: Size3,
    padding: Padding,
    scale: (f64, f64),
}

impl RealRead<'_> {
    /// Fills `out` with the real values that `read`, which fills bytes with stored ones and pads
    /// them, gives. `stored` holds the stored values meanwhile, and grows.
    ///
    /// # Errors
    /// Those of `read`; [`crate::Error::OutOfMemory`].
    fn fill<F: RealVoxel>(
        &self,
        volume: &Volume,
        out: &mut [F],
        stored: &mut Vec<u64>,
        read: impl FnOnce(Padding, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let (dtype, scale) = (volume.dtype(), self.scale);
        if dtype == F::DTYPE && scale == (1.0, 0.0) {
            return read(self.padding, bytemuck::cast_slice_mut(out));
        }
        let bytes = out.len() * dtype.size();
        let words = bytes.div_ceil(size_of::<u64>());
        if stored.len() < words {
            let more = words - stored.len();
            reserve(stored, more, || format!("a copy of {} voxels", out.len()))?;
            stored.resize(words, 0);
        }
        let stored = &mut bytemuck::cast_slice_mut::<u64, u8>(stored)[..bytes];
        // The stored type may not have a constant, which is a real value.
        let padding = match self.padding {
            Padding::Constant(_) => Padding::Constant(0.0),
            other => other,
        };
        read(padding, stored)?;
        with_voxel!(dtype, T => scaled::<T, F>(bytemuck::cast_slice(stored), scale, out));
        if let Padding::Constant(value) = self.padding
            && !self.starts.is_empty()
        {
            let patches = out.chunks_exact_mut(out.len() / self.starts.len());
            for (patch, &start) in patches.zip(self.starts) {
                let value = F::from_f64_rounded(value);
                fill_outside(patch, start, self.size, volume.size(), value);
            }
        }
        Ok(())
    }
}

impl Dtype {
    /// The type that has room for the real values of a volume of this type: `f64` for itself,
    /// otherwise `f32`.
    ///
    /// ```
    /// use voxquarry::Dtype;
    ///
    /// assert_eq!(Dtype::Int16.real(), Dtype::Float32);
    /// ```
    #[must_use]
    pub fn real(self) -> Self {
        if self == Self::Float64 { self } else { Self::Float32 }
    }
}

/// Writes the real value of each stored one.
fn scaled<T: Voxel, F: RealVoxel>(stored: &[T], (slope, intercept): (f64, f64), real: &mut [F]) {
    let values = stored.iter().zip(real);
    if (slope, intercept) == (1.0, 0.0) {
        values.for_each(|(&stored, real)| *real = F::from_f64_rounded(stored.to_f64()));
    } else {
        values.for_each(|(&stored, real)| {
            *real = F::from_f64_rounded(stored.to_f64() * slope + intercept);
        });
    }
}

/// Writes `value` where a patch `(c, z, y, x)` that begins at `start` leaves the volume.
fn fill_outside<F: Copy>(
    patch: &mut [F],
    start: [i64; 3],
    patch_size: Size3,
    volume_size: Size3,
    value: F,
) {
    let inside = [0, 1, 2].map(|axis| {
        let at = |voxel: i64| voxel.clamp(0, patch_size[axis] as i64) as usize;
        at(-start[axis])..at(volume_size[axis] as i64 - start[axis])
    });
    if (0..3).all(|axis| inside[axis] == (0..patch_size[axis])) {
        return;
    }
    let [depth, height, width] = patch_size;
    for (n, row) in patch.chunks_exact_mut(width).enumerate() {
        let (z, y) = (n / height % depth, n % height);
        if inside[0].contains(&z) && inside[1].contains(&y) && !inside[2].is_empty() {
            row[..inside[2].start].fill(value);
            row[inside[2].end..].fill(value);
        } else {
            row.fill(value);
        }
    }
}
