//! Kinds of accumulation: what a tile holds of each voxel until its last patch has been added.
//!
//! Sums are `f64`, so that rounding stays far below the result's last bit and equal patches give
//! their own value. To find the largest channel, sums in `f32` are enough. Means in `f32` take half
//! the memory of sums where they are as exact as the result's dtype. A crop takes one patch's
//! voxel.
//!
//! # Invariants
//! - The kind is chosen once for an aggregator, from its window, finish and dtype.
//!
//! Not here: which patches count for a tile (`patch`), when a tile is complete (`tile`).

mod accumulator;
mod argmax;
mod crop;
mod extreme;
mod kernels;
mod kind;
mod mean;
mod sum;
mod vote;

pub(super) use accumulator::{Accumulator, RowScratch};
pub(super) use kind::AccumulatorKind;
pub(super) use vote::MOST_CLASSES;
