//! What identifies a source without reading its voxels: the names, lengths and times of its files.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use voxquarry::{Error, Result};

use crate::digest::hex;
use crate::files::file_name;
use crate::input::VolumeInput;

/// The identity of the files of a source when a plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    files: u64,
    bytes: u64,
    /// SHA-256 of a line for each file: its name, length and time of its last change.
    sha256: String,
}

impl Identity {
    /// The identity of a source's files as they are now; of one that is not read from end to end,
    /// of its own file or folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn of(input: &VolumeInput) -> Result<Self> {
        let files = input.digested_files()?;
        let files = files.unwrap_or_else(|| vec![input.location().to_owned()]);
        let (mut lines, mut bytes) = (String::new(), 0);
        for path in &files {
            let found = path.metadata().map_err(Error::io(path, "cannot look at"))?;
            // The length of a folder says nothing.
            let length = if found.is_file() { found.len() } else { 0 };
            let changed = (found.mtime(), found.mtime_nsec());
            writeln!(lines, "{length} {}.{:09} {}", changed.0, changed.1, file_name(path))
                .expect("a string takes everything");
            bytes += length;
        }
        let mut sha256 = Sha256::new();
        sha256.update(lines.as_bytes());
        Ok(Self { files: files.len() as u64, bytes, sha256: hex(sha256) })
    }

    /// Checks that the files of a source are those of the plan; `again` says what to run then.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Io`].
    pub(crate) fn check(&self, input: &VolumeInput, again: &str) -> Result<()> {
        let now = Self::of(input).map_err(|error| gone(input.location(), &error, again))?;
        if now == *self {
            return Ok(());
        }
        let change = if (now.files, now.bytes) == (self.files, self.bytes) {
            "the time of its last change is another".to_owned()
        } else {
            let counted = |i: &Self| match i.files {
                1 => format!("{} bytes", i.bytes),
                n => format!("{n} files of {} bytes", i.bytes),
            };
            format!("{}, now {}", counted(self), counted(&now))
        };
        let message = format!("it has changed since the plan was made ({change}): {again}");
        Err(Error::data(input.location(), message))
    }
}

/// An error about a source that the plan has and that cannot be looked at.
fn gone(path: &Path, error: &Error, again: &str) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("it was there when the plan was made: bring it back, or {again}");
            Error::data(path, message)
        }
        Error::Io { source, .. } => Error::io(path, "cannot look at")(std::io::Error::new(
            source.kind(),
            source.to_string(),
        )),
        other => Error::data(path, format!("{other}: {again}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_changed_length_or_time_and_a_lost_file_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.raw");
        fs::write(&path, [1; 64]).unwrap();
        let input = VolumeInput::from(&*path);
        let identity = Identity::of(&input).unwrap();
        identity.check(&input, "make it again").unwrap();
        let message = |input: &VolumeInput| {
            identity.check(input, "make the plan again").unwrap_err().to_string()
        };
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(message(&input).contains("time of its last change"), "{}", message(&input));
        fs::write(&path, [1; 65]).unwrap();
        assert!(message(&input).contains("64 bytes, now 65 bytes"), "{}", message(&input));
        fs::remove_file(&path).unwrap();
        let lost = message(&input);
        assert!(lost.contains("bring it back") && lost.ends_with("make the plan again"), "{lost}");
    }
}
