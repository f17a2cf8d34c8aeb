//! One-dimensional Zarr arrays of numbers about a volume's chunks (§8).
//!
//! # Invariants
//! - An array that is read has the expected length, and every checksum was compared.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::ops::Range;

use bytemuck::Pod;
use serde_json::{Value, json};
use zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective, get_frame_content_size};

use crate::codec::{CHECKSUM_BYTES, checksum, is_out_of_memory, split_checksum};
use crate::format::document::{self, Document};
use crate::format::limits::SUMMARY_CHUNK;
use crate::memory::{reserve, zeroed};
use crate::sys::folder::Folder;
use crate::{Error, Result};

const ZSTD_LEVEL: i32 = 3;
/// More than a compressor of these arrays allocates.
const ZSTD_BYTES: u64 = 4 << 20;

fn no_compressor() -> Error {
    Error::OutOfMemory { what: "Zstandard".into(), bytes: ZSTD_BYTES }
}

fn chunk_ranges(length: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..length.div_ceil(SUMMARY_CHUNK))
        .map(move |i| (i, i * SUMMARY_CHUNK..((i + 1) * SUMMARY_CHUNK).min(length)))
}

/// The document of an array of `length` elements along `dimension`.
fn document(dtype: &str, dimension: &str, length: u64) -> Value {
    json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": [length],
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
        "dimension_names": [dimension],
        "attributes": {},
    })
}

/// Writes an array into `folder`, which no reader may see yet. With `attributes`, its document is
/// sealed (§8).
///
/// Returns `crc32c`, continued over the document and the elements.
pub(crate) fn write<T: Pod>(
    folder: &Folder,
    dtype: &str,
    dimension: &str,
    values: &[T],
    attributes: Option<Value>,
    crc32c: u32,
) -> Result<u32> {
    let mut rest = values;
    write_with(folder, (dtype, dimension), values.len(), attributes, crc32c, |out: &mut [T]| {
        let (now, later) = rest.split_at(out.len());
        out.copy_from_slice(now);
        rest = later;
        Ok(())
    })
}

/// As [`write`], with `length` values that `fill` yields, some at each call.
pub(crate) fn write_with<T: Pod>(
    folder: &Folder,
    (dtype, dimension): (&str, &str),
    length: usize,
    attributes: Option<Value>,
    mut crc32c: u32,
    mut fill: impl FnMut(&mut [T]) -> Result<()>,
) -> Result<u32> {
    let chunks = folder.join("c");
    chunks.create_all().map_err(Error::io(chunks.path(), "cannot create"))?;
    let mut document = document(dtype, dimension, length as u64);
    let text = if let Some(attributes) = attributes {
        document["attributes"] = attributes;
        document::write_sealed_in(folder, document)?
    } else {
        document::write_in(folder, &document)?
    };
    crc32c = crc32c::crc32c_append(crc32c, &text);
    let what = || format!("a part of {}", folder.path().display());
    let mut plain = zeroed::<T>(SUMMARY_CHUNK, what)?;
    let bound = zstd_safe::compress_bound(SUMMARY_CHUNK * size_of::<T>());
    let mut encoded = zeroed::<u8>(bound, what)?;
    for (i, range) in chunk_ranges(length) {
        // Zarr chunks have one size: the rest of the last one is the fill value.
        plain[range.len()..].fill(T::zeroed());
        fill(&mut plain[..range.len()])?;
        crc32c = crc32c::crc32c_append(crc32c, bytemuck::cast_slice(&plain[..range.len()]));
        // The bound suffices, so that nothing but memory can be missing.
        let n = zstd_safe::compress(&mut encoded[..], bytemuck::cast_slice(&plain), ZSTD_LEVEL)
            .map_err(|_| no_compressor())?;
        let path = chunks.path().join(i.to_string());
        let mut file =
            chunks.create_file(i.to_string()).map_err(Error::io(&path, "cannot create"))?;
        let checksum = checksum(&encoded[..n]).to_le_bytes();
        file.write_all(&encoded[..n])
            .and_then(|()| file.write_all(&checksum))
            .map_err(Error::io(&path, "cannot write"))?;
        file.sync_all().map_err(Error::io(&path, "cannot flush"))?;
    }
    Ok(crc32c)
}

/// Reads the array in `folder` that `document` describes; it has `expected` elements. `what` names
/// it in messages.
///
/// Returns the elements, and `crc32c` continued over the document and the elements.
pub(crate) fn read<T: Pod>(
    folder: &Folder,
    document: &Document,
    dtype: &str,
    expected: Option<u64>,
    what: &str,
    crc32c: u32,
) -> Result<(Vec<T>, u32)> {
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
    let chunks = folder.join("c");
    let mut values = Vec::new();
    for (i, range) in chunk_ranges(length) {
        let path = chunks.path().join(i.to_string());
        let limit = zstd_safe::compress_bound(SUMMARY_CHUNK * size_of::<T>()) + CHECKSUM_BYTES;
        let encoded = match chunks.read_file(i.to_string(), limit as u64) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::data(&path, format!("a part of {what} is missing")));
            }
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                return Err(Error::data(&path, format!("a part of {what}: {e}")));
            }
            read => read.map_err(Error::io(&path, "cannot read"))?,
        };
        reserve(&mut values, range.len(), || format!("{length} elements of {what}"))?;
        values.resize(range.end, T::zeroed());
        let whole = encoded.len() > CHECKSUM_BYTES && {
            let (payload, expected) = split_checksum(&encoded);
            checksum(payload) == expected
                && decode(payload, SUMMARY_CHUNK * size_of::<T>(), &mut values[range])?
        };
        if !whole {
            let message = format!("{what} are damaged: ingest the volume again");
            return Err(Error::data(&path, message));
        }
    }
    let crc32c = crc32c::crc32c_append(crc32c, document.text());
    let crc32c = crc32c::crc32c_append(crc32c, bytemuck::cast_slice(&values));
    Ok((values, crc32c))
}

/// Decodes the first elements of a chunk of `chunk_bytes`, as many as `out` takes; whether they are
/// there.
///
/// The rest of a chunk of few elements is half a megabyte of zeros.
///
/// # Errors
/// [`Error::OutOfMemory`].
fn decode<T: Pod>(payload: &[u8], chunk_bytes: usize, out: &mut [T]) -> Result<bool> {
    thread_local! {
        static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    }
    // A frame need not say its length.
    if !get_frame_content_size(payload).is_ok_and(|n| n.is_none_or(|n| n == chunk_bytes as u64)) {
        return Ok(false);
    }
    DECODER.with_borrow_mut(|decoder| {
        if decoder.is_none() {
            *decoder = DCtx::try_create();
        }
        let decoder = decoder.as_mut().ok_or_else(no_compressor)?;
        let out: &mut [u8] = bytemuck::cast_slice_mut(out);
        let (length, mut input) = (out.len(), InBuffer::around(payload));
        let mut output = OutBuffer::around(out);
        if decoder.reset(ResetDirective::SessionOnly).is_err() {
            return Ok(false);
        }
        while output.pos() < length {
            let before = (input.pos(), output.pos());
            match decoder.decompress_stream(&mut output, &mut input) {
                Err(code) if is_out_of_memory(code) => return Err(no_compressor()),
                Ok(_) if before != (input.pos(), output.pos()) => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    })
}
