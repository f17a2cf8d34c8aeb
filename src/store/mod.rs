//! A store on disk: datasets, subjects and volumes to read; writers that publish whole subjects.
//!
//! # Invariants
//! - What is published never changes, so readers share it across threads without a lock.
//! - Memory is the cache budget plus a bounded number of shard indices, whatever the volume's size.
//!
//! Not here: which patches to read (`sample`), what becomes of overlapping ones (`aggregate`).

mod ahead;
mod cache;
mod context;
mod dataset;
mod gather;
mod pool;
mod read;
mod shards;
mod summary;
mod verify;
mod volume;
mod write;

pub use context::{OpenOptions, Verify};
pub use dataset::{Dataset, Subject};
pub use pool::Pool;
pub use summary::LabelCounts;
pub use verify::{VerifyReport, verify};
pub use volume::Volume;
pub use write::{AddedVolume, Existing, StoreWriter, SubjectWriter, VolumeSpec, VolumeWriter};
