//! Facts about the chunks of a volume: read from its sidecars, or computed from its voxels.

use std::sync::Arc;

use super::sidecar::label_counts::{self, LabelCounts};
use super::sidecar::weight_sums::{self, WeightSums};
use super::staging::publish_beside;
use super::volume::Volume;
use crate::array::rows::InvalidVoxel;
use crate::format::attributes::Kind;
use crate::{Error, Region, Result};

/// The label counts of any volume: read if it has some, else counted; cached in memory.
///
/// # Errors
/// [`Error::Data`] with the first voxel that is no label; errors of reading the volume.
pub(crate) fn label_counts(volume: &Volume) -> Result<Arc<LabelCounts>> {
    volume.derived("label counts".into(), || {
        let is_written =
            volume.kind() == Kind::Labels && volume.has_beside(label_counts::FOLDER)?;
        let counts = if is_written {
            volume.label_counts()?
        } else {
            LabelCounts::count(volume.array(), volume.path())?
        };
        let bytes = counts.bytes();
        Ok((counts, bytes))
    })
}

/// The sum of the weights of each chunk of a volume: read if it has them, else computed and written
/// beside it if the store is writable; cached in memory.
///
/// # Errors
/// [`Error::Data`] with the first voxel that is no weight; errors of reading the volume.
pub(crate) fn weight_sums(volume: &Volume) -> Result<Arc<WeightSums>> {
    volume.derived("weight sums".into(), || {
        // Sums that are damaged or of another volume are computed again; `verify` reports them.
        let sums = if let Ok(Some(written)) = volume.weight_sums() {
            written
        } else {
            let sums = sum(volume)?;
            // In a read-only store they stay in memory, and the next process computes them again.
            // They name the documents of the open volume, which may have been replaced meanwhile.
            let _ = publish_beside(volume.folder(), weight_sums::FOLDER, |folder| {
                sums.write(folder, volume.checksums())
            });
            sums
        };
        let bytes = sums.0.len() * 8;
        Ok((sums, bytes))
    })
}

fn sum(volume: &Volume) -> Result<WeightSums> {
    let (array, function) = (volume.array(), volume.weight_function());
    let boxes = array.chunk_boxes()?;
    let sums: Vec<Result<f64, InvalidVoxel>> = array.map_boxes(&boxes, |i, voxels| {
        let size = boxes[i].region.size;
        Ok(function.sum(voxels, size, Region::whole(size)))
    })?;
    let invalid = boxes.iter().zip(&sums).filter_map(|(chunk, sum)| {
        let (start, voxel) = (chunk.region.start, sum.as_ref().err()?);
        Some((chunk.channel, voxel.index(start), voxel.message(start)))
    });
    if let Some((_, _, message)) = invalid.min_by_key(|invalid| (invalid.0, invalid.1)) {
        return Err(Error::data(volume.path(), message));
    }
    Ok(WeightSums(sums.into_iter().flatten().collect()))
}
