//! What a source format yields: a description, and its voxels in order.
//!
//! # Invariants
//! - A description is complete before the first voxel is read, and holds numbers only that were checked.
//!
//! Not here: any format; how voxels are cut and stored.

use serde_json::{Map, Value};
use voxquarry::{Affine, Dtype, Result, Size3};

/// What a source file says about itself, before its voxels are read.
#[derive(Clone, Debug)]
pub struct SourceVolume {
    /// Extents in `(z, y, x)`, each at least 1.
    pub size: Size3,
    /// Channels, or `None` without a channel axis.
    pub channels: Option<usize>,
    /// Channels that arrive together for each z, as RGB's three; divides the channels.
    pub interleaved: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Voxel centre to RAS+ mm, valid.
    pub affine: Affine,
    /// Real value = stored value × slope + intercept.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// What an exporter needs to give the file back.
    pub origin: Map<String, Value>,
}

/// What identifies the file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDigest {
    /// SHA-256 of the file as it lay on disk, in hexadecimal.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// Voxels in order: for each group of `interleaved` channels, for each z, the group's planes.
pub trait VoxelStream: Send {
    /// Reads the next `steps` z steps of the current group: `(interleaved, steps, y, x)`, little endian, in C order.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if the file is damaged or too short, [`voxquarry::Error::Io`].
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()>;

    /// Reads what is left and checks that the file ends as it must.
    ///
    /// # Errors
    /// As [`VoxelStream::next_steps`].
    fn finish(self: Box<Self>) -> Result<SourceDigest>;
}
