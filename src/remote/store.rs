//! One store behind a URL, as the folders of a dataset use it.
//!
//! # Invariants
//! - A process opens each shard once, so that no two threads fetch its index or a chunk.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::address::{Address, Server};
use super::client::{Client, Wanted, wait_for};
use super::disk_cache::{CacheFile, DiskCache, ShardName};
use super::documents::{Documents, key_of};
use super::fetched_shard::{FetchedShard, WeakShard, replaced};
use super::options::RemoteOptions;
use crate::format::document::ZARR_JSON;
use crate::format::index::{ShardIndex, tail_bytes};
use crate::format::limits::METADATA_BYTES;
use crate::sys::folder::Folder;
use crate::sys::fork::PerProcess;
use crate::sys::remote::{RemoteFiles, RemoteShard};
use crate::{Error, Result};

/// The files of a store behind a URL.
#[derive(Debug)]
struct RemoteStore {
    address: Address,
    client: Arc<Client>,
    cache: Arc<DiskCache>,
    documents: Documents,
    shards: PerProcess<Mutex<Shards>>,
}

/// The shards that are open or being opened, each once.
type Shards = HashMap<ShardName, Arc<Mutex<WeakShard>>>;

/// Closed shards are forgotten when there are more than this.
const KNOWN_SHARDS: usize = 1024;

/// The root of the store at `url`; nothing is fetched yet.
///
/// # Errors
/// [`Error::InvalidArgument`], [`Error::Unsupported`] for URLs that are not understood; credentials
/// that are incomplete; [`Error::Io`] if the cache's folder cannot be made.
pub(crate) fn open(url: &str, options: &RemoteOptions) -> Result<Folder> {
    let address = Address::parse(url)?;
    let shown = address.shown().to_owned();
    let client = Client::new(address.clone()).map_err(|failure| failure.at(Path::new(&shown)))?;
    let cache = Arc::new(DiskCache::open(options, &address.folder_name())?);
    let folder = cache.store_folder().to_owned();
    let (documents, shards) = (Documents::new(), PerProcess::new(Mutex::default()));
    let store = RemoteStore { address, client, cache, documents, shards };
    Folder::at_url(Path::new(&shown), &folder, Arc::new(store))
        .map_err(Error::io(folder, "cannot open"))
}

impl RemoteStore {
    /// A file's URL, for messages.
    fn shown(&self, path: &Path) -> PathBuf {
        Path::new(self.address.shown()).join(path)
    }

    /// The place of a shard among those that are open.
    fn known(&self, name: ShardName) -> Arc<Mutex<WeakShard>> {
        let shards = self.shards.get(Mutex::default);
        let mut shards = shards.lock().unwrap_or_else(PoisonError::into_inner);
        if shards.len() > KNOWN_SHARDS {
            // One that somebody else holds is being opened.
            shards.retain(|_, shard| {
                let is_closed = || shard.try_lock().is_ok_and(|shard| shard.is_closed());
                Arc::strong_count(shard) > 1 || !is_closed()
            });
        }
        shards.entry(name).or_default().clone()
    }

    /// A shard's file in the cache, into which its index is fetched if it is not there; `None` if
    /// the server has no such file.
    fn find(&self, key: &str, shown: &Path, name: ShardName) -> Result<Option<CacheFile>> {
        let is_right = |found: &CacheFile| {
            let tail = found.tail(name.slots).ok();
            let index = tail.and_then(|tail| ShardIndex::parse(shown, &tail, found.bytes).ok());
            index.is_some_and(|index| index.identity().value() == name.identity)
        };
        match self.cache.find(name)? {
            Some(found) if is_right(&found) => Ok(Some(found)),
            damaged => {
                if let Some(damaged) = damaged {
                    // A power cut may have left a name without its bytes.
                    let _ = std::fs::remove_file(&damaged.path);
                }
                self.fetch_tail(key, shown, name)
            }
        }
    }

    /// The last bytes of a shard and its length, which are those of the shard that is wanted;
    /// `None` if there is no such file.
    fn fetch_tail(&self, key: &str, path: &Path, name: ShardName) -> Result<Option<CacheFile>> {
        let wanted = Wanted::Last(tail_bytes(name.slots) as u64);
        let mut attempts = 0..2;
        loop {
            let answer = match wait_for(self.client.get(key, &wanted)) {
                Err(failure) if failure.kind == io::ErrorKind::NotFound => return Ok(None),
                answer => answer.map_err(|failure| failure.at(path))?,
            };
            attempts.next();
            if answer.bytes.len() != tail_bytes(name.slots) {
                let message = format!(
                    "the file has {} bytes, its index alone {}: it is truncated",
                    answer.file_bytes,
                    tail_bytes(name.slots)
                );
                return Err(Error::ShardIndex { path: path.to_owned(), message });
            }
            match ShardIndex::parse(path, &answer.bytes, answer.file_bytes) {
                Ok(index) if index.identity().value() == name.identity => {
                    let (bytes, version) = (answer.file_bytes, &answer.version);
                    return self.cache.create(name, bytes, &answer.bytes, version).map(Some);
                }
                // It may have been damaged on the way.
                _ if !attempts.is_empty() => {}
                Ok(_) => return Err(replaced(path.to_owned())),
                Err(error) => return Err(error),
            }
        }
    }
}

impl RemoteFiles for RemoteStore {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.documents.read(&self.client, path, limit)
    }

    fn has(&self, path: &Path) -> io::Result<bool> {
        let is_document = path.file_name().is_some_and(|name| name == ZARR_JSON);
        let path = if is_document { path.to_owned() } else { path.join(ZARR_JSON) };
        match self.read(&path, METADATA_BYTES) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn folders(&self) -> Result<Vec<String>> {
        if self.address.server == Server::Http {
            let reason = format!(
                "{}: its zarr.json lists no subjects, and an HTTP server lists no folders",
                self.address.shown()
            );
            let remedy = "write the list with voxquarry.list_subjects where the store lies, and \
                          copy its zarr.json to the server";
            return Err(Error::unsupported(reason, remedy));
        }
        let listed = wait_for(self.client.folders());
        listed.map_err(|failure| failure.at(Path::new(self.address.shown())))
    }

    fn open_shard(&self, path: &Path, slots: usize, identity: u64) -> Result<Option<RemoteShard>> {
        let (name, shown) = (ShardName { identity, slots }, self.shown(path));
        let Some(key) = key_of(path) else { return Ok(None) };
        // Other threads that want the same shard wait for it.
        let known = self.known(name);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = known.get() {
            return shard.opened().map(Some);
        }
        let Some(found) = self.find(&key, &shown, name)? else { return Ok(None) };
        let shared = (self.client.clone(), self.cache.clone());
        let shard = FetchedShard::new(shared, (key, shown), name, found);
        *known = shard.downgrade();
        shard.opened().map(Some)
    }
}
