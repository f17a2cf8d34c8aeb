//! Reads files of voxels and nothing else, whose shape the caller states.
//!
//! Not here: headers of any kind.

use std::path::Path;

use serde_json::json;
use voxquarry::{Error, Result};

use super::byte_input::ByteInput;
use super::file_chain::FileChain;
use super::format::OpenedVolume;
use super::raster::{OpenedRaster, RasterLayout, no_footer};
use super::stated::{RawVoxels, Stated};
use crate::source::{SourceVolume, metadata};

/// Endings that are no part of a subject's name.
pub(super) const ENDINGS: [&str; 3] = [".raw", ".bin", ".dat"];

pub(super) fn open(
    path: &Path,
    voxels: &RawVoxels,
    stated: &Stated,
) -> Result<Box<dyn OpenedVolume>> {
    let &RawVoxels { size, channels, dtype, offset, order } = voxels;
    let mut input = ByteInput::open_plain(path)?;
    let bytes = voxels.bytes().filter(|_| !size.contains(&0));
    let expected = bytes.and_then(|bytes| offset.checked_add(bytes));
    if expected != Some(input.file_bytes()) {
        let needed = expected.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        let message = format!(
            "the file has {} bytes, and the stated shape, dtype and offset need {needed}: state \
             those of the file",
            input.file_bytes()
        );
        return Err(Error::data(path, message));
    }
    input.skip_to(offset)?;
    let origin = [
        ("format", json!("raw")),
        ("shape", json!(channels.into_iter().chain(size).collect::<Vec<_>>())),
        ("dtype", json!(dtype.name())),
        ("offset", json!(offset)),
        ("byte_order", json!(order.name())),
    ];
    let mut notes = Vec::new();
    let (affine, unit) = stated.geometry(None, &mut notes);
    let volume = SourceVolume {
        size,
        channels,
        interleaved: 1,
        dtype,
        affine,
        unit,
        slope: 1.0,
        intercept: 0.0,
        origin: metadata(origin),
    };
    Ok(Box::new(OpenedRaster {
        layout: RasterLayout::planes(size, dtype, order),
        bytes: Box::new(FileChain::continuing(path, input, bytes.unwrap_or(0))),
        volume,
        notes,
        label_names: Vec::new(),
        footer: no_footer,
    }))
}
