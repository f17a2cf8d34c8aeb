//! What all readers of source files share: their names, and how they are opened.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use voxquarry::{Error, Result};

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
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
