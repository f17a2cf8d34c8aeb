//! A storage engine and data loader for patches of 3-D images that are larger than memory.
//!
//! A dataset of CT, MR or microscopy volumes is converted once into a *store*: a compressed,
//! patch-aligned profile of Zarr v3 and OME-Zarr 0.5, which `format-spec/` describes. This crate
//! reads patches of a store through a memory map, draws patch locations, reads ahead of a training
//! loop, and blends overlapping predictions into one volume, in bounded memory. The package
//! `voxquarry-ingest` converts source files such as NIfTI.
//!
//! Axes are the array's: `(z, y, x)`, x fastest, with channels before them. Sizes and starts count
//! voxels.
//!
//! The feature `ndarray`, on by default, adds the methods that return arrays. Without it voxels are
//! read into slices, and predictions are blended into a store. The feature `remote` opens stores
//! behind URLs: HTTP servers, and buckets of S3, Google Cloud Storage and Azure.
//!
//! # Examples
//! Write a small volume, then read a patch and a random batch of it:
//! ```
//! use voxquarry::format::attributes::Kind;
//! use voxquarry::format::layout::{self, Codec, VolumeShape};
//! use voxquarry::{Dtype, Epoch, IfExists, Padding, Region};
//! use voxquarry::{StoreWriter, UniformSampler, VolumeSpec};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("store.zarr");
//! let shape =
//!     VolumeShape { channels: None, size: [32, 48, 64], dtype: Dtype::Int16, interleaved: 1 };
//! let layout = layout::choose(&shape, &[[16; 3]], Codec::Fast, 64 << 20)?;
//! let mut subject = StoreWriter::open(&path, None)?.subject("case01")?;
//! let mut volume = subject.volume(VolumeSpec::new("ct", Kind::Image, layout))?;
//! while volume.next_planes() > 0 {
//!     let layer = vec![100i16; volume.next_planes() * 48 * 64];
//!     volume.write_layer(bytemuck::cast_slice(&layer))?;
//! }
//! subject.publish([volume.finish()?], IfExists::Error)?;
//!
//! let dataset = voxquarry::open(&path)?;
//! let subject = dataset.subject("case01")?;
//! let ct = subject.volume("ct")?;
//! let patch = ct.read::<i16>(Region::new([8, 16, 16], [16; 3]))?; // (channels, z, y, x)
//! assert_eq!(patch.shape(), [1, 16, 16, 16]);
//!
//! let sampler = UniformSampler::new([16; 3])?;
//! let locations = sampler.locations(&subject, 4, Epoch { seed: 0, epoch: 0 }, 0)?;
//! let starts: Vec<_> = locations.iter().map(|location| location.region.start).collect();
//! let mut batch = vec![0i16; 4 * 16 * 16 * 16];
//! ct.read_batch_into(&starts, [16; 3], Padding::None, &mut batch)?;
//! assert!(batch.iter().all(|&voxel| voxel == 100));
//! # Ok::<(), voxquarry::Error>(())
//! ```
// Documentation on docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(unix))]
compile_error!("voxquarry uses file locks and renames of Unix: build it on Linux or macOS");

#[cfg(not(target_endian = "little"))]
compile_error!(
    "voxquarry maps its little-endian stores as they are: big-endian hosts are not supported"
);

mod aggregate;
mod array;
mod augment;
#[doc(hidden)] // Public for fuzzing and benchmarks; nothing in it is stable.
pub mod codec;
mod components;
mod dtype;
mod error;
pub mod format;
mod geometry;
mod memory;
mod queue;
#[cfg(feature = "remote")]
mod remote;
mod resample;
mod sample;
mod store;
mod sys;

#[cfg(feature = "ndarray")]
pub use aggregate::ArraySink;
pub use aggregate::{
    AggregateOptions, Aggregator, AxisWeights, Duplicates, Finish, Merge, NanPlace, NonFinite,
    OutputScale, PartSink, PatchDtype, PatchValue, Sink, StoreSink, VoxelMask, Window,
};
pub use augment::{Augment, AugmentPart, Normalization};
pub use components::{ComponentOptions, Components, Connectivity, Objects};
pub use dtype::{Dtype, Voxel};
pub use error::{Error, Fault, Result};
pub use geometry::{Affine, LengthUnit, Padding, Region, Size3};
pub use half::{bf16, f16};
pub use queue::{
    Batch, BatchPoll, Batches, Eviction, Queue, QueueOptions, QueueState, QueueStats, QueueVolume,
    QueueWeights, Sampler, ShuffleMode, WeightUpdate,
};
#[cfg(feature = "remote")]
pub use remote::RemoteOptions;
pub use resample::{Displacement, Order, Resampling, Warp};
pub use sample::{
    Balance, Border, ChunkWeights, ConstrainedSampler, Epoch, Grid, GridSampler, LabelSampler,
    Margin, ObjectOrder, ObjectSampler, OnFailure, OnMissing, Overlap, PatchLocation, PatchScale,
    Placement, RandomSampler, SubjectSampler, SubjectWeights, UniformSampler, WeightedSampler,
};
pub use store::{
    Channels, ChunkSource, ChunkedVolumeWriter, Dataset, FinishedVolume, IfExists, LabelCounts,
    OpenOptions, Orientation, Part, RealVoxel, ResampledGrid, ResampledVolume, Resume,
    SourceFolder, SourceSpec, StoreWriter, Subject, SubjectWriter, UnpublishedSubjects, Verify,
    VerifyProgress, VerifyReport, Volume, VolumePartWriter, VolumeSpec, VolumeWriter,
    list_subjects, open, verify,
};
pub use sys::file::Access;

/// The program of the README, which runs as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
