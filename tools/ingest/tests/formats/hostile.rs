//! Cut, damaged and exaggerated files of every format: each is a clear error or the voxels that it
//! promises, without a panic, within two seconds, and without a large allocation.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use voxquarry::{Error, Fault};
use voxquarry_ingest::{
    IngestOptions, Manifest, NoopObserver, Source, Stated, VolumeInput, ingest,
};

use crate::nrrd::bzip2;
use crate::numpy::{npy, npz};
use crate::{Folder, gzip, pattern, read_with, zlib};
use crate::{meta_image, mgh, nrrd};

const LIMIT: Duration = Duration::from_secs(2);

/// A valid file of each format and encoding, 4 × 3 × 2 voxels of two bytes.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let voxels = pattern(48);
    let meta = |lines: &str, data: &[u8]| {
        [meta_image::header("MET_SHORT", lines, "LOCAL").as_bytes(), data].concat()
    };
    let text: Vec<u8> = (0..24).flat_map(|i| format!("{i} ").into_bytes()).collect();
    let nrrd = |encoding: &str, data: &[u8]| {
        let space = "space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nendian: big\n";
        let lines = format!("{space}encoding: {encoding}\nkey:=value\n\n");
        [nrrd::header("short", &lines).as_bytes(), data].concat()
    };
    let array = npy("'<i2'", false, "(2, 3, 4)", &voxels);
    let fortran = npy("'<i2'", true, "(2, 3, 4)", &voxels);
    vec![
        ("a.mgh", mgh::mgh(4, 2, 1, true)),
        ("a.mgz", gzip(&mgh::mgh(4, 2, 1, true))),
        ("a.mha", meta("", &voxels)),
        ("b.mha", meta("CompressedData = True\n", &zlib(&voxels))),
        ("c.mha", meta("BinaryData = False\n", &text)),
        ("a.nrrd", nrrd("raw", &voxels)),
        ("b.nrrd", nrrd("gzip", &gzip(&voxels))),
        ("c.nrrd", nrrd("bzip2", &bzip2(&voxels))),
        ("d.nrrd", nrrd("ascii", &text)),
        ("a.npy", array.clone()),
        ("b.npy", fortran.clone()),
        ("a.npz", npz(&[("x.npy", array, true)], true)),
        ("b.npz", npz(&[("x.npy", fortran, false)], false)),
    ]
}

/// Reads a file that may be wrong, in time, and checks what it promises.
fn attempt(path: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    let found = read_with(path, &Stated::default(), 1);
    assert!(begun.elapsed() < LIMIT, "{}: {:?}", path.display(), begun.elapsed());
    match found {
        Ok(found) => {
            assert!(found.volume.affine.validate().is_ok() && found.volume.slope.is_finite());
            assert!(found.voxels.len() as u64 <= 1_300_000 * fs::metadata(path).unwrap().len());
            Ok(())
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Err(error)
        }
    }
}

#[test]
fn cut_files_are_refused() {
    let folder = Folder::new();
    for (name, bytes) in files() {
        attempt(&folder.write(name, &bytes)).unwrap();
        let step = (bytes.len() / 100).max(1);
        for cut in (0..bytes.len()).step_by(step) {
            // The last number of a text may lose its last digit and the blank behind it.
            let is_harmless = cut + 2 >= bytes.len() && bytes.ends_with(b" ");
            let result = attempt(&folder.write(name, &bytes[..cut]));
            match result {
                Err(error) => assert_eq!(error.fault(), Fault::Data, "{name} {cut}: {error}"),
                Ok(()) => assert!(is_harmless, "{name} was read, cut to {cut} of {}", bytes.len()),
            }
        }
    }
}

#[test]
fn wrong_bytes_do_not_panic() {
    let folder = Folder::new();
    for (name, bytes) in files() {
        for at in 0..bytes.len() {
            for value in [0, 0xff, bytes[at] ^ 1, b'9'] {
                let mut wrong = bytes.clone();
                wrong[at] = value;
                // What it is by now is anybody's guess.
                if let Err(error) = attempt(&folder.write(name, &wrong)) {
                    assert_ne!(error.fault(), Fault::Environment, "{name} {at} {value}: {error}");
                }
            }
        }
    }
}

