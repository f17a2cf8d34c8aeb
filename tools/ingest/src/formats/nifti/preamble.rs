//! Makes the bytes before and after the voxels of a new file: those of the source where they still
//! apply, a fresh header otherwise.
//!
//! # Invariants
//! - The result parses as a header, with the extents, data type and scaling of the volume.

use base64::prelude::{BASE64_STANDARD, Engine};
use voxquarry::{Affine, Error, LengthUnit, Result};

use super::datatype::DataType;
use super::fields::{
    EXTENSION_FLAG_BYTES, Fields, Form, METRES, MICROMETRES, MILLIMETRES, Version,
};
use super::header::Header;
use crate::formats::export_spec::ExportSpec;
use crate::formats::voxels::ByteOrder;

/// The sform code that nibabel writes for an affine without a header: "aligned".
const ALIGNED: i16 = 2;
/// Extensions begin and end at multiples of this.
const EXTENSION_ALIGNMENT: usize = 16;

/// The bytes around the voxels, with the byte order and data type of the voxels.
pub(super) struct Preamble {
    pub(super) bytes: Vec<u8>,
    pub(super) order: ByteOrder,
    pub(super) data_type: DataType,
    /// The bytes after the voxels.
    pub(super) trailer: Vec<u8>,
}

impl Preamble {
    /// # Errors
    /// [`Error::Unsupported`] for a dtype that NIfTI does not have.
    pub(super) fn new(spec: &ExportSpec, form: Form) -> Result<Self> {
        match Self::original(spec, form) {
            Some(preamble) => Ok(preamble),
            None => Self::fresh(spec, form),
        }
    }

    /// The preamble of the source, if it still describes the volume.
    fn original(spec: &ExportSpec, form: Form) -> Option<Self> {
        let origin =
            spec.origin.as_ref().filter(|o| o.get("format").is_some_and(|f| f == "nifti"))?;
        let mut bytes = BASE64_STANDARD.decode(origin.get("preamble")?.as_str()?).ok()?;
        let header = Header::parse(&bytes).ok()?;
        if !describes(&header, spec) {
            return None;
        }
        let was_pair = origin.get("pair").is_some_and(|pair| pair == true);
        let dropped = origin.get("extensions_dropped").is_some_and(|dropped| dropped == true);
        let fits = !dropped
            && was_pair == (form == Form::Pair)
            && match form {
                Form::Pair => header.vox_offset == 0,
                Form::Single => header.voxels_at(form) == Ok(bytes.len() as u64),
            };
        if !fits {
            refit(&mut bytes, &header, form);
        }
        let trailer = origin.get("trailer").and_then(|trailer| trailer.as_str());
        let trailer =
            trailer.and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
        Some(Self { bytes, order: header.order, data_type: header.data_type, trailer })
    }

    /// A new preamble as nibabel writes for an array and affine: sform "aligned", qform "unknown",
    /// mm.
    fn fresh(spec: &ExportSpec, form: Form) -> Result<Self> {
        let data_type = DataType::of(spec.dtype).ok_or_else(|| {
            let reason = format!("NIfTI cannot hold {}", spec.dtype);
            Error::unsupported(reason, "convert the volume to float32 first")
        })?;
        let [z, y, x] = spec.size;
        let dims: Vec<usize> = [x, y, z].into_iter().chain(spec.channels).collect();
        let version = version_for(spec, &dims);
        let at = version.offsets();
        let mut bytes = vec![0; version.minimum_offset()];
        let mut fields = Fields::new(&mut bytes, version, ByteOrder::Little);
        fields.set_identity(form);
        fields.set_dim(0, dims.len());
        (1..8).for_each(|i| fields.set_dim(i, dims.get(i - 1).copied().unwrap_or(1)));
        fields.set_i16(at.datatype, data_type.code);
        fields.set_i16(at.bitpix, 8 * data_type.voxel_bytes() as i16);
        let [dz, dy, dx] = spec.affine.spacing_mm();
        let qfac = if is_mirrored(&spec.affine) { -1.0 } else { 1.0 };
        for (i, step) in [qfac, dx, dy, dz, 1.0, 1.0, 1.0, 1.0].into_iter().enumerate() {
            fields.set_real(at.pixdim, i, step);
        }
        fields.set_real(at.slope, 0, spec.slope);
        fields.set_real(at.intercept, 0, spec.intercept);
        fields.set_code(at.sform_code, ALIGNED);
        for (i, value) in spec.affine.0[..3].iter().flatten().enumerate() {
            fields.set_real(at.srow, i, *value);
        }
        fields.set_units(spec.unit.map_or(MILLIMETRES, units_of));
        fields.set_vox_offset(if form == Form::Pair { 0 } else { version.minimum_offset() });
        Ok(Self { bytes, order: ByteOrder::Little, data_type, trailer: Vec::new() })
    }
}

