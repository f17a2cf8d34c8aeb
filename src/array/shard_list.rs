//! The list of an array's shards beside it (§8): which have a file, and the identity of its bytes.
//!
//! # Invariants
//! - A list that is read has the checksum that the volume's metadata names.

use std::path::Path;

use serde_json::json;

use super::array1d;
use crate::format::document::Document;
use crate::{Error, Result};

/// The identities of all shards in C order, channel slowest; 0 for a shard without a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardList(pub(crate) Vec<u64>);

impl ShardList {
    /// The checksum of the list.
    pub(crate) fn crc32c(&self) -> u32 {
        crc32c::crc32c(bytemuck::cast_slice(&self.0))
    }

    /// Writes the list into `folder`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        array1d::write(folder, "uint64", &self.0, &json!({}))
    }

    /// Reads the list of `shards` shards in `folder`.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Metadata`] if it is missing, damaged, or not the one with
    /// `crc32c`.
    pub(crate) fn read(folder: &Path, shards: u64, crc32c: u32) -> Result<Self> {
        let missing = || {
            let message = "the list of shards is missing: the subject was removed while it was \
                           open, or the copy of the store is incomplete";
            Error::data(folder, message)
        };
        let document = Document::read(folder)?.ok_or_else(missing)?;
        let list = array1d::read(folder, &document, "uint64", Some(shards), "the list of shards")?;
        let list = Self(list);
        let found = list.crc32c();
        if found != crc32c {
            let message = format!(
                "the list of shards has crc32c {found:#010x}, the volume names {crc32c:#010x}: the \
                 subject was replaced while it was open, or the list is damaged; open the dataset \
                 again"
            );
            return Err(Error::data(folder, message));
        }
        Ok(list)
    }
}
