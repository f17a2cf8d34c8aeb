//! Resampling: patches that are turned, scaled and bent out of a volume as they are read.
//!
//! [`warp`] says where the voxels of a patch lie, [`reach`] finds the chunks that they touch,
//! [`read`] decodes those into a box, and [`patch`] computes the voxels from it, most of them by
//! the kernels of [`level`]. `docs/resampling.md` defines every value.
//!
//! # Invariants
//! - A voxel's value depends on the volume and the arguments alone: not on threads, on the
//!   instruction set, or on the part of the patch that is read at a time.
//!
//! Not here: choosing transforms.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod border;
mod finish;
mod interpolate;
mod level;
mod options;
mod patch;
mod reach;
mod read;
mod rows;
mod source;
mod values;
mod warp;

pub use options::Resampling;
pub(crate) use options::StoredValues;
pub(crate) use read::ResampledRead;
pub use warp::{Displacement, Order, Warp};
