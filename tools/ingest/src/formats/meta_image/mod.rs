//! Reads and writes `MetaImage`, the format of ITK: `.mha`, `.mhd`.
//!
//! `header` reads the lines and what they mean, `write` writes them.
//!
//! # Invariants
//! - The bytes of a file can neither cause a panic nor decide how much memory is allocated.
//! - No file outside of the header's folder is opened.
//! - Of the header only what is listed here is kept: comments and names may be those of a person.

mod header;
mod write;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use voxquarry::{Affine, Dtype, Error, IfExists, Result};

use super::byte_input::ByteInput;
use super::export_spec::ExportSpec;
use super::file_chain::{FileChain, FilePart, Start, beside};
use super::format::{ExportFormat, Format, OpenedVolume, Place, VolumeExport};
use super::raster::{OpenedRaster, RasterLayout, VoxelBytes, no_footer};
use super::stated::{NO_SPACING, Stated};
use super::text_numbers::TextEncoding;
use super::unpack::Packing;
use super::voxels::ByteOrder;
use crate::source::{SourceVolume, metadata};
use header::{DataPlace, MetaHeader};

/// `MetaImage`.
pub(super) struct MetaImage;

impl Format for MetaImage {
    fn name(&self) -> &'static str {
        "MetaImage"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".mha", ".mhd"]
    }

    fn recognises(&self, _path: &Path, head: &[u8]) -> bool {
        header::begins(head)
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        Ok(Box::new(open_meta_image(place.path(), stated.affine)?))
    }

    fn digested_files(&self, place: &Place) -> Result<Option<Vec<PathBuf>>> {
        let path = place.path();
        let header = MetaHeader::read(path, &mut ByteInput::open_plain(path)?)?;
        let mut files = vec![path.to_owned()];
        files.extend(parts_of(path, &header)?.into_iter().flatten().map(|part| part.path));
        Ok(Some(files))
    }

    fn export(&self) -> Option<&dyn ExportFormat> {
        Some(self)
    }
}

impl ExportFormat for MetaImage {
    fn stored_dtype(&self, dtype: Dtype) -> Dtype {
        if dtype == Dtype::Float16 { Dtype::Float32 } else { dtype }
    }

    fn keeps_scaling(&self) -> bool {
        false
    }

    fn create(
        &self,
        out: &Path,
        spec: &ExportSpec,
        if_exists: IfExists,
        _threads: usize,
    ) -> Result<Box<dyn VolumeExport>> {
        write::create(out, spec, if_exists)
    }
}

fn open_meta_image(path: &Path, stated: Option<Affine>) -> Result<OpenedRaster> {
    let mut input = ByteInput::open_plain(path)?;
    let header = MetaHeader::read(path, &mut input)?;
    let affine = stated.unwrap_or(header.affine);
    let valid = affine.validate();
    valid.map_err(|e| Error::data(path, format!("{e}: correct the header first")))?;
    let bytes: Box<dyn VoxelBytes> = match parts_of(path, &header)? {
        None => Box::new(FileChain::behind_header(input, &local_part(path, &header))?),
        Some(parts) => Box::new(FileChain::beside_header(path, input, parts)?),
    };
    let mut layout = RasterLayout::planes(header.size, header.dtype, header.order);
    if header.samples > 1 {
        (layout.samples, layout.run) = (header.samples, 1);
    }
    if header.is_text {
        layout.order = ByteOrder::Little;
    }
    let mut notes = header.notes.clone();
    if !header.has_spacing && stated.is_none() {
        notes.push(NO_SPACING.to_owned());
    }
    let channels = header.samples * header.volumes;
    let volume = SourceVolume {
        size: header.size,
        channels: (channels > 1).then_some(channels),
        interleaved: header.samples,
        dtype: header.dtype,
        affine,
        unit: header.unit,
        slope: header.slope,
        intercept: header.intercept,
        origin: origin(&header),
    };
    Ok(OpenedRaster { volume, layout, bytes, notes, label_names: Vec::new(), footer: no_footer })
}

/// What is kept of a header.
fn origin(header: &MetaHeader) -> Map<String, Value> {
    let entries = [
        ("format", json!("metaimage")),
        ("dimensions", json!(header.dimensions)),
        ("byte_order", json!(header.order.name())),
        ("compressed", json!(header.packing != Packing::Plain)),
        ("modality", json!(header.modality)),
    ];
    metadata(entries.into_iter().filter(|(_, value)| !value.is_null()))
}

/// The voxels behind the header in the same file.
fn local_part(path: &Path, header: &MetaHeader) -> FilePart {
    FilePart {
        path: path.to_owned(),
        lines: 0,
        start: header.start,
        packing: header.packing,
        text: header.is_text.then_some(TextEncoding::Decimal(header.dtype)),
        bytes: header.voxel_bytes(),
    }
}

/// The files of the voxels, or `None` if they are behind the header.
fn parts_of(path: &Path, header: &MetaHeader) -> Result<Option<Vec<FilePart>>> {
    let names = match &header.data {
        DataPlace::Local => {
            if matches!(header.start, Start::Bytes(bytes) if bytes > 0) {
                let message = "HeaderSize beside ElementDataFile = LOCAL: expected 0 or -1";
                return Err(Error::data(path, message));
            }
            return Ok(None);
        }
        DataPlace::Files(names) => names,
    };
    let each = header.voxel_bytes() / names.len() as u64;
    let parts = names.iter().map(|name| {
        let part = local_part(path, header);
        Ok(FilePart { path: beside(path, name)?, bytes: each, ..part })
    });
    parts.collect::<Result<_>>().map(Some)
}
