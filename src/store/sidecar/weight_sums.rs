//! The sums of weights beside a volume: §8 of the specification.
//!
//! # Invariants
//! - An array that is read was computed from the volume that is open: it names the checksums of the
//!   documents that its writer had read.
//! - Sums are finite and not negative.

use serde_json::json;

use crate::array::array1d;
use crate::format::array::ArrayLayout;
use crate::format::attributes::DocumentChecksums;
use crate::format::document::Document;
use crate::sys::folder::Folder;
use crate::{Error, Result};

/// The folder of the array in the volume's folder.
pub(crate) const FOLDER: &str = "sums";

/// The sum of the weights of each chunk, in C order, channel slowest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WeightSums(pub(crate) Vec<f64>);

impl WeightSums {
    /// The sums of all chunks, each with its index.
    pub(crate) fn from_chunks(mut sums: Vec<(u64, f64)>) -> Self {
        sums.sort_unstable_by_key(|sum| sum.0);
        Self(sums.into_iter().map(|sum| sum.1).collect())
    }

    /// Writes the array into `folder`, for the volume whose documents have those checksums.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, folder: &Folder, volume: DocumentChecksums) -> Result<()> {
        let attributes = json!({ "voxquarry": attributes(volume, &self.0) });
        array1d::write(folder, "float64", "chunk", &self.0, Some(attributes), 0).map(drop)
    }

    /// Reads and checks the array beside a volume; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Metadata`] if it is damaged, or was written for another volume.
    pub(crate) fn read(
        volume: &Folder,
        checksums: DocumentChecksums,
        layout: &ArrayLayout,
    ) -> Result<Option<Self>> {
        let folder = volume.join(FOLDER);
        let Some(document) = Document::read_sealed_in(&folder)? else { return Ok(None) };
        let chunks = layout.chunk_count();
        let what = "weight sums";
        let (sums, _) = array1d::read(&folder, &document, "float64", Some(chunks), what, 0)?;
        let written = document.root().object("attributes")?.object("voxquarry")?;
        let ours = attributes(checksums, &sums);
        if ours
            .as_object()
            .into_iter()
            .flatten()
            .any(|(key, value)| written.get(key) != Some(value))
        {
            let message = "weight sums were written for other voxels, or are mixed: remove the \
                           folder";
            return Err(Error::data(folder.path(), message));
        }
        if sums.iter().any(|sum| !(0.0..f64::INFINITY).contains(sum)) {
            let message = "weight sums hold a number that is no sum of weights: remove the folder";
            return Err(Error::data(folder.path(), message));
        }
        Ok(Some(Self(sums)))
    }
}

/// The attributes that tie the array to its volume and to its elements: the checksums of the
/// volume's two documents, and of the sums.
fn attributes(volume: DocumentChecksums, sums: &[f64]) -> serde_json::Value {
    json!({
        "node": "sums",
        "volume_crc32c": volume.group_crc32c,
        "level_crc32c": volume.level_crc32c,
        "sums_crc32c": crc32c::crc32c(bytemuck::cast_slice(sums)),
    })
}
