//! The chunks of one shard: fetched when they are wanted, checked, and written into its file.
//!
//! # Invariants
//! - No two threads of a process fetch a chunk at the same time.
//! - A chunk is handed out after its checksum was compared, by whichever process fetched it.
//! - A chunk comes from the shard that the volume lists: an answer of another version is believed
//!   after the index of that version was compared.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::client::{Answer, Client, Wanted, begin, wait_for};
use super::disk_cache::{CacheFile, DiskCache, ShardName, is_same_version};
use crate::format::index::{ShardIndex, tail_bytes, u32_at};
use crate::sys::remote::{RemoteChunks, RemoteShard};
use crate::{Error, Result};

/// A request for more brings no more: so many of them are under way.
const PART_BYTES: u64 = 1 << 20;
/// Gaps up to this size are fetched along. A larger one is a chunk that nobody asked for.
const GAP_BYTES: u64 = 512;
const CHECKSUM_BYTES: usize = 4;

/// A chunk's slot and byte range.
type Chunk = (usize, Range<u64>);

/// The chunks of a shard; clones share them.
#[derive(Clone, Debug)]
pub(super) struct FetchedShard(Arc<State>);

/// A shard that is open while somebody reads it.
#[derive(Debug, Default)]
pub(super) struct WeakShard(Weak<State>);

