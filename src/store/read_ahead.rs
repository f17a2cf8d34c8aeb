//! Reads ahead: chunks of later patches are asked for, and nobody waits for them.

use super::resampled::ResampledVolume;
use super::volume::Volume;
use super::warped::WarpedRead;
use crate::array::cache::ChunkKey;
use crate::array::channels::Channels;
use crate::array::{chunks_of_patches, read_chunks_ahead};
use crate::{Order, Padding, Region, Result, Size3};

impl Volume {
    /// Begins to read the chunks of patches, and does not wait for them: from a disk into the
    /// system's page cache, from a server into the local cache.
    ///
    /// A later read of these patches waits less; until then the chunks may be dropped again. What
    /// is wrong with a chunk, or goes wrong with a server, is the error of that read.
    ///
    /// ```
    /// # let store = "format-spec/golden/v1";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("u8")?;
    /// let starts = [[0, 0, 0], [2, 2, 4]];
    /// volume.read_ahead(&starts, [4, 8, 16], 0..1)?;
    /// let mut patches = vec![0u8; 2 * 4 * 8 * 16];
    /// volume.read_batch_into(&starts, [4, 8, 16], voxquarry::Padding::None, &mut patches)?;
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`], [`crate::Error::OutOfMemory`]; on a disk, those of
    /// opening a shard.
    pub fn read_ahead(
        &self,
        starts: &[[i64; 3]],
        size: Size3,
        channels: impl Into<Channels>,
    ) -> Result<()> {
        let array = self.array();
        read_chunks_ahead(array, chunks_of_patches(array, starts, size, &channels.into())?)
    }

    /// Begins to read the chunks of some channels that meet `region` and that `wanted` selects into
    /// memory; does not wait for them.
    pub(crate) fn read_region_ahead(
        &self,
        region: &Region,
        channels: &Channels,
        wanted: impl Fn(ChunkKey) -> bool,
    ) -> Result<()> {
        let array = self.array();
        let chunks = array.chunks_meeting(region, channels);
        read_chunks_ahead(array, chunks.filter(|&id| wanted(array.chunk_key(id))).collect())
    }

    /// Begins to read the chunks that a resampled patch needs and that `wanted` selects; does not
    /// wait for them.
    ///
    /// # Errors
    /// As [`Volume::read_affine_into`].
    pub(crate) fn read_warped_ahead(
        &self,
        read: &WarpedRead<'_>,
        wanted: impl Fn(ChunkKey) -> bool,
    ) -> Result<()> {
        let (array, mut chunks) = (self.array(), read.of(self).chunks(read.warp)?);
        chunks.retain(|&id| wanted(array.chunk_key(id)));
        read_chunks_ahead(array, chunks)
    }
}

impl ResampledVolume {
    /// As [`Volume::read_ahead`], for the chunks that patches of `size` need.
    ///
    /// # Errors
    /// As [`Volume::read_ahead`].
    pub fn read_ahead(&self, starts: &[[i64; 3]], size: Size3, order: Order) -> Result<()> {
        let channels = Channels::from(0..self.volume().layout().channel_count());
        starts.iter().try_for_each(|&start| {
            let read = WarpedRead {
                warp: &self.warp(start)?,
                size,
                order,
                padding: Padding::Edge,
                dtype: None,
                channels: &channels,
                is_scaled: false,
            };
            self.volume().read_warped_ahead(&read, |_| true)
        })
    }
}
