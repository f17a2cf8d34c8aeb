//! NIfTI-1 and NIfTI-2 headers: 348 or 540 bytes in either byte order, parsed with nibabel's repairs.
//!
//! # Invariants
//! - Any bytes may come in; a [`Header`] has sizes that multiply without overflow and a data type that we store.

use voxquarry::{Dtype, Size3};

/// Bytes of a NIfTI-1 header.
pub(super) const V1_BYTES: usize = 348;
/// Bytes of a NIfTI-2 header.
pub(super) const V2_BYTES: usize = 540;
/// Behind the header of a single file: four bytes that tell of extensions.
pub(super) const EXTENSION_FLAG_BYTES: usize = 4;
const MAX_VOXELS: u64 = 1 << 60;

/// Which of the two standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Byte order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

/// A type of voxels on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataType {
    pub(super) code: i16,
    pub(super) dtype: Dtype,
    /// Samples of one voxel: 3 for RGB, 4 for RGBA, else 1.
    pub(super) samples: usize,
}

/// A parsed header.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) order: Order,
    /// Whether the magic says that voxels are in a file of their own.
    pub(super) pair: bool,
    /// `dim[1..=dim[0]]`, all positive.
    pub(super) dims: Vec<u64>,
    pub(super) data_type: DataType,
    /// `pixdim[0..8]`, as repaired by nibabel on load.
    pub(super) pixdim: [f64; 8],
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

/// Where a version keeps its fields.
pub(super) struct Fields {
    pub(super) magic: usize,
    pub(super) dim: usize,
    pub(super) datatype: usize,
    pub(super) bitpix: usize,
    pub(super) pixdim: usize,
    pub(super) vox_offset: usize,
    pub(super) slope: usize,
    pub(super) intercept: usize,
    pub(super) qform_code: usize,
    pub(super) sform_code: usize,
    pub(super) quaternion: usize,
    pub(super) q_offset: usize,
    pub(super) srow: usize,
    pub(super) units: usize,
    pub(super) intent_code: usize,
    pub(super) intent_params: usize,
    pub(super) intent_name: usize,
}

pub(super) const V1: Fields = Fields {
    magic: 344,
    dim: 40,
    datatype: 70,
    bitpix: 72,
    pixdim: 76,
    vox_offset: 108,
    slope: 112,
    intercept: 116,
    qform_code: 252,
    sform_code: 254,
    quaternion: 256,
    q_offset: 268,
    srow: 280,
    units: 123,
    intent_code: 68,
    intent_params: 56,
    intent_name: 328,
};

pub(super) const V2: Fields = Fields {
    magic: 4,
    dim: 16,
    datatype: 12,
    bitpix: 14,
    pixdim: 104,
    vox_offset: 168,
    slope: 176,
    intercept: 184,
    qform_code: 344,
    sform_code: 348,
    quaternion: 352,
    q_offset: 376,
    srow: 400,
    units: 500,
    intent_code: 504,
    intent_params: 80,
    intent_name: 508,
};

const TYPES: [DataType; 12] = {
    const fn plain(code: i16, dtype: Dtype) -> DataType {
        DataType { code, dtype, samples: 1 }
    }
    [
        plain(2, Dtype::UInt8),
        plain(4, Dtype::Int16),
        plain(8, Dtype::Int32),
        plain(16, Dtype::Float32),
        plain(64, Dtype::Float64),
        plain(256, Dtype::Int8),
        plain(512, Dtype::UInt16),
        plain(768, Dtype::UInt32),
        plain(1024, Dtype::Int64),
        plain(1280, Dtype::UInt64),
        DataType { code: 128, dtype: Dtype::UInt8, samples: 3 },
        DataType { code: 2304, dtype: Dtype::UInt8, samples: 4 },
    ]
};

/// Types that NIfTI names and that we do not store.
const OTHER_TYPES: [(i16, &str); 5] =
    [(1, "one bit"), (32, "complex64"), (1536, "float128"), (1792, "complex128"), (2048, "complex256")];

