//! Lists the data sets of a file that may be volumes, opens one, and reads parts of it.

use std::path::{Component, Path};

use rust_hdf5::format::messages::datatype::DatatypeMessage;
use rust_hdf5::{H5Dataset, H5File, H5Group, Hdf5Error, LinkClass};
use voxquarry::{Dtype, Error, Result};

use super::attributes::axes_of;

/// More than the levels of groups that anybody makes.
const DEEPEST: usize = 16;
/// More data sets than anybody chooses from.
const MOST: usize = 10_000;

/// The paths of all data sets that may be volumes.
///
/// # Errors
/// [`Error::Data`], [`Error::Io`].
pub(super) fn volumes(path: &Path) -> Result<Vec<String>> {
    let file = open(path)?;
    let mut found = Vec::new();
    let walked = walk(&file, &file.root_group(), "", DEEPEST, &mut found);
    walked.map_err(|error| error_of(path, error))?;
    Ok(found)
}

fn walk(
    file: &H5File,
    group: &H5Group,
    prefix: &str,
    depth: usize,
    found: &mut Vec<String>,
) -> Result<(), Hdf5Error> {
    // Links lead to what has another name already, or to another file.
    let is_hard = |name: &str| matches!(group.link_class(name), Ok(LinkClass::Hard));
    for name in group.dataset_names()?.into_iter().filter(|name| is_hard(name)) {
        let member = format!("{prefix}/{name}");
        // What the crate cannot read is no volume that could be listed.
        let Ok(dataset) = file.dataset(member.trim_start_matches('/')) else { continue };
        if axes_of(&dataset).is_ok() && dtype(&dataset).is_ok() && found.len() < MOST {
            found.push(member);
        }
    }
    if depth == 0 {
        return Ok(());
    }
    for name in group.group_names()?.into_iter().filter(|name| is_hard(name)) {
        let below = format!("{prefix}/{name}");
        walk(file, &group.group(&name)?, &below, depth - 1, found)?;
    }
    Ok(())
}

/// Opens a data set by its path in the file.
///
/// # Errors
/// [`Error::Data`] if it is not there or cannot be read, [`Error::Unsupported`] if its voxels lie
/// in other files, [`Error::Io`].
pub(super) fn dataset(path: &Path, member: &str) -> Result<H5Dataset> {
    let file = open(path)?;
    let name = member.trim_matches('/');
    let mut group = file.root_group();
    let mut parts: Vec<_> = name.split('/').collect();
    let leaf = parts.pop().unwrap_or_default();
    for part in parts {
        refuse_other_files(path, &group, part, member)?;
        group = group.group(part).map_err(|error| error_of(path, error))?;
    }
    refuse_other_files(path, &group, leaf, member)?;
    let dataset = file.dataset(name).map_err(|error| error_of(path, error))?;
    check_sources(path, member, &dataset)?;
    Ok(dataset)
}

fn refuse_other_files(path: &Path, group: &H5Group, part: &str, member: &str) -> Result<()> {
    match group.link_class(part) {
        Ok(LinkClass::External { file, path: target }) => {
            let reason = format!("{}: {member} is a link to another file", path.display());
            Err(Error::unsupported(reason, format!("name that file: {file}::{target}")))
        }
        _ => Ok(()),
    }
}

/// Checks where the voxels are that are not in the file itself.
fn check_sources(path: &Path, member: &str, dataset: &H5Dataset) -> Result<()> {
    let located = |error| error_of(path, error);
    if !dataset.external_files().map_err(located)?.is_empty() {
        let reason = format!("{}: the voxels of {member} lie in another file", path.display());
        return Err(Error::unsupported(reason, "copy them into this one with h5repack"));
    }
    for mapping in dataset.virtual_mappings().map_err(located)? {
        let source = Path::new(&mapping.source_file_name);
        let is_below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !source.components().all(is_below) {
            let reason = format!(
                "{}: {member} takes voxels from {}, outside of its folder",
                path.display(),
                source.display()
            );
            return Err(Error::unsupported(reason, "copy the file into that folder"));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<H5File> {
    H5File::options().no_locking().open(path).map_err(|error| error_of(path, error))
}

fn error_of(path: &Path, error: Hdf5Error) -> Error {
    match error {
        Hdf5Error::Io(error) if error.raw_os_error().is_some() => {
            Error::io(path, "cannot read")(error)
        }
        error => Error::data(path, error.to_string()),
    }
}

/// The element type of a data set.
///
/// # Errors
/// A message about a type that a store does not have.
pub(super) fn dtype(dataset: &H5Dataset) -> Result<Dtype, String> {
    let stored = dataset.datatype().map_err(|error| error.to_string())?;
    dtype_of(&stored).ok_or_else(|| format!("a store has no elements of the type {stored:?}"))
}

fn dtype_of(stored: &DatatypeMessage) -> Option<Dtype> {
    match *stored {
        DatatypeMessage::FixedPoint { size, signed, bit_offset: 0, bit_precision, .. }
            if Some(u32::from(bit_precision)) == size.checked_mul(8) =>
        {
            Some(match (size, signed) {
                (1, false) => Dtype::UInt8,
                (1, true) => Dtype::Int8,
                (2, false) => Dtype::UInt16,
                (2, true) => Dtype::Int16,
                (4, false) => Dtype::UInt32,
                (4, true) => Dtype::Int32,
                (8, false) => Dtype::UInt64,
                (8, true) => Dtype::Int64,
                _ => return None,
            })
        }
        DatatypeMessage::FloatingPoint {
            size,
            bit_offset: 0,
            bit_precision,
            exponent_size,
            ..
        } if Some(u32::from(bit_precision)) == size.checked_mul(8) => match (size, exponent_size) {
            (2, 5) => Some(Dtype::Float16),
            (4, 8) => Some(Dtype::Float32),
            (8, 11) => Some(Dtype::Float64),
            _ => None,
        },
        // Booleans of h5py.
        DatatypeMessage::Enum { ref base, .. } => match dtype_of(base)? {
            Dtype::Int8 | Dtype::UInt8 => Some(Dtype::UInt8),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a box of elements into `out`, little endian.
///
/// # Errors
/// A message of the crate.
pub(super) fn read_slice(
    dataset: &H5Dataset,
    dtype: Dtype,
    starts: &[usize],
    counts: &[usize],
    out: &mut [u8],
) -> Result<(), String> {
    // The crate compares sizes alone, and swaps to the processor's order.
    match dtype.size() {
        1 => dataset.read_slice_into::<u8>(out, starts, counts).map_err(|e| e.to_string()),
        2 => read_wide::<u16>(dataset, starts, counts, out),
        4 => read_wide::<u32>(dataset, starts, counts, out),
        _ => read_wide::<u64>(dataset, starts, counts, out),
    }
}

fn read_wide<T: rust_hdf5::H5Type + bytemuck::Pod>(
    dataset: &H5Dataset,
    starts: &[usize],
    counts: &[usize],
    out: &mut [u8],
) -> Result<(), String> {
    if let Ok(aligned) = bytemuck::try_cast_slice_mut::<u8, T>(out) {
        return dataset.read_slice_into(aligned, starts, counts).map_err(|e| e.to_string());
    }
    let elements = dataset.read_slice::<T>(starts, counts).map_err(|e| e.to_string())?;
    out.copy_from_slice(bytemuck::cast_slice(&elements));
    Ok(())
}
