//! Volumes that no file holds: the digest of their voxels, and arrays of `ndarray`.
//!
//! # Invariants
//! - An array is read plane by plane, never copied whole.
//! - A digest depends on the voxels alone, not on how many planes are read at a time.
//!
//! Not here: arrays of Python, which the package `voxquarry-python` reads.

use std::fmt;
use std::sync::Arc;

use ndarray::{ArrayBase, Axis, Data, Dimension, IxDyn, RawData};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use voxquarry::{Affine, Error, Result, Voxel};

use crate::digest::hex;
use crate::source::{SourceDigest, SourceVolume, VolumeSource, VoxelStream};

/// Voxels that are read at a time for their digest; a single plane may have more.
const DIGESTED_BYTES: usize = 8 << 20;

/// Computes the digest of voxels while a stream yields them.
///
/// ```
/// use voxquarry_ingest::VoxelDigest;
///
/// // Two channels of two planes of one byte, together and step by step.
/// let [mut whole, mut steps] = [VoxelDigest::default(), VoxelDigest::default()];
/// whole.update(&[1, 2, 3, 4], 2, 1);
/// steps.update(&[1, 3], 2, 1);
/// steps.update(&[2, 4], 2, 1);
/// assert_eq!(whole.finish(), steps.finish());
/// ```
#[derive(Clone, Debug, Default)]
pub struct VoxelDigest {
    sha256: Sha256,
    bytes: u64,
}

impl VoxelDigest {
    /// Adds what [`VoxelStream::next_steps`] has yielded, `(interleaved, steps, y, x)`.
    pub fn update(&mut self, voxels: &[u8], interleaved: usize, plane_bytes: usize) {
        self.bytes += voxels.len() as u64;
        let steps = voxels.len() / (interleaved * plane_bytes);
        for step in 0..steps {
            for channel in 0..interleaved {
                let start = (channel * steps + step) * plane_bytes;
                self.sha256.update(&voxels[start..start + plane_bytes]);
            }
        }
    }

    /// The digest of all voxels so far.
    pub fn finish(self) -> SourceDigest {
        SourceDigest { sha256: hex(self.sha256), bytes: self.bytes, origin: Map::new() }
    }
}

/// The digest of all voxels of a source, for [`VolumeSource::has_digest`].
///
/// # Errors
/// Those of its voxels.
pub fn digest_of(source: &dyn VolumeSource) -> Result<SourceDigest> {
    digest_of_stream(&source.describe()?, source.open()?, source.name())
}

/// The digest of the voxels of a stream, all of which are read.
///
/// # Errors
/// Those of its voxels.
pub(crate) fn digest_of_stream(
    volume: &SourceVolume,
    mut stream: Box<dyn VoxelStream>,
    name: &str,
) -> Result<SourceDigest> {
    let &SourceVolume { size: [z, y, x], channels, interleaved, dtype, .. } = volume;
    let mut planes = Vec::new();
    let plane = interleaved * y * x * dtype.size();
    // Where a source is read anew for each call, few calls are quicker.
    let depth = (DIGESTED_BYTES / plane.max(1)).clamp(1, z);
    let what = || format!("planes of {name}");
    let missing = |_| Error::OutOfMemory { what: what(), bytes: (plane * depth) as u64 };
    planes.try_reserve_exact(plane * depth).map_err(missing)?;
    planes.resize(plane * depth, 0);
    for _ in 0..channels.unwrap_or(1) / interleaved {
        for first in (0..z).step_by(depth) {
            let steps = depth.min(z - first);
            stream.next_steps(steps, &mut planes[..steps * plane])?;
        }
    }
    stream.finish()
}

/// A stream whose digest is that of its voxels.
pub(crate) struct DigestedStream {
    stream: Box<dyn VoxelStream>,
    digest: VoxelDigest,
    interleaved: usize,
    plane_bytes: usize,
}

impl DigestedStream {
    pub(crate) fn new(stream: Box<dyn VoxelStream>, volume: &SourceVolume) -> Self {
        let plane_bytes = volume.size[1] * volume.size[2] * volume.dtype.size();
        let (interleaved, digest) = (volume.interleaved, VoxelDigest::default());
        Self { stream, digest, interleaved, plane_bytes }
    }
}

impl VoxelStream for DigestedStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        self.stream.next_steps(steps, out)?;
        self.digest.update(out, self.interleaved, self.plane_bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        self.stream.finish()?;
        Ok(self.digest.finish())
    }
}

/// An array in memory as the source of a volume.
///
/// ```
/// use std::sync::Arc;
/// use ndarray::Array3;
/// use voxquarry::Affine;
/// use voxquarry::format::attributes::Kind;
/// use voxquarry_ingest::{ArraySource, IngestOptions, Manifest, Source, VolumeInput, ingest};
///
/// let ct = Array3::<i16>::from_shape_fn((20, 30, 40), |(z, y, x)| (z * 900 + y * 30 + x) as i16);
/// let array = ArraySource::new("a phantom", ct, Affine::diagonal([3.0, 0.8, 0.8]))?;
/// let mut manifest = Manifest::new();
/// let input = VolumeInput::Voxels(Arc::new(array));
/// manifest.push(Source::new("case01", "ct", Kind::Image, input))?;
/// # let folder = tempfile::tempdir().unwrap();
/// let store = folder.path().join("store.zarr");
/// ingest(&manifest, &store, &IngestOptions::default(), &voxquarry_ingest::NoopObserver)?;
///
/// let volume = voxquarry::open(&store)?.subject("case01")?.volume("ct")?;
/// assert_eq!(volume.read::<i16>(voxquarry::Region::new([1, 2, 3], [1; 3]))?[[0, 0, 0, 0]], 963);
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub struct ArraySource<S: RawData> {
    name: String,
    array: Arc<ArrayBase<S, IxDyn>>,
    affine: Affine,
}

