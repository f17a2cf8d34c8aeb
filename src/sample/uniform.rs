//! Every place equally likely.

use ndarray::Array3;

use super::centres::Centres;
use super::places::{self, Places};
use super::random::Draws;
use super::{Border, Epoch, PatchLocation};
use crate::geometry::check_patch_size;
use crate::{Region, Result, Size3, Subject};

/// Draws patches uniformly: with [`Border::Exclude`] over all starts inside the volume, else over all centres.
#[derive(Clone, Debug, PartialEq)]
pub struct UniformSampler {
    patch_size: Size3,
    border: Border,
}

impl UniformSampler {
    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for a size of zero.
    pub fn new(patch_size: Size3, border: Border) -> Result<Self> {
        check_patch_size(patch_size)?;
        Ok(Self { patch_size, border })
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// What becomes of patches that would leave the volume.
    pub fn border(&self) -> Border {
        self.border
    }

    /// Samples `first .. first + n` of `subject` in that epoch.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if the patch does not fit, or for samples beyond 2³²; what opening a volume returns.
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
        Centres::new(subject.size()?, self.patch_size, self.border).map(Places::Uniform)
    }
}

/// Any voxel of a box, one draw an axis, in the order z, y, x.
pub(super) fn any_voxel(region: &Region, draws: &mut Draws) -> [i64; 3] {
    [0, 1, 2].map(|a| region.start[a] + draws.below(region.size[a] as u64) as i64)
}
