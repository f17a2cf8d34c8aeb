//! Where to look: samplers give the locations of patches and never read the voxels that a network will see.
//!
//! Those that follow labels or weights choose a chunk by what is known of each, and decode that one to choose the voxel.
//!
//! # Invariants
//! - A random location is a pure function of (seed, epoch, subject, n): any can be computed alone, in any order.
//! - Locations are in the volume's own coordinates, so every read takes them as they are.
//!
//! Not here: which volumes are read at a location (`store`), in which order (`queue`).

mod centres;
mod constrained;
mod grid;
mod label;
mod places;
mod random;
mod sampler;
mod scale;
mod subjects;
mod tally;
mod uniform;
mod weighted;

use std::sync::Arc;

pub use constrained::{ConstrainedSampler, Constraints, OnFailure};
pub use grid::{Grid, GridSampler, Margin, Overlap, Placement};
pub use label::{Balance, LabelSampler};
pub use random::Epoch;
pub(crate) use random::{Draws, Stream};
pub use sampler::RandomSampler;
pub use scale::Scale;
pub use subjects::{SubjectSampler, SubjectWeights};
pub use uniform::UniformSampler;
pub use weighted::WeightedSampler;

use crate::{Error, Region, Result, Size3};

/// Where a patch lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PatchLocation {
    /// Name of the subject.
    pub subject: Arc<str>,
    /// The patch's voxels, in the coordinates of the subject's volumes; may leave them.
    pub region: Region,
}

/// What a random sampler does with patches that would leave the volume.
///
/// The centre of a patch is the voxel `start + patch_size / 2` (integer division).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Border {
    /// Such patches are never drawn (TorchIO's rule).
    #[default]
    Exclude,
    /// Every voxel may be the centre; a patch that would leave the volume is moved back into it (MONAI's rule).
    Clamp,
    /// Every voxel may be the centre; patches may leave the volume, reading pads them (nnU-Net's rule).
    Pad,
}

impl Border {
    /// Every border.
    pub const ALL: [Self; 3] = [Self::Exclude, Self::Clamp, Self::Pad];

    /// The name in both faces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exclude => "exclude",
            Self::Clamp => "clamp",
            Self::Pad => "pad",
        }
    }
}

/// Refuses a patch that is larger than the volume.
fn check_fits(patch_size: Size3, size: Size3, remedy: &str) -> Result<()> {
    if (0..3).any(|a| patch_size[a] > size[a]) {
        return Err(Error::usage(format!(
            "patch size {patch_size:?} is larger than the volume of {size:?} voxels (z, y, x): choose a smaller patch, {remedy}"
        )));
    }
    Ok(())
}
