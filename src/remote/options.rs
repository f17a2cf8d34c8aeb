//! The options of opening a store behind a URL.

use std::path::{Path, PathBuf};

/// Where the bytes of stores behind URLs are kept, and how many of them.
///
/// ```
/// use std::path::PathBuf;
/// use voxquarry::RemoteOptions;
///
/// let options = RemoteOptions::default().cache_dir(PathBuf::from("/scratch"));
/// let options = options.cache_disk_bytes(100 << 30);
/// assert_eq!(options.get_cache_disk_bytes(), 100 << 30);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    cache_dir: Option<PathBuf>,
    cache_disk_bytes: u64,
}

impl Default for RemoteOptions {
    /// 10 GiB in the user's folder for caches.
    fn default() -> Self {
        Self { cache_dir: None, cache_disk_bytes: 10 << 30 }
    }
}

impl RemoteOptions {
    /// The folder that holds fetched chunks, on a local disk; `None` for `voxquarry/remote` in the
    /// user's folder for caches. Processes may share it.
    #[must_use]
    pub fn cache_dir(mut self, folder: impl Into<Option<PathBuf>>) -> Self {
        self.cache_dir = folder.into();
        self
    }

    /// The bytes that the folder may take on its disk. The shards that were not used for longest
    /// are dropped first; those that are being read stay until the read ends, beyond the bound if
    /// need be.
    #[must_use]
    pub fn cache_disk_bytes(mut self, bytes: u64) -> Self {
        self.cache_disk_bytes = bytes;
        self
    }

    /// The folder that holds fetched chunks, or `None` for the user's folder for caches.
    pub fn get_cache_dir(&self) -> Option<&Path> {
        self.cache_dir.as_deref()
    }

    /// The bytes that the folder may take on its disk.
    pub fn get_cache_disk_bytes(&self) -> u64 {
        self.cache_disk_bytes
    }

    /// The folder that holds fetched chunks, if the user has one.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        self.cache_dir.clone().or_else(|| {
            let caches = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let home = || Some(PathBuf::from(variable("HOME")?).join(".cache"));
            Some(caches.or_else(home)?.join("voxquarry/remote"))
        })
    }
}