impl DataType {
    fn from_code(code: i16) -> Result<Self, String> {
        if let Some(found) = TYPES.into_iter().find(|t| t.code == code) {
            return Ok(found);
        }
        match OTHER_TYPES.iter().find(|t| t.0 == code) {
            Some((_, name)) => Err(format!("voxels are {name} (datatype {code}), which has no place in a store: convert them to integers or float32 first")),
            None => Err(format!("datatype {code} is unknown")),
        }
    }

    /// The plain type that holds `dtype`; NIfTI has no float16.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        TYPES.into_iter().find(|t| t.samples == 1 && t.dtype == dtype)
    }

    /// Bytes of one voxel on disk.
    pub(super) fn voxel_bytes(self) -> usize {
        self.samples * self.dtype.size()
    }
}

/// Reads numbers of a header in its byte order.
struct Reader<'a> {
    bytes: &'a [u8],
    version: Version,
    order: Order,
}

impl Reader<'_> {
    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes: [u8; N] = self.bytes[at..at + N].try_into().expect("N bytes");
        if self.order == Order::Big {
            bytes.reverse();
        }
        bytes
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.take(at))
    }

    /// A code: 16 bits in version 1, 32 in version 2.
    fn code(&self, at: usize) -> i32 {
        match self.version {
            Version::One => self.i16(at).into(),
            Version::Two => i32::from_le_bytes(self.take(at)),
        }
    }

    fn dim(&self, at: usize, i: usize) -> i64 {
        match self.version {
            Version::One => self.i16(at + 2 * i).into(),
            Version::Two => i64::from_le_bytes(self.take(at + 8 * i)),
        }
    }

    fn real(&self, at: usize, i: usize) -> f64 {
        match self.version {
            Version::One => f32::from_le_bytes(self.take(at + 4 * i)).into(),
            Version::Two => f64::from_le_bytes(self.take(at + 8 * i)),
        }
    }

    fn reals<const N: usize>(&self, at: usize) -> [f64; N] {
        std::array::from_fn(|i| self.real(at, i))
    }
}

impl Version {
    pub(super) const fn header_bytes(self) -> usize {
        match self {
            Self::One => V1_BYTES,
            Self::Two => V2_BYTES,
        }
    }

    pub(super) const fn fields(self) -> &'static Fields {
        match self {
            Self::One => &V1,
            Self::Two => &V2,
        }
    }

    /// The magic of a single file or of a pair's header.
    pub(super) const fn magic(self, pair: bool) -> &'static [u8] {
        match (self, pair) {
            (Self::One, false) => b"n+1\0",
            (Self::One, true) => b"ni1\0",
            (Self::Two, false) => b"n+2\0\r\n\x1a\n",
            (Self::Two, true) => b"ni2\0\r\n\x1a\n",
        }
    }
}

/// Whether a file's first bytes carry the second version's magic, so that its header is the longer one.
pub(super) fn is_version_two(bytes: &[u8]) -> bool {
    [false, true].iter().any(|&pair| bytes.get(V2.magic..).is_some_and(|b| b.starts_with(Version::Two.magic(pair))))
}

/// Recognises the version by its magic; `bytes` are the file's first.
fn recognise(bytes: &[u8]) -> Result<(Version, bool), String> {
    for version in [Version::One, Version::Two] {
        for pair in [false, true] {
            let (at, magic) = (version.fields().magic, version.magic(pair));
            if bytes.len() >= version.header_bytes() && bytes[at..].starts_with(magic) {
                return Ok((version, pair));
            }
        }
    }
    let size: Option<[u8; 4]> = bytes.get(..4).and_then(|b| b.try_into().ok());
    let analyze = |size: [u8; 4]| u32::from_le_bytes(size) == 348 || u32::from_be_bytes(size) == 348;
    if bytes.len() >= V1_BYTES && size.is_some_and(analyze) {
        return Err("this is Analyze 7.5 or a header without NIfTI's magic, whose orientation is anybody's guess: convert it to NIfTI first \
                    (nibabel: nib.save(nib.Nifti1Image.from_image(img), …))"
            .into());
    }
    Err(format!("no NIfTI file: {} bytes without NIfTI's magic", bytes.len()))
}

