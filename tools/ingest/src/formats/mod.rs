//! The formats of image files: what each has to tell the ingest, and the list of them.
//!
//! The rest of the ingest knows no format. It asks [`volumes_in`] which volumes a file or folder
//! holds, and [`open`] for one of them.
//!
//! `byte_input` reads the bytes of a file in order, `unpack` unpacks them; `file_chain` reads
//! several files one after the other, `text_numbers` voxels that are written as text; `raster`
//! streams voxels that lie in order, `voxels` swaps and splits them; `export_spec` describes a file
//! to be written. All formats share these.
//!
//! # Invariants
//! - The bytes of a file can neither cause a panic nor decide how much memory is allocated.
//! - A format recognises its files by their content. A name decides only where content cannot tell,
//!   and whose error is shown for a file that no format recognises.
//!
//! Not here: data sets of many files (`layout`), which ask by name which files are images.

#[cfg(any(feature = "hdf5", feature = "zarr"))]
mod axes;
#[cfg(any(feature = "hdf5", feature = "zarr"))]
mod boxes;
mod byte_input;
mod dicom;
mod export_spec;
mod file_chain;
mod file_names;
mod file_output;
#[cfg(feature = "hdf5")]
mod hdf5;
mod meta_image;
mod mgh;
pub mod nifti;
mod nrrd;
mod numpy;
mod planes;
mod raster;
mod raw;
mod slabs;
mod spacing;
mod text_numbers;
mod tiff;
mod unpack;
mod voxels;
mod world;
#[cfg(feature = "zarr")]
mod zarr;

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::{Affine, Dtype, Error, IfExists, Result};

use crate::files::{exists, file_name, is_folder, open_without_waiting};
use crate::source::{SourceVolume, VoxelStream};

pub use export_spec::ExportSpec;
pub use raster::ByteOrder;
pub use raw::RawVoxels;

/// Bytes of a file that formats recognise it by, after decompression.
const HEAD_BYTES: usize = 1024;

/// Upper bound of the voxels that a header may state: more than any disk holds, and eight bytes
/// each do not overflow.
const MAX_VOXELS: u64 = 1 << 59;

/// The note about a source without geometry.
const NO_SPACING: &str =
    "it states no spacing: 1 mm is assumed (state a voxel size or an affine if it is another)";

/// All formats. Where several recognise a file, the first has it.
const FORMATS: &[&dyn Format] = &[
    &nifti::Nifti,
    &nrrd::Nrrd,
    &meta_image::MetaImage,
    &mgh::Mgh,
    &numpy::Numpy,
    &dicom::Dicom,
    #[cfg(feature = "hdf5")]
    &hdf5::Hdf5,
    &tiff::Tiff,
    &planes::PlaneFolder,
    #[cfg(feature = "zarr")]
    &zarr::Zarr,
];

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

/// What the caller states about sources, in place of what they say or leave out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stated {
    /// The affine, from voxel `(x, y, z)` to RAS+ millimetres. That of the source may be invalid
    /// then.
    pub affine: Option<Affine>,
    /// What the files are whose names say nothing: voxels and nothing else.
    pub raw: Option<RawVoxels>,
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

/// Opens a volume.
///
/// # Errors
/// As [`Format::open`].
pub(crate) fn open(place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
    if let (Some(voxels), Place::File(path)) = (&stated.raw, place)
        && stem_and_format(&file_name(path)).is_none()
    {
        return raw::open(path, voxels, stated.affine);
    }
    format_of(place.path())?.open(place, stated)
}

