//! Patches out of volumes bigger than RAM.
//!
//! A data set is converted once (by `voxquarry-ingest`) into a patch-aligned, compressed store: a strict profile of
//! Zarr v3 and OME-Zarr 0.5, described in `format-spec/`. This crate reads it through a memory map, draws patch
//! locations, and blends overlapping predictions back into one volume.

#[cfg(not(target_endian = "little"))]
compile_error!("voxquarry's stores are little-endian and are mapped as they are: big-endian hosts are not supported");

mod dtype;
mod error;
mod geometry;

pub use dtype::{Dtype, Voxel};
pub use error::{Error, Fault, Result};
pub use geometry::{Affine, Padding, Region, Size3};
pub use half::f16;
