//! The SHA-256 of a source file, to tell whether a published volume came from it.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use voxquarry::{Error, Result};

use crate::files::open_without_waiting;
use crate::observer::{Event, Observer, check_interrupt};

/// Bytes between two questions to the observer.
const PIECE_BYTES: usize = 1 << 20;

/// The SHA-256 of a file's bytes, in hexadecimal; the observer hears of every piece.
///
/// # Errors
/// [`Error::Io`], [`Error::Interrupted`].
pub(crate) fn sha256(path: &Path, observer: &dyn Observer) -> Result<String> {
    // A pipe may have taken the file's place.
    let mut file = open_without_waiting(path)?;
    let (mut piece, mut sha256) = (vec![0; PIECE_BYTES], Sha256::new());
    loop {
        check_interrupt(observer)?;
        match file.read(&mut piece).map_err(Error::io(path, "cannot read"))? {
            0 => break,
            count => {
                sha256.update(&piece[..count]);
                observer.event(Event::Compared(count as u64));
            }
        }
    }
    Ok(hex(sha256))
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
        assert_eq!(sha256(&path, &NoopObserver).unwrap(), expected);
    }
}
