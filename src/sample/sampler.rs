//! One of the random samplers, for those who draw from any.

use super::{Border, Epoch, PatchLocation, UniformSampler};
use crate::{Result, Size3, Subject};

/// Any sampler whose patches are numbered and random.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RandomSampler {
    /// Every place equally likely.
    Uniform(UniformSampler),
}

impl RandomSampler {
    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        match self {
            Self::Uniform(sampler) => sampler.patch_size(),
        }
    }

    /// What becomes of patches that would leave the volume.
    pub fn border(&self) -> Border {
        match self {
            Self::Uniform(sampler) => sampler.border(),
        }
    }

    /// Samples `first .. first + n` of `subject` in that epoch; the same whether drawn alone or together.
    ///
    /// # Errors
    /// Those of the sampler's own `locations`.
    pub fn locations(
        &self,
        subject: &Subject,
        epoch: Epoch,
        first: u64,
        n: u64,
    ) -> Result<Vec<PatchLocation>> {
        match self {
            Self::Uniform(sampler) => sampler.locations(subject, epoch, first, n),
        }
    }
}

impl From<UniformSampler> for RandomSampler {
    fn from(sampler: UniformSampler) -> Self {
        Self::Uniform(sampler)
    }
}
