//! An open array: where it lies, its layout, and its shards.

use std::sync::{Arc, OnceLock};

use super::cache::ChunkKey;
use super::channels::Channels;
use super::context::{ArrayContext, Resources, next_array_id};
use super::foreign::ForeignChunks;
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
    layout: ArrayLayout,
    context: Arc<ArrayContext>,
    chunks: StoredChunks,
}

/// Where the chunks of an array are.
#[derive(Debug)]
enum StoredChunks {
    /// In the shards of `folder`.
    Shards {
        folder: Folder,
        listed: ListedShards,
    },
    Foreign(ForeignChunks),
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
        let chunks = StoredChunks::Shards { folder, listed };
        Self { id: next_array_id(), layout, context, chunks }
    }

    /// The array of `layout` whose chunks something else stores.
    pub(crate) fn of_foreign(
        layout: ArrayLayout,
        chunks: ForeignChunks,
        context: Arc<ArrayContext>,
    ) -> Self {
        Self { id: next_array_id(), layout, context, chunks: StoredChunks::Foreign(chunks) }
    }

    /// An id that no other array of the process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its chunks, if they are in no shards.
    pub(crate) fn foreign(&self) -> Option<&ForeignChunks> {
        match &self.chunks {
            StoredChunks::Shards { .. } => None,
            StoredChunks::Foreign(chunks) => Some(chunks),
        }
    }

    /// Whether its chunks come from a server.
    pub(crate) fn is_remote(&self) -> bool {
        match &self.chunks {
            StoredChunks::Shards { folder, .. } => folder.remote().is_some(),
            StoredChunks::Foreign(_) => false,
        }
    }

    fn shards(&self) -> (&Folder, &ListedShards) {
        match &self.chunks {
            StoredChunks::Shards { folder, listed } => (folder, listed),
            StoredChunks::Foreign(_) => unreachable!("readers of shards ask for foreign chunks"),
        }
    }

    /// The folder of its shards.
    pub(crate) fn folder(&self) -> &Folder {
        self.shards().0
    }

    pub(crate) fn layout(&self) -> &ArrayLayout {
        &self.layout
    }

    /// What it shares with the other arrays of its dataset.
    pub(crate) fn context(&self) -> &Arc<ArrayContext> {
        &self.context
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

    /// The chunk that is stored for this one: of channels that are stored together, the first.
    pub(crate) fn stored_chunk(&self, chunk: ChunkId) -> ChunkId {
        let together = self.foreign().map_or(1, ForeignChunks::together);
        ChunkId { channel: chunk.channel - chunk.channel % together, ..chunk }
    }

    /// Bytes of a chunk that is decoded as a whole.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.foreign().map_or_else(|| self.layout.chunk_bytes(), ForeignChunks::chunk_bytes)
    }

    /// The chunks of some channels that meet `region`, each once.
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
        let together = self.foreign().map_or(1, ForeignChunks::together);
        let mut last = None;
        channels
            .ascending()
            .map(move |channel| channel - channel % together)
            .filter(move |&channel| last.replace(channel) != Some(channel))
            .flat_map(move |channel| iter_box(cells.clone()).map(move |at| ChunkId { channel, at }))
    }

    /// A shard, opened at first touch; `None` if it has no file, so is all zero.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not the shard that the volume lists; [`Error::ShardIndex`],
    /// [`Error::Io`].
    pub(super) fn shard(&self, id: ShardId) -> Result<Option<Arc<OpenShard>>> {
        let identity = self.shard_list()?.0[self.layout.shard_number(id)];
        self.resources().shards.get(self.id, self.folder(), &self.layout, id, identity)
    }

    /// Whether a shard is open, or has no file.
    pub(super) fn is_open(&self, id: ShardId) -> bool {
        let has_file = |list: &ShardList| list.0[self.layout.shard_number(id)] != 0;
        self.shard_list().is_ok_and(|list| !has_file(list))
            || self.resources().shards.has(self.id, id)
    }

    /// The list of the array's shards.
    ///
    /// # Errors
    /// As [`ShardList::read`].
    pub(crate) fn shard_list(&self) -> Result<&ShardList> {
        let (_, listed) = self.shards();
        if let Some(list) = listed.list.get() {
            return Ok(list);
        }
        let shards = self.layout.shard_count();
        let list = ShardList::read(&listed.folder, shards, listed.crc32c)?;
        Ok(listed.list.get_or_init(|| list))
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
