//! Open shards: file, validated index, and which chunks' checksums have been compared.
//!
//! # Invariants
//! - At most [`OPEN_SHARDS`] are open; a volume of 65,536 shards costs no open before its first read.
//! - No offset leaves this module unvalidated.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::context::Verify;
use crate::codec::{CHECKSUM_BYTES, DecodeError, checksum};
use crate::format::array::ArrayLayout;
use crate::format::grid::ShardId;
use crate::format::index::{ShardIndex, index_bytes, u32_at};
use crate::source::{Access, Source};
use crate::{Error, Result};

/// An index has at most 1 MiB, usually 64 KiB; and file handles are scarce.
const OPEN_SHARDS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// One open shard.
#[derive(Debug)]
pub(crate) struct Shard {
    source: Source,
    index: ShardIndex,
    compared: Box<[AtomicU64]>,
}

/// An encoded chunk without its checksum, and its place for errors.
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) offset: u64,
}

impl Shard {
    /// Opens a shard of `slots` chunks; `None` if it has no file, so is all zero.
    pub(crate) fn open(path: &Path, slots: usize, access: Access) -> Result<Option<Self>> {
        let Some(source) = Source::open(path, access)? else { return Ok(None) };
        let tail = index_bytes(slots) as u64;
        if source.len() < tail {
            let message = format!(
                "the file has {} bytes, its index alone {tail}: it is truncated",
                source.len()
            );
            return Err(Error::ShardIndex { path: path.to_owned(), message });
        }
        let mut buffer = Vec::new();
        let bytes = source.bytes(source.len() - tail..source.len(), &mut buffer)?;
        let index = ShardIndex::parse(path, bytes, source.len())?;
        let compared = (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Some(Self { source, index, compared }))
    }

    pub(crate) fn path(&self) -> &Path {
        self.source.path()
    }

    pub(crate) fn index(&self) -> &ShardIndex {
        &self.index
    }

    /// Where the chunk in `slot` lies in the file; `None` if it is all zero.
    pub(crate) fn range(&self, slot: usize) -> Option<Range<u64>> {
        self.index.range(slot)
    }

    /// The file.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Asks the processor for a chunk that comes next.
    pub(crate) fn prefetch(&self, slot: usize) {
        if let Some(range) = self.index.range(slot) {
            self.source.prefetch(&range);
        }
    }

    /// The chunk in `slot` as it lies in the map, compared with nothing; `None` if it is all zero, or the file is not mapped.
    pub(crate) fn mapped(&self, slot: usize) -> Option<&[u8]> {
        let range = self.index.range(slot)?;
        let encoded = self.source.mapped(range)?;
        Some(&encoded[..encoded.len() - CHECKSUM_BYTES])
    }

    /// The chunk in `slot`, its checksum compared as `verify` says; `None` if it is all zero.
    pub(crate) fn payload<'a>(
        &'a self,
        slot: usize,
        verify: Verify,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<Payload<'a>>> {
        let Some(range) = self.index.range(slot) else { return Ok(None) };
        let offset = range.start;
        let encoded = self.source.bytes(range, buffer)?;
        let (word, bit) = (&self.compared[slot / 64], 1 << (slot % 64));
        let compare = match verify {
            Verify::Never => false,
            Verify::First => word.load(Ordering::Relaxed) & bit == 0,
            Verify::Always => true,
        };
        let bytes = &encoded[..encoded.len() - CHECKSUM_BYTES];
        if compare {
            let (found, expected) = (checksum(bytes), u32_at(encoded, bytes.len()));
            if found != expected {
                let path = self.path().to_owned();
                return Err(Error::ChunkChecksum {
                    path,
                    chunk: slot as u64,
                    offset,
                    found,
                    expected,
                });
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(Some(Payload { bytes, offset }))
    }

    /// An error about the chunk in `slot`.
    pub(crate) fn decode_error(&self, slot: usize, offset: u64, error: DecodeError) -> Error {
        let (path, message) = (self.path().to_owned(), error.to_string());
        Error::ChunkDecode { path, chunk: slot as u64, offset, message }
    }
}

/// By volume and shard; `None` for a shard without a file.
type OpenShards = LruCache<(u64, ShardId), Option<Arc<Shard>>>;

/// The open shards of a dataset.
#[derive(Debug)]
pub(crate) struct ShardTable {
    access: Access,
    open: Mutex<OpenShards>,
}

impl ShardTable {
    pub(crate) fn new(access: Access) -> Self {
        Self { access, open: Mutex::new(LruCache::new(OPEN_SHARDS)) }
    }

    /// The shard of a volume, opened at first touch; `None` if it has no file.
    pub(crate) fn get(
        &self,
        volume: u64,
        level: &Path,
        layout: &ArrayLayout,
        id: ShardId,
    ) -> Result<Option<Arc<Shard>>> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = lock().get(&(volume, id)) {
            return Ok(shard.clone());
        }
        // Opened outside the lock: two threads may both do it, one result is kept.
        let slots = layout.shard_chunks().iter().product();
        let shard =
            Shard::open(&level.join(layout.shard_key(id)), slots, self.access)?.map(Arc::new);
        lock().put((volume, id), shard.clone());
        Ok(shard)
    }
}
