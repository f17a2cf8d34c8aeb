//! Values on their way: clipped before they are resampled, normalised and converted afterwards.
//!
//! # Invariants
//! - A value is never wrapped or saturated to fit a type: what the type does not hold is an error.
//! - A value within the bounds of a clip keeps its bits.

use voxquarry::{Dtype, Error, Normalization, Result, Voxel, with_voxel};

use crate::source::SourceVolume;

/// Values that are converted together.
const BLOCK: usize = 1024;
/// A bound this close to a stored integer, in steps of it, is that integer: headers round slopes.
const STEP_TOLERANCE: f64 = 1e-6;
/// Integers of 64 bits are exact as `f64` up to here.
const EXACT: f64 = (1u64 << 53) as f64;

/// Bounds of stored values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StoredClip {
    low: f64,
    high: f64,
}

impl StoredClip {
    /// The bounds of the real values `clip` as stored values of a volume, and the type that holds
    /// them: the volume's own, or, where `may_widen`, a float if a bound lies between two integers.
    /// Otherwise such bounds are rounded inwards, so that no value leaves them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if no stored value lies between the bounds.
    pub(super) fn new(
        (low, high): (f64, f64),
        volume: &SourceVolume,
        may_widen: bool,
    ) -> Result<(Self, Dtype)> {
        let SourceVolume { dtype, slope, intercept, .. } = *volume;
        let refused = || {
            let found = format!("({low}, {high})");
            let expected = format!(
                "bounds between which a stored {dtype} of slope {slope} and intercept {intercept} \
                 lies"
            );
            Error::invalid("clip", found, expected)
        };
        if slope == 0.0 {
            return Err(refused());
        }
        let ends = [low, high].map(|real| (real - intercept) / slope);
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let Some((least, most)) = integer_range(dtype) else {
            return Ok((Self { low, high }, dtype));
        };
        // A bound beyond the type's range changes nothing.
        let inwards = [(low - STEP_TOLERANCE).ceil(), (high + STEP_TOLERANCE).floor()];
        let is_exact = |bound: f64, inwards: f64| (bound - inwards).abs() <= STEP_TOLERANCE;
        let holds_low = low <= least || (is_exact(low, inwards[0]) && low <= most);
        let holds_high = high >= most || (is_exact(high, inwards[1]) && high >= least);
        if may_widen && !(holds_low && holds_high) {
            let wider = if dtype.size() <= 2 { Dtype::Float32 } else { Dtype::Float64 };
            return Ok((Self { low, high }, wider));
        }
        let (low, high) = (inwards[0].max(least), inwards[1].min(most));
        if low > high { Err(refused()) } else { Ok((Self { low, high }, dtype)) }
    }

    /// Clips values in place; NaN stays.
    pub(super) fn apply(self, dtype: Dtype, voxels: &mut [u8]) {
        let Self { low, high } = self;
        with_voxel!(dtype, T => {
            let bounds = [T::from_f64_rounded(low), T::from_f64_rounded(high)];
            for bytes in voxels.chunks_exact_mut(size_of::<T>()) {
                let value = bytemuck::pod_read_unaligned::<T>(bytes).to_f64();
                if value < low {
                    bytes.copy_from_slice(bytemuck::bytes_of(&bounds[0]));
                } else if value > high {
                    bytes.copy_from_slice(bytemuck::bytes_of(&bounds[1]));
                }
            }
        });
    }
}

/// The least and the largest value of an integer type.
fn integer_range(dtype: Dtype) -> Option<(f64, f64)> {
    let bits = 8 * dtype.size() as i32;
    match dtype {
        Dtype::UInt8 | Dtype::UInt16 | Dtype::UInt32 | Dtype::UInt64 => {
            Some((0.0, f64::from(bits).exp2() - 1.0))
        }
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => {
            let half = f64::from(bits - 1).exp2();
            Some((-half, half - 1.0))
        }
        _ => None,
    }
}

