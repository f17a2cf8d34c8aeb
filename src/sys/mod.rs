//! The machine below the library: processor, files, maps, threads and processes.
//!
//! Nothing here knows what the bytes mean.

pub(crate) mod descriptors;
pub(crate) mod executor;
pub(crate) mod file;
pub(crate) mod folder;
pub(crate) mod fork;
pub(crate) mod isa;
mod mmap;
pub(crate) mod prefetch;
// Without the feature nothing stands behind a URL.
#[cfg_attr(not(feature = "remote"), allow(dead_code))]
pub(crate) mod remote;
pub(crate) mod sync;
pub(crate) mod temp_file;
pub(crate) mod temp_map;
mod worker_pool;
