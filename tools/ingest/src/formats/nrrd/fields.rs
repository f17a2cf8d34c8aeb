//! Reads the lines of an NRRD header: `field: value`, `key:=value`, comments, and file names.
//!
//! # Invariants
//! - A header has at most [`MAX_HEADER_BYTES`], and each field once.

use std::collections::BTreeMap;
use std::path::Path;

use voxquarry::{Error, Result};

use crate::formats::byte_input::ByteInput;

/// A list of files, or of diffusion gradients, is the longest part.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Key/value pairs of 3D Slicer may be long.
const MAX_LINE_BYTES: usize = 4 << 20;

/// The fields of a header.
#[derive(Debug, Default)]
pub(super) struct NrrdFields {
    /// Values by the names of their fields, in lower case and without blanks.
    fields: BTreeMap<String, String>,
    /// Key/value pairs, in order.
    pub(super) pairs: Vec<(String, String)>,
    /// The lines behind `data file: LIST`.
    pub(super) files: Vec<String>,
}

impl NrrdFields {
    /// Reads a header, to the byte behind the line without text that ends it.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Io`].
    pub(super) fn read(path: &Path, input: &mut ByteInput) -> Result<Self> {
        let located = |message: String| Error::data(path, message);
        let first = input.read_line(MAX_LINE_BYTES)?.unwrap_or_default();
        if !matches!(
            first.trim_ascii_end(),
            b"NRRD0001" | b"NRRD0002" | b"NRRD0003" | b"NRRD0004" | b"NRRD0005"
        ) {
            let found = String::from_utf8_lossy(&first[..first.len().min(20)]).into_owned();
            return Err(located(format!(
                "it begins with {found:?}: expected NRRD0001 to NRRD0005"
            )));
        }
        let mut header = Self::default();
        let mut is_list = false;
        while let Some(line) = input.read_line(MAX_LINE_BYTES)? {
            if input.position() > MAX_HEADER_BYTES {
                return Err(located(format!("the header has more than {MAX_HEADER_BYTES} bytes")));
            }
            let line = String::from_utf8_lossy(&line);
            if line.is_empty() {
                break;
            }
            if line.starts_with('#') {
                continue;
            }
            if is_list {
                header.files.push(line.trim().to_owned());
                continue;
            }
            header.add(&line).map_err(located)?;
            let files = header.get("datafile");
            is_list = files.is_some_and(|value| value.split_whitespace().next() == Some("LIST"));
        }
        Ok(header)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let Some((name, value)) = line.split_once(':') else {
            let start: String = line.chars().take(60).collect();
            return Err(format!("the line {start:?}: expected field: value"));
        };
        if let Some(value) = value.strip_prefix('=') {
            self.pairs.push((name.trim().to_owned(), value.trim().to_owned()));
            return Ok(());
        }
        let name: String = name.to_lowercase().split_whitespace().collect();
        let name = match name.as_str() {
            "centers" => "centerings".to_owned(),
            _ => name,
        };
        if self.fields.contains_key(&name) {
            return Err(format!("the field {name:?} is there twice: correct the header"));
        }
        self.fields.insert(name, value.trim().to_owned());
        Ok(())
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The value of a field that has to be there.
    pub(super) fn need(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("the header has no field {name:?}"))
    }

    /// A number of a field, or what it is without the field.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str, or: T) -> Result<T, String> {
        let Some(text) = self.get(name) else { return Ok(or) };
        text.parse().map_err(|_| format!("the field {name:?} is {text:?}: expected a number"))
    }

    /// The words of a field, one for each of `axes`.
    pub(super) fn words(&self, name: &str, axes: usize) -> Result<Option<Vec<&str>>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let words: Vec<_> = text.split_whitespace().collect();
        if words.len() == axes {
            return Ok(Some(words));
        }
        Err(format!("the field {name:?} has {} values, expected {axes}", words.len()))
    }
}

/// Vectors such as `(1,0,0) none (0, 1, 0)`; `None` if the text is something else.
pub(super) fn vectors(text: &str) -> Option<Vec<Option<Vec<f64>>>> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("none") {
            found.push(None);
            rest = after.trim_start();
            continue;
        }
        let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
        let numbers: Option<Vec<f64>> =
            inside.split(',').map(|number| number.trim().parse().ok()).collect();
        found.push(Some(numbers?));
        rest = after.trim_start();
    }
    Some(found)
}
