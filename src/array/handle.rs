//! An open array: where it lies, its layout, and its shards.

use std::sync::{Arc, OnceLock};

use super::cache::ChunkKey;
use super::channels::Channels;
use super::context::{ArrayContext, Resources};
use super::shard_list::ShardList;
use super::shards::{OpenShard, Verify};
use crate::format::array::ArrayLayout;
use crate::format::grid::{ChunkId, ShardId, iter_box};
use crate::sys::folder::Folder;
use crate::{Error, Region, Result, Size3};

/// An array opened for reading.
#[derive(Debug)]
pub(crate) struct ArrayHandle {
    id: u64,
    folder: Folder,
    layout: ArrayLayout,
    context: Arc<ArrayContext>,
    listed: ListedShards,
}

/// The list of the array's shards, read at the first touch of a shard.
#[derive(Debug)]
struct ListedShards {
    folder: Folder,
    crc32c: u32,
    list: OnceLock<ShardList>,
}

impl ArrayHandle {
    /// The array of `layout` in `folder`; the list of its shards, whose checksum is `list_crc32c`,
    /// lies in `list_folder`.
    pub(crate) fn new(
        folder: Folder,
        layout: ArrayLayout,
        (list_folder, list_crc32c): (Folder, u32),
        context: Arc<ArrayContext>,
    ) -> Self {
        let listed =
            ListedShards { folder: list_folder, crc32c: list_crc32c, list: OnceLock::new() };
        Self { id: context.next_array_id(), folder, layout, context, listed }
    }

    /// An id that no other array of the same dataset handle has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn layout(&self) -> &ArrayLayout {
        &self.layout
    }

    /// This process's threads, cache and shards.
    pub(crate) fn resources(&self) -> &Resources {
        self.context.resources()
    }

    pub(super) fn verify(&self) -> Verify {
        self.context.verify()
    }

    /// The name of a chunk in caches.
    pub(crate) fn chunk_key(&self, chunk: ChunkId) -> ChunkKey {
        (self.id, self.layout.chunk_index(chunk))
    }

    /// The chunks of some channels that meet `region`.
    pub(crate) fn chunks_meeting<'a>(
        &self,
        region: &Region,
        channels: &'a Channels,
    ) -> impl Iterator<Item = ChunkId> + use<'a> {
        let inside = region.clip(self.layout.size);
        let cells = if inside.is_empty() {
            [const { 0..0 }; 3]
        } else {
            self.layout.chunks_meeting(&inside)
        };
        channels
            .ascending()
            .flat_map(move |channel| iter_box(cells.clone()).map(move |at| ChunkId { channel, at }))
    }

    /// A shard, opened at first touch; `None` if it has no file, so is all zero.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not the shard that the volume lists; [`Error::ShardIndex`],
    /// [`Error::Io`].
    pub(super) fn shard(&self, id: ShardId) -> Result<Option<Arc<OpenShard>>> {
        let identity = self.shard_list()?.0[self.layout.shard_number(id)];
        self.resources().shards.get(self.id, &self.folder, &self.layout, id, identity)
    }

    /// The list of the array's shards.
    ///
    /// # Errors
    /// As [`ShardList::read`].
    pub(crate) fn shard_list(&self) -> Result<&ShardList> {
        if let Some(list) = self.listed.list.get() {
            return Ok(list);
        }
        let shards = self.layout.shard_count();
        let list = ShardList::read(&self.listed.folder, shards, self.listed.crc32c)?;
        Ok(self.listed.list.get_or_init(|| list))
    }

    /// Voxels of `patches` patches of `size`, over all channels.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they cannot be counted or addressed.
    pub(crate) fn voxel_count(&self, size: Size3, patches: usize) -> Result<usize> {
        let voxel_bytes = self.layout.dtype.size();
        let factors = [self.layout.channel_count(), patches, voxel_bytes];
        let bytes = size
            .into_iter()
            .chain(factors)
            .try_fold(1usize, usize::checked_mul)
            .filter(|&bytes| isize::try_from(bytes).is_ok());
        let too_large =
            || Error::TooLarge { what: format!("{patches} patches of {size:?} voxels") };
        bytes.map(|bytes| bytes / voxel_bytes).ok_or_else(too_large)
    }
}
