//! Reads and writes `zarr.json` documents; its errors name the file and the key.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::limits::METADATA_BYTES;
use crate::sys::file::read_bounded;
use crate::{Error, Result};

/// The file name of every Zarr v3 metadata document.
pub const ZARR_JSON: &str = "zarr.json";

/// The key of a document's own checksum in `attributes.voxquarry`.
pub const SEAL_KEY: &str = "crc32c";

/// The digits that stand for the checksum while it is computed.
const SEAL_DIGITS: &str = "00000000";

/// A metadata document and its path.
///
/// ```
/// use std::path::Path;
/// use voxquarry::format::document::Document;
///
/// # let store = "format-spec/golden/v1";
/// let document = Document::read(Path::new(store))?.expect("a group");
/// document.expect_node("group")?;
/// assert_eq!(document.voxquarry()?.string("node")?, "dataset");
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    root: Map<String, Value>,
    text: Vec<u8>,
}

impl Document {
    /// Reads `folder/zarr.json`; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Metadata`] if it is too long or no JSON object.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(ZARR_JSON);
        let text = match read_bounded(&path, METADATA_BYTES) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                return Err(Error::metadata(&path, e.to_string()));
            }
            Err(e) => return Err(Error::io(&path, "cannot read")(e)),
        };
        match serde_json::from_slice(&text) {
            Ok(Value::Object(root)) => Ok(Some(Self { path, root, text })),
            Ok(_) => Err(Error::metadata(&path, "not a JSON object")),
            Err(e) => Err(Error::metadata(&path, format!("not JSON: {e}"))),
        }
    }

    /// The document's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The document's root object.
    pub fn root(&self) -> Node<'_> {
        Node { path: &self.path, key: String::new(), object: &self.root }
    }

    /// The crc32c of the document's bytes.
    pub fn crc32c(&self) -> u32 {
        crc32c::crc32c(&self.text)
    }

    /// Checks the document's own checksum, `attributes.voxquarry.crc32c` (§3).
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or differs.
    pub fn check_seal(&self) -> Result<()> {
        let node = self.voxquarry()?;
        let found = node.string(SEAL_KEY)?;
        let is_seal = found.len() == SEAL_DIGITS.len()
            && found.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let quoted = format!("\"{found}\"");
        let mut text = self.text.clone();
        let at = text.windows(quoted.len()).position(|part| part == quoted.as_bytes());
        let Some(at) = at.filter(|_| is_seal) else {
            return Err(node.error(SEAL_KEY, "expected eight lower-case hexadecimal digits"));
        };
        text[at + 1..at + 1 + SEAL_DIGITS.len()].copy_from_slice(SEAL_DIGITS.as_bytes());
        let expected = format!("{:08x}", crc32c::crc32c(&text));
        if found == expected {
            Ok(())
        } else {
            Err(node.error(SEAL_KEY, &format!("found {found}, expected {expected}: damaged")))
        }
    }

    /// Checks `zarr_format` and `node_type`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if either differs.
    pub fn expect_node(&self, node_type: &str) -> Result<()> {
        let root = self.root();
        root.expect("zarr_format", &Value::from(3))?;
        root.expect("node_type", &Value::from(node_type))
    }

    /// `attributes.voxquarry` of a group.
    ///
    /// # Errors
    /// [`Error::Metadata`] if this is no group, or one of another format.
    pub fn voxquarry(&self) -> Result<Node<'_>> {
        self.expect_node("group")?;
        self.root().object("attributes")?.object("voxquarry")
    }
}

/// An object of a document, and its key path for error messages.
///
/// ```
/// use std::path::Path;
/// use voxquarry::format::document::Document;
///
/// # let store = "format-spec/golden/v1";
/// let document = Document::read(&Path::new(store).join("grid/u8/0"))?.expect("an array");
/// let grid = document.root().extension("chunk_grid", "regular")?;
/// let shard: Vec<usize> = grid.parse("chunk_shape")?;
/// assert_eq!(shard.len(), 3);
/// assert!(grid.parse::<Vec<usize>>("chunk_size").unwrap_err().to_string().contains("missing"));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Node<'a> {
    path: &'a Path,
    key: String,
    object: &'a Map<String, Value>,
}

impl<'a> Node<'a> {
    /// An error about `key` of this object.
    pub fn error(&self, key: &str, message: &str) -> Error {
        let dot = if self.key.is_empty() || key.is_empty() { "" } else { "." };
        Error::metadata(self.path, format!("{}{dot}{key}: {message}", self.key))
    }

    /// The document's path.
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

    /// The value of `key`, if it exists.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key)
    }

    /// The object at `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or of another type.
    pub fn object(&self, key: &str) -> Result<Self> {
        let object =
            self.value(key)?.as_object().ok_or_else(|| self.error(key, "expected an object"))?;
        let dot = if self.key.is_empty() { "" } else { "." };
        Ok(Self { path: self.path, key: format!("{}{dot}{key}", self.key), object })
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or of another type.
    pub fn string(&self, key: &str) -> Result<&'a str> {
        self.value(key)?.as_str().ok_or_else(|| self.error(key, "expected a string"))
    }

    /// The value of `key`, deserialised.
    ///
    /// # Errors
    /// [`Error::Metadata`] if it is missing or of another type.
    pub fn parse<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        T::deserialize(self.value(key)?).map_err(|e| self.error(key, &e.to_string()))
    }

    /// Checks that the value of `key` is `expected`.
    ///
    /// # Errors
    /// [`Error::Metadata`] with the value that was found.
    pub fn expect(&self, key: &str, expected: &Value) -> Result<()> {
        let found = self.value(key)?;
        if found == expected {
            Ok(())
        } else {
            Err(self.error(key, &format!("found {found}, expected {expected}")))
        }
    }

    /// The configuration of the extension `name` at `key`: `{"name": name, "configuration": {…}}`.
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
    /// [`Error::Metadata`] if it is missing or no array of objects.
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

/// Writes `folder/zarr.json` and flushes it to the disk; readers must not see `folder` yet.
///
/// Returns the crc32c of the document's bytes.
///
/// # Errors
/// [`Error::Io`] if the system refuses.
pub fn write(folder: &Path, document: &Value) -> Result<u32> {
    let text = to_text(document);
    write_text(folder, &text)?;
    Ok(crc32c::crc32c(&text))
}

/// As [`write()`], of a group whose `attributes.voxquarry` receives the checksum of the document.
///
/// # Errors
/// [`Error::Io`] if the system refuses.
pub fn write_sealed(folder: &Path, attributes: Value) -> Result<()> {
    let mut document = group(attributes);
    let seal = &mut document["attributes"]["voxquarry"][SEAL_KEY];
    *seal = SEAL_DIGITS.into();
    let crc32c = crc32c::crc32c(&to_text(&document));
    document["attributes"]["voxquarry"][SEAL_KEY] = format!("{crc32c:08x}").into();
    write_text(folder, &to_text(&document))
}

fn to_text(document: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(document).expect("a JSON tree serialises");
    text.push(b'\n');
    text
}

fn write_text(folder: &Path, text: &[u8]) -> Result<()> {
    let path = folder.join(ZARR_JSON);
    let mut file = File::create(&path).map_err(Error::io(&path, "cannot create"))?;
    file.write_all(text).map_err(Error::io(&path, "cannot write"))?;
    file.sync_all().map_err(Error::io(&path, "cannot flush"))
}

/// The document of a group with these attributes.
pub fn group(attributes: Value) -> Value {
    let mut group = serde_json::json!({ "zarr_format": 3, "node_type": "group" });
    group["attributes"] = attributes;
    group
}
