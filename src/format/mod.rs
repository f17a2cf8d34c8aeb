//! What the bytes of a store mean: the Rust side of `format-spec/README.md`, section by section.
//!
//! # Invariants
//! - Everything parsed from a file is checked here, once, and leaves as a type that cannot be wrong.
//! - The numbers of the specification's tables stand in [`limits`] and are compared with it by a test.
//!
//! Not here: opening files (`source`), decoding chunks (`codec`).

pub mod array;
pub mod attributes;
pub mod document;
pub mod grid;
pub mod index;
pub mod layout;

/// §10 of the specification.
pub mod limits {
    /// A subject's or volume's name, in bytes.
    pub const NAME_BYTES: usize = 200;
    /// Voxels along one axis.
    pub const AXIS_VOXELS: u64 = 1 << 40;
    /// Voxels of a volume over all axes and channels.
    pub const VOLUME_VOXELS: u64 = 1 << 60;
    /// One decoded chunk.
    pub const CHUNK_BYTES: usize = 16 << 20;
    /// Chunks in a shard that a reader accepts.
    pub const SHARD_CHUNKS: usize = 1 << 16;
    /// Chunks in a shard that a writer makes.
    pub const WRITER_SHARD_CHUNKS: usize = 1 << 12;
    /// One `zarr.json`.
    pub const METADATA_BYTES: u64 = 16 << 20;
    /// Elements in a chunk of a summary array.
    pub const SUMMARY_CHUNK: usize = 1 << 16;

    /// Name and value as the specification's table lists them.
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

/// The version that this crate reads and writes (§3).
pub const VERSION: u64 = 1;

/// The folder of unfinished work in a store (§9).
pub const PARTIAL_DIR: &str = ".voxquarry-partial";

/// Checks a subject's or volume's name against §2.
///
/// # Errors
/// [`crate::Error::Usage`] with the rule that is broken.
pub fn check_name(kind: &str, name: &str) -> crate::Result<()> {
    let rule = if name.is_empty() || name.len() > limits::NAME_BYTES {
        format!("a name has 1 to {} bytes", limits::NAME_BYTES)
    } else if name.starts_with('.') || name.starts_with("__") {
        "a name does not begin with '.' or '__'".into()
    } else if name == "zarr.json" {
        "that name is the metadata's".into()
    } else if name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control()) {
        "a name holds no '/', '\\' or control character".into()
    } else {
        return Ok(());
    };
    Err(crate::Error::usage(format!("{kind} name {name:?}: {rule}")))
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
