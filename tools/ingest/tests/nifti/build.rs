//! Builds NIfTI files byte by byte, with its own table of the fields' offsets.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;
use voxquarry_ingest::nifti;
use voxquarry_ingest::source::{SourceDigest, SourceVolume};

/// Data type codes of one sample per voxel: code, name, bytes.
pub const PLAIN: [(i16, &str, usize); 10] = [
    (2, "uint8", 1),
    (256, "int8", 1),
    (512, "uint16", 2),
    (4, "int16", 2),
    (768, "uint32", 4),
    (8, "int32", 4),
    (1280, "uint64", 8),
    (1024, "int64", 8),
    (16, "float32", 4),
    (64, "float64", 8),
];

/// Field types. `Code`, `Dim`, `Real` and `Offset` are wider in version 2.
#[derive(Clone, Copy)]
enum FieldType {
    I16,
    I32,
    Code,
    Dim,
    Real,
    Offset,
}

/// Field, type, offset in version 1, offset in version 2.
const FIELDS: [(&str, FieldType, usize, usize); 23] = [
    ("sizeof_hdr", FieldType::I32, 0, 0),
    ("dim", FieldType::Dim, 40, 16),
    ("intent_p", FieldType::Real, 56, 80),
    ("intent_code", FieldType::Code, 68, 504),
    ("datatype", FieldType::I16, 70, 12),
    ("bitpix", FieldType::I16, 72, 14),
    ("pixdim", FieldType::Real, 76, 104),
    ("vox_offset", FieldType::Offset, 108, 168),
    ("scl_slope", FieldType::Real, 112, 176),
    ("scl_inter", FieldType::Real, 116, 184),
    ("glmin", FieldType::I32, 144, usize::MAX),
    ("qform_code", FieldType::Code, 252, 344),
    ("sform_code", FieldType::Code, 254, 348),
    ("quatern_b", FieldType::Real, 256, 352),
    ("quatern_c", FieldType::Real, 260, 360),
    ("quatern_d", FieldType::Real, 264, 368),
    ("qoffset_x", FieldType::Real, 268, 376),
    ("qoffset_y", FieldType::Real, 272, 384),
    ("qoffset_z", FieldType::Real, 276, 392),
    ("srow_x", FieldType::Real, 280, 400),
    ("srow_y", FieldType::Real, 296, 432),
    ("srow_z", FieldType::Real, 312, 464),
    ("xyzt_units_2", FieldType::I32, usize::MAX, 500),
];

/// A NIfTI file to build.
#[derive(Clone)]
pub struct Nifti {
    pub version: u8,
    pub big: bool,
    pub header: Vec<u8>,
    /// The bytes after the header: the flag and the extensions.
    pub tail: Vec<u8>,
    pub voxels: Vec<u8>,
}

/// Bytes with a long period, which reveal a shift.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 37 + i / 251 * 11 + 5) as u8).collect()
}

impl Nifti {
    pub fn new(version: u8, big: bool, code: i16, dims: &[i64]) -> Self {
        let width = PLAIN.iter().find(|p| p.0 == code).map(|p| p.2);
        let width = width.unwrap_or(if code == 128 { 3 } else { 4 });
        let count: i64 = dims.iter().product();
        let mut file = Self {
            version,
            big,
            header: vec![0; if version == 1 { 348 } else { 540 }],
            tail: vec![0; 4],
            voxels: pattern(count as usize * width),
        };
        file.set("sizeof_hdr", 0, file.header.len() as f64);
        file.set("dim", 0, dims.len() as f64);
        for i in 1..8 {
            file.set("dim", i, dims.get(i - 1).map_or(1.0, |&n| n as f64));
            file.set("pixdim", i, 1.0);
        }
        file.set("pixdim", 0, 1.0);
        file.set("datatype", 0, f64::from(code));
        file.set("bitpix", 0, 8.0 * width as f64);
        if version == 2 {
            file.header[8..12].copy_from_slice(b"\r\n\x1a\n");
        }
        file.magic(false);
        let offset = file.header.len() + 4;
        file.set("vox_offset", 0, offset as f64);
        file
    }

