//! Source formats in, stores out, and back.
//!
//! `source file -> VoxelStream -> layers -> VolumeWriter -> shards`; [`export`] is the way back. A format is a module that
//! yields a [`source::SourceVolume`] and a [`source::VoxelStream`]; `ingest` knows no format, formats know no store.
//!
//! # Invariants
//! - Every header is read before the first voxel is encoded: what cannot work fails in the first second.
//! - Memory is what the plan said, whatever the volume's size.

mod bytes;
mod export;
mod gzip;
mod ingest;
mod manifest;
pub mod measure;
pub mod nifti;
pub mod source;
pub mod trial;

pub use bytes::parse_bytes;
pub use export::{export, export_observed};
pub use ingest::{
    Event, IngestReport, Observer, Options, PlannedSubject, PlannedVolume, Quiet, ingest, plan,
};
pub use manifest::{Manifest, Source, subject_of};
