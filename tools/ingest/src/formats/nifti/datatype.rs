//! Lists the voxel types of NIfTI and the dtypes that store them.

use voxquarry::Dtype;

/// A voxel type on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataType {
    pub(super) code: i16,
    pub(super) dtype: Dtype,
    /// Samples of one voxel: 3 for RGB, 4 for RGBA, else 1.
    pub(super) samples: usize,
}

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

/// Voxel types of NIfTI that a store cannot hold: code, name, remedy.
const OTHER_TYPES: [(i16, &str, &str); 5] = [
    (1, "binary, one bit each", "convert them to uint8"),
    (32, "complex64", "save their magnitude and phase as two float32 images"),
    (1536, "float128", "convert them to float64"),
    (1792, "complex128", "save their magnitude and phase as two float64 images"),
    (2048, "complex256", "save their magnitude and phase as two float64 images"),
];

impl DataType {
    /// Looks up the type of a code.
    ///
    /// # Errors
    /// A message with the name of the type, where it has one, and the remedy.
    pub(super) fn from_code(code: i16) -> Result<Self, String> {
        if let Some(found) = TYPES.into_iter().find(|t| t.code == code) {
            return Ok(found);
        }
        Err(match OTHER_TYPES.iter().find(|t| t.0 == code) {
            Some((_, name, remedy)) => {
                format!(
                    "voxels are {name} (datatype {code}), which a store cannot hold: {remedy} first"
                )
            }
            None => format!(
                "datatype {code} is not a code of NIfTI: \
                 correct the header, or export the image again"
            ),
        })
    }

    /// The type with one sample of `dtype`; NIfTI has no float16.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        TYPES.into_iter().find(|t| t.samples == 1 && t.dtype == dtype)
    }

    /// Bytes of one voxel on disk.
    pub(super) fn voxel_bytes(self) -> usize {
        self.samples * self.dtype.size()
    }
}