    pub fn magic(&mut self, pair: bool) {
        let at = if self.version == 1 { 344 } else { 4 };
        let magic = if pair { [b'n', b'i', b'0', 0] } else { *b"n+0\0" };
        self.header[at..at + 4].copy_from_slice(&magic);
        self.header[at + 2] = b'0' + self.version;
    }

    /// Sets element `i` of a field.
    pub fn set(&mut self, field: &str, i: usize, value: f64) {
        let (_, kind, one, two) = *FIELDS.iter().find(|f| f.0 == field).expect("a field");
        let (at, version, big) =
            (if self.version == 1 { one } else { two }, self.version, self.big);
        let mut bytes: Vec<u8> = match (kind, version) {
            (FieldType::I16, _) | (FieldType::Code | FieldType::Dim, 1) => {
                (value as i16).to_le_bytes().into()
            }
            (FieldType::I32 | FieldType::Code, _) => (value as i32).to_le_bytes().into(),
            (FieldType::Dim | FieldType::Offset, 2) => (value as i64).to_le_bytes().into(),
            (FieldType::Real | FieldType::Offset, 1) => (value as f32).to_le_bytes().into(),
            _ => value.to_le_bytes().into(),
        };
        if big {
            bytes.reverse();
        }
        let at = at + i * bytes.len();
        self.header[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    pub fn with(mut self, field: &str, i: usize, value: f64) -> Self {
        self.set(field, i, value);
        self
    }

    /// Adds an extension of 32 bytes and sets the flag.
    pub fn extended(mut self) -> Self {
        let size = if self.big { 32i32.to_be_bytes() } else { 32i32.to_le_bytes() };
        self.tail = [&[1, 0, 0, 0], &size[..], &[6; 4], &[b'e'; 24]].concat();
        let offset = self.header.len() + self.tail.len();
        self.with("vox_offset", 0, offset as f64)
    }

    pub fn single(&self) -> Vec<u8> {
        [&self.header[..], &self.tail, &self.voxels].concat()
    }

    /// Writes `name.hdr` and `name.img`, with a `vox_offset` of 0.
    pub fn write_pair(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let mut file = self.clone().with("vox_offset", 0, 0.0);
        file.magic(true);
        let path = |extension: &str| folder.join(format!("{name}.{extension}"));
        fs::write(path("hdr"), [&file.header[..], &file.tail].concat()).unwrap();
        fs::write(path("img"), &file.voxels).unwrap();
        (path("hdr"), path("img"))
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A temporary folder for the files of a test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.join(name), bytes).unwrap();
        self.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Description, voxels `(c, z, y, x)` and digest of a file.
pub type Read = (SourceVolume, Vec<u8>, SourceDigest);

/// Reads a file, `steps` z steps at a time.
pub fn read(path: &Path, steps: usize) -> voxquarry::Result<Read> {
    let (mut volume, mut stream) = nifti::open(path)?;
    let probed = nifti::probe(path)?;
    assert_eq!(format!("{volume:?}"), format!("{probed:?}"));
    let plane = volume.size[1] * volume.size[2] * volume.dtype.size();
    let (depth, together) = (volume.size[0], volume.interleaved);
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
    volume.origin.extend(digest.origin.clone());
    Ok((volume, voxels, digest))
}

/// Reads a valid file.
pub fn read_ok(path: &Path) -> Read {
    read(path, 2).unwrap_or_else(|e| panic!("{e}"))
}

/// The error of reading an invalid file.
pub fn read_error(path: &Path) -> String {
    match read(path, 2) {
        Ok((volume, ..)) => panic!("{} was read: {volume:?}", path.display()),
        Err(error) => error.to_string(),
    }
}
