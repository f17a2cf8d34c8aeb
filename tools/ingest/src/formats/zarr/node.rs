//! The documents of a Zarr hierarchy, version 2 or 3.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};
use voxquarry::{Error, Result};

use crate::files::{exists, is_file, open_without_waiting};

/// More than any document of a hierarchy takes.
const DOCUMENT_BYTES: u64 = 64 << 20;

/// An array or a group.
pub(super) struct Node {
    pub(super) is_array: bool,
    pub(super) attributes: Map<String, Value>,
    /// The extents of an array.
    pub(super) shape: Vec<usize>,
    /// The names of its axes, if all have one.
    pub(super) names: Option<Vec<String>>,
}

impl Node {
    /// The node at `folder`, if there is one.
    ///
    /// # Errors
    /// [`Error::Data`] for documents that are no JSON objects, [`Error::Io`].
    pub(super) fn at(folder: &Path) -> Result<Option<Self>> {
        let document = folder.join("zarr.json");
        if is_file(&document)? {
            let mut document = read_json(&document)?;
            let is_array = document.get("node_type").and_then(Value::as_str) == Some("array");
            let attributes = object(document.remove("attributes"));
            let names = names_in(document.get("dimension_names"));
            return Ok(Some(Self { is_array, attributes, shape: shape_in(&document), names }));
        }
        let (array, group) = (folder.join(".zarray"), folder.join(".zgroup"));
        let attributes = folder.join(".zattrs");
        let is_array = is_file(&array)?;
        if !is_array && !is_file(&group)? && !is_file(&attributes)? {
            return Ok(None);
        }
        let shape = if is_array { shape_in(&read_json(&array)?) } else { Vec::new() };
        let attributes = if is_file(&attributes)? { read_json(&attributes)? } else { Map::new() };
        // As xarray has it.
        let names = names_in(attributes.get("_ARRAY_DIMENSIONS"));
        Ok(Some(Self { is_array, attributes, shape, names }))
    }

    /// The attributes of OME-Zarr: version 0.5 has them in an object of their own.
    pub(super) fn ome(&self) -> &Map<String, Value> {
        self.attributes.get("ome").and_then(Value::as_object).unwrap_or(&self.attributes)
    }
}

/// Whether a folder looks like a node.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn is_node(folder: &Path) -> Result<bool> {
    for name in ["zarr.json", ".zarray", ".zgroup", ".zattrs"] {
        if exists(&folder.join(name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The names of the nodes in a group, sorted.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn children(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let entry = entry.map_err(Error::io(folder, "cannot list"))?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && is_node(&entry.path())?
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn shape_in(document: &Map<String, Value>) -> Vec<usize> {
    let shape = document.get("shape").and_then(Value::as_array);
    shape.into_iter().flatten().filter_map(|n| usize::try_from(n.as_u64()?).ok()).collect()
}

fn names_in(names: Option<&Value>) -> Option<Vec<String>> {
    names?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let file = open_without_waiting(path)?;
    let mut text = Vec::new();
    let read = file.take(DOCUMENT_BYTES).read_to_end(&mut text);
    read.map_err(Error::io(path, "cannot read"))?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::data(path, "expected a JSON object")),
        Err(error) => Err(Error::data(path, format!("no JSON: {error}"))),
    }
}
