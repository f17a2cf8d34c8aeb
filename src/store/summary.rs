//! Label counts beside a label map: §8 of the specification.
//!
//! # Invariants
//! - Offsets ascend from 0 to the number of entries; labels ascend within a chunk; no count is zero.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use bytemuck::Pod;
use serde_json::json;

use crate::codec::{CHECKSUM_BYTES, checksum, split_checksum};
use crate::format::array::ArrayLayout;
use crate::format::document::{self, Document};
use crate::format::limits::SUMMARY_CHUNK;
use crate::{Error, Result};

const FOLDER: &str = "summary";
const ZSTD_LEVEL: i32 = 3;

/// How many voxels of each label each chunk holds; label 0 is the rest and is not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    offsets: Vec<u64>,
    labels: Vec<i64>,
    counts: Vec<u32>,
}

impl LabelCounts {
    /// Counts of no chunk; chunks are pushed in C order.
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], ..Self::default() }
    }

    /// Appends the next chunk's labels, ascending and without 0, and their counts.
    pub(super) fn push(&mut self, entries: &[(i64, u32)]) {
        self.labels.extend(entries.iter().map(|e| e.0));
        self.counts.extend(entries.iter().map(|e| e.1));
        self.offsets.push(self.labels.len() as u64);
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

    /// `(label, voxels)` over the volume, ascending, 0 left out.
    pub fn totals(&self) -> Vec<(i64, u64)> {
        let mut totals = std::collections::BTreeMap::new();
        for (&label, &count) in self.labels.iter().zip(&self.counts) {
            *totals.entry(label).or_insert(0) += u64::from(count);
        }
        totals.into_iter().collect()
    }

    /// Writes the three arrays into a volume's folder.
    pub(super) fn write(&self, volume: &Path) -> Result<()> {
        let folder = volume.join(FOLDER);
        fs::create_dir(&folder).map_err(Error::io(&folder, "cannot create"))?;
        document::write(&folder, &document::group(json!({})))?;
        write_array(&folder.join("offsets"), "uint64", &self.offsets)?;
        write_array(&folder.join("labels"), "int64", &self.labels)?;
        write_array(&folder.join("counts"), "uint32", &self.counts)
    }

    /// Reads and checks the three arrays of a volume with `layout`.
    pub(super) fn read(volume: &Path, layout: &ArrayLayout) -> Result<Self> {
        let folder = volume.join(FOLDER);
        let damaged = |what: &str| {
            Error::data(&folder, format!("label counts: {what}: ingest the volume again"))
        };
        let chunks = layout.chunk_count();
        let offsets: Vec<u64> = read_array(&folder.join("offsets"), "uint64", Some(chunks + 1))?;
        if offsets[0] != 0 || !offsets.is_sorted_by(|a, b| a <= b) {
            return Err(damaged("offsets do not ascend from 0"));
        }
        let entries = offsets.last().copied();
        let labels: Vec<i64> = read_array(&folder.join("labels"), "int64", entries)?;
        let counts: Vec<u32> = read_array(&folder.join("counts"), "uint32", entries)?;
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
        Ok(summary)
    }
}

fn chunk_ranges(length: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..length.div_ceil(SUMMARY_CHUNK))
        .map(move |i| (i, i * SUMMARY_CHUNK..((i + 1) * SUMMARY_CHUNK).min(length)))
}

fn write_array<T: Pod>(folder: &Path, dtype: &str, values: &[T]) -> Result<()> {
    let chunks = folder.join("c");
    fs::create_dir_all(&chunks).map_err(Error::io(&chunks, "cannot create"))?;
    document::write(
        folder,
        &json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": [values.len()],
            "data_type": dtype,
            "chunk_grid": { "name": "regular", "configuration": { "chunk_shape": [SUMMARY_CHUNK] } },
            "chunk_key_encoding": { "name": "default", "configuration": { "separator": "/" } },
            "fill_value": 0,
            "codecs": [
                { "name": "bytes", "configuration": { "endian": "little" } },
                { "name": "zstd", "configuration": { "level": ZSTD_LEVEL, "checksum": false } },
                { "name": "crc32c" },
            ],
            "attributes": {},
        }),
    )?;
    let mut plain = vec![T::zeroed(); SUMMARY_CHUNK];
    let mut encoded = vec![0; zstd_safe::compress_bound(SUMMARY_CHUNK * size_of::<T>())];
    for (i, range) in chunk_ranges(values.len()) {
        // Zarr chunks are whole; the last one's rest is the fill value.
        plain[range.len()..].fill(T::zeroed());
        plain[..range.len()].copy_from_slice(&values[range]);
        let n = zstd_safe::compress(&mut encoded[..], bytemuck::cast_slice(&plain), ZSTD_LEVEL)
            .expect("the bound suffices");
        let path = chunks.join(i.to_string());
        let mut file = File::create(&path).map_err(Error::io(&path, "cannot create"))?;
        let checksum = checksum(&encoded[..n]).to_le_bytes();
        file.write_all(&encoded[..n])
            .and_then(|()| file.write_all(&checksum))
            .map_err(Error::io(&path, "cannot write"))?;
        file.sync_all().map_err(Error::io(&path, "cannot flush"))?;
    }
    Ok(())
}

fn read_array<T: Pod>(folder: &Path, dtype: &str, expected: Option<u64>) -> Result<Vec<T>> {
    let document = Document::read(folder)?
        .ok_or_else(|| Error::data(folder, "label counts are missing: ingest the volume again"))?;
    document.expect_node("array")?;
    let root = document.root();
    root.expect("data_type", &json!(dtype))?;
    root.expect("shape", &json!([expected]))?;
    root.extension("chunk_grid", "regular")?.expect("chunk_shape", &json!([SUMMARY_CHUNK]))?;
    let codecs =
        root.objects("codecs")?.iter().map(|c| c.string("name")).collect::<Result<Vec<_>>>()?;
    if codecs != ["bytes", "zstd", "crc32c"] {
        return Err(root.error("codecs", "expected bytes, zstd, crc32c"));
    }
    let length =
        usize::try_from(expected.unwrap_or(0)).map_err(|_| root.error("shape", "too long"))?;
    let mut values = Vec::new();
    let mut plain = vec![T::zeroed(); SUMMARY_CHUNK];
    for (i, range) in chunk_ranges(length) {
        let path = folder.join("c").join(i.to_string());
        let encoded = fs::read(&path).map_err(Error::io(&path, "cannot read"))?;
        let whole = encoded.len() > CHECKSUM_BYTES && {
            let (payload, expected) = split_checksum(&encoded);
            let out: &mut [u8] = bytemuck::cast_slice_mut(&mut plain);
            checksum(payload) == expected
                && zstd_safe::decompress(out, payload)
                    .is_ok_and(|n| n == SUMMARY_CHUNK * size_of::<T>())
        };
        if !whole {
            return Err(Error::data(&path, "label counts are damaged: ingest the volume again"));
        }
        values.extend_from_slice(&plain[..range.len()]);
    }
    Ok(values)
}