/// What becomes of values that were read: `(value − from) · factor`, perhaps within 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ValueNormalization {
    from: f64,
    factor: f64,
    is_window: bool,
}

impl ValueNormalization {
    /// The change of a normalisation; `moments` are those of all values.
    ///
    /// # Errors
    /// A sentence if no value is finite.
    pub(super) fn new(
        normalization: Normalization,
        moments: &Moments,
    ) -> std::result::Result<Self, &'static str> {
        if let Normalization::Window(low, high) = normalization {
            return Ok(Self { from: low, factor: 1.0 / (high - low), is_window: true });
        }
        if moments.count == 0 || !moments.std().is_finite() {
            return Err("it has no mean and standard deviation: none of its voxels is finite, or \
                        their sum is not; normalise by a window, two numbers");
        }
        let std = moments.std();
        // Where all voxels are equal, they become 0.
        let factor = if std > 0.0 { 1.0 / std } else { 1.0 };
        Ok(Self { from: moments.mean, factor, is_window: false })
    }

    fn apply(self, value: f64) -> f64 {
        let value = (value - self.from) * self.factor;
        if self.is_window { value.clamp(0.0, 1.0) } else { value }
    }
}

/// Mean and deviation of finite values, merged pairwise (Chan, Golub and `LeVeque` 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    squares: f64,
}

impl Moments {
    /// Adds values; those that are not finite are left out.
    pub(crate) fn take(&mut self, dtype: Dtype, voxels: &[u8]) {
        let mut block = [0.0; BLOCK];
        for part in voxels.chunks(BLOCK * dtype.size()) {
            let block = &mut block[..part.len() / dtype.size()];
            with_voxel!(dtype, T => load::<T>(part, block));
            self.push(block);
        }
    }

    /// As [`take`](Self::take) for values at hand.
    pub(crate) fn push(&mut self, values: &[f64]) {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let count = finite().count() as u64;
        if count == 0 {
            return;
        }
        let mean = finite().sum::<f64>() / count as f64;
        let squares = finite().map(|value| (value - mean).powi(2)).sum();
        self.merge(&Self { count, mean, squares });
    }

    /// Adds the values of others.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * m / (n + m);
        self.squares += other.squares + delta * delta * n * m / (n + m);
        self.count += other.count;
    }

    /// The population's standard deviation.
    pub(crate) fn std(&self) -> f64 {
        (self.squares / self.count as f64).sqrt()
    }
}

/// Converts voxels from the type that they were read in to that of the volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueConversion {
    pub(super) from: Dtype,
    pub(super) to: Dtype,
    pub(super) rescale: Option<ValueNormalization>,
}

impl ValueConversion {
    /// Converts voxels. Fractions are rounded half to even where the type is an integer.
    ///
    /// # Errors
    /// The first value that the type does not hold, and its index.
    pub(super) fn run(
        &self,
        voxels: &[u8],
        out: &mut [u8],
    ) -> std::result::Result<(), (usize, f64)> {
        let Self { from, to, rescale } = *self;
        if from == to && rescale.is_none() {
            out.copy_from_slice(voxels);
            return Ok(());
        }
        let is_wide = !from.is_float() && from.size() == 8;
        let mut block = [0.0; BLOCK];
        let parts = voxels.chunks(BLOCK * from.size()).zip(out.chunks_mut(BLOCK * to.size()));
        for (number, (part, out)) in parts.enumerate() {
            let block = &mut block[..part.len() / from.size()];
            with_voxel!(from, T => load::<T>(part, block));
            if let Some(rescale) = rescale {
                for value in block.iter_mut() {
                    *value = rescale.apply(*value);
                }
            }
            let inexact = block.iter().position(|value| is_wide && value.abs() >= EXACT);
            let stored = match inexact {
                Some(i) => Err((i, block[i])),
                None => with_voxel!(to, T => store::<T>(block, out)),
            };
            stored.map_err(|(i, value)| (number * BLOCK + i, value))?;
        }
        Ok(())
    }
}

