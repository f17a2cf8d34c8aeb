//! NIfTI-1 and NIfTI-2 headers: 348 or 540 bytes in either byte order, parsed with nibabel's repairs.
//!
//! # Invariants
//! - Any bytes may come in; a [`Header`] has extents that multiply without overflow and a data type that we store.
//!
//! Not here: whether the file is as long as the header says (`input`), whether the affine is one (`affine`).

use voxquarry::Size3;

use super::datatype::DataType;
use super::fields::{Fields, Form, LINE_ENDS, Order, Version};

/// More than any disk holds, and few enough that eight bytes each still can be counted.
const MAX_VOXELS: u64 = 1 << 59;

/// A parsed header.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) order: Order,
    /// What the magic says of the file; pairs with a single file's magic exist.
    pub(super) magic: Form,
    /// Extents, all positive, x first: `dim[1..=dim[0]]` with FreeSurfer's surfaces unfolded.
    pub(super) dims: Vec<u64>,
    /// The first three at most of `dim` as they stand there, which is what nibabel centres by.
    pub(super) stated_dims: Vec<i64>,
    pub(super) data_type: DataType,
    /// `pixdim[0..8]`, as repaired by nibabel on load.
    pub(super) pixdim: [f64; 8],
    /// As it stands there; see [`Header::voxels_at`].
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
    /// The version of a file that begins so, recognised as nibabel does: the first by its magic, the second by its length.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if Self::One.form(bytes).is_some() {
            return Some(Self::One);
        }
        let first: [u8; 4] = bytes.get(..4)?.try_into().expect("four bytes");
        (u32::from_le_bytes(first) == 540 || u32::from_be_bytes(first) == 540).then_some(Self::Two)
    }

    /// The form that this version's magic states.
    fn form(self, bytes: &[u8]) -> Option<Form> {
        let at = self.offsets().magic;
        let magic = bytes.get(at..at + 4)?;
        [Form::Single, Form::Pair].into_iter().find(|&form| magic == self.magic(form))
    }
}

/// What a file is that is not NIfTI.
fn describe_foreign_file(bytes: &[u8]) -> String {
    let packed = [(&b"BZh"[..], "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ", "xz")];
    if let Some((_, name)) = packed.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("compressed with {name}: decompress it first, or compress it with gzip");
    }
    let size: Option<[u8; 4]> = bytes.get(..4).and_then(|b| b.try_into().ok());
    let is_348 = |s: [u8; 4]| u32::from_le_bytes(s) == 348 || u32::from_be_bytes(s) == 348;
    if bytes.len() >= Version::One.header_bytes() && size.is_some_and(is_348) {
        return "Analyze 7.5, or a header without NIfTI's magic, whose orientation is anybody's guess: convert it first, \
                with nibabel: nib.save(nib.Nifti1Image.from_image(nib.load(\"a.img\")), \"a.nii\")"
            .into();
    }
    let found = bytes.len();
    if found < Version::One.header_bytes() {
        return format!("no NIfTI file: {found} bytes, and its header alone would have 348");
    }
    "no NIfTI file: neither version's magic is in its place".into()
}

