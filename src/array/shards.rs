//! Open shards: the file, the validated index, and a record of the compared checksums.
//!
//! # Invariants
//! - At most [`OPEN_SHARDS`] are open; opening a volume opens none of its shards.
//! - Every offset that leaves this module is validated.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::codec::{CHECKSUM_BYTES, DecodeError, checksum};
use crate::format::array::ArrayLayout;
use crate::format::grid::ShardId;
use crate::format::index::{ContentsChecksum, ShardIndex, tail_bytes, u32_at};
use crate::sys::descriptors::{self, HoldsFiles};
use crate::sys::file::{Access, ReadOnlyFile};
use crate::sys::folder::Folder;
use crate::sys::remote::{RemoteChunks, RemoteShard};
use crate::{Error, Result};

/// An index takes at most 1 MiB, usually 64 KiB; file descriptors are limited too.
const OPEN_SHARDS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

const OTHER_SHARD: &str = "these are not the bytes that the volume lists: its subject was replaced \
                           while it was open, or the file is damaged; open the dataset again, and \
                           verify it if this persists";

const MISSING_SHARD: &str = "the volume lists this shard, but the file is missing: its subject was \
                             removed or replaced while it was open, or the copy of the store is \
                             incomplete; open the dataset again, and copy the store anew if this \
                             persists";

/// When the checksum of a chunk is compared.
///
/// ```
/// use voxquarry::{OpenOptions, Verify};
///
/// assert_eq!(OpenOptions::default().get_verify(), Verify::First);
/// let options = OpenOptions::default().verify(Verify::Always);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Verify {
    /// Never: for files that were verified before.
    Never,
    /// When a chunk is first decoded.
    #[default]
    First,
    /// At every decode.
    Always,
}

/// One open shard.
#[derive(Debug)]
pub(crate) struct OpenShard {
    file: ReadOnlyFile,
    index: ShardIndex,
    compared: Box<[AtomicU64]>,
    /// Of a store behind a URL: its chunks come when they are wanted.
    remote: Option<Box<dyn RemoteChunks>>,
}

/// An encoded chunk without its checksum, and its offset for errors.
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) offset: u64,
}

impl OpenShard {
    /// Opens a shard of `slots` chunks; `None` if it has no file, so is all zero.
    ///
    /// # Errors
    /// [`Error::ShardIndex`], [`Error::Io`].
    pub(crate) fn open(
        folder: &Folder,
        key: &str,
        slots: usize,
        access: Access,
    ) -> Result<Option<Self>> {
        let Some(file) = ReadOnlyFile::open(folder, key, access)? else { return Ok(None) };
        Self::of(file, slots, None).map(Some)
    }

    /// The shard of `slots` chunks in `file`.
    fn of(file: ReadOnlyFile, slots: usize, remote: Option<Box<dyn RemoteChunks>>) -> Result<Self> {
        let path = file.path();
        let tail = tail_bytes(slots) as u64;
        if file.len() < tail {
            let message = format!(
                "the file has {} bytes, its index alone {tail}: it is truncated",
                file.len()
            );
            return Err(Error::ShardIndex { path: path.to_owned(), message });
        }
        // Not from the map: a file that is cut now is an error.
        let mut bytes = Vec::new();
        file.read(file.len() - tail..file.len(), &mut bytes)?;
        let index = ShardIndex::parse(path, &bytes, file.len())?;
        let compared = (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { file, index, compared, remote })
    }