/// Converts stored integers to floats, in place: `voxels` ends with them.
pub(super) fn widen(from: Dtype, to: Dtype, voxels: &mut [u8]) {
    let count = voxels.len() / to.size();
    let start = voxels.len() - count * from.size();
    let mut block = [0.0; BLOCK];
    for first in (0..count).step_by(BLOCK) {
        let block = &mut block[..BLOCK.min(count - first)];
        with_voxel!(from, T => load::<T>(&voxels[start + first * from.size()..], block));
        // The floats of a block never reach the integers of the next.
        let out = &mut voxels[first * to.size()..][..block.len() * to.size()];
        let stored = with_voxel!(to, T => store::<T>(block, out));
        debug_assert!(stored.is_ok(), "a float holds every integer");
    }
}

/// Reads voxels, one for each element of `block`.
fn load<T: Voxel>(voxels: &[u8], block: &mut [f64]) {
    for (value, bytes) in block.iter_mut().zip(voxels.chunks_exact(size_of::<T>())) {
        *value = bytemuck::pod_read_unaligned::<T>(bytes).to_f64();
    }
}

/// Writes the values of a block. The error is the first value that `T` does not hold.
fn store<T: Voxel>(block: &[f64], out: &mut [u8]) -> std::result::Result<(), (usize, f64)> {
    for (i, (&value, bytes)) in block.iter().zip(out.chunks_exact_mut(size_of::<T>())).enumerate() {
        let rounded = if T::DTYPE.is_float() { value } else { value.round_ties_even() };
        let voxel = T::from_f64_exact(rounded).ok_or((i, value))?;
        bytes.copy_from_slice(bytemuck::bytes_of(&voxel));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use voxquarry::{Affine, f16};

    use super::*;

    fn header(dtype: Dtype, slope: f64, intercept: f64) -> SourceVolume {
        SourceVolume {
            size: [1; 3],
            channels: None,
            interleaved: 1,
            dtype,
            affine: Affine::IDENTITY,
            unit: None,
            slope,
            intercept,
            origin: Map::new(),
        }
    }

    #[test]
    fn bounds_are_stored_values_or_widen_the_type() {
        let inf = f64::INFINITY;
        for (clip, dtype, slope, intercept, may_widen, bounds, found) in [
            ((-1000.0, 400.0), Dtype::Int16, 1.0, -1024.0, false, (24.0, 1424.0), Dtype::Int16),
            ((-1000.0, 400.0), Dtype::Int16, 1.0, -1024.0, true, (24.0, 1424.0), Dtype::Int16),
            ((0.5, 2.5), Dtype::UInt8, 1.0, 0.0, false, (1.0, 2.0), Dtype::UInt8),
            ((0.5, 2.5), Dtype::UInt8, 1.0, 0.0, true, (0.5, 2.5), Dtype::Float32),
            ((0.5, 2.5), Dtype::Int32, 1.0, 0.0, true, (0.5, 2.5), Dtype::Float64),
            ((-5.0, inf), Dtype::UInt8, 1.0, 0.0, true, (0.0, 255.0), Dtype::UInt8),
            ((-3.0, 9.0), Dtype::Int8, -1.0, 0.0, false, (-9.0, 3.0), Dtype::Int8),
            ((300.0, 400.0), Dtype::UInt8, 1.0, 0.0, true, (300.0, 400.0), Dtype::Float32),
            ((0.5, 2.5), Dtype::Float16, 2.0, 0.5, false, (0.0, 1.0), Dtype::Float16),
        ] {
            let volume = header(dtype, slope, intercept);
            let (clip, widened) = StoredClip::new(clip, &volume, may_widen).unwrap();
            assert_eq!(((clip.low, clip.high), widened), (bounds, found), "{dtype} {slope}");
        }
        for (clip, slope) in [((0.2, 0.8), 1.0), ((300.0, 400.0), 1.0), ((0.0, 1.0), 0.0)] {
            let error = StoredClip::new(clip, &header(Dtype::UInt8, slope, 0.0), false);
            assert!(error.unwrap_err().to_string().contains("clip"), "{clip:?}");
        }
        let mut voxels = [i64::MIN, -3, (1 << 60) + 1, i64::MAX];
        let clip = StoredClip { low: -2.0, high: f64::INFINITY };
        clip.apply(Dtype::Int64, bytemuck::cast_slice_mut(&mut voxels));
        assert_eq!(voxels, [-2, -2, (1 << 60) + 1, i64::MAX], "those inside keep their bits");
    }

    #[test]
    fn what_a_type_does_not_hold_is_an_error_with_its_place() {
        let run = |from, to, voxels: &[u8], count: usize| {
            let mut out = vec![0; count * Dtype::size(to)];
            let conversion = ValueConversion { from, to, rescale: None };
            conversion.run(voxels, &mut out).map(|()| out)
        };
        let values: Vec<f32> = (0..2000).map(|i| i as f32 / 8.0).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&values);
        let out = run(Dtype::Float32, Dtype::UInt8, bytes, 2000).unwrap();
        assert_eq!(&out[..13], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2], "half to even");
        let mut large = values.clone();
        large[1500] = 255.5;
        let out = run(Dtype::Float32, Dtype::UInt8, bytemuck::cast_slice(&large), 2000);
        assert_eq!(out.unwrap_err(), (1500, 255.5));
        for (value, to) in [(f32::NAN, Dtype::Int32), (-1.0, Dtype::UInt64), (7e4, Dtype::Float16)]
        {
            let found = run(Dtype::Float32, to, bytemuck::bytes_of(&value), 1);
            assert!(found.is_err(), "{value} {to}");
        }
        let infinite = f32::INFINITY;
        let out = run(Dtype::Float32, Dtype::Float16, bytemuck::bytes_of(&infinite), 1).unwrap();
        assert_eq!(bytemuck::pod_read_unaligned::<f16>(&out), f16::INFINITY);
        let wide = [(1i64 << 53) + 1];
        let out = run(Dtype::Int64, Dtype::UInt64, bytemuck::cast_slice(&wide), 1);
        assert!(out.is_err(), "not rounded in silence");
    }

    #[test]
    fn moments_are_those_of_the_finite_values() {
        let mut values: Vec<f32> = (0..5000u32).map(|i| (i * 7919 % 5000) as f32 / 7.0).collect();
        let (n, mut moments) = (5000.0, Moments::default());
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        values.insert(2500, f32::NAN);
        moments.take(Dtype::Float32, bytemuck::cast_slice(&values));
        assert_eq!(moments.count, 5000);
        assert!((moments.mean - mean).abs() < 1e-9 && (moments.std() - var.sqrt()).abs() < 1e-9);
        let mut constant = Moments::default();
        constant.take(Dtype::UInt8, &[7; 3000]);
        let rescale = ValueNormalization::new(Normalization::ZScore, &constant).unwrap();
        assert_eq!(rescale.apply(7.0), 0.0);
        assert!(ValueNormalization::new(Normalization::ZScore, &Moments::default()).is_err());
        let window = ValueNormalization::new(Normalization::Window(-1.0, 3.0), &constant).unwrap();
        assert_eq!([-2.0, -1.0, 0.0, 9.0].map(|v| window.apply(v)), [0.0, 0.0, 0.25, 1.0]);
    }

    #[test]
    fn widening_keeps_every_integer() {
        let stored: Vec<i16> = (0..3000).map(|i| (i * 37 - 9000) as i16).collect();
        let mut voxels = vec![0u8; 4 * stored.len()];
        voxels[2 * stored.len()..].copy_from_slice(bytemuck::cast_slice(&stored));
        widen(Dtype::Int16, Dtype::Float32, &mut voxels);
        let found: Vec<f32> = bytemuck::pod_collect_to_vec(&voxels);
        assert!(found.iter().zip(&stored).all(|(&a, &b)| a == f32::from(b)));
    }
}
