//! Arrays that something else stores: where their decoded chunks come from.
//!
//! # Invariants
//! - A chunk that a cache holds is not decoded again.
//! - What a source returns is compared with the layout before a voxel is copied.
//!
//! Not here: any format; the files of a store (`shards`).

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use super::cache::{CacheLookup, ChunkCache, ChunkKey, ReadStats};
use crate::format::grid::ChunkId;
use crate::memory::has_room;
use crate::{Error, Result};

/// An array whose chunks are stored in another way than those of a store.
///
/// [`crate::Volume::from_source`] makes a volume of it.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use voxquarry::format::grid::ChunkId;
/// use voxquarry::{ChunkSource, Dtype, OpenOptions, Region, Result, SourceSpec, Volume};
///
/// /// Every voxel is the number of its chunk along z.
/// #[derive(Debug)]
/// struct Steps;
///
/// impl ChunkSource for Steps {
///     fn path(&self) -> &Path {
///         Path::new("steps")
///     }
///     fn decode(&self, chunk: ChunkId) -> Result<Option<Vec<u8>>> {
///         Ok(Some(vec![chunk.at[0] as u8; 4 * 8 * 8]))
///     }
/// }
///
/// let spec = SourceSpec::new("steps", [16, 8, 8], Dtype::UInt8, [4, 8, 8]);
/// let volume = Volume::from_source(Arc::new(Steps), spec, &OpenOptions::default())?;
/// let mut patch = [0u8; 2 * 8 * 8];
/// volume.read_into(Region::new([7, 0, 0], [2, 8, 8]), &mut patch)?;
/// assert_eq!((patch[0], patch[127]), (1, 2));
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub trait ChunkSource: fmt::Debug + Send + Sync {
    /// The place of the array, for messages.
    fn path(&self) -> &Path;

    /// The voxels of a chunk, `(c, z, y, x)` in C order and in the host's byte order: those of all
    /// channels that are stored together, of which `chunk` names the first. `None` stands for
    /// voxels that all have the fill value. Voxels beyond the edge of the array are there, too, and
    /// may have any value.
    ///
    /// Threads call it at the same time.
    ///
    /// # Errors
    /// [`Error::Data`] for damage, [`Error::Io`], [`Error::OutOfMemory`].
    fn decode(&self, chunk: ChunkId) -> Result<Option<Vec<u8>>>;
}

/// The chunks of a foreign array.
#[derive(Debug)]
pub(crate) struct ForeignChunks {
    source: Arc<dyn ChunkSource>,
    /// Channels that are stored together.
    together: usize,
    fill_value: Box<[u8]>,
    /// Bytes of a decoded chunk, over these channels.
    chunk_bytes: usize,
}

/// The voxels of a decoded chunk.
pub(super) enum ChunkVoxels {
    Cached(Arc<[u8]>),
    Own(Vec<u8>),
}

impl Deref for ChunkVoxels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Cached(voxels) => voxels,
            Self::Own(voxels) => voxels,
        }
    }
}

impl ForeignChunks {
    /// Chunks of `chunk_bytes` bytes with `together` channels each; a voxel that is not stored has
    /// the bytes of `fill_value`.
    pub(crate) fn new(
        source: Arc<dyn ChunkSource>,
        together: usize,
        fill_value: Box<[u8]>,
        chunk_bytes: usize,
    ) -> Self {
        Self { source, together, fill_value, chunk_bytes }
    }

    /// Channels that are stored together.
    pub(super) fn together(&self) -> usize {
        self.together
    }

    /// Bytes of a decoded chunk, over all channels that it holds.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// The bytes of a voxel that is not stored.
    pub(super) fn fill_value(&self) -> &[u8] {
        &self.fill_value
    }

    /// The voxels of chunk `id`, whose channel is the first of those that are stored together;
    /// `None` if all have the fill value.
    ///
    /// # Errors
    /// Those of the source; [`Error::Data`] for another number of bytes than the layout has.
    pub(super) fn voxels(
        &self,
        id: ChunkId,
        key: ChunkKey,
        cache: &dyn ChunkCache,
        stats: &mut ReadStats,
    ) -> Result<Option<ChunkVoxels>> {
        let bytes = self.chunk_bytes;
        let is_admitted = match cache.lookup(key, bytes) {
            CacheLookup::Hit(voxels) => {
                stats.hits += 1;
                return Ok(Some(ChunkVoxels::Cached(voxels)));
            }
            CacheLookup::Admit => true,
            // Decoding costs more here than a copy that nobody needs again.
            CacheLookup::Pass => cache.has_space(bytes),
        };
        let Some(voxels) = self.source.decode(id)? else { return Ok(None) };
        if voxels.len() != bytes {
            let message =
                format!("chunk {:?}: {} bytes were decoded of {bytes}", id.at, voxels.len());
            return Err(Error::data(self.source.path(), message));
        }
        stats.decoded += 1;
        if !is_admitted || !has_room(bytes) {
            return Ok(Some(ChunkVoxels::Own(voxels)));
        }
        let mut kept = cache.buffer(bytes);
        Arc::get_mut(&mut kept).expect("the buffer has one owner").copy_from_slice(&voxels);
        cache.insert(key, kept);
        Ok(Some(ChunkVoxels::Own(voxels)))
    }
}
