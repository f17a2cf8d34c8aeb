//! Reads the first bytes of a file, by which formats recognise it.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use voxquarry::{Error, Result};

use super::unpack::GZIP_MAGIC;
use crate::files::open_without_waiting;

/// Bytes of a file that formats recognise it by, after decompression.
const HEAD_BYTES: usize = 1024;

/// The first bytes of a file, after decompression if it is gzip; fewer where the file is short or
/// damaged.
///
/// # Errors
/// [`Error::Unsupported`] if it is no regular file, [`Error::Io`].
pub(super) fn read_head(path: &Path) -> Result<Vec<u8>> {
    let mut file = open_without_waiting(path)?;
    let metadata = file.metadata().map_err(Error::io(path, "cannot open"))?;
    if !metadata.is_file() {
        let reason = format!("{} is not a regular file", path.display());
        return Err(Error::unsupported(reason, "name an image file"));
    }
    let mut head = Vec::new();
    let read = file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head);
    read.map_err(Error::io(path, "cannot read"))?;
    if !head.starts_with(&GZIP_MAGIC) {
        return Ok(head);
    }
    let file = open_without_waiting(path)?;
    let mut unpacked = Vec::new();
    // Damage leaves fewer bytes; reading the file reports it.
    let _ = MultiGzDecoder::new(file).take(HEAD_BYTES as u64).read_to_end(&mut unpacked);
    Ok(unpacked)
}