impl Header {
    /// Parses a file's first bytes: 348, or 540 where [`Version::of`] says so; more do no harm.
    ///
    /// # Errors
    /// A sentence about the first thing that cannot be.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let version = Version::of(bytes).ok_or_else(|| describe_foreign_file(bytes))?;
        let found = bytes.len();
        if found < version.header_bytes() {
            return Err(format!(
                "{found} bytes: ends within its NIfTI-2 header of 540, copy it again"
            ));
        }
        let magic = version.form(bytes).ok_or("a NIfTI-2 header's length without its magic")?;
        if version == Version::Two && bytes[8..12] != *LINE_ENDS && bytes[8..12] != [0; 4] {
            return Err(
                "its line ends were changed on the way: copy the file again, in binary mode".into(),
            );
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
                "{dims:?} voxels are more than any file holds: its header is damaged"
            ));
        }
        let intent_code = fields.code(at.intent_code);
        if version == Version::Two && (3000..3100).contains(&intent_code) {
            return Err(format!(
                "CIFTI-2 (intent {intent_code}) holds surfaces, no volume: \
                 take volumes out of it with wb_command -cifti-separate"
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

    /// Extents in `(z, y, x)`; axes that the file does not have are 1.
    pub(super) fn size(&self) -> Size3 {
        [2, 1, 0].map(|i| self.dims.get(i).map_or(1, |&n| n as usize))
    }

    /// Channels: axes 4 to 7 and the samples of a voxel; `None` without either.
    pub(super) fn channels(&self) -> Option<usize> {
        let outer: u64 = self.dims.iter().skip(3).product();
        let has_axis = self.dims.len() > 3 || self.data_type.samples > 1;
        has_axis.then_some(outer as usize * self.data_type.samples)
    }

    /// Bytes of all voxels.
    pub(super) fn data_bytes(&self) -> u64 {
        self.dims.iter().product::<u64>() * self.data_type.voxel_bytes() as u64
    }

    /// Byte of the first voxel, in a file of that form (of the image, for a pair).
    ///
    /// # Errors
    /// A sentence if that lies within the header.
    pub(super) fn voxels_at(&self, form: Form) -> Result<u64, String> {
        let minimum = self.version.minimum_offset() as u64;
        match (form, self.vox_offset) {
            (Form::Pair, offset) => Ok(offset),
            (Form::Single, 0) if self.magic == Form::Pair => {
                Err("its voxels are in a file of their own: name it .hdr, beside its .img".into())
            }
            // Left out. nibabel would read the header as voxels, niftilib forget the extension flag; where the latter
            // is right, the file is four bytes short of this and refused.
            (Form::Single, 0) => Ok(minimum),
            (Form::Single, offset) if offset >= minimum => Ok(offset),
            (Form::Single, offset) => Err(format!(
                "vox_offset is {offset}, within the header: expected {minimum} or more"
            )),
        }
    }
}

/// The order in which `dim[0]` is 1 to 7, which is one at most; nibabel and niftilib go by it, not by `sizeof_hdr`.
fn byte_order(bytes: &[u8], version: Version) -> Result<Order, String> {
    let axes =
        [Order::Little, Order::Big].map(|order| (order, Fields::new(bytes, version, order).dim(0)));
    axes.into_iter().find(|(_, n)| (1..=7).contains(n)).map(|(order, _)| order).ok_or_else(|| {
        let [(_, little), (_, big)] = axes;
        format!("dim[0] is {little} ({big} in the other byte order): expected 1 to 7 axes")
    })
}

/// Extents as nibabel takes them: FreeSurfer folds surfaces that 16 bits cannot count.
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

/// Slope and intercept as nibabel takes them: a slope of 0 or without a number means none.
fn scaling(slope: f64, intercept: f64, data_type: DataType) -> Result<(f64, f64), String> {
    if data_type.samples > 1 || slope == 0.0 || !slope.is_finite() {
        return Ok((1.0, 0.0));
    }
    if !intercept.is_finite() {
        return Err(format!(
            "scl_slope is {slope} but scl_inter {intercept}, so that real values cannot be told: \
             correct the header first"
        ));
    }
    Ok((slope, intercept))
}

/// nibabel's repairs on load: qfac is 1 or −1; spatial steps are positive, 1 in the place of 0.
fn repaired_pixdim(mut pixdim: [f64; 8]) -> [f64; 8] {
    if pixdim[0].abs() != 1.0 {
        pixdim[0] = 1.0;
    }
    for step in &mut pixdim[1..4] {
        *step = if *step == 0.0 { 1.0 } else { step.abs() };
    }
    pixdim
}

/// Codes outside the standard count as 0, as on nibabel's load.
fn known_xform(code: i32) -> i32 {
    if (0..=5).contains(&code) { code } else { 0 }
}
