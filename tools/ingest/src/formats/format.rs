//! What a format of image files has to tell the ingest.
//!
//! Not here: the list of formats, and which of them a file has (the module above).

use std::path::{Path, PathBuf};

use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::{Dtype, Error, IfExists, Result};

use super::export_spec::ExportSpec;
use super::stated::Stated;
use crate::files::file_name;
use crate::source::{SourceVolume, VoxelStream};

/// Where the voxels of one volume are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, or a folder that is one image.
    File(PathBuf),
    /// One of several volumes in a file, or in a folder that is one image.
    Member {
        /// The file or folder.
        path: PathBuf,
        /// The volume's name in it.
        member: String,
    },
}

impl Place {
    /// The file or folder, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Member { path, .. } => path,
        }
    }
}

/// A volume that a file or folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundVolume {
    /// Its name there; `None` where a place holds one volume without a name.
    pub(crate) name: Option<String>,
    /// What it is, if the format says so.
    pub(crate) kind: Option<Kind>,
    pub(crate) place: Place,
}

/// A volume whose headers were read and checked, and its voxels not yet.
pub trait OpenedVolume: Send {
    /// Its description.
    fn volume(&self) -> &SourceVolume;

    /// Upper bound of the memory that reading takes beside the caller's buffer, if `steps` z steps
    /// are read at a time.
    fn working_bytes(&self, steps: usize) -> u64 {
        let _ = steps;
        0
    }

    /// Sentences about what was decided for the caller, such as slices that were dropped.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Names of its labels that the source holds; used if it is ingested as labels, and the data
    /// set names none.
    fn label_names(&self) -> Vec<LabelName> {
        Vec::new()
    }

    /// Begins to read the voxels.
    ///
    /// # Errors
    /// Any that the voxels have.
    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>>;
}

/// A format of image files.
pub(crate) trait Format: Sync {
    /// Its name, as in `NIfTI`.
    fn name(&self) -> &'static str;

    /// The endings of its files' names, in lower case, with the dot. Of files that are one image
    /// together only that of the one that names it.
    fn endings(&self) -> &'static [&'static str];

    /// The endings of other files that belong to an image, and lead to it.
    fn companion_endings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a file of that name that begins with `head`, after decompression, is of this format.
    fn recognises(&self, path: &Path, head: &[u8]) -> bool;

    /// Whether a folder is one image, or one set of images, of this format.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn recognises_folder(&self, _folder: &Path) -> Result<bool> {
        Ok(false)
    }

    /// Whether a folder that the caller names as one image can be one of this format. It may be a
    /// folder of many images as well.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn admits_folder(&self, folder: &Path) -> Result<bool> {
        self.recognises_folder(folder)
    }

    /// The volumes in a file or folder of this format, from headers alone.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is damaged, [`Error::Io`].
    fn volumes(&self, path: &Path) -> Result<Vec<FoundVolume>> {
        Ok(vec![alone(path)])
    }

    /// Reads the headers of a volume.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not of this format, is damaged, or is no volume that a store can
    /// hold; [`Error::Unsupported`], [`Error::Io`].
    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>>;

    /// The endings of files that volumes can be written to, if there are any.
    fn export_endings(&self) -> &'static [&'static str] {
        self.endings()
    }

    /// The files whose bytes are the volume's digest; `None` if its digest is that of its voxels.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn digested_files(&self, place: &Place) -> Result<Option<Vec<PathBuf>>>;

    /// The name that the store keeps: a file's without its folder, unless it may name a person.
    fn stored_name(&self, place: &Place) -> String {
        match place {
            Place::File(path) => file_name(path),
            Place::Member { path, member } => format!("{}::{member}", file_name(path)),
        }
    }

    /// How volumes are written to files of this format; `None` if they are not.
    fn export(&self) -> Option<&dyn ExportFormat> {
        None
    }
}

/// A format that volumes can be written to.
pub(crate) trait ExportFormat: Sync {
    /// Whether a file can hold slope and intercept; otherwise real values are written, as floating
    /// point numbers.
    fn keeps_scaling(&self) -> bool {
        true
    }

    /// The dtype that voxels are written as.
    fn stored_dtype(&self, dtype: Dtype) -> Dtype {
        dtype
    }

    /// Begins the file at `out`, on up to `threads` threads.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the format cannot hold the volume, [`Error::Exists`], and
    /// [`Error::Io`].
    fn create(
        &self,
        out: &Path,
        spec: &ExportSpec,
        if_exists: IfExists,
        threads: usize,
    ) -> Result<Box<dyn VolumeExport>>;
}

/// A file that is being written; one that is dropped before its end leaves nothing.
pub(crate) trait VolumeExport {
    /// The channels of a group, which are written together.
    fn interleaved(&self) -> usize {
        1
    }

    /// Writes z steps of one group of channels, `(interleaved, steps, y, x)`, little endian, in C
    /// order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another number of bytes, [`Error::Io`].
    fn write_steps(&mut self, planes: &[u8], steps: usize) -> Result<()>;

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if voxels are missing, [`Error::Exists`], [`Error::Io`].
    fn finish(self: Box<Self>) -> Result<()>;
}

/// The one volume of a file.
pub(super) fn alone(path: &Path) -> FoundVolume {
    FoundVolume { name: None, kind: None, place: Place::File(path.to_owned()) }
}

/// The only volume of a file that may hold several.
///
/// # Errors
/// [`Error::Data`] if it holds none, [`Error::Unsupported`] with their names if it holds several.
pub(super) fn only_one(path: &Path, mut members: Vec<String>) -> Result<String> {
    const SHOWN: usize = 10;
    if members.len() == 1 {
        return Ok(members.remove(0));
    }
    let names: Vec<_> =
        members.iter().take(SHOWN).map(|name| format!("{}::{name}", path.display())).collect();
    if names.is_empty() {
        return Err(Error::data(
            path,
            "it holds no volume: expected an array of three or four axes",
        ));
    }
    let more = if members.len() > SHOWN { ", …" } else { "" };
    let reason = format!("{} holds {} volumes", path.display(), members.len());
    Err(Error::unsupported(reason, format!("name one of them: {}{more}", names.join(", "))))
}
