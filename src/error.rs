//! What can go wrong, where, and whose move it is.
//!
//! Every error names its place (path, subject, chunk, offset), what was found, what was expected and,
//! where there is one, the remedy. Its [`Fault`] decides the exit code and the Python exception.
//!
//! # Invariants
//! - Bytes of a file never panic; they become a [`Fault::Data`] error.

use std::io;
use std::path::{Path, PathBuf};

use crate::dtype::Dtype;
use crate::geometry::Region;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose move it is after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller asked for something impossible: exit code 2, `voxquarry.UsageError`.
    Caller,
    /// The bytes are not what they claim to be: exit code 3, `voxquarry.DataError`.
    Data,
    /// Disk, permissions, memory: exit code 4, `voxquarry.StorageError`.
    Environment,
}

impl Fault {
    /// The exit code of the `voxquarry` command for this fault.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Caller => 2,
            Self::Data => 3,
            Self::Environment => 4,
        }
    }
}

/// An error of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that cannot be served; the text says which and what would be accepted.
    #[error("{0}")]
    Usage(String),

    /// A subject or volume that is not there.
    #[error("no {kind} {name:?} in {}{}", .place.display(), did_you_mean(.available))]
    NotFound {
        /// `"subject"` or `"volume"`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        place: PathBuf,
        /// A few of the names that exist there.
        available: Vec<String>,
    },

    /// The buffer's element type is not the volume's.
    #[error("the buffer holds {found}, the volume {expected}: convert after reading")]
    DtypeMismatch {
        /// The buffer's dtype.
        found: Dtype,
        /// The volume's dtype.
        expected: Dtype,
    },

    /// The buffer's length is not the region's voxel count.
    #[error("the buffer holds {found} voxels, the region {expected}")]
    BufferLength {
        /// Voxels in the buffer.
        found: usize,
        /// Voxels in the region, over all channels.
        expected: usize,
    },

    /// A path that is no store of this format.
    #[error("{}: not a voxquarry store: {reason}", .path.display())]
    NotAStore {
        /// The path that was opened.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },

    /// A store that needs a newer reader (or writer).
    #[error("{}: needs the {role} feature {feature:?}, which this version does not know: upgrade voxquarry", .path.display())]
    UnknownFeature {
        /// The metadata document.
        path: PathBuf,
        /// `"reader"` or `"writer"`.
        role: &'static str,
        /// The flag's name.
        feature: String,
    },

    /// A metadata document that breaks the profile.
    #[error("{}: {message}", .path.display())]
    Metadata {
        /// The document.
        path: PathBuf,
        /// Key, what was found, what the profile asks for.
        message: String,
    },

    /// A source or store file whose content is wrong.
    #[error("{}: {message}", .path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },

    /// A shard whose index cannot be trusted.
    #[error("{}: shard index: {message}", .path.display())]
    ShardIndex {
        /// The shard file.
        path: PathBuf,
        /// What is wrong with the index.
        message: String,
    },

    /// A chunk whose bytes are not the ones written.
    #[error("{}: chunk {chunk} at byte {offset}: crc32c {found:#010x}, expected {expected:#010x}", .path.display())]
    ChunkChecksum {
        /// The shard file.
        path: PathBuf,
        /// The chunk's place in its shard's index.
        chunk: u64,
        /// The chunk's first byte in the file.
        offset: u64,
        /// Computed over the bytes.
        found: u32,
        /// Stored behind the bytes.
        expected: u32,
    },

    /// A chunk that does not decode.
    #[error("{}: chunk {chunk} at byte {offset}: {message}", .path.display())]
    ChunkDecode {
        /// The shard file.
        path: PathBuf,
        /// The chunk's place in its shard's index.
        chunk: u64,
        /// The chunk's first byte in the file.
        offset: u64,
        /// What the decoder met.
        message: String,
    },

    /// Something that would be overwritten.
    #[error("{}: exists already: {remedy}", .path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
        /// What to do about it.
        remedy: String,
    },

    /// The operating system refused.
    #[error("{}: {action}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as "cannot open".
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },

    /// A patch of a queue that could not be read.
    #[error("{subject}/{volume}: patch at {:?} of {:?} voxels: {source}", .region.start, .region.size)]
    InPatch {
        /// The subject it lies in.
        subject: String,
        /// The volume that was read.
        volume: String,
        /// The patch.
        region: Region,
        /// What went wrong.
        source: Box<Error>,
    },

    /// A subject of a queue in which no patch could be found.
    #[error("subject {subject:?}: {source}")]
    InSubject {
        /// Its name.
        subject: String,
        /// What went wrong.
        source: Box<Error>,
    },

    /// Work that the caller asked to stop.
    #[error("interrupted; nothing unfinished was published")]
    Interrupted,
}

impl Error {
    /// Whose move it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Usage(_)
            | Self::NotFound { .. }
            | Self::DtypeMismatch { .. }
            | Self::BufferLength { .. }
            | Self::NotAStore { .. }
            | Self::Exists { .. } => Fault::Caller,
            Self::UnknownFeature { .. }
            | Self::Metadata { .. }
            | Self::Data { .. }
            | Self::ShardIndex { .. }
            | Self::ChunkChecksum { .. }
            | Self::ChunkDecode { .. } => Fault::Data,
            Self::Io { .. } | Self::Interrupted => Fault::Environment,
            Self::InPatch { source, .. } | Self::InSubject { source, .. } => source.fault(),
        }
    }

    /// What went wrong in the end, without the places that it went wrong in.
    pub fn root(&self) -> &Self {
        match self {
            Self::InPatch { source, .. } | Self::InSubject { source, .. } => source.root(),
            other => other,
        }
    }

    /// An argument that cannot be served.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A file whose content is wrong.
    pub fn data(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A metadata document that breaks the profile.
    pub fn metadata(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Metadata { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// For `map_err`: a refusal of the operating system while doing `action` on `path`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, action, source }
    }
}

fn did_you_mean(available: &[String]) -> String {
    if available.is_empty() {
        String::new()
    } else {
        format!("; there is {}", available.join(", "))
    }
}
