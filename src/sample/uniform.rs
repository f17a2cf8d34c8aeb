//! Every place equally likely.

use std::sync::Arc;

use super::random::{Draws, sample_numbers};
use super::{Border, Epoch, PatchLocation, check_fits};
use crate::geometry::check_patch_size;
use crate::{Region, Result, Size3, Subject};

/// Draws patches uniformly: with [`Border::Exclude`] over all starts inside the volume, else over all centres.
#[derive(Clone, Debug)]
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
        let numbers = sample_numbers(first, n)?;
        let (size, name) = (subject.size()?, Arc::<str>::from(subject.name()));
        if self.border != Border::Pad {
            check_fits(self.patch_size, size, "or border=\"pad\"")?;
        }
        let location = |n| PatchLocation {
            subject: name.clone(),
            region: Region::new(self.start(size, Draws::new(epoch, &name, n)), self.patch_size),
        };
        Ok(numbers.map(location).collect())
    }

    /// One draw an axis, in the order z, y, x.
    fn start(&self, size: Size3, mut draws: Draws) -> [i64; 3] {
        [0, 1, 2].map(|a| {
            let (p, s) = (self.patch_size[a] as i64, size[a] as i64);
            match self.border {
                Border::Exclude => draws.below((s - p + 1) as u64) as i64,
                Border::Clamp => (draws.below(s as u64) as i64 - p / 2).clamp(0, s - p),
                Border::Pad => draws.below(s as u64) as i64 - p / 2,
            }
        })
    }
}
