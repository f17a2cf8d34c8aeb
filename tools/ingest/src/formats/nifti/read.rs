//! Streams the voxels of a NIfTI file or pair.
//!
//! # Invariants
//! - No allocation depends on a header alone: the length of the file is compared first, and voxels
//!   go into the caller's buffer.
//! - NaN and infinities do not reach the description.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value, json};
use voxquarry::{Affine, Error, LengthUnit, Result};

use super::fields::{Form, METRES, MICROMETRES, MILLIMETRES, SPACE_UNITS, Version};
use super::header::Header;
use super::pair::pair_of;
use crate::files::exists;
use crate::formats::byte_input::{ByteInput, Trailer};
use crate::formats::format::OpenedVolume;
use crate::formats::raster::{BytesEnd, OpenedRaster, RasterLayout, VoxelBytes};
use crate::source::{SourceVolume, VoxelStream, metadata};

/// Longer extensions, and more bytes after the voxels, are dropped, so that metadata documents stay
/// small.
const MAX_METADATA_BYTES: usize = 1 << 20;

/// Reads the header of a file.
///
/// # Errors
/// [`Error::Data`] if the file is not NIfTI, is damaged, or holds voxels that a store cannot;
/// [`Error::Unsupported`] if the path is not a regular file; [`Error::Io`].
pub fn probe(path: &Path) -> Result<SourceVolume> {
    open_nifti(path, None).map(|opened| opened.volume)
}

/// Opens a file for reading its voxels in order. Bytes after the last voxel become metadata.
///
/// # Errors
/// As [`probe`].
pub fn open(path: &Path) -> Result<(SourceVolume, Box<dyn VoxelStream>)> {
    let opened = open_nifti(path, None)?;
    Ok((opened.volume.clone(), Box::new(opened).stream()?))
}

/// The file of a pair, or the single file, that holds the voxels, and whose digest is recorded.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn voxel_file(path: &Path) -> Result<PathBuf> {
    pair_of(path).map_or_else(|| Ok(path.to_owned()), |(_, image)| present(image, path))
}

/// Reads a header; voxels are the next bytes. A stated `affine` takes the place of its own, which
/// may be invalid then.
pub(super) fn open_nifti(path: &Path, affine: Option<Affine>) -> Result<OpenedRaster> {
    let pair = match pair_of(path) {
        Some((header, image)) => Some((present(header, path)?, present(image, path)?)),
        None => None,
    };
    let form = if pair.is_some() { Form::Pair } else { Form::Single };
    let header_path = pair.as_ref().map_or(path, |(header, _)| header);
    let mut input = open_half(header_path, path)?;
    let mut preamble = Vec::new();
    input.read_up_to(&mut preamble, Version::One.header_bytes())?;
    if Version::of(&preamble) == Some(Version::Two) {
        input.read_up_to(&mut preamble, Version::Two.header_bytes())?;
    }
    let located = |message: String| Error::data(header_path, message);
    let header = Header::parse(&preamble).map_err(located)?;
    let offset = header.voxels_at(form).map_err(located)?;
    let affine = affine.map_or_else(|| header.affine().map_err(located), Ok)?;
    let needed = offset.saturating_add(header.data_bytes());
    let (voxels, is_whole) = match &pair {
        None => {
            input.expect(needed)?;
            let short = usize::try_from(offset).ok().filter(|&n| n <= MAX_METADATA_BYTES);
            if let Some(offset) = short {
                input.read_up_to(&mut preamble, offset)?;
            }
            input.skip_to(offset)?;
            (input, short.is_some())
        }
        Some((_, image)) => {
            // One more byte shows whether the file is longer.
            input.read_up_to(&mut preamble, MAX_METADATA_BYTES + 1)?;
            let mut voxels = open_half(image, path)?;
            voxels.expect(needed)?;
            voxels.skip_to(offset)?;
            (voxels, preamble.len() <= MAX_METADATA_BYTES)
        }
    };
    if !is_whole {
        preamble.truncate(header.version.header_bytes());
    }
    let mut origin = origin(&header, form, &preamble);
    if !is_whole {
        origin.insert("extensions_dropped".into(), true.into());
    }
    let volume = SourceVolume {
        size: header.size(),
        channels: header.channels(),
        interleaved: header.data_type.samples,
        dtype: header.data_type.dtype,
        affine,
        unit: unit_of(&header),
        slope: header.slope,
        intercept: header.intercept,
        origin,
    };
    let mut layout = RasterLayout::planes(volume.size, volume.dtype, header.order);
    if volume.interleaved > 1 {
        (layout.samples, layout.run) = (volume.interleaved, 1);
    }
    Ok(OpenedRaster {
        volume,
        layout,
        bytes: Box::new(NiftiBytes(voxels)),
        notes: Vec::new(),
        label_names: Vec::new(),
        footer,
    })
}