impl<S> ArraySource<S>
where
    S: Data<Elem: Voxel> + Send + Sync + 'static,
{
    /// An array `(z, y, x)` or `(c, z, y, x)` in any memory order, with a `name` for messages.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another number of axes, an empty array, or an affine that is
    /// singular or not finite.
    pub fn new<D: Dimension>(
        name: impl Into<String>,
        array: ArrayBase<S, D>,
        affine: Affine,
    ) -> Result<Self> {
        let (name, array) = (name.into(), array.into_dyn());
        if !matches!(array.ndim(), 3 | 4) || array.is_empty() {
            let reason = format!("{name}: an array of shape {:?} is no volume", array.shape());
            return Err(Error::unsupported(reason, "give voxels (z, y, x) or (c, z, y, x)"));
        }
        let invertible = "give a finite and invertible affine";
        affine.validate().map_err(|e| Error::unsupported(format!("{name}: {e}"), invertible))?;
        Ok(Self { name, array: Arc::new(array), affine })
    }
}

impl<S> VolumeSource for ArraySource<S>
where
    S: Data<Elem: Voxel> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Result<SourceVolume> {
        let (channels, size) = match *self.array.shape() {
            [c, z, y, x] => (Some(c), [z, y, x]),
            [z, y, x] => (None, [z, y, x]),
            _ => unreachable!("three or four axes, which the constructor checked"),
        };
        let origin = [("format".to_owned(), json!("array"))].into_iter().collect();
        let (dtype, affine) = (<S::Elem as Voxel>::DTYPE, self.affine);
        let (slope, intercept, interleaved) = (1.0, 0.0, 1);
        Ok(SourceVolume {
            size,
            channels,
            interleaved,
            dtype,
            affine,
            unit: None,
            slope,
            intercept,
            origin,
        })
    }

    fn open(&self) -> Result<Box<dyn VoxelStream>> {
        let (array, digest) = (self.array.clone(), VoxelDigest::default());
        Ok(Box::new(ArrayStream { array, next: (0, 0), digest }))
    }

    fn has_digest(&self, sha256: &str) -> bool {
        digest_of(self).is_ok_and(|digest| digest.sha256 == sha256)
    }
}

impl<S: RawData> fmt::Debug for ArraySource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArraySource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Copies the planes of an array in order.
struct ArrayStream<S: RawData> {
    array: Arc<ArrayBase<S, IxDyn>>,
    /// The channel and plane that come next.
    next: (usize, usize),
    digest: VoxelDigest,
}

impl<S> VoxelStream for ArrayStream<S>
where
    S: Data<Elem: Voxel> + Send + Sync + 'static,
{
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let mut all = self.array.view();
        if all.ndim() == 4 {
            all.index_axis_inplace(Axis(0), self.next.0);
        }
        let planes = all.len_of(Axis(0));
        let plane_bytes = out.len() / steps;
        for plane in out.chunks_exact_mut(plane_bytes) {
            let voxels = all.index_axis(Axis(0), self.next.1);
            self.next.1 += 1;
            if let Some(voxels) = voxels.as_slice() {
                plane.copy_from_slice(bytemuck::cast_slice(voxels));
                continue;
            }
            let size = size_of::<S::Elem>();
            for (bytes, voxel) in plane.chunks_exact_mut(size).zip(voxels.iter()) {
                bytes.copy_from_slice(bytemuck::bytes_of(voxel));
            }
        }
        if self.next.1 == planes {
            self.next = (self.next.0 + 1, 0);
        }
        self.digest.update(out, 1, plane_bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        Ok(self.digest.finish())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array4, ShapeBuilder};

    use super::*;

    #[test]
    fn every_memory_order_yields_the_same_voxels() {
        let value =
            |(c, z, y, x): (usize, usize, usize, usize)| (c * 1000 + z * 100 + y * 10 + x) as u16;
        let c_order = Array4::from_shape_fn((2, 3, 4, 5), value);
        let f_order = Array4::from_shape_fn((2, 3, 4, 5).f(), value);
        let expected: Vec<u8> = c_order.iter().flat_map(|voxel| voxel.to_le_bytes()).collect();
        let sources = [c_order, f_order].map(|a| ArraySource::new("a", a, Affine::IDENTITY));
        for source in sources.map(Result::unwrap) {
            let mut stream = source.open().unwrap();
            let mut found = vec![0; expected.len()];
            let (first, rest) = found.split_at_mut(2 * 20 * 2);
            stream.next_steps(2, first).unwrap();
            for plane in rest.chunks_exact_mut(20 * 2) {
                stream.next_steps(1, plane).unwrap();
            }
            assert_eq!(found, expected);
            let digest = stream.finish().unwrap();
            assert_eq!(digest.bytes, expected.len() as u64);
            assert!(source.has_digest(&digest.sha256) && !source.has_digest("00"));
        }
    }

    #[test]
    fn what_is_no_volume_is_refused() {
        let flat = ndarray::Array2::<u8>::zeros((3, 4));
        let none = ndarray::Array3::<u8>::zeros((3, 0, 4));
        let some = ndarray::Array3::<u8>::zeros((3, 2, 4));
        let singular = Affine::diagonal([1.0, 0.0, 1.0]);
        for (error, word) in [
            (ArraySource::new("a", flat, Affine::IDENTITY).unwrap_err(), "shape [3, 4]"),
            (ArraySource::new("a", none, Affine::IDENTITY).unwrap_err(), "shape [3, 0, 4]"),
            (ArraySource::new("a", some, singular).unwrap_err(), "singular"),
        ] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
