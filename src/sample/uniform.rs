//! Draws patches uniformly.

use std::ops::Range;
use std::sync::Arc;

use super::border::{Border, Centres};
use super::boxes::{ProbabilityMap, random_voxel};
use super::chunk_weights::{Reweighting, WeightedBox};
use super::draw::{Draw, locations_method, probability_map_method};
use super::random::{Epoch, RandomStream, StreamKey};
use crate::format::grid::check_patch_size;
use crate::memory::try_collected;
use crate::{Result, Size3, Subject};

/// Draws patches uniformly: with [`Border::Exclude`] over all starts inside the volume, otherwise
/// over all centres.
///
/// ```
/// use voxquarry::{Border, Dataset, Epoch, OpenOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let subject = Dataset::open(store, &OpenOptions::default())?.subject("grid")?;
/// let sampler = UniformSampler::new([4, 4, 4])?.border(Border::Clamp);
/// let locations = sampler.locations(&subject, 8, Epoch { seed: 42, epoch: 0 }, 0)?;
/// assert_eq!(locations.len(), 8);
/// assert!(locations.iter().all(|location| location.region.is_inside([6, 10, 20])));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct UniformSampler {
    patch_size: Size3,
    border: Border,
}

impl UniformSampler {
    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`, that stay inside the volume.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a size of zero.
    pub fn new(patch_size: Size3) -> Result<Self> {
        check_patch_size(patch_size)?;
        Ok(Self { patch_size, border: Border::default() })
    }

    /// Sets what is done with patches that would leave the volume.
    #[must_use]
    pub fn border(self, border: Border) -> Self {
        Self { border, ..self }
    }

    locations_method!();

    probability_map_method!();

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// What is done with patches that would leave the volume.
    pub fn get_border(&self) -> Border {
        self.border
    }

    /// The starts of patches in a grid of `size` voxels, whatever a subject's own is.
    ///
    /// # Errors
    /// [`crate::Error::PatchTooLarge`] for a patch that has to fit and does not.
    pub(crate) fn within(&self, size: Size3) -> Result<PatchStarts> {
        Centres::new(size, self.patch_size, self.border).map(PatchStarts)
    }

    pub(super) fn bind(
        &self,
        subject: &Subject,
        reweighting: Option<Reweighting<'_>>,
    ) -> Result<Box<dyn Draw>> {
        let centres = Centres::new(subject.size()?, self.patch_size, self.border)?;
        let weighted = |Reweighting { weights, volume }| {
            let region = centres.region();
            volume.derived(format!("{} in {region:?}", weights.name()), || {
                let weighted = WeightedBox::new(weights, volume, &region)?;
                let bytes = weighted.bytes();
                Ok((weighted, bytes))
            })
        };
        let weighted = reweighting.map(weighted).transpose()?;
        Ok(Box::new(UniformDraw { centres, weighted }))
    }
}

/// The starts of patches in a grid.
pub(crate) struct PatchStarts(Centres);

impl PatchStarts {
    /// That of one sample, uniform over all.
    pub(crate) fn draw(&self, key: &StreamKey<'_>) -> [i64; 3] {
        self.0.start_of(random_voxel(&self.0.region(), &mut RandomStream::new(key)))
    }

    /// That of the patch with a centre, moved into the grid if the border says so.
    pub(crate) fn around(&self, centre: [i64; 3]) -> [i64; 3] {
        self.0.start_of(centre)
    }
}

/// A [`UniformSampler`] bound to one subject.
struct UniformDraw {
    centres: Centres,
    /// The centres by the weights of their chunks, if these have some.
    weighted: Option<Arc<WeightedBox>>,
}

impl Draw for UniformDraw {
    fn patch_size(&self) -> Size3 {
        self.centres.patch_size()
    }

    fn start(&self, key: &StreamKey<'_>) -> Result<[i64; 3]> {
        let mut random = RandomStream::new(key);
        let centre = match &self.weighted {
            Some(weighted) => weighted.voxel(&mut random),
            None => random_voxel(&self.centres.region(), &mut random),
        };
        Ok(self.centres.start_of(centre))
    }

    /// On this thread: a draw takes nanoseconds, and sharing the work would cost more.
    fn starts(
        &self,
        subject: &Subject,
        epoch: Epoch,
        numbers: Range<u64>,
    ) -> Result<Vec<[i64; 3]>> {
        let key = |n| StreamKey { epoch, subject: subject.name(), n, attempt: 0 };
        let count = numbers.end - numbers.start;
        let starts = numbers.map(|n| self.start(&key(n)));
        try_collected(starts, count, || format!("{count} starts of patches"))
    }

    fn add_probabilities(&self, map: &mut ProbabilityMap<'_>) -> Result<()> {
        map.add_evenly(&self.centres.region(), 1.0);
        Ok(())
    }
}
