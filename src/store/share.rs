//! Gives the files of a published volume a second place, without a copy where the disk can.
//!
//! # Invariants
//! - Published files are never written again, so two subjects may share them.
//! - Nothing is read or linked through a symbolic link.

use rustix::fs::FileType;

use crate::sys::folder::{Folder, refused};
use crate::{Error, Result};

/// Makes the folder `to` with the files of `from` and of the folders below it, by hard links. A
/// file that cannot be linked is copied and flushed.
pub(super) fn share_tree(from: &Folder, to: &Folder) -> Result<()> {
    to.create().map_err(refused(to.path(), "cannot create"))?;
    for (name, kind) in from.entries().map_err(refused(from.path(), "cannot list"))? {
        if kind == FileType::Directory {
            share_tree(&from.join(&name), &to.join(&name))?;
        } else if kind != FileType::RegularFile {
            let message = "a link or a special file in a store, which no writer made: remove it";
            return Err(Error::data(from.path().join(&name), message));
        } else {
            share_file(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

/// Gives the file `from` the second name `to`, or copies and flushes it.
pub(super) fn share_file(from: &Folder, to: &Folder) -> Result<()> {
    // Whatever else was wrong shows again when it is copied.
    from.link(to).or_else(|_| copy(from, to))
}

/// Copies a file to a new one, and flushes it.
fn copy(from: &Folder, to: &Folder) -> Result<()> {
    let name = from.path().file_name().unwrap_or_default();
    let source = from.above().open_file(name);
    let (mut source, _) = source.map_err(refused(from.path(), "cannot open"))?;
    let target = to.above().create_file(to.path().file_name().unwrap_or_default());
    let mut target = target.map_err(refused(to.path(), "cannot create"))?;
    let copied = std::io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    copied.map_err(Error::io(to.path(), "cannot write"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::sys::folder::Links;

    #[test]
    fn files_are_shared_or_copied_and_links_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let root = Folder::open(place.path(), Links::Refuse).unwrap();
        let from = place.path().join("from");
        fs::create_dir_all(from.join("0/c")).unwrap();
        fs::write(from.join("zarr.json"), b"{}").unwrap();
        fs::write(from.join("0/c/0"), b"shard").unwrap();
        share_tree(&root.join("from"), &root.join("to")).unwrap();
        let inode = |path: &Path| path.metadata().unwrap().ino();
        assert_eq!(inode(&from.join("0/c/0")), inode(&place.path().join("to/0/c/0")));
        copy(&root.join("from/0/c/0"), &root.join("copied")).unwrap();
        let copied = place.path().join("copied");
        assert_eq!(fs::read(&copied).unwrap(), b"shard");
        assert_ne!(inode(&from.join("0/c/0")), inode(&copied));

        symlink(from.join("0/c/0"), from.join("0/c/1")).unwrap();
        let error = share_tree(&root.join("from"), &root.join("again")).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error}");
        symlink(&from, place.path().join("link")).unwrap();
        assert!(share_tree(&root.join("link"), &root.join("other")).is_err());
    }
}
