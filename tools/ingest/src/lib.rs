//! Converts image files to stores, and volumes back to image files.
//!
//! The way in is `VolumeInput -> VoxelStream -> layers -> VolumeWriter -> shards`; [`export`] is
//! the way back. A format is a module that yields a [`source::SourceVolume`] and a
//! [`source::VoxelStream`], and knows no store. NIfTI is the only one so far, so [`VolumeInput`]
//! and [`export()`] call [`nifti`] directly.
//!
//! # Invariants
//! - Every header is read before the first voxel is encoded, so that a run which cannot succeed
//!   fails in the first second.
//! - Memory stays within the plan's bound, whatever the volume's size.

mod bytes;
mod copy;
mod export;
mod gzip;
mod ingest;
mod input;
mod labels;
mod manifest;
pub mod measure;
mod memory;
pub mod nifti;
mod observer;
mod options;
mod plan;
pub mod source;
mod staged_file;
pub mod trial;

pub use bytes::parse_bytes;
pub use export::{export, export_observed};
pub use ingest::{IngestReport, ingest};
pub use input::VolumeInput;
pub use manifest::{Manifest, Source, subject_of};
pub use memory::{ArraySource, VoxelDigest, digest_of};
pub use observer::{Event, NoopObserver, Observer};
pub use options::IngestOptions;
pub use plan::{PlannedSubject, PlannedVolume, plan};
pub use staged_file::StagedFile;
