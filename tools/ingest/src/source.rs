//! Defines what a source format yields: a description of the volume, and its voxels in order.
//!
//! # Invariants
//! - A description is complete before the first voxel is read, and all its numbers were checked.
//!
//! Not here: the formats themselves; how voxels are cut into chunks and stored.

use std::fmt::Debug;

use serde_json::{Map, Value};
use voxquarry::format::layout::VolumeShape;
use voxquarry::{Affine, Dtype, LengthUnit, Result, Size3};

/// The description of a source file, from its header.
#[derive(Clone, Debug)]
pub struct SourceVolume {
    /// Extents in `(z, y, x)`, each at least 1.
    pub size: Size3,
    /// Channels, or `None` without a channel axis.
    pub channels: Option<usize>,
    /// Channels that the file interleaves, as RGB has three; a divisor of the channels.
    pub interleaved: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Voxel centre to RAS+ positions in `unit`, valid.
    pub affine: Affine,
    /// The unit that the source states for its affine; millimetres if it states none.
    pub unit: Option<LengthUnit>,
    /// Real value = stored value × slope + intercept.
    pub slope: f64,
    /// See [`slope`](Self::slope).
    pub intercept: f64,
    /// Metadata that an exporter needs to restore the file.
    pub origin: Map<String, Value>,
}

impl SourceVolume {
    /// What decides how it is cut into chunks.
    pub(crate) fn shape(&self) -> VolumeShape {
        let Self { channels, size, dtype, interleaved, .. } = *self;
        VolumeShape { channels, size, dtype, interleaved }
    }
}

/// Metadata by their names, for [`SourceVolume::origin`].
pub fn metadata<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Map<String, Value> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The identity of a source that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDigest {
    /// SHA-256 in hexadecimal: of a file's bytes on disk, of voxels that come from elsewhere as the
    /// stream yields them.
    pub sha256: String,
    /// The number of these bytes.
    pub bytes: u64,
    /// Metadata from the end of the source, to add to [`SourceVolume::origin`].
    pub origin: Map<String, Value>,
}

/// A volume that a caller provides, such as an array in memory.
pub trait VolumeSource: Debug + Send + Sync {
    /// Its name, which messages and the store show; never a path.
    fn name(&self) -> &str;

    /// Describes the volume without reading its voxels.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if a store cannot hold it.
    fn describe(&self) -> Result<SourceVolume>;

    /// Begins to read its voxels.
    ///
    /// # Errors
    /// Any that its voxels have.
    fn open(&self) -> Result<Box<dyn VoxelStream>>;

    /// Whether its voxels have this SHA-256 ([`SourceDigest::sha256`]); `false` if that cannot be
    /// known before they are ingested.
    fn has_digest(&self, sha256: &str) -> bool;
}

/// Yields voxels in order: for each group of `interleaved` channels, for each z, the planes of the
/// group.
pub trait VoxelStream: Send {
    /// Reads the next `steps` z steps of the current group as `(interleaved, steps, y, x)`, little
    /// endian, in C order.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if the file is damaged or too short, and
    /// [`voxquarry::Error::Io`].
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()>;

    /// Reads the rest of the file and compares its checksums.
    ///
    /// # Errors
    /// As [`VoxelStream::next_steps`].
    fn finish(self: Box<Self>) -> Result<SourceDigest>;
}
