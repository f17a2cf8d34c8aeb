//! Blends overlapping patches of predictions into one volume or array.
//!
//! The result is accumulated in tiles. A tile exists from its first patch to its last; then its
//! voxels go to the sink and its memory is free again. In the grid's order unfinished tiles take
//! the memory of one layer of patches, along whichever axis is outermost. In any other order the
//! result is the same up to the rounding of sums, and tiles beyond `memory_bytes` lie in scratch
//! files. Only patches that may be replaced are stored until the end.
//!
//! # Invariants
//! - Each location of the grid counts once, its patch whole or not at all; a tile is complete when
//!   all patches that count for one of its voxels were added.
//! - No volume of weights exists: the sum of weights over a product grid is the product of three
//!   sums along the axes.
//! - A thread locks one tile at a time and no tile while it hands work to other threads, so callers
//!   may be threads of any pool.
//!
//! Not here: where the patches lie (`sample`), the model that predicts them.

mod accumulate;
mod aggregator;
#[cfg(feature = "ndarray")]
mod array_sink;
mod box_grid;
mod buffer;
mod coverage;
mod engine;
mod finished;
mod mask;
mod options;
mod patch;
mod plan;
mod replace;
mod sink;
mod stored;
mod tile;
mod tracker;
mod value;
mod voxel_mask;
mod window;

pub use aggregator::{Aggregator, NanPlace};
#[cfg(feature = "ndarray")]
pub use array_sink::ArraySink;
pub use finished::AxisWeights;
pub use options::{AggregateOptions, Duplicates, Finish, Merge, NonFinite, OutputScale};
pub use sink::{PartSink, Sink, StoreSink};
pub use value::{PatchDtype, PatchValue};
pub use voxel_mask::VoxelMask;
pub use window::Window;
