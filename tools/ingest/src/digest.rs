//! The SHA-256 of source files, to tell whether a published volume came from them.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use voxquarry::{Error, Result};

use crate::files::{file_name, open_without_waiting};
use crate::observer::{Event, Observer, check_interrupt};

/// Bytes between two questions to the observer.
const PIECE_BYTES: usize = 1 << 20;

/// The digest of several files together.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilesDigest {
    /// A line for each file.
    lines: String,
    files: usize,
    first: String,
    bytes: u64,
}

impl FilesDigest {
    /// Adds the next file.
    pub(crate) fn push(&mut self, sha256: &str, bytes: u64, path: &Path) {
        writeln!(self.lines, "{sha256} {bytes} {}", file_name(path))
            .expect("a string takes everything");
        if self.files == 0 {
            sha256.clone_into(&mut self.first);
        }
        self.files += 1;
        self.bytes += bytes;
    }

    /// The SHA-256 in hexadecimal, and the bytes of all files: of one file its own, otherwise that
    /// of lines `sha256 bytes name`.
    pub(crate) fn finish(self) -> (String, u64) {
        if self.files == 1 {
            return (self.first, self.bytes);
        }
        let mut sha256 = Sha256::new();
        sha256.update(self.lines.as_bytes());
        (hex(sha256), self.bytes)
    }
}

/// The digest of files, in hexadecimal ([`FilesDigest`]); the observer hears of every piece.
///
/// # Errors
/// [`Error::Io`], [`Error::Interrupted`].
pub(crate) fn sha256_of(files: &[PathBuf], observer: &dyn Observer) -> Result<String> {
    let mut digest = FilesDigest::default();
    for path in files {
        let (sha256, bytes) = sha256(path, observer)?;
        digest.push(&sha256, bytes, path);
    }
    Ok(digest.finish().0)
}

/// The SHA-256 of a file's bytes, in hexadecimal, and their number.
///
/// # Errors
/// As [`sha256_of`].
pub(crate) fn sha256(path: &Path, observer: &dyn Observer) -> Result<(String, u64)> {
    // A pipe may have taken the file's place.
    let mut file = open_without_waiting(path)?;
    let (mut piece, mut sha256, mut bytes) = (vec![0; PIECE_BYTES], Sha256::new(), 0);
    loop {
        check_interrupt(observer)?;
        match file.read(&mut piece).map_err(Error::io(path, "cannot read"))? {
            0 => break,
            count => {
                sha256.update(&piece[..count]);
                bytes += count as u64;
                observer.event(Event::Compared(count as u64));
            }
        }
    }
    Ok((hex(sha256), bytes))
}

/// The digest of all bytes so far, in hexadecimal.
pub(crate) fn hex(sha256: Sha256) -> String {
    let mut hex = String::with_capacity(64);
    for byte in sha256.finalize() {
        write!(hex, "{byte:02x}").expect("a string takes everything");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::NoopObserver;

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"abc").unwrap();
        // FIPS 180-4, the first example.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(&[path], &NoopObserver).unwrap(), expected);
    }
}
