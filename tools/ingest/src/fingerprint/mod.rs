//! The fingerprint of a data set: what nnU-Net's planner needs to know.
//!
//! # Invariants
//! - Every voxel counts; nothing is sampled. The result does not depend on threads.
//! - Memory is a block and the counts of each subject that is read at a time.

mod blocks;
mod found;
mod measure;
mod passes;
mod quantiles;
mod survey;

pub use found::{Fingerprint, FingerprintOptions, ForegroundValues, LabelTotal};
pub use measure::fingerprint;
