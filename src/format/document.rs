//! Reads and writes `zarr.json` documents as JSON trees, with the place of every complaint.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::limits::METADATA_BYTES;
use crate::{Error, Result};

/// The name of every Zarr v3 metadata document.
pub const ZARR_JSON: &str = "zarr.json";

/// A parsed metadata document that remembers where it came from.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    root: Map<String, Value>,
}

impl Document {
    /// Reads `folder/zarr.json`; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Metadata`] if it is too long or no JSON object.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(ZARR_JSON);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(Error::io(&path, "cannot open")(e)),
        };
        let mut text = Vec::new();
        file.take(METADATA_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(Error::io(&path, "cannot read"))?;
        if text.len() as u64 > METADATA_BYTES {
            return Err(Error::metadata(&path, format!("longer than {METADATA_BYTES} bytes")));
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(root)) => Ok(Some(Self { path, root })),
            Ok(_) => Err(Error::metadata(&path, "not a JSON object")),
            Err(e) => Err(Error::metadata(&path, format!("not JSON: {e}"))),
        }
    }

    /// The document's own file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole tree.
    pub fn root(&self) -> Node<'_> {
        Node { path: &self.path, key: String::new(), object: &self.root }
    }

    /// Checks `zarr_format` and `node_type`.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn expect_node(&self, node_type: &str) -> Result<()> {
        let root = self.root();
        root.expect("zarr_format", &Value::from(3))?;
        root.expect("node_type", &Value::from(node_type))
    }

    /// `attributes.voxquarry` of a group, if the group is ours.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is a group of something else.
    pub fn voxquarry(&self) -> Result<Node<'_>> {
        self.expect_node("group")?;
        self.root().object("attributes")?.object("voxquarry")
    }
}

/// One object of a document, with its key path for messages.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    path: &'a Path,
    key: String,
    object: &'a Map<String, Value>,
}

impl<'a> Node<'a> {
    /// A complaint about `key` of this object.
    pub fn error(&self, key: &str, message: &str) -> Error {
        let dot = if self.key.is_empty() || key.is_empty() { "" } else { "." };
        Error::metadata(self.path, format!("{}{dot}{key}: {message}", self.key))
    }

    /// The document's file.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing.
    pub fn value(&self, key: &str) -> Result<&'a Value> {
        self.object.get(key).ok_or_else(|| self.error(key, "missing"))
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key)
    }

    /// The object at `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or something else.
    pub fn object(&self, key: &str) -> Result<Self> {
        let object =
            self.value(key)?.as_object().ok_or_else(|| self.error(key, "expected an object"))?;
        let dot = if self.key.is_empty() { "" } else { "." };
        Ok(Self { path: self.path, key: format!("{}{dot}{key}", self.key), object })
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or something else.
    pub fn string(&self, key: &str) -> Result<&'a str> {
        self.value(key)?.as_str().ok_or_else(|| self.error(key, "expected a string"))
    }

    /// A value of any deserialisable type at `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or of another type.
    pub fn parse<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        T::deserialize(self.value(key)?).map_err(|e| self.error(key, &e.to_string()))
    }

    /// Checks that `key` holds exactly `expected`.
    ///
    /// # Errors
    /// [`Error::Metadata`] with what was found.
    pub fn expect(&self, key: &str, expected: &Value) -> Result<()> {
        let found = self.value(key)?;
        if found == expected {
            Ok(())
        } else {
            Err(self.error(key, &format!("found {found}, expected {expected}")))
        }
    }

    /// The named codec or grid at `key`: `{"name": name, "configuration": {…}}`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or has another name.
    pub fn extension(&self, key: &str, name: &str) -> Result<Self> {
        let node = self.object(key)?;
        node.expect("name", &Value::from(name))?;
        node.object("configuration")
    }

    /// The objects of the array at `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing, no array, or holds something else.
    pub fn objects(&self, key: &str) -> Result<Vec<Self>> {
        let items =
            self.value(key)?.as_array().ok_or_else(|| self.error(key, "expected an array"))?;
        let node = |(i, item): (usize, &'a Value)| {
            let object = item.as_object().ok_or_else(|| self.error(key, "expected objects"))?;
            Ok(Self { path: self.path, key: format!("{}.{key}[{i}]", self.key), object })
        };
        items.iter().enumerate().map(node).collect()
    }
}

/// Writes `folder/zarr.json`, flushed to the disk; `folder` must not be visible yet.
///
/// # Errors
/// [`Error::Io`].
pub fn write(folder: &Path, document: &Value) -> Result<()> {
    let path = folder.join(ZARR_JSON);
    let mut text = serde_json::to_vec_pretty(document).expect("a JSON tree serialises");
    text.push(b'\n');
    let mut file = File::create(&path).map_err(Error::io(&path, "cannot create"))?;
    file.write_all(&text).map_err(Error::io(&path, "cannot write"))?;
    file.sync_all().map_err(Error::io(&path, "cannot flush"))
}

/// A group's document with those attributes.
pub fn group(attributes: Value) -> Value {
    let mut group = serde_json::json!({ "zarr_format": 3, "node_type": "group" });
    group["attributes"] = attributes;
    group
}
