//! A store on disk: datasets, subjects and volumes to read, and writers that publish whole
//! subjects.
//!
//! # Invariants
//! - A published file never changes, so threads share it without a lock.
//! - A reader sees all of a subject or none of it, whatever interrupts a writer.
//!
//! Not here: how the chunks of one array are read and written (`array`), which patches to read
//! (`sample`), and blending overlapping predictions (`aggregate`).

mod chunked_writer;
mod dataset;
pub(crate) mod derive;
mod derived_cache;
mod foreign;
mod journal;
mod levels;
mod listed;
mod open_volumes;
mod options;
mod orientation;
mod part;
mod pyramid;
mod read_ahead;
mod real;
mod resampled;
mod share;
mod sidecar;
mod spec;
mod staged_subject;
mod staging;
mod subject_list;
mod unpublished;
mod unpublished_notes;
mod verify;
mod verify_progress;
mod volume;
mod volume_files;
mod volume_parts;
mod volume_writer;
mod warped;
mod writer;

pub use crate::array::channels::Channels;
pub use crate::array::foreign::ChunkSource;
pub use crate::array::shards::Verify;
pub use chunked_writer::ChunkedVolumeWriter;
pub use dataset::{Dataset, Subject, open};
pub use foreign::{SourceFolder, SourceSpec};
pub use options::OpenOptions;
pub use orientation::Orientation;
pub use part::Part;
pub(crate) use real::RealPatch;
pub use real::RealVoxel;
pub use resampled::{ResampledGrid, ResampledVolume};
pub use sidecar::label_counts::LabelCounts;
pub use spec::VolumeSpec;
pub use staging::IfExists;
pub use subject_list::list_subjects;
pub use unpublished::UnpublishedSubjects;
pub use verify::{VerifyReport, verify};
pub use verify_progress::VerifyProgress;
pub use volume::Volume;
pub use volume_parts::VolumePartWriter;
pub use volume_writer::{FinishedVolume, VolumeWriter};
pub(crate) use warped::WarpedRead;
pub use writer::{Resume, StoreWriter, SubjectWriter};
