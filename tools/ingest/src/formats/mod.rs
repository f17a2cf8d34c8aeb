//! The formats of image files: the list of them, and which of them a file has.
//!
//! The rest of the ingest knows no format. It asks [`volumes_in`] which volumes a file or folder
//! holds, and [`open`] for one of them. `format` says what a format has to tell, `stated` what the
//! caller may state instead.
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
mod format;
#[cfg(feature = "hdf5")]
mod hdf5;
mod head;
mod meta_image;
mod mgh;
pub mod nifti;
mod nrrd;
mod numpy;
mod pack_bits;
mod planes;
mod raster;
mod raw;
mod slabs;
mod spacing;
mod stated;
mod text_numbers;
mod tiff;
mod unpack;
mod voxels;
mod world;
#[cfg(feature = "zarr")]
mod zarr;

use std::path::{Path, PathBuf};

use voxquarry::{Error, Result};

use crate::files::{exists, file_name, is_folder};
use format::{ExportFormat, Format, alone};
use head::read_head;

pub(crate) use export_spec::ExportSpec;
pub(crate) use format::FoundVolume;
pub use format::{OpenedVolume, Place};
pub use stated::{RawVoxels, Stated};
pub use voxels::ByteOrder;
#[cfg(feature = "zarr")]
pub use zarr::{ZarrOptions, open_zarr};

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

/// Opens a volume.
///
/// # Errors
/// As [`Format::open`].
pub(crate) fn open(place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
    if let (Some(voxels), Place::File(path)) = (&stated.raw, place)
        && stem_and_format(&file_name(path)).is_none()
    {
        return raw::open(path, voxels, stated);
    }
    format_of(place.path())?.open(place, stated)
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
    // Reading the file reports what is wrong with it.
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
