//! Where the voxels of a volume come from: a file of some format, or the caller's memory.
//!
//! # Invariants
//! - The rest of the ingest knows no format: it describes and opens an [`VolumeInput`].
//!
//! Not here: the formats; how files are named in a [`Manifest`](crate::Manifest).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use voxquarry::{Affine, Error, Result};

use crate::digest;
use crate::files::file_name;
use crate::nifti;
use crate::observer::Observer;
use crate::source::{SourceVolume, VolumeSource, VoxelStream};

/// The place that the voxels of a volume come from.
///
/// ```
/// use std::path::Path;
/// use voxquarry_ingest::VolumeInput;
///
/// let input = VolumeInput::from(Path::new("scans/ct.nii.gz"));
/// assert_eq!(input.name(), "ct.nii.gz");
/// ```
#[derive(Clone, Debug)]
pub enum VolumeInput {
    /// A file, whose content tells its format.
    File(PathBuf),
    /// Voxels that the caller provides.
    Voxels(Arc<dyn VolumeSource>),
}

impl VolumeInput {
    /// The file if it is one, otherwise the name of the voxels; for messages.
    pub fn location(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Voxels(source) => Path::new(source.name()),
        }
    }

    /// The name that the store keeps: a file's without its folder.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => file_name(path),
            Self::Voxels(source) => source.name().to_owned(),
        }
    }

    /// Describes the volume, from a header alone. A stated `affine` takes the place of its own,
    /// which may be invalid then.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if it is no volume that a store can hold, and
    /// [`voxquarry::Error::Io`].
    pub fn describe(&self, affine: Option<Affine>) -> Result<SourceVolume> {
        match self {
            Self::File(path) => nifti::probe_with(path, affine),
            Self::Voxels(source) => source.describe().map(|volume| stated(volume, affine)),
        }
    }

    /// Opens the voxels for reading them in order.
    ///
    /// # Errors
    /// As [`VolumeInput::describe`].
    pub fn open(&self, affine: Option<Affine>) -> Result<(SourceVolume, Box<dyn VoxelStream>)> {
        match self {
            Self::File(path) => nifti::open_with(path, affine),
            Self::Voxels(source) => Ok((stated(source.describe()?, affine), source.open()?)),
        }
    }

    /// Bytes of the file whose digest is recorded; `None` for voxels of the caller.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn file_bytes(&self) -> Result<Option<u64>> {
        let Self::File(path) = self else { return Ok(None) };
        let path = nifti::voxel_file(path)?;
        let metadata = std::fs::metadata(&path).map_err(Error::io(&path, "cannot read"))?;
        Ok(Some(metadata.len()))
    }

    /// Whether its bytes have this SHA-256 ([`SourceDigest::sha256`]); a file is read to its end.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Interrupted`] if the observer asked to stop.
    ///
    /// [`SourceDigest::sha256`]: crate::source::SourceDigest::sha256
    pub(crate) fn has_digest(&self, sha256: &str, observer: &dyn Observer) -> Result<bool> {
        match self {
            Self::File(path) => Ok(digest::sha256(&nifti::voxel_file(path)?, observer)? == sha256),
            Self::Voxels(source) => Ok(source.has_digest(sha256)),
        }
    }
}

fn stated(volume: SourceVolume, affine: Option<Affine>) -> SourceVolume {
    SourceVolume { affine: affine.unwrap_or(volume.affine), ..volume }
}

impl From<PathBuf> for VolumeInput {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for VolumeInput {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl PartialEq for VolumeInput {
    /// Files are equal by their paths, voxels if they are the same object.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Voxels(a), Self::Voxels(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for VolumeInput {}