/// The units of a header: of space, none of time.
fn units_of(unit: LengthUnit) -> u8 {
    match unit {
        LengthUnit::Meter => METRES,
        LengthUnit::Micrometer => MICROMETRES,
        _ => MILLIMETRES,
    }
}

/// Whether a header still describes the volume.
fn describes(header: &Header, spec: &ExportSpec) -> bool {
    // A recomputed affine may differ in the last bits, far below the precision of a scanner.
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    let same_affine = |found: Affine| {
        let scale = found.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        let pairs = found.0.iter().flatten().zip(spec.affine.0.iter().flatten());
        pairs.into_iter().all(|(&a, &b)| close(a, b) || (a - b).abs() <= 1e-9 * scale)
    };
    header.size() == spec.size
        && header.channels() == spec.channels
        && header.data_type.dtype == spec.dtype
        && (header.slope, header.intercept) == (spec.slope, spec.intercept)
        && header.affine().is_ok_and(same_affine)
}

/// Adapts a preamble to the other form of file: keeps the header and whole extensions, and nothing
/// else.
fn refit(bytes: &mut Vec<u8>, header: &Header, form: Form) {
    let version = header.version;
    let end = extensions_end(bytes, header);
    bytes.resize(end.max(version.minimum_offset()), 0);
    if end <= version.minimum_offset() {
        bytes[version.header_bytes()..].fill(0);
    }
    if form == Form::Single {
        bytes.resize(bytes.len().next_multiple_of(EXTENSION_ALIGNMENT), 0);
    }
    let offset = if form == Form::Single { bytes.len() } else { 0 };
    let mut fields = Fields::new(bytes, version, header.order);
    fields.set_identity(form);
    fields.set_vox_offset(offset);
}

/// The end of the last whole extension, or of the header if there is none.
fn extensions_end(bytes: &[u8], header: &Header) -> usize {
    let start = header.version.minimum_offset();
    if bytes.len() < start || bytes[start - EXTENSION_FLAG_BYTES] == 0 {
        return header.version.header_bytes();
    }
    let mut end = start;
    while let Some(size) = bytes.get(end..end + 4) {
        let size: [u8; 4] = size.try_into().expect("four bytes");
        let size = match header.order {
            ByteOrder::Little => i32::from_le_bytes(size),
            ByteOrder::Big => i32::from_be_bytes(size),
        };
        // The size includes its own field and the code, eight bytes together.
        match usize::try_from(size) {
            Ok(size) if size >= 8 && size <= bytes.len() - end => end += size,
            _ => break,
        }
    }
    end
}

/// NIfTI-1, which every tool reads, unless it cannot represent an extent or a number.
fn version_for(spec: &ExportSpec, dims: &[usize]) -> Version {
    let finite = |v: f64| (v as f32).is_finite();
    let normal = |v: f64| (v as f32).is_normal();
    let first = dims.iter().all(|&n| i16::try_from(n).is_ok())
        && normal(spec.slope)
        && finite(spec.intercept)
        && spec.affine.0.iter().flatten().all(|&v| finite(v))
        && spec.affine.spacing_mm().into_iter().all(normal);
    if first { Version::One } else { Version::Two }
}

/// Whether the axes are left-handed, which is a qfac of −1 in a qform.
fn is_mirrored(Affine([a, b, c, _]): &Affine) -> bool {
    let cross = [b[1] * c[2] - b[2] * c[1], b[0] * c[2] - b[2] * c[0], b[0] * c[1] - b[1] * c[0]];
    a[0] * cross[0] - a[1] * cross[1] + a[2] * cross[2] < 0.0
}
