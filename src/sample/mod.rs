//! Samplers: they choose where patches lie, and never read the voxels that a network will see.
//!
//! Samplers that follow labels or weights choose a chunk by statistics of all chunks, and decode
//! only that chunk to choose the voxel.
//!
//! # Invariants
//! - A random location is a pure function of (seed, epoch, subject, n): each can be computed alone,
//!   in any order (`docs/determinism.md`).
//! - Locations are in the coordinates of the volume, so that every read takes them unchanged.
//!
//! Not here: which volumes are read at a location (`store`), and in which order (`queue`).

mod border;
mod boxes;
mod chunk_weights;
mod constraints;
mod draw;
mod grid;
mod label;
mod location;
mod missing;
mod object;
mod patch_scale;
mod random;
mod random_sampler;
mod subjects;
mod uniform;
mod volumes;
mod weighted;

pub use border::Border;
pub use chunk_weights::ChunkWeights;
pub(crate) use chunk_weights::Reweighting;
pub use constraints::OnFailure;
pub use grid::{Grid, GridSampler, Margin, Overlap, Placement};
pub use label::{Balance, LabelSampler};
pub use location::PatchLocation;
pub(crate) use missing::Lack;
pub use missing::OnMissing;
pub use object::{ObjectOrder, ObjectSampler};
pub use patch_scale::PatchScale;
pub use random::Epoch;
pub(crate) use random::{RandomStream, StreamKey};
pub use random_sampler::{ConstrainedSampler, RandomSampler};
pub use subjects::{SubjectSampler, SubjectWeights};
pub use uniform::UniformSampler;
pub use weighted::WeightedSampler;
