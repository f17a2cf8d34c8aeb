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
mod crew;
mod dataset;
mod gather;
mod memo;
mod pool;
mod read;
mod scan;
mod shards;
mod summary;
mod vector;
mod verify;
mod volume;
mod weights;
mod write;

pub(crate) use cache::{ChunkKey, Keeper, Lookup, Tally, zeros};
pub use context::{OpenOptions, Verify};
pub use dataset::{Dataset, Subject};
pub use pool::Pool;
pub(crate) use scan::ChunkBox;
pub use summary::LabelCounts;
pub use verify::{VerifyReport, verify};
pub use volume::Volume;
pub(crate) use weights::ChunkSums;
pub use write::{
    AddedVolume, Existing, Kept, StoreWriter, SubjectWriter, VolumeSpec, VolumeWriter,
};
