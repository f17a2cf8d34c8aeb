//! Connected components and instance labels of a volume, box by box.
//!
//! The first pass finds the pieces of objects in each box, and joins those that meet at a face of
//! two boxes by an exact union-find. Then the objects are numbered in C order of their first
//! voxels, and the second pass finds the same pieces again and writes their numbers.
//!
//! # Invariants
//! - The result depends on the voxels and on what counts as one object alone: not on the boxes, the
//!   threads, or who writes which part.
//! - Memory is a few boxes, the last planes before the current box, and the table of pieces; never
//!   a volume.
//! - What memory a volume's voxels ask for is reserved, or an error names its bytes.
//!
//! Not here: where the labels come from (`aggregate`), facts about stored labels (`store`).

mod cells;
mod find;
mod frontier;
mod options;
mod pieces;
mod runs;
mod write;

pub use find::Components;
pub use options::{ComponentOptions, Connectivity, Objects};
