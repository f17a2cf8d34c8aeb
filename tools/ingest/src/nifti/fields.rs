//! Where the two versions keep their numbers, and how wide they are, in either byte order.
//!
//! # Invariants
//! - [`Fields`] covers a whole header of its version, so that every field is inside.
//!
//! Not here: what a number means or whether it can be (`header`).

/// Behind the header of a single file: four bytes that tell of extensions.
pub(super) const EXTENSION_FLAG_BYTES: usize = 4;

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

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Header and voxels in one file.
    Single,
    /// Voxels in an `.img` of their own.
    Pair,
}

/// Byte offsets of a version's fields.
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

/// `glmin` of the first version, where FreeSurfer keeps a long extent.
const V1_GLMIN: usize = 144;

impl Version {
    /// Bytes of a header, which is also what its first number says.
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

    /// The four bytes that name version and form.
    pub(super) const fn magic(self, form: Form) -> &'static [u8; 4] {
        match (self, form) {
            (Self::One, Form::Single) => b"n+1\0",
            (Self::One, Form::Pair) => b"ni1\0",
            (Self::Two, Form::Single) => b"n+2\0",
            (Self::Two, Form::Pair) => b"ni2\0",
        }
    }

    /// Where the voxels of a single file begin at the earliest.
    pub(super) const fn minimum_offset(self) -> usize {
        self.header_bytes() + EXTENSION_FLAG_BYTES
    }
}

/// A header's bytes, read (and, where `B` can, written) in its byte order.
#[derive(Clone, Copy)]
pub(super) struct Fields<B> {
    bytes: B,
    version: Version,
    order: Order,
}

impl<B: AsRef<[u8]>> Fields<B> {
    /// `bytes` are a whole header at least.
    pub(super) fn new(bytes: B, version: Version, order: Order) -> Self {
        assert!(bytes.as_ref().len() >= version.header_bytes(), "a whole header");
        Self { bytes, version, order }
    }

    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = &self.bytes.as_ref()[at..at + N];
        let mut bytes: [u8; N] = bytes.try_into().expect("N bytes");
        if self.order == Order::Big {
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

    /// `vox_offset`: a real number in version 1, whose fraction nobody heeds.
    ///
    /// # Errors
    /// A sentence if it is no offset.
    pub(super) fn vox_offset(&self) -> Result<u64, String> {
        let offset = match self.version {
            Version::One => {
                let offset = self.real(V1.vox_offset, 0);
                // Beyond 2⁵³ a real no longer counts bytes.
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
        offset.map_err(|found| format!("vox_offset is {found}, which is no place in a file"))
    }

    /// Units of space and time: the low byte of a number that version 2 widened.
    pub(super) fn units(&self) -> u8 {
        match self.version {
            Version::One => self.bytes.as_ref()[V1.units],
            Version::Two => i32::from_le_bytes(self.take(V2.units)) as u8,
        }
    }

    /// `glmin`, in version 1.
    pub(super) fn glmin(&self) -> Option<i32> {
        (self.version == Version::One).then(|| i32::from_le_bytes(self.take(V1_GLMIN)))
    }

    /// Text up to its first 0, of `bytes` bytes at most; every byte is a character of Latin-1.
    pub(super) fn text(&self, at: usize, bytes: usize) -> String {
        let field = &self.bytes.as_ref()[at..at + bytes];
        field.iter().take_while(|&&b| b != 0).map(|&b| char::from(b)).collect()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Fields<B> {
    fn put<const N: usize>(&mut self, at: usize, mut value: [u8; N]) {
        if self.order == Order::Big {
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

    /// In version 1 a `value` above 32 767 is cut off: the caller chose the version.
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

    /// The first number, the magic, and version 2's marks that tell of broken line ends.
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

/// Behind version 2's magic: a transfer that "corrects" line ends destroys these first.
pub(super) const LINE_ENDS: &[u8; 4] = b"\r\n\x1a\n";
