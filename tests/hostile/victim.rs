//! The victims: copies of golden volumes, whose voxels are known.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use voxquarry::format::attributes::{self, DocumentChecksums, VolumeList};
use voxquarry::format::document;
use voxquarry::format::index::{ShardIdentity, tail_bytes};
use voxquarry::format::limits;
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
        let victim = Self { folder, golden, expected };
        victim.relist();
        victim
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

    pub fn dataset(&self) -> Dataset {
        Dataset::open(self.store(), &OpenOptions::default()).unwrap()
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
        match verify(self.store(), &mut |_| Ok(())) {
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

    /// Makes the subject list the documents of the volume as they are now, so that a reader gets as
    /// far as their content.
    pub fn relist(&self) {
        let crc32c = |folder: &Path| crc32c::crc32c(&fs::read(folder.join("zarr.json")).unwrap());
        let volume = DocumentChecksums {
            group_crc32c: crc32c(&self.volume_dir()),
            level_crc32c: crc32c(&self.volume_dir().join("0")),
        };
        let listed = VolumeList::from([(self.golden.name.to_owned(), volume)]);
        let subject = self.store().join(self.golden.subject);
        let attributes = attributes::subject(self.golden.subject, &listed, &[]);
        document::write_sealed(&subject, attributes).unwrap();
    }

    /// Makes the volume list its shards and label counts as they are now, as far as they parse.
    pub fn relist_contents(&self) {
        let layout = &self.golden.layout;
        let identity = |shard| {
            let bytes = fs::read(self.volume_dir().join("0").join(layout.shard_key(shard))).ok()?;
            let tail = bytes.len().checked_sub(tail_bytes(self.slots()))?;
            let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            Some(ShardIdentity::new(u32_at(tail), u32_at(bytes.len() - 4)).value())
        };
        let list: Vec<u64> = layout.shards().map(|shard| identity(shard).unwrap_or(0)).collect();
        let mut values = list.clone();
        values.resize(limits::SUMMARY_CHUNK, 0);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        replace(&self.volume_dir().join("shards/c/0"), &sealed(&zstd(&bytes)));
        let bytes: Vec<u8> = list.iter().flat_map(|value| value.to_le_bytes()).collect();
        let covered = [self.document("shards"), bytes].concat();
        self.edit("", "/attributes/voxquarry/shards_crc32c", crc32c::crc32c(&covered).into());
    }

    /// The bytes of a document of the volume's folder.
    pub fn document(&self, folder: &str) -> Vec<u8> {
        fs::read(self.volume_dir().join(folder).join("zarr.json")).unwrap()
    }

    /// Makes the volume list `shards` shards without a file.
    pub fn list_no_shards(&self, shards: u64) {
        let chunk = sealed(&zstd(&vec![0; 8 * limits::SUMMARY_CHUNK]));
        for number in 0..shards.div_ceil(limits::SUMMARY_CHUNK as u64) {
            replace(&self.volume_dir().join(format!("shards/c/{number}")), &chunk);
        }
        self.edit("shards", "/shape", serde_json::json!([shards]));
        let crc32c = crc32c::crc32c(&self.document("shards"));
        let crc32c = crc32c::crc32c_append(crc32c, &vec![0; 8 * shards as usize]);
        self.edit("", "/attributes/voxquarry/shards_crc32c", crc32c.into());
    }

    /// Changes one value of a document of the volume's folder, or of the store's with `..`.
    pub fn edit(&self, document: &str, pointer: &str, value: Value) {
        let path = self.volume_dir().join(document).join("zarr.json");
        let mut tree: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *tree.pointer_mut(pointer).expect("a value to change") = value;
        fs::write(path, tree.to_string()).unwrap();
        if document == "../.." {
            let own = tree.pointer("/attributes/voxquarry").unwrap().clone();
            document::write_sealed(self.store(), serde_json::json!({ "voxquarry": own })).unwrap();
        }
        self.relist();
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

/// One Zstandard frame of `bytes`.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![0; zstd_safe::compress_bound(bytes.len())];
    let length = zstd_safe::compress(&mut encoded[..], bytes, 3).unwrap();
    encoded.truncate(length);
    encoded
}

/// Both ways to read a file.
pub const BOTH: [Access; 2] = [Access::Map, Access::Read];
