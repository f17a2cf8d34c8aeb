//! The options of an ingest.

use voxquarry::format::layout::Codec;
use voxquarry::{IfExists, Size3};

/// Options of an ingest.
///
/// # Examples
/// ```
/// use voxquarry::IfExists;
/// use voxquarry_ingest::IngestOptions;
///
/// let options = IngestOptions::default().patch_sizes([[96; 3]]).if_exists(IfExists::Skip);
/// ```
#[derive(Clone, Debug)]
pub struct IngestOptions {
    pub(crate) patch_sizes: Vec<Size3>,
    pub(crate) codec: Codec,
    pub(crate) memory_bytes: u64,
    pub(crate) threads: Option<usize>,
    pub(crate) if_exists: IfExists,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            patch_sizes: vec![[96; 3]],
            codec: Codec::Fast,
            memory_bytes: 1 << 30,
            threads: None,
            if_exists: IfExists::Error,
        }
    }
}

impl IngestOptions {
    /// Sizes of the patches that will be read, `(z, y, x)`; they decide the layout. 96³ by default.
    #[must_use]
    pub fn patch_sizes(mut self, sizes: impl Into<Vec<Size3>>) -> Self {
        self.patch_sizes = sizes.into();
        self
    }

    /// Compression; [`Codec::Fast`] by default.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Memory that the run may use; 1 GiB by default.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Threads that encode; `None`, the default, for one for each core.
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// What to do about subjects that exist already; [`IfExists::Error`] by default.
    #[must_use]
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }
}
