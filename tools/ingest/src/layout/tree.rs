//! Lists folders and reads small texts of data sets.
//!
//! # Invariants
//! - Hidden files (`.`) are left out, as macOS leaves `._*` in archives.
//! - A folder that is an image counts as a file.
//! - Links are followed, as data sets under version control are made of them, to a bounded depth.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use voxquarry::{Error, Result};

use crate::files::is_folder;
use crate::formats::is_image_folder;
use crate::manifest::check_present;

/// More than the levels of any data set; ends a circle of links.
const DEEPEST: usize = 12;
/// More than any table or list of a data set takes.
const TEXT_BYTES: u64 = 64 << 20;

/// The files below `folder`, sorted.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, DEEPEST, &mut found)?;
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if is_leaf(&path)? {
            found.push(path);
        } else if depth > 0 {
            collect(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

/// The folders in `folder`, sorted.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if !is_leaf(&path)? {
            found.push(path);
        }
    }
    Ok(found)
}

/// The files in `folder`, sorted; none if there is no such folder.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if is_folder(folder)? {
        for path in entries(folder)? {
            if is_leaf(&path)? {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Whether a path is no folder, or a folder that is an image.
fn is_leaf(path: &Path) -> Result<bool> {
    Ok(!is_folder(path)? || is_image_folder(path)?)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let entry = entry.map_err(Error::io(folder, "cannot list"))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a text of bounded length; without a byte order mark.
///
/// # Errors
/// [`Error::NoSuchFile`], [`Error::Io`], [`Error::Data`] if it is too long or no UTF-8.
pub(super) fn read_text(path: &Path) -> Result<String> {
    check_present(path, "")?;
    let file = fs::File::open(path).map_err(Error::io(path, "cannot open"))?;
    let mut text = Vec::new();
    let read = file.take(TEXT_BYTES + 1).read_to_end(&mut text);
    read.map_err(Error::io(path, "cannot read"))?;
    if text.len() as u64 > TEXT_BYTES {
        return Err(Error::data(path, format!("longer than {TEXT_BYTES} bytes: is it a list?")));
    }
    let text = String::from_utf8(text)
        .map_err(|_| Error::data(path, "not UTF-8: save it again in that encoding"))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Reads a JSON object.
///
/// # Errors
/// [`Error::NoSuchFile`], [`Error::Io`], and [`Error::Data`] for anything else than an object.
pub(super) fn read_json(path: &Path) -> Result<Map<String, Value>> {
    match serde_json::from_str(&read_text(path)?) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::data(path, "expected a JSON object")),
        Err(error) => Err(Error::data(path, format!("no JSON: {error}"))),
    }
}

/// The file that a data set's list names, below `folder`.
pub(super) fn listed(list: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    use std::path::Component::{CurDir, Normal};
    let relative = Path::new(name);
    let is_inside = relative.components().all(|part| matches!(part, Normal(_) | CurDir));
    if !is_inside || name.contains('$') {
        let message = format!(
            "lists {name:?}: expected a path below the data set's folder, without variables"
        );
        return Err(Error::data(list, message));
    }
    Ok(folder.components().chain(relative.components().filter(|c| *c != CurDir)).collect())
}