/// The only volume of a file that may hold several.
///
/// # Errors
/// [`Error::Data`] if it holds none, [`Error::Unsupported`] with their names if it holds several.
fn only_one(path: &Path, mut members: Vec<String>) -> Result<String> {
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

/// The files whose bytes are the volume's digest; `None` if its digest is that of its voxels.
///
/// # Errors
/// As [`Format::digested_files`].
pub(crate) fn digested_files(place: &Place) -> Result<Option<Vec<PathBuf>>> {
    match format_of(place.path()) {
        Ok(format) => format.digested_files(place),
        Err(error @ Error::Io { .. }) => Err(error),
        // The caller stated what it is.
        Err(_) => Ok(Some(vec![place.path().to_owned()])),
    }
}

/// The name that the store keeps of a place.
pub(crate) fn stored_name(place: &Place) -> String {
    // Who reads the file reports what is wrong with it.
    format_of(place.path()).unwrap_or(&nifti::Nifti).stored_name(place)
}

/// The volumes in a file, or in a folder that is one image. A file that holds none, or that no
/// format recognises, is one volume, which opening refuses.
///
/// # Errors
/// As [`Format::volumes`].
pub(crate) fn volumes_in(path: &Path) -> Result<Vec<FoundVolume>> {
    match format_of(path) {
        Ok(format) => {
            let found = format.volumes(path)?;
            // Opening says why there is none.
            Ok(if found.is_empty() { vec![alone(path)] } else { found })
        }
        Err(_) if !exists(path)? => Ok(vec![alone(path)]),
        Err(error @ Error::Io { .. }) => Err(error),
        Err(_) => Ok(vec![alone(path)]),
    }
}

/// The one volume of a file.
fn alone(path: &Path) -> FoundVolume {
    FoundVolume { name: None, kind: None, place: Place::File(path.to_owned()) }
}

/// Whether a file is an image by its name. Of files that are one image only one counts.
pub(crate) fn is_image(path: &Path) -> bool {
    let name = file_name(path);
    FORMATS.iter().any(|format| format.endings().iter().any(|e| without(&name, e).is_some()))
}

/// Whether a folder is an image, or a set of them, and not a folder of a data set.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn is_image_folder(folder: &Path) -> Result<bool> {
    for &format in FORMATS {
        if format.recognises_folder(folder)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A file's name without the ending that its format has.
pub(crate) fn stem(name: &str) -> &str {
    let raw = || raw::ENDINGS.iter().find_map(|ending| without(name, ending));
    stem_and_format(name).map(|(stem, _)| stem).or_else(raw).unwrap_or(name)
}

fn stem_and_format(name: &str) -> Option<(&str, &'static dyn Format)> {
    let fitting = FORMATS.iter().copied().flat_map(|format| {
        let endings = format.endings().iter().chain(format.companion_endings());
        endings.filter_map(move |ending| Some((without(name, ending)?, format)))
    });
    // The longest ending: `.nii.gz` before `.gz`.
    fitting.min_by_key(|(stem, _)| stem.len())
}

/// A name without an ending, if something remains.
fn without<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let (stem, end) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
    (!stem.is_empty() && end.eq_ignore_ascii_case(ending)).then_some(stem)
}

/// The format of a file or folder: by its content, otherwise by its name.
///
/// # Errors
/// [`Error::Unsupported`] if it is of none, [`Error::Io`].
fn format_of(path: &Path) -> Result<&'static dyn Format> {
    if is_folder(path)? {
        for is_it in [<dyn Format>::recognises_folder, <dyn Format>::admits_folder] {
            for &format in FORMATS {
                if is_it(format, path)? {
                    return Ok(format);
                }
            }
        }
        let reason = format!("{} is a folder that is no image", path.display());
        return Err(Error::unsupported(reason, format!("name a file ({})", names())));
    }
    let head = read_head(path)?;
    if let Some(format) = FORMATS.iter().copied().find(|format| format.recognises(path, &head)) {
        return Ok(format);
    }
    if let Some((_, format)) = stem_and_format(&file_name(path)) {
        return Ok(format);
    }
    let message = format!("neither its content nor its name is that of an image ({})", names());
    Err(Error::data(path, message))
}

/// The names of all formats.
fn names() -> String {
    FORMATS.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ")
}

/// The first bytes of a file, after decompression if it is gzip; fewer where the file is short or
/// damaged.
fn read_head(path: &Path) -> Result<Vec<u8>> {
    let mut file = open_without_waiting(path)?;
    let metadata = file.metadata().map_err(Error::io(path, "cannot open"))?;
    if !metadata.is_file() {
        let reason = format!("{} is not a regular file", path.display());
        return Err(Error::unsupported(reason, "name an image file"));
    }
    let mut head = Vec::new();
    let read = file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head);
    read.map_err(Error::io(path, "cannot read"))?;
    if !head.starts_with(&unpack::GZIP_MAGIC) {
        return Ok(head);
    }
    let file = open_without_waiting(path)?;
    let mut unpacked = Vec::new();
    // Damage leaves fewer bytes; whoever reads the file reports it.
    let _ = MultiGzDecoder::new(file).take(HEAD_BYTES as u64).read_to_end(&mut unpacked);
    Ok(unpacked)
}

/// The format that a file's name asks for, for writing.
///
/// # Errors
/// [`Error::InvalidArgument`] if there is none.
pub(crate) fn export_format(out: &Path) -> Result<&'static dyn ExportFormat> {
    let name = file_name(out);
    let named = stem_and_format(&name);
    let is_writable = |(_, format): &(&str, &'static dyn Format)| {
        let endings = format.export_endings().iter().chain(format.companion_endings());
        endings.into_iter().any(|ending| without(&name, ending).is_some())
    };
    named.filter(is_writable).and_then(|(_, format)| format.export()).ok_or_else(|| {
        let writable = FORMATS.iter().copied().filter(|format| format.export().is_some());
        let endings: Vec<_> = writable.flat_map(Format::export_endings).copied().collect();
        let expected = format!("a name that ends in {}", endings.join(", "));
        Error::invalid("file", out.display(), expected)
    })
}
