//! Describes the volume that an export writes.

use serde_json::{Map, Value};
use voxquarry::{Affine, Dtype, LengthUnit, Size3};

/// The volume that a file will hold.
#[derive(Clone, Debug)]
pub struct ExportSpec {
    /// Extents in `(z, y, x)`.
    pub size: Size3,
    /// Channels, or `None` without that axis.
    pub channels: Option<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Voxel centre to RAS+ positions, in `unit`.
    pub affine: Affine,
    /// The unit that the volume states for its affine; millimetres if it states none.
    pub unit: Option<LengthUnit>,
    /// Real value = stored value × slope + intercept.
    pub slope: f64,
    /// See [`slope`](Self::slope).
    pub intercept: f64,
    /// Metadata of the volume's source file, as
    /// [`SourceVolume::origin`](crate::source::SourceVolume) has it.
    pub origin: Option<Map<String, Value>>,
}
