//! Folders as values: read, compared, and brought back to what they were.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File(Vec<u8>),
    Link(PathBuf),
    /// A FIFO, a socket or a device.
    Special,
}

/// All that lies in a folder, by its path in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<PathBuf, Node>);

impl Tree {
    /// Everything below `root`; nothing if there is no such folder.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        if root.symlink_metadata().is_ok() {
            tree.add(root, Path::new(""))?;
        }
        Ok(tree)
    }

    fn add(&mut self, root: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let (path, kind) = (below.join(entry.file_name()), entry.file_type()?);
            let node = if kind.is_dir() {
                self.add(root, &path)?;
                Node::Folder
            } else if kind.is_file() {
                Node::File(fs::read(entry.path())?)
            } else if kind.is_symlink() {
                Node::Link(fs::read_link(entry.path())?)
            } else {
                Node::Special
            };
            self.0.insert(path, node);
        }
        Ok(())
    }

    /// Makes the folder `root` hold exactly this. A file is replaced, never written in place: it
    /// may still be mapped.
    pub(crate) fn restore(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(root)?;
        let found = Self::read(root)?;
        for (path, node) in found.0.iter().rev() {
            if self.0.get(path) == Some(node) {
                continue;
            }
            let path = root.join(path);
            match node {
                Node::Folder => fs::remove_dir(path)?,
                _ => fs::remove_file(path)?,
            }
        }
        for (path, node) in &self.0 {
            if found.0.get(path) == Some(node) {
                continue;
            }
            let path = root.join(path);
            match node {
                Node::Folder => fs::create_dir(path)?,
                Node::File(bytes) => fs::write(path, bytes)?,
                Node::Link(target) => std::os::unix::fs::symlink(target, path)?,
                Node::Special => return Err(io::Error::other("special files are not restored")),
            }
        }
        Ok(())
    }

    /// The first difference from `expected`, in words.
    pub(crate) fn difference(&self, expected: &Self) -> Option<String> {
        for (path, node) in &expected.0 {
            match self.0.get(path) {
                None => return Some(format!("{} is missing", path.display())),
                Some(found) if found != node => return Some(format!("{} differs", path.display())),
                Some(_) => {}
            }
        }
        let extra = self.0.keys().find(|path| !expected.0.contains_key(*path))?;
        Some(format!("{} is new", extra.display()))
    }

    /// The part whose paths `wanted` accepts.
    pub(crate) fn filter(&self, wanted: impl Fn(&Path) -> bool) -> Self {
        let part = self.0.iter().filter(|(path, _)| wanted(path));
        Self(part.map(|(path, node)| (path.clone(), node.clone())).collect())
    }

    /// The paths of regular files, and their bytes.
    pub(crate) fn files(&self) -> Vec<(&Path, &[u8])> {
        let files = self.0.iter().filter_map(|(path, node)| match node {
            Node::File(bytes) => Some((path.as_path(), bytes.as_slice())),
            _ => None,
        });
        files.collect()
    }
}
