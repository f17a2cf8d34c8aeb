//! The rule for patches near the border of a volume: which voxels may be the centre of a patch, and
//! where the patch of a centre begins.

use std::path::Path;

use super::missing::Lack;
use crate::{Error, Region, Result, Size3};

/// What a random sampler does with patches that would leave the volume.
///
/// The centre of a patch is the voxel `start + patch_size / 2` (integer division).
///
/// ```
/// use voxquarry::{Border, UniformSampler};
///
/// let sampler = UniformSampler::new([96, 96, 96])?;
/// assert_eq!(sampler.get_border(), Border::Exclude);
/// assert_eq!(sampler.border(Border::Clamp).get_border().name(), "clamp");
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Border {
    /// Such patches are never drawn (as in TorchIO).
    #[default]
    Exclude,
    /// Every voxel may be the centre; a patch that would leave the volume is moved back into it (as
    /// in MONAI).
    Clamp,
    /// Every voxel may be the centre; a patch may leave the volume and is padded when read (as in
    /// nnU-Net).
    Pad,
}

impl Border {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Exclude, Self::Clamp, Self::Pad];

    /// The name of the rule, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exclude => "exclude",
            Self::Clamp => "clamp",
            Self::Pad => "pad",
        }
    }
}

/// The voxels that may be centres of patches of one size in one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Centres {
    size: Size3,
    patch_size: Size3,
    border: Border,
}

impl Centres {
    /// # Errors
    /// [`Error::PatchTooLarge`] for a patch that has to fit into the volume and does not.
    pub(super) fn new(size: Size3, patch_size: Size3, border: Border) -> Result<Self> {
        if border != Border::Pad {
            check_fits(patch_size, size)?;
        }
        Ok(Self { size, patch_size, border })
    }

    /// Voxels of a patch.
    pub(super) fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// The box of the centres; never empty.
    pub(super) fn region(&self) -> Region {
        match self.border {
            Border::Exclude => Region::new(
                self.patch_size.map(|p| (p / 2) as i64),
                [0, 1, 2].map(|a| self.size[a] - self.patch_size[a] + 1),
            ),
            Border::Clamp | Border::Pad => Region::whole(self.size),
        }
    }

    /// The start of the patch with that centre, moved into the volume if the rule says so.
    pub(super) fn start_of(&self, centre: [i64; 3]) -> [i64; 3] {
        [0, 1, 2].map(|a| {
            let (p, s) = (self.patch_size[a] as i64, self.size[a] as i64);
            let start = centre[a] - p / 2;
            if self.border == Border::Clamp { start.clamp(0, s - p) } else { start }
        })
    }

    /// The error for a volume without a single voxel that is `wanted`, as "of the labels [3]",
    /// among the centres; `is_elsewhere` says whether the volume has such a voxel at all.
    pub(super) fn nothing_to_sample(
        &self,
        place: &Path,
        wanted: &str,
        is_elsewhere: bool,
    ) -> Error {
        Error::NothingToSample {
            place: place.display().to_string(),
            wanted: wanted.to_owned(),
            patch_size: self.patch_size,
            border: self.border.name(),
            is_elsewhere,
        }
    }

    /// What a volume without a single voxel that is `wanted` among the centres lacks.
    pub(super) fn lack(&self, wanted: &str, is_elsewhere: bool) -> Lack {
        if self.border != Border::Exclude || !is_elsewhere {
            return Lack::new(format!("no voxel {wanted}"));
        }
        let reason = format!(
            "all voxels {wanted} lie so near the border that a patch of {:?} voxels around them \
             would leave the volume",
            self.patch_size
        );
        Lack { is_near_border: true, ..Lack::new(reason) }
    }
}

/// Checks that a patch is not larger than the volume.
///
/// # Errors
/// [`Error::PatchTooLarge`] if it is.
pub(super) fn check_fits(patch_size: Size3, shape: Size3) -> Result<()> {
    if (0..3).any(|a| patch_size[a] > shape[a]) {
        return Err(Error::PatchTooLarge { patch_size, shape });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `exclude` each start is the patch of one centre. TorchIO clears `p // 2` voxels in
    /// front and `(p − 1) // 2` behind.
    #[test]
    fn excluded_centres_are_torchios() {
        for p in 1..=7 {
            let centres = Centres::new([7; 3], [p; 3], Border::Exclude).unwrap();
            let region = centres.region();
            assert_eq!(
                (region.start[0], region.end(0)),
                ((p / 2) as i64, 7 - ((p - 1) / 2) as i64)
            );
            for c in region.start[0]..region.end(0) {
                assert_eq!(centres.start_of([c; 3]), [c - (p / 2) as i64; 3]);
                assert!(Region::new(centres.start_of([c; 3]), [p; 3]).is_inside([7; 3]));
            }
        }
    }
}