#[test]
fn exaggerated_sizes_are_refused_before_anything_is_read() {
    let folder = Folder::new();
    for (name, from, to) in [
        ("a.mha", "4 3 2", "40000 30000 20000"),
        ("b.mha", "4 3 2", "40000 30000 20000"),
        ("c.mha", "4 3 2", "40000 30000 20000"),
        ("a.nrrd", "4 3 2", "40000 30000 20000"),
        ("b.nrrd", "4 3 2", "40000 30000 20000"),
        ("c.nrrd", "4 3 2", "40000 30000 20000"),
        ("d.nrrd", "4 3 2", "40000 30000 20000"),
        ("a.npy", "(2, 3, 4), }                ", "(20000, 30000, 40000), }    "),
        ("b.npy", "(2, 3, 4), }                ", "(20000, 30000, 40000), }    "),
    ] {
        let files = files();
        let bytes = &files.iter().find(|(known, _)| *known == name).unwrap().1;
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        let wrong = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
        let path = folder.write(name, wrong);
        let error = VolumeInput::from(&*path).open(&Stated::default()).err().unwrap();
        assert!(error.to_string().contains("promises"), "{name}: {error}");
    }
}

#[test]
fn streams_that_hold_far_more_than_they_promise_are_refused() {
    let folder = Folder::new();
    let zeros = vec![0; 20 << 20];
    let text = nrrd::header("uchar", "encoding: gzip\n\n");
    let path = folder.write("a.nrrd", [text.as_bytes(), &gzip(&zeros)].concat());
    assert!(attempt(&path).unwrap_err().to_string().contains("far more"));
    let text = meta_image::header("MET_UCHAR", "CompressedData = True\n", "LOCAL");
    let path = folder.write("a.mha", [text.as_bytes(), &zlib(&zeros)].concat());
    assert!(attempt(&path).unwrap_err().to_string().contains("far more"));
    let array = npy("'|u1'", false, "(2, 3, 4)", &zeros);
    let path = folder.write("a.npz", npz(&[("x.npy", array, true)], false));
    assert!(attempt(&path).unwrap_err().to_string().contains("needs 24"));
}

#[test]
fn nothing_of_a_damaged_file_is_published() {
    let folder = Folder::new();
    for (name, bytes) in files().into_iter().filter(|(_, bytes)| !bytes.ends_with(b" ")) {
        let path: PathBuf = folder.write(name, &bytes[..bytes.len() - 2]);
        let store = folder.join("s.zarr");
        let mut manifest = Manifest::new();
        let input = VolumeInput::from(&*path);
        manifest
            .push(Source::new("a", "ct", voxquarry::format::attributes::Kind::Image, input))
            .unwrap();
        let run = ingest(&manifest, &store, &IngestOptions::default(), &NoopObserver);
        assert!(run.is_err() || run.unwrap().written.is_empty(), "{name}");
        assert!(!store.join("a").exists(), "{name}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = Folder::new();
    symlink(folder.join("loop.raw"), folder.join("loop.raw")).unwrap();
    symlink("gone", folder.join("dangling.raw")).unwrap();
    fs::create_dir(folder.join("folder.raw")).unwrap();
    let made = Command::new("mkfifo").arg(folder.join("pipe.raw")).status();
    assert!(made.unwrap().success());
    for name in ["loop.raw", "dangling.raw", "folder.raw", "pipe.raw"] {
        let mhd = folder.write("a.mhd", meta_image::header("MET_SHORT", "", name));
        let error = attempt(&mhd).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        let lines = format!("endian: big\nencoding: raw\ndata file: {name}\n");
        let error = attempt(&folder.write("a.nhdr", nrrd::header("short", &lines))).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
