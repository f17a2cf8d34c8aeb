//! Parses NIfTI-1 and NIfTI-2 headers, 348 or 540 bytes in either byte order, with nibabel's
//! repairs.
//!
//! # Invariants
//! - Any bytes can be parsed without a panic. A [`Header`] has extents whose product does not
//!   overflow, and a data type that a store can hold.
//!
//! Not here: the length of the file (`input`), the validity of the affine (`affine`).

use voxquarry::Size3;

use super::datatype::DataType;
use super::fields::{Fields, Form, LINE_ENDS, Version};
use crate::formats::voxels::{ByteOrder, MAX_VOXELS};

/// A parsed header.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) order: ByteOrder,
    /// The form that the magic states; pairs with the magic of a single file exist.
    pub(super) magic: Form,
    /// Extents, all positive, x first: `dim[1..=dim[0]]`, or the true extents of FreeSurfer
    /// surfaces.
    pub(super) dims: Vec<u64>,
    /// `dim[1..=3]` as stored, by which nibabel centres the volume.
    pub(super) stated_dims: Vec<i64>,
    pub(super) data_type: DataType,
    /// `pixdim[0..8]`, with the repairs that nibabel makes on load.
    pub(super) pixdim: [f64; 8],
    /// As stored; see [`Header::voxels_at`].
    pub(super) vox_offset: u64,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    pub(super) qform_code: i32,
    pub(super) sform_code: i32,
    pub(super) quaternion: [f64; 3],
    pub(super) q_offset: [f64; 3],
    pub(super) srow: [[f64; 4]; 3],
    pub(super) units: u8,
    pub(super) intent_code: i32,
    pub(super) intent_params: [f64; 3],
    pub(super) intent_name: String,
}

impl Version {
    /// The version of a file that begins with `bytes`. As in nibabel, the magic identifies version
    /// 1, and the length of the header version 2.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if Self::One.form(bytes).is_some() {
            return Some(Self::One);
        }
        let first: [u8; 4] = bytes.get(..4)?.try_into().expect("four bytes");
        (u32::from_le_bytes(first) == 540 || u32::from_be_bytes(first) == 540).then_some(Self::Two)
    }

    /// The form that the magic of this version states.
    fn form(self, bytes: &[u8]) -> Option<Form> {
        let at = self.offsets().magic;
        let magic = bytes.get(at..at + 4)?;
        [Form::Single, Form::Pair].into_iter().find(|&form| magic == self.magic(form))
    }
}

/// A message about a file that is not NIfTI.
fn describe_foreign_file(bytes: &[u8]) -> String {
    let packed = [(&b"BZh"[..], "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ", "xz")];
    if let Some((_, name)) = packed.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("compressed with {name}: decompress it first, or compress it with gzip");
    }
    let size: Option<[u8; 4]> = bytes.get(..4).and_then(|b| b.try_into().ok());
    let is_348 = |s: [u8; 4]| u32::from_le_bytes(s) == 348 || u32::from_be_bytes(s) == 348;
    if bytes.len() >= Version::One.header_bytes() && size.is_some_and(is_348) {
        return "Analyze 7.5, or a header without NIfTI's magic, which does not state the \
                orientation: convert it first, with nibabel: \
                nib.save(nib.Nifti1Image.from_image(nib.load(\"a.img\")), \"a.nii\")"
            .into();
    }
    let found = bytes.len();
    if found < Version::One.header_bytes() {
        return format!("not a NIfTI file: it has {found} bytes, a header has 348");
    }
    "not a NIfTI file: it has the magic of neither version".into()
}

