//! Describes the volume that an export writes.

use serde_json::{Map, Value};
use voxquarry::{Affine, Dtype, Size3};

/// The volume that a file will hold.
#[derive(Clone, Debug)]
pub struct ExportSpec {
    /// Extents in `(z, y, x)`.
    pub size: Size3,
    /// Channels, or `None` without that axis.
    pub channels: Option<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Voxel centre to RAS+ mm.
    pub affine: Affine,
    /// Real value = stored value × slope + intercept.
    pub slope: f64,
    /// See [`slope`](Self::slope).
    pub intercept: f64,
    /// Metadata of the volume's source file, as
    /// [`SourceVolume::origin`](crate::source::SourceVolume) has it.
    pub origin: Option<Map<String, Value>>,
}
