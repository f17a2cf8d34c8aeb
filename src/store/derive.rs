//! Facts about the chunks of a volume: read from its sidecars, or computed from its voxels.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sidecar::label_counts::{self, LabelCounts};
use super::sidecar::weight_sums::{self, WeightSums};
use super::staging::publish_beside;
use super::volume::Volume;
use crate::array::boxes::ChunkBox;
use crate::array::labels::{self, LabelBox, joined};
use crate::array::rows::InvalidVoxel;
use crate::format::attributes::Kind;
use crate::format::grid::{ChunkId, iter_box};
use crate::{Error, Region, Result, Size3};

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

/// The boxes of the labels above 0 in a channel of a volume, ascending by label; cached in memory.
///
/// The label counts show which chunks lie at the rim of a label: no others are decoded.
///
/// # Errors
/// As [`label_counts`].
pub(crate) fn label_boxes(volume: &Volume, channel: usize) -> Result<Arc<Vec<(i64, Region)>>> {
    volume.derived(format!("label boxes of {channel}"), || {
        let (counts, layout) = (label_counts(volume)?, volume.layout());
        let chunks: Vec<Size3> = iter_box(layout.chunk_grid().map(|n| 0..n)).collect();
        let labels = |at: Size3| {
            let found = counts.chunk(layout.chunk_index(ChunkId { channel, at }) as usize);
            found.map(|(label, _)| label).filter(|&label| label > 0)
        };
        // In chunks.
        let mut rims: BTreeMap<i64, LabelBox> = BTreeMap::new();
        for &at in &chunks {
            let here = at.map(|n| [n, n + 1]);
            for label in labels(at) {
                rims.entry(label).and_modify(|rim| *rim = joined(*rim, here)).or_insert(here);
            }
        }
        let is_at_rim = |at: Size3, rim: &LabelBox| {
            (0..3).any(|a| at[a] == rim[a][0] || at[a] + 1 == rim[a][1])
        };
        let is_wanted = |at: &Size3| labels(*at).any(|label| is_at_rim(*at, &rims[&label]));
        let chunk_box = |at: Size3| ChunkBox { channel, at, region: layout.chunk_region(at) };
        let wanted: Vec<ChunkBox> = chunks.into_iter().filter(is_wanted).map(chunk_box).collect();
        let found = volume.array().map_boxes(&wanted, |i, voxels| {
            Ok(labels::label_boxes(voxels, volume.dtype(), wanted[i].region.size))
        })?;
        let mut boxes: BTreeMap<i64, LabelBox> = BTreeMap::new();
        for (chunk, found) in wanted.iter().zip(found) {
            let start = chunk.region.start;
            for (label, local) in found {
                let moved = [0, 1, 2].map(|a| local[a].map(|n| n + start[a] as usize));
                boxes.entry(label).and_modify(|b| *b = joined(*b, moved)).or_insert(moved);
            }
        }
        let region = |(label, found): (i64, LabelBox)| {
            let size = found.map(|[start, end]| end - start);
            (label, Region::new(found.map(|[start, _]| start as i64), size))
        };
        let boxes: Vec<(i64, Region)> = boxes.into_iter().map(region).collect();
        let bytes = boxes.len() * size_of::<(i64, Region)>();
        Ok((boxes, bytes))
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
            if let Some((beside, checksums)) = volume.stored() {
                let _ = publish_beside(beside, weight_sums::FOLDER, |folder| {
                    sums.write(folder, checksums)
                });
            }
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