    /// Opens the shard that the volume lists with `identity`, where 0 stands for no file.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is missing or has other bytes; as [`OpenShard::open`].
    pub(crate) fn listed(
        folder: &Folder,
        key: &str,
        slots: usize,
        access: Access,
        identity: u64,
    ) -> Result<Option<Self>> {
        if identity == 0 {
            return Ok(None);
        }
        let opened = match folder.remote() {
            None => Self::open(folder, key, slots, access)?,
            Some(files) => {
                let found = files.open_shard(&folder.below().join(key), slots, identity)?;
                let open = |found: RemoteShard| {
                    let path = folder.path().join(key);
                    let lengths = (found.bytes, found.more_bytes);
                    let file = ReadOnlyFile::of(path, found.file, lengths, access)?;
                    Self::of(file, slots, Some(found.chunks))
                };
                found.map(open).transpose()?
            }
        };
        match opened {
            Some(shard) if shard.index.identity().value() == identity => Ok(Some(shard)),
            Some(shard) => Err(Error::data(shard.path(), OTHER_SHARD)),
            None => Err(Error::data(folder.path().join(key), MISSING_SHARD)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn index(&self) -> &ShardIndex {
        &self.index
    }

    /// The bytes of the file that hold the chunk in `slot`; `None` if it is all zero.
    pub(crate) fn range(&self, slot: usize) -> Option<Range<u64>> {
        self.index.range(slot)
    }

    /// The file.
    pub(crate) fn file(&self) -> &ReadOnlyFile {
        &self.file
    }

    /// Whether its chunks come from a server.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Begins to fetch those of the chunks in `slots` that a server has to send.
    pub(crate) fn request(&self, slots: impl IntoIterator<Item = usize>) {
        if let Some(remote) = &self.remote {
            let chunks = slots.into_iter().filter_map(|slot| Some((slot, self.range(slot)?)));
            remote.request(&chunks.collect::<Vec<_>>());
        }
    }

    /// Prefetches the chunk that is read next.
    pub(crate) fn prefetch(&self, slot: usize) {
        if let Some(range) = self.index.range(slot) {
            self.file.prefetch(&range);
        }
    }

    /// The chunk in `slot` in the map, its checksum not compared; `None` if the chunk is all zero
    /// or the file is not mapped, or the chunk is not there yet.
    pub(crate) fn mapped(&self, slot: usize) -> Option<&[u8]> {
        if self.remote.as_ref().is_some_and(|remote| !remote.has(slot)) {
            return None;
        }
        let range = self.index.range(slot)?;
        let encoded = self.file.mapped(range)?;
        Some(&encoded[..encoded.len() - CHECKSUM_BYTES])
    }

    /// The chunk in `slot`, its checksum compared as `verify` says; `None` if it is all zero.
    ///
    /// # Errors
    /// [`Error::ChunkChecksum`], [`Error::Io`]; of a store behind a URL, those of fetching.
    pub(crate) fn payload<'a>(
        &'a self,
        slot: usize,
        verify: Verify,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<Payload<'a>>> {
        let Some(range) = self.index.range(slot) else { return Ok(None) };
        if let Some(remote) = &self.remote {
            remote.wait(slot, &range)?;
        }
        let offset = range.start;
        let encoded = self.file.bytes(range, buffer)?;
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

    /// Compares the checksum of the contents with the chunks' stored checksums.
    ///
    /// # Errors
    /// [`Error::Data`] if they differ, [`Error::Io`].
    pub(crate) fn check_contents(&self) -> Result<()> {
        let (mut contents, mut buffer) = (ContentsChecksum::default(), Vec::new());
        for range in (0..self.index.slots()).filter_map(|slot| self.index.range(slot)) {
            let stored =
                self.file.bytes(range.end - CHECKSUM_BYTES as u64..range.end, &mut buffer)?;
            contents.add(u32_at(stored, 0));
        }
        let (found, expected) = (contents.value(), self.index.contents_crc32c());
        if found == expected {
            return Ok(());
        }
        let message = format!(
            "the chunks' checksums have crc32c {found:#010x}, the shard names {expected:#010x}"
        );
        Err(Error::data(self.path(), message))
    }

    /// An error about the chunk in `slot`.
    pub(crate) fn decode_error(&self, slot: usize, offset: u64, error: DecodeError) -> Error {
        if let DecodeError::OutOfMemory { bytes } = error {
            let what = format!("a chunk of {}", self.path().display());
            return Error::OutOfMemory { what, bytes: bytes as u64 };
        }
        let (path, message) = (self.path().to_owned(), error.to_string());
        Error::ChunkDecode { path, chunk: slot as u64, offset, message }
    }
}

/// By array and shard.
type OpenShards = LruCache<(u64, ShardId), Arc<OpenShard>>;

/// The open shards of a dataset.
#[derive(Debug)]
pub(crate) struct ShardTable {
    access: Access,
    open: Mutex<OpenShards>,
}

impl ShardTable {
    pub(crate) fn new(access: Access) -> Arc<Self> {
        let table = Arc::new(Self { access, open: Mutex::new(LruCache::new(OPEN_SHARDS)) });
        descriptors::register(&table);
        table
    }

    fn open(&self) -> MutexGuard<'_, OpenShards> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a shard is open.
    pub(crate) fn has(&self, array: u64, id: ShardId) -> bool {
        self.open().contains(&(array, id))
    }

    /// A shard of the array in `folder`, opened at first touch; `None` if it has no file.
    ///
    /// # Errors
    /// As [`OpenShard::listed`].
    pub(crate) fn get(
        &self,
        array: u64,
        folder: &Folder,
        layout: &ArrayLayout,
        id: ShardId,
        identity: u64,
    ) -> Result<Option<Arc<OpenShard>>> {
        let is_kept = |shard: &&Arc<OpenShard>| {
            shard.remote.as_ref().is_none_or(|remote| !remote.is_dropped())
        };
        if let Some(shard) = self.open().get(&(array, id)).filter(is_kept) {
            return Ok(Some(shard.clone()));
        }
        // Opened outside of the lock: if two threads open the same shard, one handle is kept.
        let slots = layout.shard_chunks().iter().product();
        let key = layout.shard_key(id);
        let Some(shard) = OpenShard::listed(folder, &key, slots, self.access, identity)? else {
            return Ok(None);
        };
        let shard = Arc::new(shard);
        // The lock is free again when the evicted shard is closed.
        let _evicted = self.open().push((array, id), shard.clone());
        descriptors::keep_few();
        Ok(Some(shard))
    }
}

impl HoldsFiles for ShardTable {
    fn kept_files(&self) -> usize {
        self.open().len()
    }

    fn close_unused(&self) -> usize {
        let mut open = self.open();
        let unused = open.iter().rev().filter(|(_, shard)| Arc::strong_count(shard) == 1);
        let unused: Vec<_> = unused.map(|(&key, _)| key).collect();
        let closed = &unused[..unused.len().div_ceil(2)];
        closed.iter().filter_map(|key| open.pop(key)).count()
    }
}
