//! The options of opening a dataset.

use crate::array::context::ArrayOptions;
use crate::array::shards::Verify;
use crate::sys::file::Access;
use crate::sys::folder::Links;

/// How a dataset is opened.
///
/// # Examples
/// ```
/// use voxquarry::{OpenOptions, Verify};
///
/// let options = OpenOptions::default().cache_bytes(64 << 20).threads(2).verify(Verify::Always);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    array: ArrayOptions,
    links: Links,
    level: usize,
}

impl Default for OpenOptions {
    /// 256 MiB of cache, a thread for each core, checksums compared at the first decode, memory
    /// maps.
    fn default() -> Self {
        let array = ArrayOptions {
            cache_bytes: 256 << 20,
            threads: None,
            verify: Verify::First,
            access: Access::Map,
        };
        Self { array, links: Links::Refuse, level: 0 }
    }
}

impl OpenOptions {
    /// The budget of the cache of decoded chunks, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.array.cache_bytes = bytes;
        self
    }

    /// The number of threads that decode; `None` for one for each core.
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.array.threads = threads.into();
        self
    }

    /// When checksums are compared.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.array.verify = verify;
        self
    }

    /// Memory maps or positioned reads.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.array.access = access;
        self
    }

    /// Whether symbolic links in the store are followed, also out of it, when it is read; they are
    /// refused unless this is set. Writers always refuse them.
    ///
    /// ```
    /// use voxquarry::OpenOptions;
    ///
    /// // Every subject is a link to a folder on another disk.
    /// let options = OpenOptions::default().follow_links(true);
    /// assert!(options.get_follow_links());
    /// ```
    #[must_use]
    pub fn follow_links(mut self, follow: bool) -> Self {
        self.links = if follow { Links::Follow } else { Links::Refuse };
        self
    }

    /// The level that the volumes of a store are opened at: every volume is as
    /// [`Volume::level`](crate::Volume::level) gives it, so that samplers, queues and inference
    /// work at that resolution. 0, the full one, unless this is set.
    ///
    /// ```
    /// use voxquarry::{Dataset, OpenOptions};
    ///
    /// # let store = "format-spec/golden/v1-levels";
    /// let coarse = Dataset::open(store, &OpenOptions::default().level(1))?;
    /// assert_eq!(coarse.subject("grid")?.size()?, [3, 10, 20]);
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    #[must_use]
    pub fn level(mut self, level: usize) -> Self {
        self.level = level;
        self
    }

    /// The budget of the cache of decoded chunks, in bytes.
    pub fn get_cache_bytes(&self) -> usize {
        self.array.cache_bytes
    }

    /// The number of threads that decode, or `None` for one for each core.
    pub fn get_threads(&self) -> Option<usize> {
        self.array.threads
    }

    /// When checksums are compared.
    pub fn get_verify(&self) -> Verify {
        self.array.verify
    }

    /// Memory maps or positioned reads.
    pub fn get_access(&self) -> Access {
        self.array.access
    }

    /// Whether symbolic links in the store are followed.
    pub fn get_follow_links(&self) -> bool {
        self.links == Links::Follow
    }

    /// The level that volumes are opened at.
    pub fn get_level(&self) -> usize {
        self.level
    }

    pub(super) fn links(self) -> Links {
        self.links
    }

    pub(super) fn array_options(self) -> ArrayOptions {
        self.array
    }
}
