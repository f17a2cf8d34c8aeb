//! The location of a patch: a subject and a box of voxels.

use std::sync::Arc;

use crate::Region;

/// The location of one patch.
///
/// ```
/// use voxquarry::{PatchLocation, Region};
///
/// let region = Region::new([10, 20, 30], [96, 96, 96]);
/// let location = PatchLocation { subject: "case01".into(), region };
/// assert_eq!(location.region.end(0), 106);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PatchLocation {
    /// The name of the subject.
    pub subject: Arc<str>,
    /// The voxels of the patch, in the coordinates of the subject's volumes; the patch may leave
    /// the volumes.
    pub region: Region,
}
