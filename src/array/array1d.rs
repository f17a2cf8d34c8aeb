//! One-dimensional Zarr arrays of numbers about a volume's chunks (§8).
//!
//! # Invariants
//! - An array that is read has the expected length, and every checksum was compared.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::Path;

use bytemuck::Pod;
use serde_json::{Value, json};

use crate::codec::{CHECKSUM_BYTES, checksum, split_checksum};
use crate::format::document::{self, Document};
use crate::format::limits::SUMMARY_CHUNK;
use crate::sys::file::read_bounded;
use crate::{Error, Result};

const ZSTD_LEVEL: i32 = 3;

fn chunk_ranges(length: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..length.div_ceil(SUMMARY_CHUNK))
        .map(move |i| (i, i * SUMMARY_CHUNK..((i + 1) * SUMMARY_CHUNK).min(length)))
}

/// Writes an array into `folder`, which no reader may see yet.
pub(crate) fn write<T: Pod>(
    folder: &Path,
    dtype: &str,
    values: &[T],
    attributes: &Value,
) -> Result<()> {
    let chunks = folder.join("c");
    fs::create_dir_all(&chunks).map_err(Error::io(&chunks, "cannot create"))?;
    document::write(
        folder,
        &json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": [values.len()],
            "data_type": dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": { "chunk_shape": [SUMMARY_CHUNK] },
            },
            "chunk_key_encoding": { "name": "default", "configuration": { "separator": "/" } },
            "fill_value": 0,
            "codecs": [
                { "name": "bytes", "configuration": { "endian": "little" } },
                { "name": "zstd", "configuration": { "level": ZSTD_LEVEL, "checksum": false } },
                { "name": "crc32c" },
            ],
            "attributes": attributes,
        }),
    )?;
    let mut plain = vec![T::zeroed(); SUMMARY_CHUNK];
    let mut encoded = vec![0; zstd_safe::compress_bound(SUMMARY_CHUNK * size_of::<T>())];
    for (i, range) in chunk_ranges(values.len()) {
        // Zarr chunks have one size: the rest of the last one is the fill value.
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

/// Reads the array in `folder` that `document` describes; it has `expected` elements. `what` names
/// it in messages.
pub(crate) fn read<T: Pod>(
    folder: &Path,
    document: &Document,
    dtype: &str,
    expected: Option<u64>,
    what: &str,
) -> Result<Vec<T>> {
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
        let limit = zstd_safe::compress_bound(SUMMARY_CHUNK * size_of::<T>()) + CHECKSUM_BYTES;
        let encoded = match read_bounded(&path, limit as u64) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::data(&path, format!("a part of {what} is missing")));
            }
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                return Err(Error::data(&path, format!("a part of {what}: {e}")));
            }
            read => read.map_err(Error::io(&path, "cannot read"))?,
        };
        let whole = encoded.len() > CHECKSUM_BYTES && {
            let (payload, expected) = split_checksum(&encoded);
            let out: &mut [u8] = bytemuck::cast_slice_mut(&mut plain);
            checksum(payload) == expected
                && zstd_safe::decompress(out, payload)
                    .is_ok_and(|n| n == SUMMARY_CHUNK * size_of::<T>())
        };
        if !whole {
            let message = format!("{what} are damaged: ingest the volume again");
            return Err(Error::data(&path, message));
        }
        values.extend_from_slice(&plain[..range.len()]);
    }
    Ok(values)
}
