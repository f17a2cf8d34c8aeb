//! Reads and writes `zarr.json` documents; its errors name the file and the key.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::limits::{METADATA_BYTES, METADATA_VALUES};
use crate::sys::folder::{Folder, Links};
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
    /// [`Error::Io`] if it cannot be read; [`Error::Metadata`] if it is too long, holds too many
    /// values (§10), or is no JSON object.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        match Folder::open(folder, Links::Refuse) {
            Ok(folder) => Self::read_in(&folder),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(Error::io(folder, "cannot open")(e)),
        }
    }

    /// As [`Document::read`], in a folder of a store.
    pub(crate) fn read_in(folder: &Folder) -> Result<Option<Self>> {
        let path = folder.path().join(ZARR_JSON);
        let text = match folder.read_file(ZARR_JSON, METADATA_BYTES) {
            Ok(text) => text,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                return Err(Error::metadata(&path, e.to_string()));
            }
            Err(e) => return Err(Error::io(&path, "cannot read")(e)),
        };
        Self::parse(path, text).map(Some)
    }

    /// As [`Document::read_in`], of a document that is sealed.
    ///
    /// # Errors
    /// As [`Document::read_in`] and [`Document::check_seal`].
    pub(crate) fn read_sealed_in(folder: &Folder) -> Result<Option<Self>> {
        let document = Self::read_in(folder)?;
        document.as_ref().map_or(Ok(()), Self::check_seal)?;
        Ok(document)
    }

    /// Parses the bytes of the document at `path`.
    ///
    /// # Errors
    /// [`Error::Metadata`] if they hold too many values (§10), or are no JSON object.
    pub fn parse(path: PathBuf, text: Vec<u8>) -> Result<Self> {
        if !has_few_values(&text) {
            let message = format!("it holds more than {METADATA_VALUES} values");
            return Err(Error::metadata(&path, message));
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(root)) => Ok(Self { path, root, text }),
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

    /// The document's bytes.
    pub fn text(&self) -> &[u8] {
        &self.text
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
        let node = self.root().object("attributes")?.object("voxquarry")?;
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
    write_in(&open(folder)?, document).map(|text| crc32c::crc32c(&text))
}

/// As [`write()`], of a group whose `attributes.voxquarry` receives the checksum of the document.
///
/// # Errors
/// [`Error::Io`] if the system refuses.
pub fn write_sealed(folder: &Path, attributes: Value) -> Result<()> {
    write_sealed_in(&open(folder)?, group(attributes)).map(drop)
}

fn open(folder: &Path) -> Result<Folder> {
    Folder::open(folder, Links::Refuse).map_err(Error::io(folder, "cannot open"))
}

/// As [`write()`], in a folder of a store; returns the document's bytes.
pub(crate) fn write_in(folder: &Folder, document: &Value) -> Result<Vec<u8>> {
    let text = to_text(document);
    write_text(folder, &text)?;
    Ok(text)
}

/// As [`write_in`]; the `attributes.voxquarry` of the document receive the checksum.
pub(crate) fn write_sealed_in(folder: &Folder, mut document: Value) -> Result<Vec<u8>> {
    let seal = &mut document["attributes"]["voxquarry"][SEAL_KEY];
    *seal = SEAL_DIGITS.into();
    let crc32c = crc32c::crc32c(&to_text(&document));
    document["attributes"]["voxquarry"][SEAL_KEY] = format!("{crc32c:08x}").into();
    write_in(folder, &document)
}

fn to_text(document: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(document).expect("a JSON tree serialises");
    text.push(b'\n');
    text
}

fn write_text(folder: &Folder, text: &[u8]) -> Result<()> {
    let path = folder.path().join(ZARR_JSON);
    let mut file = folder.create_file(ZARR_JSON).map_err(Error::io(&path, "cannot create"))?;
    file.write_all(text).map_err(Error::io(&path, "cannot write"))?;
    file.sync_all().map_err(Error::io(&path, "cannot flush"))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether a JSON text holds at most [`METADATA_VALUES`] values, so that its tree, which takes up
/// to 350 bytes for each of them, stays small; any answer for what is not JSON.
fn has_few_values(text: &[u8]) -> bool {
    /// A value and the comma behind it.
    const LEAST_BYTES: usize = 2;
    if text.len() <= METADATA_VALUES * LEAST_BYTES {
        return true;
    }
    // A container has one value more than commas, unless it is empty; the whole text is one more.
    let (mut values, mut is_opened) = (1, false);
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        let is_content = !matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b']' | b'}');
        values += usize::from(byte == b',') + usize::from(is_opened && is_content);
        is_opened = matches!(byte, b'[' | b'{') || is_opened && byte.is_ascii_whitespace();
        if byte == b'"' {
            while let Some(&inner) = bytes.next().filter(|&&inner| inner != b'"') {
                if inner == b'\\' {
                    bytes.next();
                }
            }
        }
    }
    values <= METADATA_VALUES
}

/// The document of a group with these attributes.
pub fn group(attributes: Value) -> Value {
    let mut group = serde_json::json!({ "zarr_format": 3, "node_type": "group" });
    group["attributes"] = attributes;
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_as_a_parser_does() {
        fn count(value: &Value) -> usize {
            1 + match value {
                Value::Array(items) => items.iter().map(count).sum(),
                Value::Object(items) => items.values().map(count).sum(),
                _ => 0,
            }
        }
        let item = r#"[ ], [3, {}], {"a,[": "\\\",[{", "b": [ [[]] ], "c": {"d": null}}, 1e3"#;
        let text = |items: usize| format!("[ {}]", vec![item; items].join(" ,\n"));
        let of_item = count(&serde_json::from_str(&text(1)).unwrap()) - 1;
        let most = (METADATA_VALUES - 1) / of_item;
        for (items, more) in [(most, METADATA_VALUES - 1 - most * of_item), (1, METADATA_VALUES)] {
            let text = text(items).replacen('[', &format!("[{}", "0,".repeat(more)), 1);
            let found = count(&serde_json::from_str(&text).unwrap());
            assert!(found == METADATA_VALUES || items == 1);
            assert_eq!(has_few_values(text.as_bytes()), found <= METADATA_VALUES);
            let one_more = text.replacen('[', "[0,", 1);
            assert!(!has_few_values(one_more.as_bytes()));
        }
    }
}