impl WeakShard {
    /// The shard, if it is open and the cache keeps its file.
    pub(super) fn get(&self) -> Option<FetchedShard> {
        self.0.upgrade().map(FetchedShard).filter(|shard| !shard.is_dropped())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

struct State {
    client: Arc<Client>,
    cache: Arc<DiskCache>,
    /// Below the store.
    key: String,
    /// For messages.
    path: PathBuf,
    name: ShardName,
    file: File,
    bytes: u64,
    version: Mutex<String>,
    /// A bit for each chunk that is in the file, and whose checksum was compared.
    here: Box<[AtomicU64]>,
    /// The slots that a thread fetches.
    under_way: Mutex<HashSet<usize>>,
    /// Signals that some are under way no more.
    arrived: Condvar,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedShard").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Slots that are under way until this is dropped.
struct UnderWay {
    state: Arc<State>,
    slots: Vec<usize>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.state.under_way();
        for slot in &self.slots {
            under_way.remove(slot);
        }
        drop(under_way);
        self.state.arrived.notify_all();
    }
}

impl FetchedShard {
    pub(super) fn new(
        (client, cache): (Arc<Client>, Arc<DiskCache>),
        (key, path): (String, PathBuf),
        name: ShardName,
        found: CacheFile,
    ) -> Self {
        let CacheFile { file, bytes, version, .. } = found;
        Self(Arc::new(State {
            client,
            cache,
            key,
            path,
            name,
            file,
            bytes,
            version: Mutex::new(version),
            here: (0..name.slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            under_way: Mutex::default(),
            arrived: Condvar::new(),
        }))
    }

    pub(super) fn downgrade(&self) -> WeakShard {
        WeakShard(Arc::downgrade(&self.0))
    }

    /// The shard as an array reads it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn opened(self) -> Result<RemoteShard> {
        let state = &self.0;
        let file = state.file.try_clone().map_err(Error::io(&state.path, "cannot open"))?;
        let (bytes, more_bytes) = (state.bytes, CacheFile::more_bytes(state.name));
        Ok(RemoteShard { file, bytes, more_bytes, chunks: Box::new(self) })
    }
}

impl RemoteChunks for FetchedShard {
    fn request(&self, chunks: &[Chunk]) {
        let state = &self.0;
        if chunks.iter().all(|(slot, _)| state.is_here(*slot)) {
            return;
        }
        let Ok(marks) = state.marks() else { return };
        let mut wanted: Vec<Chunk> = {
            let mut under_way = state.under_way();
            let is_wanted = |slot: &usize| !state.is_here(*slot) && marks[*slot] == 0;
            let chunks = chunks.iter().filter(|(slot, _)| is_wanted(slot));
            chunks.filter(|(slot, _)| under_way.insert(*slot)).cloned().collect()
        };
        wanted.sort_unstable_by_key(|(_, range)| range.start);
        for part in parts(wanted) {
            let slots = part.iter().map(|(slot, _)| *slot).collect();
            let under_way = UnderWay { state: state.clone(), slots };
            // Threads that wait for a chunk try again, and get the error.
            let _ = begin(async move {
                let under_way = under_way;
                let _ = under_way.state.fetch(&part).await;
            });
        }
    }

    fn wait(&self, slot: usize, range: &Range<u64>) -> Result<()> {
        let state = &self.0;
        if state.is_here(slot) {
            return Ok(());
        }
        let mut under_way = state.under_way();
        while !state.is_here(slot) {
            if under_way.insert(slot) {
                drop(under_way);
                let _under_way = UnderWay { state: state.clone(), slots: vec![slot] };
                if state.is_intact(slot, range)? {
                    state.set_here(slot);
                    return Ok(());
                }
                let chunk = [(slot, range.clone())];
                return wait_for(async { Ok(state.fetch(&chunk).await) })
                    .map_err(|failure| failure.at(&state.path))?;
            }
            under_way = state.arrived.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn has(&self, slot: usize) -> bool {
        self.0.is_here(slot)
    }

    fn is_dropped(&self) -> bool {
        CacheFile::is_dropped(&self.0.file)
    }
}

impl State {
    fn under_way(&self) -> MutexGuard<'_, HashSet<usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_here(&self, slot: usize) -> bool {
        // Acquire: the bytes were written before.
        self.here[slot / 64].load(Ordering::Acquire) & 1 << (slot % 64) != 0
    }

    fn set_here(&self, slot: usize) {
        self.here[slot / 64].fetch_or(1 << (slot % 64), Ordering::Release);
    }

    /// A byte for each chunk: whether a process has written it.
    fn marks(&self) -> Result<Vec<u8>> {
        let mut marks = vec![0; self.name.slots];
        let read = self.file.read_exact_at(&mut marks, self.bytes);
        read.map_err(Error::io(&self.path, "cannot read the cache of"))?;
        Ok(marks)
    }

    /// Whether a process has written the chunk, and its checksum is right.
    fn is_intact(&self, slot: usize, range: &Range<u64>) -> Result<bool> {
        let read = |bytes: &mut [u8], at: u64| {
            let read = self.file.read_exact_at(bytes, at);
            read.map_err(Error::io(&self.path, "cannot read the cache of"))
        };
        let mut mark = [0];
        read(&mut mark, self.bytes + slot as u64)?;
        if mark[0] == 0 {
            return Ok(false);
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read(&mut bytes, range.start)?;
        Ok(checksums(&bytes).is_none())
    }

    /// Fetches chunks that lie near each other, and writes them. What arrives damaged is fetched
    /// once more.
    async fn fetch(&self, part: &[Chunk]) -> Result<()> {
        let start = part[0].1.start;
        let end = part.iter().map(|(_, range)| range.end).max().unwrap_or(start);
        let mut damage = None;
        for _ in 0..2 {
            let wanted = Wanted::Part(start..end);
            let answer = self.client.get(&self.key, &wanted).await;
            let answer = answer.map_err(|failure| failure.at(&self.path))?;
            self.check_version(&answer).await?;
            let bytes = |range: &Range<u64>| {
                &answer.bytes[(range.start - start) as usize..(range.end - start) as usize]
            };
            damage = part.iter().find_map(|(slot, range)| {
                let (found, expected) = checksums(bytes(range))?;
                let (path, chunk, offset) = (self.path.clone(), *slot as u64, range.start);
                Some(Error::ChunkChecksum { path, chunk, offset, found, expected })
            });
            if damage.is_none() {
                return self.keep(part, start, &answer.bytes);
            }
        }
        damage.map_or(Ok(()), Err)
    }

    fn keep(&self, part: &[Chunk], start: u64, bytes: &[u8]) -> Result<()> {
        let write = || {
            self.file.write_all_at(bytes, start)?;
            part.iter()
                .try_for_each(|(slot, _)| self.file.write_all_at(&[1], self.bytes + *slot as u64))
        };
        let written = self.cache.with_room(write);
        written.map_err(Error::io(self.cache.store_folder(), "cannot write the cache"))?;
        for (slot, _) in part {
            self.set_here(*slot);
        }
        self.cache.note(bytes.len() as u64)
    }

    /// Checks that an answer is of the shard whose index is here.
    async fn check_version(&self, answer: &Answer) -> Result<()> {
        let kept = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if answer.file_bytes == self.bytes && is_same_version(&kept, &answer.version) {
            return Ok(());
        }
        let tail = tail_bytes(self.name.slots) as u64;
        if answer.file_bytes == self.bytes && tail <= self.bytes {
            let wanted = Wanted::Part(self.bytes - tail..self.bytes);
            let found = self.client.get(&self.key, &wanted).await;
            let found = found.map_err(|failure| failure.at(&self.path))?;
            let index = ShardIndex::parse(&self.path, &found.bytes, found.file_bytes);
            if index.is_ok_and(|index| index.identity().value() == self.name.identity) {
                // A server of several machines may name one file in several ways.
                let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
                version.clone_from(&found.version);
                return Ok(());
            }
        }
        Err(replaced(self.path.clone()))
    }
}

/// The error of a shard that is not the one that the volume lists.
pub(super) fn replaced(path: PathBuf) -> Error {
    let message = "these are not the bytes that the volume lists: the store was replaced on the \
                   server while it was open, or the file there is damaged; open the store again, \
                   and copy it to the server anew if this persists";
    Error::data(path, message)
}

/// The checksum of a chunk's bytes and the one that stands behind them, if they differ.
fn checksums(encoded: &[u8]) -> Option<(u32, u32)> {
    let at = encoded.len() - CHECKSUM_BYTES;
    let (found, expected) = (crc32c::crc32c(&encoded[..at]), u32_at(encoded, at));
    (found != expected).then_some((found, expected))
}

/// Joins neighbours, as long as a part has at most [`PART_BYTES`] or is one chunk. `chunks` are
/// sorted by their place.
fn parts(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut parts: Vec<Vec<Chunk>> = Vec::new();
    for chunk in chunks {
        let joined = parts.last_mut().filter(|part| {
            let (first, last) = (&part[0].1, &part[part.len() - 1].1);
            // Chunks of a damaged index may overlap.
            let is_near = chunk.1.start <= last.end.saturating_add(GAP_BYTES);
            is_near && chunk.1.end.max(last.end) - first.start <= PART_BYTES
        });
        match joined {
            Some(part) => part.push(chunk),
            None => parts.push(vec![chunk]),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_fetched_together() {
        const M: u64 = 1 << 20;
        let chunks = |ranges: &[Range<u64>]| ranges.iter().cloned().enumerate().collect::<Vec<_>>();
        let slots = |ranges: &[Range<u64>]| -> Vec<Vec<usize>> {
            let parts = parts(chunks(ranges));
            parts.iter().map(|part| part.iter().map(|(slot, _)| *slot).collect()).collect()
        };
        assert!(slots(&[]).is_empty());
        assert_eq!(slots(&[0..10, 10..20, 532..540, 1053..1060]), [vec![0, 1, 2], vec![3]]);
        assert_eq!(slots(&[0..M / 2, M / 2..M, M..M + 1]), [vec![0, 1], vec![2]]);
        assert_eq!(slots(&[0..3 * M, 3 * M..3 * M + 9]), [vec![0], vec![1]]);
        assert_eq!(slots(&[0..100, 50..60, 90..120]), [vec![0, 1, 2]]);
    }
}
