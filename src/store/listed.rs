//! Documents that something else lists with their checksums (§3, §8).

use std::io;
use std::path::Path;

use crate::format::array::ArrayLayout;
use crate::format::attributes::Statistics;
use crate::format::document::{Document, ZARR_JSON};
use crate::format::limits::METADATA_BYTES;
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

/// The checksum of the bytes of the document in `folder`; `None` if it has none.
///
/// What they say was checked when the checksum was noted, and others are not what was noted.
pub(super) fn checksum_in(folder: &Folder) -> Result<Option<u32>> {
    match folder.read_file(ZARR_JSON, METADATA_BYTES) {
        Ok(text) => Ok(Some(crc32c::crc32c(&text))),
        Err(e) if is_absent(&e) || is_no_document(&e) => Ok(None),
        Err(e) => Err(Error::io(folder.path().join(ZARR_JSON), "cannot read")(e)),
    }
}

/// Whether there is nothing of that name.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether it is too long, a link or a folder, which [`Folder`] says and not the system.
pub(super) fn is_no_document(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];
    error.raw_os_error().is_none() && kinds.contains(&error.kind())
}
