//! Whole ingests of synthetic files, whose stores are read back, and their failures.

#![allow(missing_docs, unreachable_pub, clippy::missing_panics_doc)]

// The builder is shared with the NIfTI tests, which use all of it.
#[allow(dead_code)]
#[path = "../nifti/build.rs"]
mod build;
mod child;
mod existing;
mod failures;
mod flows;
mod keep_going;
mod labels;
mod layouts;
mod levels;
#[cfg(target_os = "linux")]
mod memory;
mod parts;
mod recording;
mod roundtrip;
mod side_by_side;
mod trial;

use std::path::{Path, PathBuf};

use voxquarry::format::attributes::Kind;
use voxquarry::{Dataset, OpenOptions, Padding, Volume};
use voxquarry_ingest::{IngestOptions, Manifest, Source};

/// A source without a table.
pub fn source(subject: &str, volume: &str, kind: Kind, path: &Path) -> Source {
    let (subject, volume) = (subject.to_owned(), volume.to_owned());
    Source { subject, volume, kind, input: path.into(), named_in: String::new() }
}

/// A manifest of images, `(subject, volume, path)`.
pub fn images(sources: &[(&str, &str, &Path)]) -> Manifest {
    let mut manifest = Manifest::new();
    for (subject, volume, path) in sources {
        manifest.push(source(subject, volume, Kind::Image, path)).unwrap();
    }
    manifest
}

/// Options for small files: chunks of 16 voxels a side, so that a volume has many; one subject
/// after the other, so that events come in order.
pub fn small() -> IngestOptions {
    IngestOptions::default().patch_sizes([[16; 3]]).threads(2).jobs(1)
}

pub fn open(store: &Path) -> Dataset {
    Dataset::open(store, &OpenOptions::default()).unwrap()
}

pub fn volume(store: &Path, subject: &str, name: &str) -> Volume {
    open(store).subject(subject).unwrap().volume(name).unwrap()
}

/// Reads all voxels of a volume as bytes `(c, z, y, x)`.
pub fn voxels(volume: &Volume) -> Vec<u8> {
    let bytes = volume.shape().iter().product::<usize>() * volume.dtype().size();
    let mut out = vec![0xa5; bytes];
    let channels = 0..volume.channels().unwrap_or(1);
    volume.read_bytes(&[[0; 3]], volume.size(), Padding::None, channels, &mut out).unwrap();
    out
}

/// Checks every checksum, chunk and count of a store.
pub fn assert_sound(store: &Path) {
    let report = voxquarry::verify(store, &mut |_| Ok(())).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
}

/// Every file and folder below `folder`, with its bytes, to compare before and after.
pub fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(tree(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}