impl Header {
    /// Parses a file's first bytes: 348, or 540 where [`is_version_two`] says so.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (version, pair) = recognise(bytes)?;
        let f = version.fields();
        let order = [Order::Little, Order::Big].into_iter().find(|&order| {
            let r = Reader { bytes, version, order };
            i32::from_le_bytes(r.take(0)) == version.header_bytes() as i32
        });
        let by_dim = || [Order::Little, Order::Big].into_iter().find(|&order| (1..=7).contains(&Reader { bytes, version, order }.dim(f.dim, 0)));
        let order = order.or_else(by_dim).ok_or("neither sizeof_hdr nor dim[0] makes sense in any byte order")?;
        let r = Reader { bytes, version, order };
        let count = r.dim(f.dim, 0);
        if !(1..=7).contains(&count) {
            return Err(format!("dim[0] is {count}, expected 1 to 7 axes"));
        }
        let dims = (1..=count as usize).map(|i| {
            let n = r.dim(f.dim, i);
            u64::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| format!("dim[{i}] is {n}: every axis needs at least one voxel"))
        });
        let dims = dims.collect::<Result<Vec<u64>, String>>()?;
        let data_type = DataType::from_code(r.i16(f.datatype))?;
        let voxels = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).and_then(|n| n.checked_mul(data_type.samples as u64));
        if voxels.is_none_or(|n| n > MAX_VOXELS) {
            return Err(format!("{dims:?} voxels are more than any file holds"));
        }
        let vox_offset = r_offset(&r, f)?;
        let minimum = (version.header_bytes() + EXTENSION_FLAG_BYTES) as u64;
        let vox_offset = match vox_offset {
            // The standard's default; nibabel would read the header as voxels.
            0 if !pair => minimum,
            offset if !pair && offset < minimum => return Err(format!("vox_offset {offset} lies in the header")),
            offset => offset,
        };
        let (slope, intercept) = scaling(&r, f, data_type)?;
        Ok(Self {
            version,
            order,
            pair,
            dims,
            data_type,
            pixdim: repaired_pixdim(r.reals(f.pixdim)),
            vox_offset,
            slope,
            intercept,
            qform_code: known_xform(r.code(f.qform_code)),
            sform_code: known_xform(r.code(f.sform_code)),
            quaternion: r.reals(f.quaternion),
            q_offset: r.reals(f.q_offset),
            srow: std::array::from_fn(|row| std::array::from_fn(|column| r.real(f.srow, 4 * row + column))),
            units: if version == Version::One { bytes[f.units] } else { r.code(f.units) as u8 },
            intent_code: r.code(f.intent_code),
            intent_params: r.reals(f.intent_params),
            intent_name: text(&bytes[f.intent_name..f.intent_name + 16]),
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
}

fn r_offset(r: &Reader<'_>, f: &Fields) -> Result<u64, String> {
    match r.version {
        Version::One => {
            let offset = r.real(f.vox_offset, 0);
            // Beyond 2⁵³ a float no longer counts bytes; no header is that long.
            if (0.0..9e15).contains(&offset) { Ok(offset as u64) } else { Err(format!("vox_offset is {offset}")) }
        }
        Version::Two => {
            let offset = i64::from_le_bytes(r.take(f.vox_offset));
            u64::try_from(offset).map_err(|_| format!("vox_offset is {offset}"))
        }
    }
}

/// Slope and intercept as nibabel takes them: a slope of 0 or without a number means none.
fn scaling(r: &Reader<'_>, f: &Fields, data_type: DataType) -> Result<(f64, f64), String> {
    let (slope, intercept) = (r.real(f.slope, 0), r.real(f.intercept, 0));
    if data_type.samples > 1 || slope == 0.0 || !slope.is_finite() {
        return Ok((1.0, 0.0));
    }
    if !intercept.is_finite() {
        return Err(format!("scl_slope is {slope} but scl_inter {intercept}: the real values cannot be told"));
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

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    bytes[..end].iter().map(|&b| char::from(b)).collect()
}
