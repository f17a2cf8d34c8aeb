//! What a store behind a URL offers in place of files.
//!
//! # Invariants
//! - A store on a disk pays for none of this: its folders hold no [`RemoteFiles`].
//!
//! Not here: how bytes are fetched, and where they are kept (`remote`).

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::{Error, Result};

/// Schemes of URLs that stores are opened at.
const SCHEMES: [&str; 7] = ["http", "https", "s3", "s3a", "gs", "az", "azure"];

/// The files of a store behind a URL. Paths are those below the store.
pub(crate) trait RemoteFiles: Debug + Send + Sync {
    /// The bytes of a small file, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], [`io::ErrorKind::InvalidData`] for a longer file; those of the
    /// server and of the network.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// Whether a group or an array is there.
    ///
    /// # Errors
    /// Those of the server and of the network.
    fn has(&self, path: &Path) -> io::Result<bool>;

    /// Names of the folders at the top, if the server lists them.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for a server that does not; those of the network.
    fn folders(&self) -> Result<Vec<String>>;

    /// The shard of `slots` chunks with that identity; `None` if there is no such file.
    ///
    /// # Errors
    /// [`crate::Error::Data`] if it has another identity; those of the server, of the network and
    /// of the cache's disk.
    fn open_shard(&self, path: &Path, slots: usize, identity: u64) -> Result<Option<RemoteShard>>;
}

/// A shard whose bytes come into a local file as they are wanted.
#[derive(Debug)]
pub(crate) struct RemoteShard {
    /// The local file: the shard, whose index is there, and notes of the cache behind it.
    pub(crate) file: File,
    /// Bytes of the shard.
    pub(crate) bytes: u64,
    /// Bytes of the notes.
    pub(crate) more_bytes: u64,
    pub(crate) chunks: Box<dyn RemoteChunks>,
}

/// The chunks of a remote shard, by their slots and byte ranges.
pub(crate) trait RemoteChunks: Debug + Send + Sync {
    /// Begins to fetch chunks that are not there; does not wait for them.
    fn request(&self, chunks: &[(usize, Range<u64>)]);

    /// Waits until a chunk is there, and fetches it if nobody does.
    ///
    /// # Errors
    /// [`crate::Error::ChunkChecksum`] if it arrives damaged twice, [`crate::Error::Data`] if the
    /// shard was replaced; those of the server, of the network and of the cache's disk.
    fn wait(&self, slot: usize, range: &Range<u64>) -> Result<()>;

    /// Whether a chunk is there.
    fn has(&self, slot: usize) -> bool;

    /// Whether the cache has dropped the local file, which is still whole but takes disk space.
    fn is_dropped(&self) -> bool;
}

/// The URL that a path stands for, if it is one. A path that a library has shortened to `s3:/…` is
/// one too.
pub(crate) fn url_of(path: &Path) -> Option<String> {
    let (scheme, rest) = path.to_str()?.split_once(":/")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    let known = SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
    (is_scheme && (known || rest.starts_with('/')))
        .then(|| format!("{}://{}", scheme.to_ascii_lowercase(), rest.trim_start_matches('/')))
}

/// Checks that `path` is on a disk.
///
/// # Errors
/// [`Error::Unsupported`] for a URL.
pub(crate) fn refuse_url(path: &Path) -> Result<()> {
    let Some(url) = url_of(path) else { return Ok(()) };
    let shown = url.split('?').next().unwrap_or_default();
    let shown = shown.rsplit_once('@').map_or(shown, |(_, place)| place);
    let reason = format!("{shown}: a store behind a URL is only read");
    Err(Error::unsupported(reason, "work on a folder of a disk, and copy it to the server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        let url = |path: &str| url_of(Path::new(path));
        assert_eq!(url("s3://bucket/a b").as_deref(), Some("s3://bucket/a b"));
        assert_eq!(url("HTTPS:/host/store").as_deref(), Some("https://host/store"));
        assert_eq!(url("ftp://host/store").as_deref(), Some("ftp://host/store"));
        for path in ["store.zarr", "/data/s3:/x", "a:b", "C:/store", "./http://x", ""] {
            assert_eq!(url(path), None, "{path}");
        }
    }
}
