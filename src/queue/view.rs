//! Subjects at another spacing or orientation, as a queue reads them.
//!
//! # Invariants
//! - A location is in voxels of the view, and a pure function of (seed, epoch, subject, n).

use std::sync::Arc;

use crate::sample::{Epoch, StreamKey};
use crate::{
    Border, Error, Orientation, PatchLocation, RandomSampler, Region, ResampledVolume, Result,
    Size3, Subject, Volume,
};

/// The grid that subjects are read at; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ViewGrid {
    pub(super) spacing: Option<[f64; 3]>,
    pub(super) orientation: Option<Orientation>,
}

/// One subject at another grid.
#[derive(Debug)]
pub(super) struct SubjectView(ResampledVolume);

impl SubjectView {
    /// The view of a subject whose first volume is `volume`.
    ///
    /// # Errors
    /// As [`Volume::at`]; [`Error::Unsupported`] for a sampler that does not draw in views.
    pub(super) fn new(
        grid: &ViewGrid,
        volume: &Volume,
        sampler: Option<&RandomSampler>,
    ) -> Result<Self> {
        let view = volume.at(grid.spacing, grid.orientation)?;
        let Some(sampler) = sampler else { return Ok(Self(view)) };
        // Fails if a patch has to fit and does not.
        sampler.background().within(view.size())?;
        let is_uniform = matches!(sampler, RandomSampler::Uniform(_));
        if !is_uniform && sampler.of_voxels().is_none() {
            return Err(Error::unsupported(
                "a sampler of objects, or with constraints, measures patches of the stored grid",
                "sample by labels, by weights or uniformly, or ingest at the other spacing",
            ));
        }
        if !is_uniform && sampler.get_border() == Border::Exclude {
            return Err(Error::unsupported(
                "at another spacing, centres by labels or weights are drawn in the whole volume",
                "choose the border \"clamp\" or \"pad\"",
            ));
        }
        Ok(Self(view))
    }

    pub(super) fn size(&self) -> Size3 {
        self.0.size()
    }

    /// The view, which has the affine and the map of all volumes of the subject.
    pub(super) fn volume(&self) -> &ResampledVolume {
        &self.0
    }

    /// The location of sample `n`.
    ///
    /// # Errors
    /// As [`RandomSampler::locations`].
    pub(super) fn locate(
        &self,
        subject: &Subject,
        sampler: &RandomSampler,
        is_background: bool,
        epoch: Epoch,
        n: u64,
    ) -> Result<PatchLocation> {
        let starts = sampler.background().within(self.size())?;
        let voxels = sampler.of_voxels().filter(|_| !is_background);
        let start = if let Some(voxels) = voxels {
            let centre = voxels.locations(subject, 1, epoch, n)?;
            starts.around(self.seen(centre[0].region.start))
        } else {
            starts.draw(&StreamKey { epoch, subject: subject.name(), n, attempt: 0 })
        };
        let region = Region::new(start, sampler.patch_size());
        Ok(PatchLocation { subject: Arc::from(subject.name()), region })
    }

    /// The voxel of the view that a stored voxel's centre lies in.
    fn seen(&self, voxel: [i64; 3]) -> [i64; 3] {
        let (matrix, size) = (self.0.matrix(), self.size());
        std::array::from_fn(|to| {
            let from = (0..3).find(|&a| matrix[a][to] != 0.0).expect("each axis comes from one");
            let index = (voxel[from] as f64 - matrix[from][3]) / matrix[from][to];
            ((index + 0.5).floor() as i64).clamp(0, size[to] as i64 - 1)
        })
    }
}
