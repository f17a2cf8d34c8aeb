//! The samplers that a queue accepts.

use crate::{Border, GridSampler, Padding, RandomSampler, Size3};

/// The sampler of a queue; every sampler converts into it.
///
/// ```
/// use voxquarry::{GridSampler, LabelSampler, Padding, Sampler};
///
/// let random = Sampler::from(LabelSampler::new([96, 96, 96], "seg")?);
/// assert_eq!(random.padding(), Padding::None);
/// let grid = Sampler::from(GridSampler::new([96, 96, 96], 48)?.padding(Padding::Edge));
/// assert_eq!(grid.padding(), Padding::Edge);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
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
            Self::Random(sampler) if sampler.get_border() == Border::Pad => Padding::Constant(0.0),
            Self::Random(_) => Padding::None,
            Self::Grid(sampler) => sampler.get_padding(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Balance, ConstrainedSampler, LabelSampler, OnFailure, Overlap, UniformSampler,
        WeightedSampler,
    };

    /// The state of a queue names its sampler by this text: a change of it refuses states that were
    /// stored before.
    #[test]
    fn debug_texts_never_change() {
        let size = [4, 5, 6];
        let uniform = UniformSampler::new(size).unwrap();
        let constrained = ConstrainedSampler::new(uniform.clone()).unwrap();
        let constrained = constrained.on_failure(OnFailure::Error);
        let samplers: [(Sampler, &str); 5] = [
            (
                uniform.border(Border::Pad).into(),
                "Random(Uniform(UniformSampler { patch_size: [4, 5, 6], border: Pad }))",
            ),
            (
                WeightedSampler::new(size, "w").unwrap().channel(1).into(),
                "Random(Weighted(WeightedSampler { patch_size: [4, 5, 6], border: Exclude, \
                 weights: \"w\", channel: 1 }))",
            ),
            (
                LabelSampler::new(size, "seg")
                    .unwrap()
                    .balance(Balance::Classes(vec![(1, 0.5)]))
                    .unwrap()
                    .channel(0)
                    .into(),
                "Random(Label(LabelSampler { patch_size: [4, 5, 6], border: Exclude, labels: \
                 Some(\"seg\"), channel: Some(0), balance: Classes([(1, 0.5)]) }))",
            ),
            (
                constrained.min_distance(3.0).unwrap().inside("brain").into(),
                "Random(Constrained(ConstrainedSampler { base: Uniform(UniformSampler { \
                 patch_size: [4, 5, 6], border: Exclude }), constraints: Constraints { \
                 min_foreground: None, labels: None, inside: Some(\"brain\"), min_distance: \
                 Some(3.0) }, attempts: 100, on_failure: Error }))",
            ),
            (
                GridSampler::new(size, Overlap::Fraction(0.5)).unwrap().into(),
                "Grid(GridSampler { patch_size: [4, 5, 6], overlap: Fraction(0.5), padding: None, \
                 placement: Flush, margin: HalfOverlap })",
            ),
        ];
        for (sampler, text) in samplers {
            assert_eq!(format!("{sampler:?}"), text);
        }
    }
}
