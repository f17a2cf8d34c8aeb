//! Reads and writes NRRD, the format of Teem and 3D Slicer: `.nrrd`, `.nhdr`.
//!
//! `fields` reads the lines of a header, `header` what they mean for the voxels, `geometry` where
//! voxels lie, `segments` the names that 3D Slicer gives to labels; `write` writes files.
//!
//! # Invariants
//! - The bytes of a file can neither cause a panic nor decide how much memory is allocated.
//! - No file outside of the header's folder is opened.
//! - Of the header only what is listed here is kept: key/value pairs may hold a person's data.

mod fields;
mod geometry;
mod header;
mod segments;
mod write;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use voxquarry::format::attributes::Kind;
use voxquarry::{Dtype, Error, IfExists, Result};

use super::byte_input::ByteInput;
use super::export_spec::ExportSpec;
use super::file_chain::FileChain;
use super::format::{ExportFormat, Format, FoundVolume, OpenedVolume, Place, VolumeExport};
use super::raster::{OpenedRaster, VoxelBytes, no_footer};
use super::stated::{NO_SPACING, Stated};
use crate::source::{SourceVolume, metadata};
use fields::NrrdFields;
use geometry::Geometry;
use header::NrrdHeader;

/// NRRD.
pub(super) struct Nrrd;

impl Format for Nrrd {
    fn name(&self) -> &'static str {
        "NRRD"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".nrrd", ".nhdr"]
    }

    fn recognises(&self, _path: &Path, head: &[u8]) -> bool {
        head.starts_with(b"NRRD00")
    }

    fn volumes(&self, path: &Path) -> Result<Vec<FoundVolume>> {
        // Damage is found when the volume is opened.
        let fields = ByteInput::open_plain(path).and_then(|mut i| NrrdFields::read(path, &mut i));
        let is_labels = fields.is_ok_and(|fields| segments::are_in(&fields));
        let kind = is_labels.then_some(Kind::Labels);
        Ok(vec![FoundVolume { name: None, kind, place: Place::File(path.to_owned()) }])
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        Ok(Box::new(open_nrrd(place.path(), stated)?))
    }

    fn digested_files(&self, place: &Place) -> Result<Option<Vec<PathBuf>>> {
        let path = place.path();
        let fields = NrrdFields::read(path, &mut ByteInput::open_plain(path)?)?;
        let header = NrrdHeader::of(&fields).map_err(|message| Error::data(path, message))?;
        let mut files = vec![path.to_owned()];
        files.extend(header.parts(path, &fields)?.into_iter().flatten().map(|part| part.path));
        Ok(Some(files))
    }

    fn export(&self) -> Option<&dyn ExportFormat> {
        Some(self)
    }
}

impl ExportFormat for Nrrd {
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
        threads: usize,
    ) -> Result<Box<dyn VolumeExport>> {
        write::create(out, spec, if_exists, threads)
    }
}

fn open_nrrd(path: &Path, stated: &Stated) -> Result<OpenedRaster> {
    let located = |message: String| Error::data(path, message);
    let mut input = ByteInput::open_plain(path)?;
    let fields = NrrdFields::read(path, &mut input)?;
    let header = NrrdHeader::of(&fields).map_err(located)?;
    let mut notes = header.notes.clone();
    let (affine, unit) = if let Some(affine) = stated.affine {
        (affine, None)
    } else {
        let Geometry { affine, unit, has_spacing, notes: found } =
            Geometry::of(&fields, &header).map_err(located)?;
        affine.validate().map_err(|e| located(format!("{e}: correct the header first")))?;
        notes.extend(found);
        if !has_spacing {
            notes.push(NO_SPACING.to_owned());
        }
        (affine, unit)
    };
    let bytes: Box<dyn VoxelBytes> = if let Some(parts) = header.parts(path, &fields)? {
        Box::new(FileChain::beside_header(path, input, parts)?)
    } else {
        let part = header.part(path, header.voxel_bytes());
        Box::new(FileChain::behind_header(input, &part)?)
    };
    let (label_names, found) = segments::label_names(&fields);
    notes.extend(found);
    let layout = header.layout();
    let volume = SourceVolume {
        size: layout.size,
        channels: (header.channels > 1).then_some(header.channels),
        interleaved: layout.samples,
        dtype: layout.dtype,
        affine,
        unit,
        slope: 1.0,
        intercept: 0.0,
        origin: origin(&fields, &header),
    };
    Ok(OpenedRaster { volume, layout, bytes, notes, label_names, footer: no_footer })
}

/// What is kept of a header: how the file was written, and numbers of diffusion images.
fn origin(fields: &NrrdFields, header: &NrrdHeader) -> Map<String, Value> {
    /// More is dropped, so that metadata documents stay small.
    const MAX_BYTES: usize = 1 << 20;
    let mut kept = metadata([
        ("format", json!("nrrd")),
        ("byte_order", json!(header.order.name())),
        ("encoding", json!(header.encoding_name())),
        ("sizes", json!(header.sizes)),
    ]);
    if let Some(frame) = geometry::measurement_frame(fields) {
        kept.insert("measurement_frame".into(), json!(frame));
    }
    let numbers = |value: &str| value.split_whitespace().all(|word| word.parse::<f64>().is_ok());
    let is_number = |key: &str, value: &str| {
        let rest = key.strip_prefix("DWMRI_");
        let is_key = rest.is_some_and(|rest| {
            let bare = rest.trim_end_matches(|c: char| c.is_ascii_digit());
            ["b-value", "gradient_", "B-matrix_", "NEX_"].contains(&bare)
        });
        is_key && numbers(value)
    };
    let pairs = fields.pairs.iter().filter(|(key, value)| is_number(key, value));
    let bytes: usize = pairs.clone().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        kept.insert("key_values_dropped".into(), json!(true));
    } else if bytes > 0 {
        let pairs: Map<_, _> = pairs.map(|(key, value)| (key.clone(), json!(value))).collect();
        kept.insert("key_values".into(), json!(pairs));
    }
    kept
}
