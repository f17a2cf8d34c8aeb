//! Where the voxels of a volume come from: a file of some format, or the caller's memory.
//!
//! # Invariants
//! - The rest of the ingest knows no format: it describes and opens an [`VolumeInput`].
//!
//! Not here: the formats; how files are named in a [`Manifest`](crate::Manifest).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use voxquarry::Result;
use voxquarry::format::attributes::SourceFile;

use crate::nifti;
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
            Self::File(path) => {
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
            }
            Self::Voxels(source) => source.name().to_owned(),
        }
    }

    /// Describes the volume, from a header alone.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if it is no volume that a store can hold, and
    /// [`voxquarry::Error::Io`].
    pub fn describe(&self) -> Result<SourceVolume> {
        match self {
            Self::File(path) => nifti::probe(path),
            Self::Voxels(source) => source.describe(),
        }
    }

    /// Opens the voxels for reading them in order.
    ///
    /// # Errors
    /// As [`VolumeInput::describe`].
    pub fn open(&self) -> Result<(SourceVolume, Box<dyn VoxelStream>)> {
        match self {
            Self::File(path) => nifti::open(path),
            Self::Voxels(source) => Ok((source.describe()?, source.open()?)),
        }
    }

    /// Whether a volume that was stored from `known` came from here: from a file of the same name
    /// and length, or from the same voxels.
    pub fn is_source(&self, known: &SourceFile) -> bool {
        known.name == self.name()
            && match self {
                Self::File(path) => {
                    std::fs::metadata(path).is_ok_and(|file| file.len() == known.bytes)
                }
                Self::Voxels(source) => source.has_digest(&known.sha256),
            }
    }
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
