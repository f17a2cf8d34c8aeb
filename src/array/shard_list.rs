//! The list of an array's shards beside it (§8): which have a file, and the identity of its bytes.
//!
//! # Invariants
//! - A list that is read has the checksum that the volume's metadata names.

use super::array1d;
use crate::format::document::Document;
use crate::sys::folder::Folder;
use crate::{Error, Result};

/// The identities of all shards in C order, channel slowest; 0 for a shard without a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardList(pub(crate) Vec<u64>);

impl ShardList {
    /// The number of shards that have a file.
    pub(crate) fn files(&self) -> u64 {
        self.0.iter().filter(|&&identity| identity != 0).count() as u64
    }

    /// Writes the list into `folder`; returns its checksum.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, folder: &Folder) -> Result<u32> {
        array1d::write(folder, "uint64", "shard", &self.0, None, 0)
    }

    /// Reads the list of `shards` shards in `folder`.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Metadata`] if it is missing, damaged, or not the one with
    /// `crc32c`.
    pub(crate) fn read(folder: &Folder, shards: u64, crc32c: u32) -> Result<Self> {
        let missing = || {
            let message = "the list of shards is missing: the subject was removed while it was \
                           open, or the copy of the store is incomplete";
            Error::data(folder.path(), message)
        };
        let document = Document::read_in(folder)?.ok_or_else(missing)?;
        let what = "the list of shards";
        let (list, found) = array1d::read(folder, &document, "uint64", Some(shards), what, 0)?;
        if found != crc32c {
            let message = format!(
                "the list of shards has crc32c {found:#010x}, the volume names {crc32c:#010x}: the \
                 subject was replaced while it was open, or the list is damaged; open the dataset \
                 again"
            );
            return Err(Error::data(folder.path(), message));
        }
        Ok(Self(list))
    }
}
