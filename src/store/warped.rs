//! Resampled reads of some channels, and of one patch on the caller's thread, for queues.

use super::volume::Volume;
use crate::array::ReadContext;
use crate::array::cache::{ChunkCache, ChunkKey};
use crate::array::channels::Channels;
use crate::resample::{ResampledRead, Resampling, StoredValues};
use crate::{Dtype, Order, Padding, Result, Size3, Warp};

/// How one patch is resampled.
pub(crate) struct WarpedRead<'a> {
    pub(crate) warp: &'a Warp,
    pub(crate) size: Size3,
    pub(crate) order: Order,
    pub(crate) padding: Padding,
    pub(crate) dtype: Option<Dtype>,
    /// Whether the patch has real values, not stored ones.
    pub(crate) is_scaled: bool,
    pub(crate) channels: &'a Channels,
}

impl WarpedRead<'_> {
    pub(super) fn of<'a>(&self, volume: &'a Volume) -> ResampledRead<'a> {
        let Self { order, padding, dtype, .. } = *self;
        let own = volume.stored_values();
        let stored =
            if self.is_scaled { own } else { StoredValues { slope_intercept: (1.0, 0.0), ..own } };
        ResampledRead {
            array: volume.array(),
            stored,
            resampling: Resampling { order, padding, dtype },
            size: self.size,
            channels: self.channels.clone(),
        }
    }
}

impl Volume {
    /// As [`Volume::read_affine_bytes`] for some channels, of which no other is read.
    ///
    /// ```
    /// use voxquarry::{Dtype, Order, Padding, Resampling, Warp};
    ///
    /// # let store = "format-spec/golden/v1";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("f32")?;
    /// let warp = Warp::new([[2., 0., 0., 0.], [0., 2., 0., 0.], [0., 0., 2., 0.]])?;
    /// let (order, padding) = (Order::Linear, Padding::Edge);
    /// let resampling = Resampling { order, padding, dtype: Some(Dtype::Float64) };
    /// let mut voxels = vec![0f64; 3 * 5 * 10];
    /// let out = bytemuck::cast_slice_mut(&mut voxels);
    /// volume.read_affine_channels(&[warp], [3, 5, 10], resampling, 0..1, out)?;
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Volume::read_affine_into`].
    pub fn read_affine_channels(
        &self,
        warps: &[Warp],
        size: Size3,
        resampling: Resampling,
        channels: impl Into<Channels>,
        out: &mut [u8],
    ) -> Result<()> {
        let resources = self.array().resources();
        let context = ReadContext { cache: &resources.cache, executor: Some(&resources.executor) };
        let (array, stored, channels) = (self.array(), self.stored_values(), channels.into());
        ResampledRead { array, stored, resampling, size, channels }.read(warps, out, context)
    }

    /// Reads a patch on the caller's thread alone, by way of `cache`, into the bytes of `out`.
    ///
    /// # Errors
    /// As [`Volume::read_affine_into`].
    pub(crate) fn read_warped(
        &self,
        read: &WarpedRead<'_>,
        out: &mut [u8],
        cache: &dyn ChunkCache,
    ) -> Result<()> {
        let context = ReadContext { cache, executor: None };
        read.of(self).read(std::slice::from_ref(read.warp), out, context)
    }

    /// The names of the chunks that a resampled patch needs.
    ///
    /// # Errors
    /// As [`Volume::read_affine_into`].
    pub(crate) fn chunks_of(&self, read: &WarpedRead<'_>) -> Result<Vec<ChunkKey>> {
        let (array, chunks) = (self.array(), read.of(self).chunks(read.warp)?);
        let key = |chunk| array.chunk_key(array.stored_chunk(chunk));
        let mut keys: Vec<_> = chunks.into_iter().map(key).collect();
        if self.is_foreign() {
            // Channels that are stored together.
            keys.sort_unstable();
            keys.dedup();
        }
        Ok(keys)
    }
}
