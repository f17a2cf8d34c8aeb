//! Changes of voxels on the way into a store: crop, clip, orientation and spacing, normalisation
//! and type, in this order.
//!
//! A source is copied into the folder of the subject that is being prepared, and the volume is
//! resampled from the copy, through the kernels of resampled reads. `docs/ingest.md` defines every
//! value.
//!
//! # Invariants
//! - Memory stays within the plan's bound; the copies are on the store's disk.
//! - What was done, and what the source was, is recorded in the volume (`source.origin.changes`).

mod foreground;
mod native;
mod options;
mod planned;
mod resample;
mod subject;
mod values;

pub(crate) use foreground::Foreground;
pub(crate) use options::VoxelChanges;
pub(crate) use planned::PlannedChange;
pub(crate) use subject::ingest_volumes;
pub(crate) use values::Moments;