impl Header {
    /// Parses the first bytes of a file: 348, or 540 for version 2. More bytes are ignored.
    ///
    /// # Errors
    /// A message about the first invalid field.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let version = Version::of(bytes).ok_or_else(|| describe_foreign_file(bytes))?;
        let found = bytes.len();
        if found < version.header_bytes() {
            return Err(format!(
                "the file has {found} bytes, a NIfTI-2 header has 540: copy the file again"
            ));
        }
        let magic = version.form(bytes).ok_or(
            "the header has the length of NIfTI-2, but not its magic: export the image again",
        )?;
        if version == Version::Two && bytes[8..12] != *LINE_ENDS && bytes[8..12] != [0; 4] {
            return Err("its line ends were converted: copy the file again, in binary mode".into());
        }
        let order = byte_order(bytes, version)?;
        let (fields, at) = (Fields::new(bytes, version, order), version.offsets());
        let stated: Vec<i64> = (1..=fields.dim(0) as usize).map(|i| fields.dim(i)).collect();
        let dims = extents(&stated, fields.glmin())?;
        let data_type = DataType::from_code(fields.i16(at.datatype))?;
        let samples = data_type.samples as u64;
        let voxels = dims.iter().try_fold(samples, |n, &d| n.checked_mul(d));
        if voxels.is_none_or(|n| n > MAX_VOXELS) {
            return Err(format!(
                "{dims:?} voxels are more than any file holds: correct the header"
            ));
        }
        let intent_code = fields.code(at.intent_code);
        if version == Version::Two && (3000..3100).contains(&intent_code) {
            return Err(format!(
                "CIFTI-2 (intent {intent_code}) holds surfaces, not a volume: \
                 extract its volumes with wb_command -cifti-separate"
            ));
        }
        let (slope, intercept) =
            scaling(fields.real(at.slope, 0), fields.real(at.intercept, 0), data_type)?;
        Ok(Self {
            version,
            order,
            magic,
            dims,
            stated_dims: stated.into_iter().take(3).collect(),
            data_type,
            pixdim: repaired_pixdim(fields.reals(at.pixdim)),
            vox_offset: fields.vox_offset()?,
            slope,
            intercept,
            qform_code: known_xform(fields.code(at.qform_code)),
            sform_code: known_xform(fields.code(at.sform_code)),
            quaternion: fields.reals(at.quaternion),
            q_offset: fields.reals(at.q_offset),
            srow: std::array::from_fn(|row| {
                std::array::from_fn(|column| fields.real(at.srow, 4 * row + column))
            }),
            units: fields.units(),
            intent_code,
            intent_params: fields.reals(at.intent_params),
            intent_name: fields.text(at.intent_name, 16),
        })
    }

    /// Extents in `(z, y, x)`, 1 along axes that the file does not have.
    pub(super) fn size(&self) -> Size3 {
        [2, 1, 0].map(|i| self.dims.get(i).map_or(1, |&n| n as usize))
    }

    /// Channels: the product of axes 4 to 7 and the samples of a voxel; `None` without either.
    pub(super) fn channels(&self) -> Option<usize> {
        let outer: u64 = self.dims.iter().skip(3).product();
        let has_axis = self.dims.len() > 3 || self.data_type.samples > 1;
        has_axis.then_some(outer as usize * self.data_type.samples)
    }

    /// Bytes of all voxels in the file.
    pub(super) fn data_bytes(&self) -> u64 {
        self.dims.iter().product::<u64>() * self.data_type.voxel_bytes() as u64
    }

    /// Offset of the first voxel in a file of that form; for a pair, in its `.img` file.
    ///
    /// # Errors
    /// A message if it lies inside the header.
    pub(super) fn voxels_at(&self, form: Form) -> Result<u64, String> {
        let minimum = self.version.minimum_offset() as u64;
        match (form, self.vox_offset) {
            (Form::Pair, offset) => Ok(offset),
            (Form::Single, 0) if self.magic == Form::Pair => {
                Err("its voxels are in another file: name it .hdr, beside its .img".into())
            }
            // Not set. nibabel would read the header as voxels, and niftilib would omit the
            // extension flag; a file without that flag is four bytes too short, and is refused.
            (Form::Single, 0) => Ok(minimum),
            (Form::Single, offset) if offset >= minimum => Ok(offset),
            (Form::Single, offset) => Err(format!(
                "vox_offset is {offset}, inside the header: expected {minimum} or more"
            )),
        }
    }
}

/// The byte order in which `dim[0]` is 1 to 7, which holds for at most one. nibabel and niftilib
/// use it too, not `sizeof_hdr`.
fn byte_order(bytes: &[u8], version: Version) -> Result<ByteOrder, String> {
    let axes = [ByteOrder::Little, ByteOrder::Big]
        .map(|order| (order, Fields::new(bytes, version, order).dim(0)));
    axes.into_iter().find(|(_, n)| (1..=7).contains(n)).map(|(order, _)| order).ok_or_else(|| {
        let [(_, little), (_, big)] = axes;
        format!("dim[0] is {little} ({big} in the other byte order): expected 1 to 7 axes")
    })
}

/// Extents as nibabel reads them: FreeSurfer encodes surfaces with more vertices than 16 bits can
/// count.
fn extents(stated: &[i64], glmin: Option<i32>) -> Result<Vec<u64>, String> {
    let mut extents = stated.to_vec();
    match (stated.get(..3), glmin) {
        (Some([-1, 1, 1]), Some(vertices)) if vertices > 0 => extents[0] = vertices.into(),
        (Some([27_307, 1, 6]), Some(_)) => extents[..3].copy_from_slice(&[163_842, 1, 1]),
        _ => {}
    }
    let positive = |(i, &n): (usize, &i64)| match u64::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("dim[{}] is {n}: every axis needs at least one voxel", i + 1)),
    };
    extents.iter().enumerate().map(positive).collect()
}

/// Slope and intercept as nibabel reads them: a slope that is 0 or not finite means no scaling.
fn scaling(slope: f64, intercept: f64, data_type: DataType) -> Result<(f64, f64), String> {
    if data_type.samples > 1 || slope == 0.0 || !slope.is_finite() {
        return Ok((1.0, 0.0));
    }
    if !intercept.is_finite() {
        return Err(format!(
            "scl_slope is {slope} but scl_inter is {intercept}, so the real values are unknown: \
             correct the header first"
        ));
    }
    Ok((slope, intercept))
}

/// Repairs `pixdim` as nibabel does: qfac becomes 1 or −1, spatial steps become positive, 0 becomes
/// 1.
fn repaired_pixdim(mut pixdim: [f64; 8]) -> [f64; 8] {
    if pixdim[0].abs() != 1.0 {
        pixdim[0] = 1.0;
    }
    for step in &mut pixdim[1..4] {
        *step = if *step == 0.0 { 1.0 } else { step.abs() };
    }
    pixdim
}

/// Replaces codes outside the standard by 0, as nibabel does on load.
fn known_xform(code: i32) -> i32 {
    if (0..=5).contains(&code) { code } else { 0 }
}
