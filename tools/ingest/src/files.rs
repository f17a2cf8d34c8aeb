//! What all readers of source files share: their names, what they are, and how they are opened.
//!
//! # Invariants
//! - What the disk does not let anybody look at does not count as missing: it is an error.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use voxquarry::{Error, Result};

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether there is a folder at `path`, or a link to one.
///
/// # Errors
/// [`Error::Io`] if the disk does not say.
pub(crate) fn is_folder(path: &Path) -> Result<bool> {
    Ok(metadata(path)?.is_some_and(|found| found.is_dir()))
}

/// Whether there is a regular file at `path`, or a link to one.
///
/// # Errors
/// As [`is_folder`].
pub(crate) fn is_file(path: &Path) -> Result<bool> {
    Ok(metadata(path)?.is_some_and(|found| found.is_file()))
}

/// Whether there is something at `path`; a link to nothing is nothing.
///
/// # Errors
/// As [`is_folder`].
pub(crate) fn exists(path: &Path) -> Result<bool> {
    Ok(metadata(path)?.is_some())
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match path.metadata() {
        Ok(found) => Ok(Some(found)),
        Err(e) if names_nothing(&e) => Ok(None),
        Err(e) => Err(Error::io(path, "cannot look at")(e)),
    }
}

/// Whether an error says that nothing has this name, or that nothing can have it.
fn names_nothing(error: &io::Error) -> bool {
    let kinds = [
        ErrorKind::NotFound,
        ErrorKind::NotADirectory,
        ErrorKind::InvalidFilename,
        ErrorKind::InvalidInput,
    ];
    // A link to itself.
    kinds.contains(&error.kind()) || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Opens a file for reading, without waiting for a writer as opening a pipe would.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn open_without_waiting(path: &Path) -> Result<File> {
    // Has no effect on reading a regular file.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path);
    file.map_err(Error::io(path, "cannot open"))
}

/// Checks that there is memory for so many bytes, which something allocates that cannot say that
/// there is none.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`].
pub(crate) fn check_room(bytes: usize) -> io::Result<()> {
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| ErrorKind::OutOfMemory.into())
}

/// So many zeros, of voxels on their way.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn zeroed(bytes: usize) -> Result<Vec<u8>> {
    let mut zeros = Vec::new();
    let lacking = |_| Error::OutOfMemory { what: "a slab of voxels".into(), bytes: bytes as u64 };
    zeros.try_reserve_exact(bytes).map_err(lacking)?;
    zeros.resize(bytes, 0);
    Ok(zeros)
}

/// A buffer of so many bytes, whatever is in them.
pub(crate) fn resized(buffer: &mut Vec<u8>, bytes: usize) -> Result<&mut [u8]> {
    if buffer.len() < bytes {
        *buffer = zeroed(bytes)?;
    }
    Ok(&mut buffer[..bytes])
}