/// The unit of space that a header states.
fn unit_of(header: &Header) -> Option<LengthUnit> {
    match header.units & SPACE_UNITS {
        METRES => Some(LengthUnit::Meter),
        MILLIMETRES => Some(LengthUnit::Millimeter),
        MICROMETRES => Some(LengthUnit::Micrometer),
        _ => None,
    }
}

/// The file that exists for a half of a pair: only one of the halves may be gzip.
///
/// # Errors
/// [`Error::Io`] if the disk does not say which exists.
fn present(half: PathBuf, named: &Path) -> Result<PathBuf> {
    if half == named || exists(&half)? {
        return Ok(half);
    }
    let other = match half.extension() {
        Some(e) if e.eq_ignore_ascii_case("gz") => half.with_extension(""),
        _ => {
            let mut name = half.clone().into_os_string();
            name.push(".gz");
            name.into()
        }
    };
    Ok(if exists(&other)? { other } else { half })
}

/// Opens a half of a pair, or a single file. The user names one half; a missing other half is a
/// fault of the data.
fn open_half(half: &Path, named: &Path) -> Result<ByteInput> {
    ByteInput::open(half).map_err(|error| match error {
        Error::Io { source, .. } if half != named && source.kind() == ErrorKind::NotFound => {
            let remedy = "copy both files of the pair";
            Error::data(half, format!("missing beside {}: {remedy}", named.display()))
        }
        other => other,
    })
}

/// Metadata for the export, and facts of interest to users.
fn origin(header: &Header, form: Form, preamble: &[u8]) -> Map<String, Value> {
    // JSON cannot represent NaN.
    let finite = |v: f64| if v.is_finite() { json!(v) } else { Value::Null };
    let spatial = match header.units & SPACE_UNITS {
        METRES => "meter",
        MILLIMETRES => "mm",
        MICROMETRES => "micron",
        _ => "unknown",
    };
    let temporal = match header.units & 0x38 {
        8 => "sec",
        16 => "msec",
        24 => "usec",
        32 => "hz",
        40 => "ppm",
        48 => "rads",
        _ => "unknown",
    };
    let entries = [
        ("format", json!("nifti")),
        ("version", json!(if header.version == Version::One { 1 } else { 2 })),
        ("byte_order", json!(header.order.name())),
        ("pair", json!(form == Form::Pair)),
        ("dim", json!(header.dims)),
        ("datatype", json!(header.data_type.code)),
        (
            "intent",
            json!({
                "code": header.intent_code,
                "name": header.intent_name,
                "params": header.intent_params.map(finite),
            }),
        ),
        ("units", json!({ "spatial": spatial, "temporal": temporal })),
        ("preamble", json!(BASE64_STANDARD.encode(preamble))),
    ];
    metadata(entries)
}

/// The voxels of a file, and what follows them.
struct NiftiBytes(ByteInput);

impl VoxelBytes for NiftiBytes {
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        self.0.read_exact(out)
    }

    fn end(self: Box<Self>) -> Result<BytesEnd> {
        let Trailer { bytes, sha256, file_bytes } = self.0.finish(MAX_METADATA_BYTES)?;
        Ok(BytesEnd { sha256, file_bytes, trailer: bytes })
    }

    fn working_bytes(&self) -> u64 {
        0
    }
}

/// The bytes behind the voxels, for the export.
fn footer(trailer: Option<&[u8]>) -> Map<String, Value> {
    match trailer {
        Some([]) => Map::new(),
        Some(bytes) => metadata([("trailer", BASE64_STANDARD.encode(bytes).into())]),
        None => metadata([("trailer_dropped", true.into())]),
    }
}
