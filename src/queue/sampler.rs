//! The samplers that a queue accepts.

use crate::sample::Border;
use crate::{GridSampler, Padding, RandomSampler, Size3};

/// The sampler of a queue; every sampler converts into it.
#[derive(Clone, Debug)]
pub enum Sampler {
    /// A number of random patches of each subject, others in each epoch.
    Random(RandomSampler),
    /// Every patch of a grid over each subject.
    Grid(GridSampler),
}

impl Sampler {
    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        match self {
            Self::Random(sampler) => sampler.patch_size(),
            Self::Grid(sampler) => sampler.patch_size(),
        }
    }

    /// The padding of patches that leave the volume, unless a [`QueueVolume`](crate::QueueVolume)
    /// has its own.
    pub fn padding(&self) -> Padding {
        match self {
            Self::Random(sampler) if sampler.border() == Border::Pad => Padding::Constant(0.0),
            Self::Random(_) => Padding::Refuse,
            Self::Grid(sampler) => sampler.padding().unwrap_or(Padding::Refuse),
        }
    }
}

impl<S: Into<RandomSampler>> From<S> for Sampler {
    fn from(sampler: S) -> Self {
        Self::Random(sampler.into())
    }
}

impl From<GridSampler> for Sampler {
    fn from(sampler: GridSampler) -> Self {
        Self::Grid(sampler)
    }
}
