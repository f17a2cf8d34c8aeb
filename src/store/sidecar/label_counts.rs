//! The label counts beside a label map: §8 of the specification.
//!
//! # Invariants
//! - Offsets ascend from 0 to the number of entries; labels ascend within a chunk; no count is
//!   zero.

use std::path::Path;

use bytemuck::Pod;

use crate::array::array1d;
use crate::array::handle::ArrayHandle;
use crate::array::labels::count_labels;
use crate::format::array::ArrayLayout;
use crate::format::document::Document;
use crate::sys::folder::Folder;
use crate::{Error, Result};

/// The folder of the arrays in the volume's folder.
pub(crate) const FOLDER: &str = "summary";

/// The number of voxels of each label in each chunk. Label 0 is not listed: it is the rest.
///
/// ```
/// # let store = "format-spec/golden/v1";
/// let subject = voxquarry::open(store)?.subject("grid")?;
/// let labels = subject.volume("labels-i32")?;
/// let counts = labels.label_counts()?;
/// let foreground: u64 = counts.totals().iter().map(|&(_label, voxels)| voxels).sum();
/// assert!(foreground < labels.statistics().voxels);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    offsets: Vec<u64>,
    labels: Vec<i64>,
    counts: Vec<u32>,
}

impl LabelCounts {
    /// Counts of no chunk; chunks are pushed in C order.
    pub(crate) fn new() -> Self {
        Self { offsets: vec![0], ..Self::default() }
    }

    /// Appends the next chunk's labels, ascending and without 0, and their counts.
    pub(crate) fn push(&mut self, entries: &[(i64, u32)]) {
        self.labels.extend(entries.iter().map(|e| e.0));
        self.counts.extend(entries.iter().map(|e| e.1));
        self.offsets.push(self.labels.len() as u64);
    }

    /// Counts the labels in all chunks of the `array` of the volume at `volume`.
    ///
    /// # Errors
    /// [`Error::Data`] with the first voxel that is no label; errors of reading the array.
    pub(crate) fn count(array: &ArrayHandle, volume: &Path) -> Result<Self> {
        let boxes = array.chunk_boxes()?;
        let counted = array.map_boxes(&boxes, |i, voxels| {
            let region = boxes[i].region;
            count_labels(voxels, array.layout().dtype, region.size, region)
                .map_err(|voxel| Error::data(volume, voxel.message(region.start)))
        })?;
        let mut counts = Self::new();
        for labels in &counted {
            counts.push(labels);
        }
        Ok(counts)
    }

    /// Bytes that the counts take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.offsets.len() * 8 + self.labels.len() * 12
    }

    /// Chunks of the volume, in C order, channel slowest.
    pub fn chunks(&self) -> usize {
        self.offsets.len() - 1
    }

    /// `(label, voxels)` of a chunk, ascending, 0 left out.
    pub fn chunk(&self, index: usize) -> impl Iterator<Item = (i64, u32)> + '_ {
        let range = self.offsets[index] as usize..self.offsets[index + 1] as usize;
        self.labels[range.clone()].iter().copied().zip(self.counts[range].iter().copied())
    }

    /// Pairs of a label and a chunk that holds it.
    pub(crate) fn entries(&self) -> usize {
        self.labels.len()
    }

    /// Voxels of a label other than 0 in a chunk.
    pub(crate) fn of_label(&self, index: usize, label: i64) -> u64 {
        let range = self.offsets[index] as usize..self.offsets[index + 1] as usize;
        let found = self.labels[range.clone()].binary_search(&label);
        found.map_or(0, |i| u64::from(self.counts[range.start + i]))
    }

    /// `(label, voxels)` over the volume, ascending, 0 left out.
    pub fn totals(&self) -> Vec<(i64, u64)> {
        let mut totals = std::collections::BTreeMap::new();
        for (&label, &count) in self.labels.iter().zip(&self.counts) {
            *totals.entry(label).or_insert(0) += u64::from(count);
        }
        totals.into_iter().collect()
    }

    /// Reads and checks the three arrays of a volume with `layout`, whose metadata names `crc32c`.
    pub(crate) fn read(volume: &Folder, layout: &ArrayLayout, crc32c: Option<u32>) -> Result<Self> {
        let folder = volume.join(FOLDER);
        let damaged = |what: &str| {
            Error::data(folder.path(), format!("label counts: {what}: ingest the volume again"))
        };
        let missing = || damaged("their group is missing");
        let group = Document::read_in(&folder)?.ok_or_else(missing)?;
        group.expect_node("group")?;
        let found = group.crc32c();
        let chunks = layout.chunk_count();
        let part = |name| folder.join(name);
        let (offsets, found) = read_part(&part("offsets"), "uint64", Some(chunks + 1), found)?;
        let offsets: Vec<u64> = offsets;
        if offsets[0] != 0 || !offsets.is_sorted_by(|a, b| a <= b) {
            return Err(damaged("offsets do not ascend from 0"));
        }
        let entries = offsets.last().copied();
        let (labels, found) = read_part(&part("labels"), "int64", entries, found)?;
        let (counts, found) = read_part(&part("counts"), "uint32", entries, found)?;
        let chunk_voxels = layout.chunk.iter().product::<usize>() as u64;
        let summary = Self { offsets, labels, counts };
        for chunk in 0..summary.chunks() {
            let range = summary.offsets[chunk] as usize..summary.offsets[chunk + 1] as usize;
            let (labels, counts) = (&summary.labels[range.clone()], &summary.counts[range]);
            let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
            if !labels.is_sorted_by(|a, b| a < b)
                || labels.contains(&0)
                || counts.contains(&0)
                || total > chunk_voxels
            {
                return Err(damaged(&format!("chunk {chunk} contradicts itself")));
            }
        }
        if Some(found) != crc32c {
            return Err(damaged(
                "they are not those that the volume names: its subject was replaced while it was \
                 open, or they are damaged",
            ));
        }
        Ok(summary)
    }
}

fn read_part<T: Pod>(
    folder: &Folder,
    dtype: &str,
    expected: Option<u64>,
    crc32c: u32,
) -> Result<(Vec<T>, u32)> {
    let missing = "label counts are missing: ingest the volume again";
    let document = Document::read_in(folder)?;
    let document = document.ok_or_else(|| Error::data(folder.path(), missing))?;
    array1d::read(folder, &document, dtype, expected, "label counts", crc32c)
}
