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
use crate::formats::byte_input::ByteInput;
use crate::formats::format::OpenedVolume;
use crate::formats::voxels::{self, ByteOrder};
use crate::source::{SourceDigest, SourceVolume, VoxelStream};

/// Longer extensions, and more bytes after the voxels, are dropped, so that metadata documents stay
/// small.
const MAX_METADATA_BYTES: usize = 1 << 20;
/// Bytes of a piece of interleaved samples, a multiple of three samples and of four.
const SAMPLES_BYTES: usize = 3 << 16;

/// Reads the header of a file.
///
/// # Errors
/// [`Error::Data`] if the file is not NIfTI, is damaged, or holds voxels that a store cannot;
/// [`Error::Unsupported`] if the path is not a regular file; [`Error::Io`].
pub fn probe(path: &Path) -> Result<SourceVolume> {
    OpenedFile::new(path, None).map(|opened| opened.volume)
}

/// Opens a file for reading its voxels in order. Bytes after the last voxel become metadata.
///
/// # Errors
/// As [`probe`].
pub fn open(path: &Path) -> Result<(SourceVolume, Box<dyn VoxelStream>)> {
    let opened = OpenedFile::new(path, None)?;
    Ok((opened.volume.clone(), Box::new(opened).stream()?))
}

/// The file of a pair, or the single file, that holds the voxels, and whose digest is recorded.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn voxel_file(path: &Path) -> Result<PathBuf> {
    pair_of(path).map_or_else(|| Ok(path.to_owned()), |(_, image)| present(image, path))
}

/// A file whose header was read, and whose voxels are the next bytes.
pub(super) struct OpenedFile {
    volume: SourceVolume,
    header: Header,
    voxels: ByteInput,
}

impl OpenedFile {
    /// Reads a header. A stated `affine` takes the place of its own, which may be invalid then.
    pub(super) fn new(path: &Path, affine: Option<Affine>) -> Result<Self> {
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
        Ok(Self { volume, header, voxels })
    }
}

impl OpenedVolume for OpenedFile {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        Ok(Box::new(NiftiStream { header: self.header, input: self.voxels, samples: Vec::new() }))
    }
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
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

struct NiftiStream {
    header: Header,
    input: ByteInput,
    /// A piece of interleaved samples, for RGB and RGBA.
    samples: Vec<u8>,
}

impl VoxelStream for NiftiStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let data_type = self.header.data_type;
        let (samples, [_, y, x]) = (data_type.samples, self.header.size());
        let plane = y * x * data_type.dtype.size();
        assert_eq!(out.len(), samples * steps * plane, "a buffer of {steps} steps");
        if samples == 1 {
            self.input.read_exact(out)?;
            if self.header.order == ByteOrder::Big {
                voxels::swap(out, data_type.dtype.size());
            }
            return Ok(());
        }
        self.samples.resize(SAMPLES_BYTES, 0);
        let per_piece = SAMPLES_BYTES / samples;
        for z in 0..steps {
            for first in (0..plane).step_by(per_piece) {
                let count = per_piece.min(plane - first);
                let piece = &mut self.samples[..count * samples];
                self.input.read_exact(piece)?;
                let channels = out.chunks_exact_mut(steps * plane);
                let mut parts: Vec<_> =
                    channels.map(|c| &mut c[z * plane + first..][..count]).collect();
                voxels::split(piece, &mut parts);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        let trailer = self.input.finish(MAX_METADATA_BYTES)?;
        let mut origin = Map::new();
        match trailer.bytes {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => {
                origin.insert("trailer".into(), BASE64_STANDARD.encode(bytes).into());
            }
            None => {
                origin.insert("trailer_dropped".into(), true.into());
            }
        }
        Ok(SourceDigest { sha256: trailer.sha256, bytes: trailer.file_bytes, origin })
    }
}
