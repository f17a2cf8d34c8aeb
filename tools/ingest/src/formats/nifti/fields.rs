//! Locates, reads and writes the fields of both header versions, in either byte order.
//!
//! # Invariants
//! - [`Fields`] covers a whole header of its version, so every field lies inside.
//!
//! Not here: the meaning of a field and whether its value is valid (`header`).

use crate::formats::voxels::ByteOrder;

/// The bits of the units that state the unit of space, and three of their values.
pub(super) const SPACE_UNITS: u8 = 7;
pub(super) const METRES: u8 = 1;
pub(super) const MILLIMETRES: u8 = 2;
pub(super) const MICROMETRES: u8 = 3;

/// The flag after the header that says whether extensions follow.
pub(super) const EXTENSION_FLAG_BYTES: usize = 4;

/// NIfTI-1 or NIfTI-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Whether header and voxels share a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Header and voxels in one file.
    Single,
    /// The header in an `.hdr` file, the voxels in an `.img` file.
    Pair,
}

/// Byte offsets of the fields of a version.
pub(super) struct Offsets {
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

const V1: Offsets = Offsets {
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

const V2: Offsets = Offsets {
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

/// `glmin` of version 1, in which FreeSurfer stores a long extent.
const V1_GLMIN: usize = 144;

impl Version {
    /// Bytes of a header, which is also the value of its first field.
    pub(super) const fn header_bytes(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }

    pub(super) const fn offsets(self) -> &'static Offsets {
        match self {
            Self::One => &V1,
            Self::Two => &V2,
        }
    }

    /// The four bytes that identify version and form.
    pub(super) const fn magic(self, form: Form) -> &'static [u8; 4] {
        match (self, form) {
            (Self::One, Form::Single) => b"n+1\0",
            (Self::One, Form::Pair) => b"ni1\0",
            (Self::Two, Form::Single) => b"n+2\0",
            (Self::Two, Form::Pair) => b"ni2\0",
        }
    }

    /// The smallest offset of the voxels in a single file.
    pub(super) const fn minimum_offset(self) -> usize {
        self.header_bytes() + EXTENSION_FLAG_BYTES
    }
}

/// The bytes of a header, with access to its fields in its byte order.
#[derive(Clone, Copy)]
pub(super) struct Fields<B> {
    bytes: B,
    version: Version,
    order: ByteOrder,
}

impl<B: AsRef<[u8]>> Fields<B> {
    /// Panics if `bytes` are shorter than a header.
    pub(super) fn new(bytes: B, version: Version, order: ByteOrder) -> Self {
        assert!(bytes.as_ref().len() >= version.header_bytes(), "a whole header");
        Self { bytes, version, order }
    }

    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = &self.bytes.as_ref()[at..at + N];
        let mut bytes: [u8; N] = bytes.try_into().expect("N bytes");
        if self.order == ByteOrder::Big {
            bytes.reverse();
        }
        bytes
    }

