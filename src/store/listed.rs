//! Documents of a volume that another document lists with their checksums (§3, §8).

use std::path::Path;

use crate::format::array::ArrayLayout;
use crate::format::attributes::Statistics;
use crate::format::document::{Document, ZARR_JSON};
use crate::sys::folder::Folder;
use crate::{Error, Result};

/// Compares a shape with the statistics in the document at `path`: a damaged shape that is still
/// valid would give zeros for voxels that do not exist.
pub(super) fn check_voxels(
    statistics: &Statistics,
    layout: &ArrayLayout,
    path: &Path,
) -> Result<()> {
    let voxels = layout.shape().iter().map(|&n| n as u64).product::<u64>();
    let found = statistics.voxels;
    if found == voxels {
        return Ok(());
    }
    let message = format!("statistics.voxels: found {found}, the array has {voxels}");
    Err(Error::metadata(path, message))
}

/// Reads the document in `folder`, which the subject or volume, `by`, lists with `crc32c`.
pub(super) fn listed(folder: &Folder, crc32c: u32, by: &str) -> Result<Document> {
    let missing = format!(
        "the {by} lists this document, but it is missing: the subject was removed while it was \
         open, or the copy of the store is incomplete"
    );
    let path = || folder.path().join(ZARR_JSON);
    let document = Document::read_in(folder)?.ok_or_else(|| Error::metadata(path(), missing))?;
    let found = document.crc32c();
    if found == crc32c {
        return Ok(document);
    }
    let message = format!(
        "crc32c {found:#010x}, the {by} lists {crc32c:#010x}: the subject was replaced while it \
         was open, or the document is damaged; open the dataset again"
    );
    Err(Error::metadata(path(), message))
}
