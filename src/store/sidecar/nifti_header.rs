//! The NIfTI header beside a volume, for readers of NIfTI-Zarr: §8 of the specification.
//!
//! # Invariants
//! - It is what the volume's metadata make of it; no reader of stores needs it.

use crate::array::array1d;
use crate::format::array::ArrayLayout;
use crate::format::attributes::VolumeAttributes;
use crate::format::document::Document;
use crate::format::nifti;
use crate::sys::folder::Folder;
use crate::{Error, Result};

/// Writes the header of a volume into `volume`, its folder; returns its checksum. `None` if NIfTI
/// lacks the data type.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write(
    volume: &Folder,
    attributes: &VolumeAttributes,
    layout: &ArrayLayout,
) -> Result<Option<u32>> {
    let write = |header: Vec<u8>| {
        array1d::write(&volume.join(nifti::FOLDER), "uint8", "byte", &header, None, 0)
    };
    nifti::header(attributes, layout).map(write).transpose()
}

/// Checks the header beside a volume, if the volume's metadata name one.
///
/// # Errors
/// [`Error::Data`], [`Error::Metadata`] if it is missing, damaged, or of another volume.
pub(crate) fn check(volume: &Folder, attributes: &VolumeAttributes) -> Result<()> {
    let Some(crc32c) = attributes.nifti_crc32c else { return Ok(()) };
    let folder = volume.join(nifti::FOLDER);
    let wrong = |what: &str| {
        let message = format!(
            "the NIfTI header {what}: other software may see another geometry, no voxel is \
             affected; copy or ingest the subject again"
        );
        Error::data(folder.path(), message)
    };
    let document = Document::read_in(&folder)?.ok_or_else(|| wrong("is missing"))?;
    let (length, what) = (Some(nifti::HEADER_BYTES as u64), "the NIfTI header");
    let (_, found) = array1d::read::<u8>(&folder, &document, "uint8", length, what, 0)?;
    if found == crc32c { Ok(()) } else { Err(wrong("is another than the volume names")) }
}