    pub(super) fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.take(at))
    }

    /// A code: 16 bits in version 1, 32 in version 2.
    pub(super) fn code(&self, at: usize) -> i32 {
        match self.version {
            Version::One => self.i16(at).into(),
            Version::Two => i32::from_le_bytes(self.take(at)),
        }
    }

    pub(super) fn dim(&self, i: usize) -> i64 {
        match self.version {
            Version::One => self.i16(V1.dim + 2 * i).into(),
            Version::Two => i64::from_le_bytes(self.take(V2.dim + 8 * i)),
        }
    }

    pub(super) fn real(&self, at: usize, i: usize) -> f64 {
        match self.version {
            Version::One => f32::from_le_bytes(self.take(at + 4 * i)).into(),
            Version::Two => f64::from_le_bytes(self.take(at + 8 * i)),
        }
    }

    pub(super) fn reals<const N: usize>(&self, at: usize) -> [f64; N] {
        std::array::from_fn(|i| self.real(at, i))
    }

    /// `vox_offset`, which is a real number in version 1; its fraction is ignored.
    ///
    /// # Errors
    /// A message if it cannot be an offset.
    pub(super) fn vox_offset(&self) -> Result<u64, String> {
        let offset = match self.version {
            Version::One => {
                let offset = self.real(V1.vox_offset, 0);
                // Above 2⁵³ a real number no longer counts single bytes.
                if (0.0..9e15).contains(&offset) {
                    Ok(offset as u64)
                } else {
                    Err(offset.to_string())
                }
            }
            Version::Two => {
                let offset = i64::from_le_bytes(self.take(V2.vox_offset));
                u64::try_from(offset).map_err(|_| offset.to_string())
            }
        };
        offset.map_err(|found| format!("vox_offset is {found}, which is not an offset in a file"))
    }

    /// The units of space and time: one byte, the lowest of a wider field in version 2.
    pub(super) fn units(&self) -> u8 {
        match self.version {
            Version::One => self.bytes.as_ref()[V1.units],
            Version::Two => i32::from_le_bytes(self.take(V2.units)) as u8,
        }
    }

    /// `glmin`, which version 2 does not have.
    pub(super) fn glmin(&self) -> Option<i32> {
        (self.version == Version::One).then(|| i32::from_le_bytes(self.take(V1_GLMIN)))
    }

    /// Latin-1 text up to its first 0, of at most `bytes` bytes.
    pub(super) fn text(&self, at: usize, bytes: usize) -> String {
        let field = &self.bytes.as_ref()[at..at + bytes];
        field.iter().take_while(|&&b| b != 0).map(|&b| char::from(b)).collect()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Fields<B> {
    fn put<const N: usize>(&mut self, at: usize, mut value: [u8; N]) {
        if self.order == ByteOrder::Big {
            value.reverse();
        }
        self.bytes.as_mut()[at..at + N].copy_from_slice(&value);
    }

    pub(super) fn set_i16(&mut self, at: usize, value: i16) {
        self.put(at, value.to_le_bytes());
    }

    pub(super) fn set_code(&mut self, at: usize, value: i16) {
        match self.version {
            Version::One => self.set_i16(at, value),
            Version::Two => self.put(at, i32::from(value).to_le_bytes()),
        }
    }

    /// Version 1 truncates a `value` above 32 767: the caller has to choose the version.
    pub(super) fn set_dim(&mut self, i: usize, value: usize) {
        match self.version {
            Version::One => self.set_i16(V1.dim + 2 * i, value as i16),
            Version::Two => self.put(V2.dim + 8 * i, (value as i64).to_le_bytes()),
        }
    }

    pub(super) fn set_real(&mut self, at: usize, i: usize, value: f64) {
        match self.version {
            Version::One => self.put(at + 4 * i, (value as f32).to_le_bytes()),
            Version::Two => self.put(at + 8 * i, value.to_le_bytes()),
        }
    }

    pub(super) fn set_units(&mut self, value: u8) {
        match self.version {
            Version::One => self.bytes.as_mut()[V1.units] = value,
            Version::Two => self.put(V2.units, i32::from(value).to_le_bytes()),
        }
    }

    /// Sets the first field, the magic and, in version 2, the bytes that reveal converted line
    /// ends.
    pub(super) fn set_identity(&mut self, form: Form) {
        self.put(0, (self.version.header_bytes() as i32).to_le_bytes());
        let at = self.version.offsets().magic;
        let bytes = self.bytes.as_mut();
        bytes[at..at + 4].copy_from_slice(self.version.magic(form));
        if self.version == Version::Two {
            bytes[at + 4..at + 8].copy_from_slice(LINE_ENDS);
        }
    }

    pub(super) fn set_vox_offset(&mut self, offset: usize) {
        match self.version {
            Version::One => self.put(V1.vox_offset, (offset as f32).to_le_bytes()),
            Version::Two => self.put(V2.vox_offset, (offset as i64).to_le_bytes()),
        }
    }
}

/// The bytes after the magic of version 2, which a transfer in text mode damages.
pub(super) const LINE_ENDS: &[u8; 4] = b"\r\n\x1a\n";
