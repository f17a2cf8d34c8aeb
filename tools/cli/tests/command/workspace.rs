//! A temporary folder with NIfTI files, in which the command runs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_voxquarry");

/// A folder in which the command runs.
pub(crate) struct Workspace(TempDir);

/// Exit code and output of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// The command with these arguments, separated by spaces, in this folder.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &str) -> Run {
        Run::from(self.command(words).output().unwrap())
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, words: &str) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, Some(0), "{words}: {run:?}");
        run
    }

    /// Runs a command that must succeed and print one JSON document.
    pub(crate) fn json(&self, words: &str) -> Value {
        self.ok(words).json()
    }

    /// Runs a command that must fail with `code` and print all of the `expected` words after
    /// `error:`.
    pub(crate) fn fails(&self, words: &str, code: i32, expected: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, Some(code), "{words}: {run:?}");
        assert!(run.err.lines().any(|line| line.starts_with("error: ")), "{words}: {run:?}");
        for word in expected {
            assert!(run.err.contains(word), "{words}: no {word:?} in {run:?}");
        }
        run
    }

    /// Sorted names in a folder, hidden ones included.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        names_in(&self.path(folder))
    }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file below a folder, with paths below it.
pub(crate) fn files_in(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let below = path.strip_prefix(root).unwrap().to_owned();
                found.push((below, fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// A NIfTI-1 file of `int16` with extents `dims`, x first, and a spacing of 1 × 2 × 3 mm.
pub(crate) fn nifti(dims: &[i16], voxel: impl Fn(usize) -> i16) -> Vec<u8> {
    let mut bytes = vec![0; 352];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &348i32.to_le_bytes());
    put(40, &(dims.len() as i16).to_le_bytes());
    for (i, n) in dims.iter().enumerate() {
        put(42 + 2 * i, &n.to_le_bytes());
    }
    put(70, &4i16.to_le_bytes());
    put(72, &16i16.to_le_bytes());
    for (i, spacing) in [1.0f32, 1.0, 2.0, 3.0, 1.0].into_iter().enumerate() {
        put(76 + 4 * i, &spacing.to_le_bytes());
    }
    put(108, &352.0f32.to_le_bytes());
    put(112, &1.0f32.to_le_bytes());
    put(123, &[2]);
    put(254, &1i16.to_le_bytes());
    for (row, scale) in [1.0f32, 2.0, 3.0].into_iter().enumerate() {
        put(280 + 20 * row, &scale.to_le_bytes());
    }
    put(344, b"n+1\0");
    let count: usize = dims.iter().map(|&n| n as usize).product();
    bytes.extend((0..count).flat_map(|i| voxel(i).to_le_bytes()));
    bytes
}

/// An image of 20 × 30 × 24 voxels (x, y, z) with values 0..1000.
pub(crate) fn image() -> Vec<u8> {
    nifti(&[20, 30, 24], |i| (i * 7919 % 1000) as i16)
}

/// A label map on the same grid: 0, 1 and 2 in slabs of y.
pub(crate) fn labels() -> Vec<u8> {
    nifti(&[20, 30, 24], |i| (i / 20 % 30 / 10) as i16)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A workspace with a store of one subject, `case`, with volumes `ct` and `seg`.
pub(crate) fn with_store() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("ct.nii.gz", &gzip(&image()));
    workspace.write("seg.nii", &labels());
    workspace.ok("ingest --subject case --image ct=ct.nii.gz --labels seg=seg.nii --patch-size 8 \
         --out s.zarr");
    workspace
}
