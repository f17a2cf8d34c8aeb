//! Sums of weights: of rows, of chunks, and the array of them beside a volume (§8).
//!
//! A weight is a voxel's real value, stored value × slope + intercept, in `f64`. Sums have an order that never changes: each
//! row of x from its first voxel on, then the rows of the box in C order.
//!
//! # Invariants
//! - A sum that is read from disk was written for the volume's present metadata, or it is worked out anew.
//! - Sums are finite and not negative.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::vector;
use super::volume::Volume;
use super::write::{keep_beside, rows};
use crate::codec::checksum;
use crate::format::document::{Document, ZARR_JSON};
use crate::{Dtype, Error, Region, Result, Size3, Voxel, with_voxel};

/// The array's folder in the volume's.
pub(super) const FOLDER: &str = "sums";

/// Turns voxels into weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weigher {
    dtype: Dtype,
    slope: f64,
    intercept: f64,
}

/// A voxel that cannot be a weight: its index `(z, y, x)` in the box, and the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BadWeight {
    index: Size3,
    value: f64,
}

impl BadWeight {
    /// A sentence about it; the box begins at `start`.
    pub(crate) fn message(&self, start: [i64; 3]) -> String {
        let place = [0, 1, 2].map(|a| start[a] + self.index[a] as i64);
        format!(
            "voxel (z, y, x) = {place:?} is {}: weights are finite and not negative",
            self.value
        )
    }

    /// Where it lies in a volume whose box begins at `start`.
    pub(super) fn place(&self, start: [i64; 3]) -> [i64; 3] {
        [0, 1, 2].map(|a| start[a] + self.index[a] as i64)
    }
}

impl Weigher {
    pub(crate) fn new(dtype: Dtype, (slope, intercept): (f64, f64)) -> Self {
        Self { dtype, slope, intercept }
    }

    fn weight<T: Voxel>(&self, voxel: T) -> f64 {
        voxel.to_f64() * self.slope + self.intercept
    }

    fn row<T: Voxel>(&self, row: &[T]) -> f64 {
        row.iter().fold(0.0, |sum, &voxel| sum + self.weight(voxel))
    }

    /// The sum over `inside`, the first voxels of a box of `extents`.
    ///
    /// # Errors
    /// The first voxel, in C order, that is negative or not finite.
    pub(crate) fn sum(
        &self,
        voxels: &[u8],
        extents: Size3,
        inside: Region,
    ) -> Result<f64, BadWeight> {
        with_voxel!(self.dtype, T => {
            let mut sum = 0.0;
            for (y, row) in rows::<T>(voxels, extents, inside).enumerate() {
                // NaN compares false and so is bad too.
                let is_good = |&voxel: &T| (0.0..f64::INFINITY).contains(&self.weight(voxel));
                if !row.iter().fold(true, |good, voxel| good & is_good(voxel)) {
                    let x = row.iter().position(|voxel| !is_good(voxel)).unwrap_or(0);
                    let index = [y / inside.size[1], y % inside.size[1], x];
                    return Err(BadWeight { index, value: self.weight(row[x]) });
                }
                sum += self.row(row);
            }
            Ok(sum)
        })
    }

    /// Each voxel's weight.
    pub(crate) fn weights(&self, voxels: &[u8]) -> Vec<f64> {
        with_voxel!(self.dtype, T => {
            bytemuck::cast_slice::<_, T>(voxels).iter().map(|&voxel| self.weight(voxel)).collect()
        })
    }

    /// The index `(z, y, x)` in a box of `size` where the sum passes `r`, which is below the box's sum.
    ///
    /// First the row, then the voxel in it; where rounding leaves none, the last one that has a weight.
    pub(crate) fn pick(&self, voxels: &[u8], size: Size3, r: f64) -> Size3 {
        with_voxel!(self.dtype, T => {
            let voxels: &[T] = bytemuck::cast_slice(voxels);
            let (mut before, mut chosen) = (0.0, (0, 0.0));
            for (number, row) in voxels.chunks_exact(size[2]).enumerate() {
                let sum = self.row(row);
                if sum > 0.0 {
                    chosen = (number, before);
                }
                before += sum;
                if before > r {
                    break;
                }
            }
            let (number, before) = chosen;
            let (mut sum, mut last) = (0.0, 0);
            for (x, &voxel) in voxels[number * size[2]..][..size[2]].iter().enumerate() {
                let weight = self.weight(voxel);
                if weight > 0.0 {
                    last = x;
                }
                sum += weight;
                if sum > r - before {
                    break;
                }
            }
            [number / size[1], number % size[1], last]
        })
    }
}

