//! The victims: copies of golden volumes, whose voxels are known.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use voxquarry::verify;
use voxquarry::{Access, Dataset, Error, Fault, OpenOptions, Padding, Volume};

use super::voxels::{self, Golden};

/// A golden volume alone in a store of its own.
pub struct Victim {
    pub folder: TempDir,
    pub golden: Golden,
    pub expected: Vec<u8>,
}

impl Victim {
    pub fn new(subject: &str, volume: &str) -> Self {
        let golden = voxels::v1()
            .into_iter()
            .find(|g| g.subject == subject && g.name == volume)
            .expect("a golden volume");
        let folder = tempfile::tempdir().unwrap();
        let v1 = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/format-spec/golden/v1"));
        for document in ["zarr.json".to_owned(), format!("{subject}/zarr.json")] {
            copy(&v1.join(&document), &folder.path().join(&document));
        }
        let name = format!("{subject}/{volume}");
        copy(&v1.join(&name), &folder.path().join(&name));
        let expected = golden.bytes();
        Self { folder, golden, expected }
    }

    pub fn store(&self) -> &Path {
        self.folder.path()
    }

    pub fn volume_dir(&self) -> PathBuf {
        self.store().join(self.golden.subject).join(self.golden.name)
    }

    /// The file of the shard at the origin, or of another.
    pub fn shard(&self, z: usize) -> PathBuf {
        let channel = if self.golden.layout.channels.is_some() { "0/" } else { "" };
        self.volume_dir().join(format!("0/c/{channel}{z}/0/0"))
    }

    pub fn slots(&self) -> usize {
        self.golden.layout.shard_chunks().iter().product()
    }

    pub fn open(&self, access: Access) -> Result<Volume, Error> {
        let options = OpenOptions::default().cache_bytes(0).threads(1).access(access);
        Dataset::open(self.store(), &options)?
            .subject(self.golden.subject)?
            .volume(self.golden.name)
    }

    /// Every voxel, as far as the metadata still say.
    pub fn read(&self, access: Access) -> Result<(Vec<usize>, Vec<u8>), Error> {
        let volume = self.open(access)?;
        let (channels, size) = (volume.layout().channel_count(), volume.size());
        let mut out = vec![0xaa; volume.voxels_in(size, 1)? * volume.dtype().size()];
        volume.read_bytes(&[[0; 3]], size, Padding::None, 0..channels, &mut out)?;
        Ok((volume.shape(), out))
    }

    /// Reads and insists on an error of the data or the right voxels; whether they could be read.
    pub fn readable(&self, access: Access, context: &dyn Fn() -> String) -> bool {
        match self.read(access) {
            Ok((shape, found)) => {
                assert_eq!(shape, self.golden.layout.shape(), "{}", context());
                assert!(found == self.expected, "{}: other voxels", context());
                true
            }
            Err(error) => {
                assert_ne!(error.fault(), Fault::Environment, "{}: {error}", context());
                false
            }
        }
    }

    /// What `verify` says, one line for each error.
    pub fn verified(&self) -> String {
        match verify(self.store(), &|_| ()) {
            Ok(report) => {
                assert_eq!(report.error_count as usize, report.errors.len());
                report.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
            Err(error) => error.to_string(),
        }
    }

    pub fn refused(&self, access: Access, context: &dyn Fn() -> String) {
        assert!(!self.readable(access, context), "{}: was read", context());
    }

    /// Changes one value of a document of the volume's folder, or of the store's with `..`.
    pub fn edit(&self, document: &str, pointer: &str, value: Value) {
        let path = self.volume_dir().join(document).join("zarr.json");
        let mut tree: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *tree.pointer_mut(pointer).expect("a value to change") = value;
        fs::write(path, tree.to_string()).unwrap();
    }
}

pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// Writes a new file in the place of one that may still be mapped: published files are never
/// truncated.
pub fn replace(path: &Path, bytes: &[u8]) {
    let staged = path.with_extension("staged");
    fs::write(&staged, bytes).unwrap();
    fs::rename(&staged, path).unwrap();
}

pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc32c::crc32c(bytes).to_le_bytes()].concat()
}

/// Both ways to read a file.
pub const BOTH: [Access; 2] = [Access::Map, Access::Read];
