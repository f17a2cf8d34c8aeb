//! Patches out of volumes bigger than RAM.
//!
//! A data set is converted once (by `voxquarry-ingest`) into a patch-aligned, compressed store: a
//! strict profile of Zarr v3 and OME-Zarr 0.5, described in `format-spec/`. This crate reads it
//! through a memory map, draws patch locations, and blends overlapping predictions back into one
//! volume.

#[cfg(not(target_endian = "little"))]
compile_error!(
    "voxquarry's stores are little-endian and are mapped as they are: big-endian hosts are not supported"
);

pub mod aggregate;
mod array;
#[doc(hidden)] // For fuzzing and benchmarks; nothing here is stable.
pub mod codec;
mod dtype;
mod error;
pub mod format;
mod geometry;
mod queue;
mod sample;
pub mod store;
mod sys;

pub use aggregate::{Aggregator, Window};

pub use dtype::{Dtype, Voxel};
pub use error::{Error, Fault, Result};
pub use geometry::{Affine, Padding, Region, Size3};
pub use half::{bf16, f16};
pub use queue::{
    Batch, BatchPoll, Batches, Eviction, Queue, QueueOptions, QueueState, QueueStats, QueueVolume,
    Sampler, ShuffleMode,
};
pub use sample::{
    Balance, Border, ConstrainedSampler, Epoch, Grid, GridSampler, LabelSampler, Margin, OnFailure,
    Overlap, PatchLocation, PatchScale, Placement, RandomSampler, SubjectSampler, SubjectWeights,
    UniformSampler, WeightedSampler,
};
pub use store::{
    ChunkedVolumeWriter, Dataset, FinishedVolume, IfExists, LabelCounts, OpenOptions, Resume,
    StoreWriter, Subject, SubjectWriter, Verify, VerifyReport, Volume, VolumeSpec, VolumeWriter,
    verify,
};
pub use sys::executor::Executor;
pub use sys::file::Access;
