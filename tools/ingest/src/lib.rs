//! Converts image files to stores, and volumes back to image files.
//!
//! The way in is `VolumeInput -> VoxelStream -> layers -> VolumeWriter -> shards`; [`export`] is
//! the way back. A format is a module of `formats` that yields a [`source::SourceVolume`] and a
//! [`source::VoxelStream`], and knows no store; the rest knows no format.
//!
//! # Invariants
//! - Every header is read before the first voxel is encoded, so that a run which cannot succeed
//!   fails in the first second.
//! - Memory stays within the plan's bound, whatever the volume's size.

mod bytes;
mod change;
mod copy;
mod digest;
mod existing;
mod export;
mod files;
mod fingerprint;
mod formats;
mod grid;
mod gzip;
mod ingest;
mod input;
mod jobs;
mod labels;
mod layout;
mod manifest;
pub mod measure;
mod memory;
mod observer;
mod options;
mod parts;
mod plan;
mod planned;
mod report;
pub mod source;
mod staged_file;
pub mod trial;

pub use bytes::parse_bytes;
pub use export::{export, export_observed};
pub use fingerprint::{Fingerprint, FingerprintOptions, ForegroundValues, LabelTotal, fingerprint};
pub use formats::{ByteOrder, OpenedVolume, Place, RawVoxels, Stated, nifti};
#[cfg(feature = "zarr")]
pub use formats::{ZarrOptions, open_zarr};
pub use ingest::{ingest, ingest_planned};
pub use input::VolumeInput;
pub use layout::{FindOptions, Found, Layout, find, find_in};
pub use manifest::{Manifest, Source, SourceKind, subject_of};
pub use memory::{ArraySource, VoxelDigest, digest_of};
pub use observer::{Event, NoopObserver, Observer};
pub use options::IngestOptions;
pub use parts::{MadePlan, PartsPlan};
pub use plan::{Plan, free_bytes, plan};
pub use planned::{PlannedSubject, PlannedVolume};
pub use report::{Failure, IngestReport};
pub use staged_file::StagedFile;
