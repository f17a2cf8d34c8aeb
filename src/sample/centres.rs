//! Which voxels may be the centre of a patch, and where such a patch begins.

use super::{Border, check_fits};
use crate::{Region, Result, Size3};

/// The centres of patches of one size in one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Centres {
    size: Size3,
    patch_size: Size3,
    border: Border,
}

impl Centres {
    /// # Errors
    /// [`crate::Error::Usage`] for a patch that does not fit, where it has to.
    pub(super) fn new(size: Size3, patch_size: Size3, border: Border) -> Result<Self> {
        if border != Border::Pad {
            check_fits(patch_size, size, "or border=\"pad\"")?;
        }
        Ok(Self { size, patch_size, border })
    }

    /// Voxels of a patch.
    pub(super) fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// The voxels that may be centres: a box that is not empty.
    pub(super) fn region(&self) -> Region {
        match self.border {
            Border::Exclude => Region::new(
                self.patch_size.map(|p| (p / 2) as i64),
                [0, 1, 2].map(|a| self.size[a] - self.patch_size[a] + 1),
            ),
            Border::Clamp | Border::Pad => Region::whole(self.size),
        }
    }

    /// The start of the patch whose centre is that voxel, moved into the volume where the border says so.
    pub(super) fn start_of(&self, centre: [i64; 3]) -> [i64; 3] {
        [0, 1, 2].map(|a| {
            let (p, s) = (self.patch_size[a] as i64, self.size[a] as i64);
            let start = centre[a] - p / 2;
            if self.border == Border::Clamp { start.clamp(0, s - p) } else { start }
        })
    }

    /// For messages: what the centres are limited by.
    pub(super) fn describe(&self) -> String {
        let (patch, border) = (self.patch_size, self.border.name());
        let advice = match self.border {
            Border::Exclude => {
                ": pad the volume, choose a smaller patch, or border=\"clamp\" or \"pad\""
            }
            Border::Clamp | Border::Pad => "",
        };
        format!("can be the centre of a patch of {patch:?} voxels with border={border:?}{advice}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every start of `exclude` is the patch of one centre, and TorchIO clears `p // 2` voxels in front and `(p − 1) // 2` behind.
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