/// The sum of weights of each chunk, in C order, channel slowest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChunkSums(pub(crate) Vec<f64>);

impl ChunkSums {
    /// Those of a volume: read if they are beside it, else worked out, and kept beside it where that may be written.
    ///
    /// # Errors
    /// [`Error::Data`] with the first voxel that is no weight; what reading the volume returns.
    pub(crate) fn of(volume: &Volume) -> Result<Arc<Self>> {
        volume.remember("chunk sums".into(), || {
            // What is damaged or of another volume is worked out anew; `verify` reports it.
            let sums = if let Ok(Some(written)) = Self::read(volume) {
                written
            } else {
                let sums = Self::compute(volume)?;
                // Not everybody may write here: then they are remembered, and worked out again by the next process.
                let _ =
                    keep_beside(volume.path(), FOLDER, |folder| sums.write(folder, volume.path()));
                sums
            };
            let bytes = sums.0.len() * 8;
            Ok((sums, bytes))
        })
    }

    fn compute(volume: &Volume) -> Result<Self> {
        let weigher = volume.weigher();
        let boxes = volume.chunk_boxes();
        let sums = volume.scan(&boxes, |i, voxels| {
            let size = boxes[i].region.size;
            Ok(weigher.sum(voxels, size, Region::whole(size)))
        })?;
        let bad = boxes.iter().zip(&sums).filter_map(|(chunk, sum)| {
            sum.err().map(|bad| (chunk.channel, bad.place(chunk.region.start), chunk, bad))
        });
        if let Some((_, _, chunk, bad)) = bad.min_by_key(|bad| (bad.0, bad.1)) {
            return Err(Error::data(volume.path(), bad.message(chunk.region.start)));
        }
        Ok(Self(sums.into_iter().flatten().collect()))
    }

    /// Writes the array into `folder`, for the volume whose documents are in `volume`.
    pub(super) fn write(&self, folder: &Path, volume: &Path) -> Result<()> {
        vector::write(folder, "float64", &self.0, &json!({ "voxquarry": attributes(volume)? }))
    }

    /// Reads and checks the array beside a volume; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Metadata`] if it is damaged, or was written for another volume.
    pub(super) fn read(volume: &Volume) -> Result<Option<Self>> {
        let folder = volume.path().join(FOLDER);
        let Some(document) = Document::read(&folder)? else { return Ok(None) };
        document.expect_node("array")?;
        let written = document.root().object("attributes")?.value("voxquarry")?.clone();
        if written != attributes(volume.path())? {
            let message = "chunk sums were written for other voxels: remove the folder";
            return Err(Error::data(&folder, message));
        }
        let chunks = volume.layout().chunk_count();
        let sums = vector::read(&folder, &document, "float64", Some(chunks), "chunk sums")?;
        if sums.iter().any(|sum| !(0.0..f64::INFINITY).contains(sum)) {
            let message = "chunk sums hold a number that is no sum of weights: remove the folder";
            return Err(Error::data(&folder, message));
        }
        Ok(Some(Self(sums)))
    }
}

/// What ties the array to its volume: the checksums of the two documents that say what the volume is.
fn attributes(volume: &Path) -> Result<serde_json::Value> {
    let sum = |folder: &Path| {
        let path = folder.join(ZARR_JSON);
        fs::read(&path).map(|bytes| checksum(&bytes)).map_err(Error::io(&path, "cannot read"))
    };
    Ok(json!({
        "node": "sums",
        "volume_crc32c": sum(volume)?,
        "level_crc32c": sum(&volume.join("0"))?,
    }))
}

impl Volume {
    /// Turns this volume's voxels into weights.
    pub(crate) fn weigher(&self) -> Weigher {
        Weigher::new(self.dtype(), self.slope_intercept())
    }
}
