//! Where the voxels of a volume come from: files of some format, or the caller's memory.
//!
//! # Invariants
//! - The rest of the ingest knows no format: it opens a [`VolumeInput`].
//!
//! Not here: the formats; how files are named in a [`Manifest`](crate::Manifest).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use voxquarry::{Error, Result};

use crate::digest;
use crate::formats::{self, OpenedVolume, Place, Stated};
use crate::memory::digest_of_stream;
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
    /// Files, whose content tells their format.
    Place(Place),
    /// Voxels that the caller provides.
    Voxels(Arc<dyn VolumeSource>),
}

impl VolumeInput {
    /// The file or folder if it is one, otherwise the name of the voxels; for messages.
    pub fn location(&self) -> &Path {
        match self {
            Self::Place(place) => place.path(),
            Self::Voxels(source) => Path::new(source.name()),
        }
    }

    /// The name that the store keeps: a file's without its folder, unless its format may have the
    /// name of a person there.
    pub fn name(&self) -> String {
        match self {
            Self::Place(place) => formats::stored_name(place),
            Self::Voxels(source) => source.name().to_owned(),
        }
    }

    /// Reads and checks the headers. What the caller states takes the place of what they say, which
    /// may be invalid then.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if it is no volume that a store can hold, and
    /// [`voxquarry::Error::Io`].
    pub fn open(&self, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        match self {
            Self::Place(place) => formats::open(place, stated),
            Self::Voxels(source) => {
                let volume = source.describe()?;
                let affine = stated.affine.unwrap_or(volume.affine);
                let volume = SourceVolume { affine, ..volume };
                Ok(Box::new(OpenedVoxels { source: source.clone(), volume }))
            }
        }
    }

    /// Bytes of the files whose digest is recorded; `None` where the digest is that of the voxels.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn file_bytes(&self) -> Result<Option<u64>> {
        let Some(files) = self.digested_files()? else { return Ok(None) };
        let mut bytes = 0;
        for path in files {
            bytes += path.metadata().map_err(Error::io(&path, "cannot read"))?.len();
        }
        Ok(Some(bytes))
    }

    /// Whether its bytes have this SHA-256 ([`SourceDigest::sha256`]); files are read to the end.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Interrupted`] if the observer asked to stop.
    ///
    /// [`SourceDigest::sha256`]: crate::source::SourceDigest::sha256
    pub(crate) fn has_digest(&self, sha256: &str, observer: &dyn Observer) -> Result<bool> {
        match (self.digested_files()?, self) {
            (Some(files), _) => Ok(digest::sha256_of(&files, observer)? == sha256),
            (None, Self::Voxels(source)) => Ok(source.has_digest(sha256)),
            (None, Self::Place(_)) => {
                let opened = self.open(&Stated::default())?;
                let volume = opened.volume().clone();
                let found = digest_of_stream(&volume, opened.stream()?, &self.name())?;
                Ok(found.sha256 == sha256)
            }
        }
    }

    pub(crate) fn digested_files(&self) -> Result<Option<Vec<PathBuf>>> {
        match self {
            Self::Place(place) => formats::digested_files(place),
            Self::Voxels(_) => Ok(None),
        }
    }
}

/// Voxels of the caller, and their description.
struct OpenedVoxels {
    source: Arc<dyn VolumeSource>,
    volume: SourceVolume,
}

impl OpenedVolume for OpenedVoxels {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        self.source.open()
    }
}

impl From<PathBuf> for VolumeInput {
    /// A file or folder; `FILE::MEMBER` is one volume of several in an image file.
    fn from(path: PathBuf) -> Self {
        let member = path.to_str().and_then(|text| text.rsplit_once("::"));
        let member = member.filter(|(file, _)| formats::is_image(Path::new(file)));
        Self::Place(match member {
            Some((file, member)) => Place::Member { path: file.into(), member: member.to_owned() },
            None => Place::File(path),
        })
    }
}

impl From<&Path> for VolumeInput {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<Place> for VolumeInput {
    fn from(place: Place) -> Self {
        Self::Place(place)
    }
}

impl PartialEq for VolumeInput {
    /// Files are equal by their paths, voxels if they are the same object.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Place(a), Self::Place(b)) => a == b,
            (Self::Voxels(a), Self::Voxels(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for VolumeInput {}
