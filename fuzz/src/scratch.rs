//! Folders for targets that have to go through files: in memory where the system has such a place.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A new folder, removed when it is dropped.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).expect("a scratch folder can be made")
}

/// Writes a file whose folder exists.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the scratch folder takes a file");
}

/// Copies a folder and all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("the scratch folder takes a folder");
        for entry in fs::read_dir(from).expect("the folder can be listed") {
            let entry = entry.expect("the folder can be listed");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).expect("the scratch folder takes a file");
    }
}

/// A folder of golden stores.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/golden").join(name)
}

/// `bytes`, and their checksum behind them.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc32c::crc32c(bytes).to_le_bytes()].concat()
}

/// One Zstandard frame of `bytes`.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![0; zstd_safe::compress_bound(bytes.len())];
    let length = zstd_safe::compress(&mut encoded[..], bytes, 1).expect("the bound suffices");
    encoded.truncate(length);
    encoded
}
