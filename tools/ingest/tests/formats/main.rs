//! Files of every format but NIfTI, made byte by byte, read, refused and written. Expected numbers
//! come from the formats' documents and from other readers, not from our code.

#![allow(missing_docs, unreachable_pub, clippy::missing_errors_doc, clippy::new_without_default)]
// Names of formats and programs are no code.
#![allow(clippy::doc_markdown)]

#[cfg(target_os = "linux")]
#[path = "../ingest/child.rs"]
mod child;
mod export;
mod hostile;
#[cfg(target_os = "linux")]
mod memory;
mod meta_image;
mod mgh;
mod nrrd;
mod numpy;
mod raw;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use tempfile::TempDir;
use voxquarry::Affine;
use voxquarry::format::attributes::LabelName;
use voxquarry_ingest::source::{SourceDigest, SourceVolume};
use voxquarry_ingest::{Stated, VolumeInput};

/// A file that was read.
pub struct Read {
    pub volume: SourceVolume,
    /// `(c, z, y, x)`, little endian.
    pub voxels: Vec<u8>,
    pub digest: SourceDigest,
    pub notes: Vec<String>,
    pub label_names: Vec<LabelName>,
}

/// Reads a file, `steps` z steps at a time.
pub fn read_with(path: &Path, stated: &Stated, steps: usize) -> voxquarry::Result<Read> {
    let opened = VolumeInput::from(path).open(stated)?;
    let (volume, notes, label_names) =
        (opened.volume().clone(), opened.notes(), opened.label_names());
    let plane = volume.size[1] * volume.size[2] * volume.dtype.size();
    let (depth, together) = (volume.size[0], volume.interleaved);
    let mut stream = opened.stream()?;
    let mut voxels = Vec::new();
    for _ in 0..volume.channels.unwrap_or(1) / together {
        let mut group = vec![0; together * depth * plane];
        for z in (0..depth).step_by(steps) {
            let n = steps.min(depth - z);
            let mut piece = vec![0xa5; together * n * plane];
            stream.next_steps(n, &mut piece)?;
            for (c, planes) in piece.chunks_exact(n * plane).enumerate() {
                group[(c * depth + z) * plane..][..n * plane].copy_from_slice(planes);
            }
        }
        voxels.extend(group);
    }
    let digest = stream.finish()?;
    Ok(Read { volume, voxels, digest, notes, label_names })
}

/// Reads a valid file at once and in steps.
pub fn read(path: &Path) -> Read {
    let whole = read_with(path, &Stated::default(), usize::MAX >> 8);
    let whole = whole.unwrap_or_else(|e| panic!("{e}"));
    let steps = read_with(path, &Stated::default(), 1).unwrap();
    assert!(whole.voxels == steps.voxels, "steps change the voxels");
    assert_eq!(whole.digest, steps.digest);
    whole
}

/// The error of a file that is refused.
pub fn refusal(path: &Path) -> String {
    match read_with(path, &Stated::default(), 3) {
        Ok(read) => panic!("{} was read: {:?}", path.display(), read.volume),
        Err(error) => {
            assert_eq!(error.fault(), voxquarry::Fault::Data, "{error}");
            error.to_string()
        }
    }
}

/// A temporary folder for the files of a test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.join(name), bytes).unwrap();
        self.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

/// Bytes with a long period, which reveal a shift.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 37 + i / 251 * 11 + 5) as u8).collect()
}

/// Each element of `width` bytes reversed.
pub fn swapped(bytes: &[u8], width: usize) -> Vec<u8> {
    bytes.chunks_exact(width).flat_map(|element| element.iter().rev().copied()).collect()
}

/// Voxels `(z, y, x, c)` as `(c, z, y, x)`.
pub fn planes(voxels: &[u8], channels: usize, width: usize) -> Vec<u8> {
    let elements: Vec<_> = voxels.chunks_exact(width).collect();
    (0..channels)
        .flat_map(|c| elements[c..].iter().step_by(channels).copied())
        .flatten()
        .copied()
        .collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The three rows of an affine.
pub fn rows(affine: &Affine) -> [[f64; 4]; 3] {
    [affine.0[0], affine.0[1], affine.0[2]]
}
