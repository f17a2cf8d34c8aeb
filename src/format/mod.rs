//! The bytes of a store: the Rust side of `format-spec/README.md`, section by section.
//!
//! # Invariants
//! - Everything parsed from a file is checked here once and becomes a type that holds only valid
//!   values.
//! - [`limits`] holds the numbers of the specification; `tests/spec.rs` compares them with its
//!   tables.
//!
//! Not here: opening shards (`source`), decoding chunks (`codec`).

pub mod array;
pub mod attributes;
pub mod document;
pub mod grid;
pub mod index;
pub mod layout;

use crate::{Error, Result};

/// The limits of the format (§10).
pub mod limits {
    /// Bytes of a subject's or volume's name.
    pub const NAME_BYTES: usize = 200;
    /// Voxels along one axis.
    pub const AXIS_VOXELS: u64 = 1 << 40;
    /// Voxels of a volume, over all channels.
    pub const VOLUME_VOXELS: u64 = 1 << 60;
    /// Bytes of a decoded chunk.
    pub const CHUNK_BYTES: usize = 16 << 20;
    /// Chunks of a shard that a reader accepts.
    pub const SHARD_CHUNKS: usize = 1 << 16;
    /// Chunks of a shard that a writer makes.
    pub const WRITER_SHARD_CHUNKS: usize = 1 << 12;
    /// Bytes of a `zarr.json`.
    pub const METADATA_BYTES: u64 = 16 << 20;
    /// Elements of a chunk of a summary array.
    pub const SUMMARY_CHUNK: usize = 1 << 16;

    /// Each name and value, in the order of the specification's table.
    pub const TABLE: [(&str, u64); 8] = [
        ("name_bytes", NAME_BYTES as u64),
        ("axis_voxels", AXIS_VOXELS),
        ("volume_voxels", VOLUME_VOXELS),
        ("chunk_bytes", CHUNK_BYTES as u64),
        ("shard_chunks", SHARD_CHUNKS as u64),
        ("writer_shard_chunks", WRITER_SHARD_CHUNKS as u64),
        ("metadata_bytes", METADATA_BYTES),
        ("summary_chunk", SUMMARY_CHUNK as u64),
    ];
}

/// The version of the format that this crate reads and writes (§3).
pub const VERSION: u64 = 1;

/// The folder of a store that holds unfinished work (§9).
pub const PARTIAL_DIR: &str = ".voxquarry-partial";

/// Checks the name of a subject or volume (§2); `kind` is `"subject"` or `"volume"`.
///
/// # Errors
/// [`Error::InvalidArgument`] with the rule that is broken.
pub fn check_name(kind: &str, name: &str) -> Result<()> {
    let expected = if name.is_empty() || name.len() > limits::NAME_BYTES {
        format!("1 to {} bytes", limits::NAME_BYTES)
    } else if name.starts_with('.') || name.starts_with("__") {
        "a name that does not begin with '.' or '__'".into()
    } else if name == document::ZARR_JSON {
        "another name: the metadata has this one".into()
    } else if name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control()) {
        "a name without '/', '\\' and control characters".into()
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("{kind} name"), format!("{name:?}"), expected))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_follow_the_specification() {
        for good in ["case01", "BraTS 2021 0001", "sub-01_T1w", "Ärzte", "a.nii"] {
            assert!(check_name("subject", good).is_ok(), "{good}");
        }
        for bad in
            ["", ".hidden", "..", "__x", "a/b", "a\\b", "a\nb", "zarr.json", &"x".repeat(201)]
        {
            assert!(check_name("subject", bad).is_err(), "{bad}");
        }
    }
}
