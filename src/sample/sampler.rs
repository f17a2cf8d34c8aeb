//! One of the random samplers, for those who draw from any.

use ndarray::Array3;

use super::places::{self, Places};
use super::{
    Border, ConstrainedSampler, Epoch, LabelSampler, PatchLocation, UniformSampler, WeightedSampler,
};
use crate::{Result, Size3, Subject};

/// Any sampler whose patches are numbered and random.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RandomSampler {
    /// Every place equally likely.
    Uniform(UniformSampler),
    /// Centres by the values of a volume.
    Weighted(WeightedSampler),
    /// Centres by the classes of a label map.
    Label(LabelSampler),
    /// One of these, with what its patches have to fulfil.
    Constrained(Box<ConstrainedSampler>),
}

impl RandomSampler {
    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        match self {
            Self::Uniform(sampler) => sampler.patch_size(),
            Self::Weighted(sampler) => sampler.patch_size(),
            Self::Label(sampler) => sampler.patch_size(),
            Self::Constrained(sampler) => sampler.base().patch_size(),
        }
    }

    /// What becomes of patches that would leave the volume.
    pub fn border(&self) -> Border {
        match self {
            Self::Uniform(sampler) => sampler.border(),
            Self::Weighted(sampler) => sampler.border(),
            Self::Label(sampler) => sampler.border(),
            Self::Constrained(sampler) => sampler.base().border(),
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
        places::locations(&self.places(subject)?, subject, epoch, first, n)
    }

    /// The probability of every voxel, `(z, y, x)`, to be the centre of a patch; of the order of the whole volume.
    ///
    /// # Errors
    /// As `locations`.
    pub fn probability_map(&self, subject: &Subject) -> Result<Array3<f64>> {
        places::probability_map(&self.places(subject)?, subject.size()?)
    }

    pub(super) fn places(&self, subject: &Subject) -> Result<Places> {
        match self {
            Self::Uniform(sampler) => sampler.places(subject),
            Self::Weighted(sampler) => sampler.places(subject),
            Self::Label(sampler) => sampler.places(subject),
            Self::Constrained(sampler) => sampler.places(subject),
        }
    }
}

impl From<UniformSampler> for RandomSampler {
    fn from(sampler: UniformSampler) -> Self {
        Self::Uniform(sampler)
    }
}

impl From<WeightedSampler> for RandomSampler {
    fn from(sampler: WeightedSampler) -> Self {
        Self::Weighted(sampler)
    }
}

impl From<LabelSampler> for RandomSampler {
    fn from(sampler: LabelSampler) -> Self {
        Self::Label(sampler)
    }
}

impl From<ConstrainedSampler> for RandomSampler {
    fn from(sampler: ConstrainedSampler) -> Self {
        Self::Constrained(Box::new(sampler))
    }
}
