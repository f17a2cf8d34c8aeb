//! Writes NIfTI files, step by step: with the source's own header where there is one, else with a fresh one.
//!
//! # Invariants
//! - The file appears whole, under its own name, when it is finished; a writer that is dropped leaves nothing.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde_json::{Map, Value};
use voxquarry::store::Existing;
use voxquarry::{Affine, Dtype, Error, Result, Size3};

use super::header::{DataType, EXTENSION_FLAG_BYTES, Header, Order, V1, V2, Version};
use super::pair_of;

const BUFFER_BYTES: usize = 1 << 20;
/// nibabel's code for an affine of its own: "aligned".
const ALIGNED: i16 = 2;
/// Millimetres, no unit of time.
const UNITS_MM: u8 = 2;

/// What a file is to hold.
#[derive(Clone, Debug)]
pub struct ExportSpec {
    /// Extents in `(z, y, x)`.
    pub size: Size3,
    /// Channels, or `None` without that axis.
    pub channels: Option<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Voxel centre to RAS+ mm.
    pub affine: Affine,
    /// Real value = stored value × slope + intercept.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// What the volume's source said of itself.
    pub origin: Option<Map<String, Value>>,
}

/// A NIfTI file that is being written.
pub struct NiftiWriter {
    order: Order,
    data_type: DataType,
    body: Option<Body>,
    files: Vec<Staged>,
    swapped: Vec<u8>,
}

enum Body {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
}

/// A file under its temporary name.
struct Staged {
    temporary: PathBuf,
    target: PathBuf,
}

impl NiftiWriter {
    /// Begins the file at `out`: `.nii`, `.nii.gz`, or a `.hdr`/`.img` pair, of which either may be named.
    ///
    /// # Errors
    /// [`Error::Usage`] for another extension, or a dtype that NIfTI does not have; [`Error::Exists`] unless `existing` is
    /// `Overwrite`; [`Error::Io`].
    pub fn create(out: &Path, spec: &ExportSpec, existing: Existing) -> Result<Self> {
        let name = out.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let pair = pair_of(out);
        if pair.is_none() && !name.ends_with(".nii") && !name.ends_with(".nii.gz") {
            return Err(Error::usage(format!("{}: expected .nii, .nii.gz, .hdr or .img", out.display())));
        }
        let gzip = name.ends_with(".gz");
        let head = Head::new(spec, pair.is_some())?;
        let mut writer = Self { order: head.order, data_type: head.data_type, body: None, files: Vec::new(), swapped: Vec::new() };
        let voxels = match &pair {
            None => writer.stage(out, existing)?,
            Some((header, image)) => {
                let file = writer.stage(header, existing)?;
                let mut header_body = Body::new(file, gzip);
                header_body.write_all(&head.bytes).map_err(Error::io(header, "cannot write"))?;
                header_body.finish().map_err(Error::io(header, "cannot write"))?;
                writer.stage(image, existing)?
            }
        };
        let mut body = Body::new(voxels, gzip);
        if pair.is_none() {
            body.write_all(&head.bytes).map_err(Error::io(out, "cannot write"))?;
        }
        writer.body = Some(body);
        Ok(writer)
    }

    fn stage(&mut self, target: &Path, existing: Existing) -> Result<File> {
        if existing != Existing::Overwrite && target.exists() {
            let remedy = "choose another name, or allow overwriting (--overwrite)".to_owned();
            return Err(Error::Exists { path: target.to_owned(), remedy });
        }
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = target.with_file_name(format!(".{name}.partial-{}", std::process::id()));
        let file = File::create(&temporary).map_err(Error::io(&temporary, "cannot create"))?;
        self.files.push(Staged { temporary, target: target.to_owned() });
        Ok(file)
    }

    /// Channels that each step holds: 3 for RGB, 4 for RGBA, else 1.
    pub fn interleaved(&self) -> usize {
        self.data_type.samples
    }

    /// Writes z steps of one group of channels: `(interleaved, steps, y, x)`, little endian, in C order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_steps(&mut self, voxels: &[u8], steps: usize) -> Result<()> {
        let (samples, width) = (self.data_type.samples, self.data_type.dtype.size());
        let bytes = if samples > 1 {
            self.swapped.resize(voxels.len(), 0);
            let plane = voxels.len() / samples / steps;
            for z in 0..steps {
                let to = &mut self.swapped[z * plane * samples..][..plane * samples];
                for (i, voxel) in to.chunks_exact_mut(samples).enumerate() {
                    for (sample, byte) in voxel.iter_mut().enumerate() {
                        *byte = voxels[(sample * steps + z) * plane + i];
                    }
                }
            }
            &self.swapped
        } else if self.order == Order::Big && width > 1 {
            self.swapped.clear();
            self.swapped.extend_from_slice(voxels);
            self.swapped.chunks_exact_mut(width).for_each(<[u8]>::reverse);
            &self.swapped
        } else {
            voxels
        };
        let path = &self.files.last().expect("created with a file").target;
        self.body.as_mut().expect("not finished").write_all(bytes).map_err(Error::io(path, "cannot write"))
    }

    /// Flushes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        let body = self.body.take().expect("finished once");
        let path = &self.files.last().expect("created with a file").target;
        body.finish().map_err(Error::io(path, "cannot write"))?;
        for file in self.files.drain(..) {
            fs::rename(&file.temporary, &file.target).map_err(Error::io(&file.target, "cannot put in place"))?;
        }
        Ok(())
    }
}

impl Drop for NiftiWriter {
    fn drop(&mut self) {
        for file in &self.files {
            // Best effort: what cannot be removed is a hidden file with "partial" in its name.
            let _ = fs::remove_file(&file.temporary);
        }
    }
}

impl Body {
    fn new(file: File, gzip: bool) -> Self {
        let writer = BufWriter::with_capacity(BUFFER_BYTES, file);
        // No time and no name in the gzip header: the same volume gives the same file.
        if gzip { Self::Gzip(GzBuilder::new().write(writer, Compression::default())) } else { Self::Plain(writer) }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(writer) => writer.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        let writer = match self {
            Self::Plain(writer) => writer,
            Self::Gzip(encoder) => encoder.finish()?,
        };
        writer.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    }
}

/// The bytes before the voxels.
struct Head {
    bytes: Vec<u8>,
    order: Order,
    data_type: DataType,
}

impl Head {
    fn new(spec: &ExportSpec, pair: bool) -> Result<Self> {
        match Self::original(spec, pair) {
            Some(head) => Ok(head),
            None => Self::fresh(spec, pair),
        }
    }

    /// The source's own header, if the volume is still what it speaks of.
    fn original(spec: &ExportSpec, pair: bool) -> Option<Self> {
        let origin = spec.origin.as_ref().filter(|o| o.get("format").is_some_and(|f| f == "nifti"))?;
        let mut bytes = BASE64_STANDARD.decode(origin.get("preamble")?.as_str()?).ok()?;
        let header = Header::parse(&bytes).ok()?;
        let same_voxels = header.size() == spec.size
            && header.channels() == spec.channels
            && header.data_type.dtype == spec.dtype
            && (header.slope, header.intercept) == (spec.slope, spec.intercept)
            && header.affine().is_ok_and(|affine| affine == spec.affine);
        if !same_voxels {
            return None;
        }
        // The file's form decides what stands before the voxels; extensions follow the flag in both.
        let minimum = header.version.header_bytes() + EXTENSION_FLAG_BYTES;
        let dropped = origin.contains_key("extensions_dropped");
        if header.pair != pair || dropped || (!pair && bytes.len() < minimum) {
            if bytes.len() < minimum || dropped {
                bytes.resize(minimum, 0);
                bytes[header.version.header_bytes()..].fill(0);
            }
            let f = header.version.fields();
            let magic = header.version.magic(pair);
            bytes[f.magic..f.magic + magic.len()].copy_from_slice(magic);
            let offset = if pair { 0 } else { bytes.len().next_multiple_of(16) };
            if !pair {
                bytes.resize(offset, 0);
            }
            set_offset(&mut bytes, header.version, header.order, offset as u64);
        }
        Some(Self { bytes, order: header.order, data_type: header.data_type })
    }

    /// A header as nibabel writes it for a bare array and affine.
    fn fresh(spec: &ExportSpec, pair: bool) -> Result<Self> {
        let data_type = DataType::of(spec.dtype)
            .ok_or_else(|| Error::usage(format!("NIfTI has no {}: convert the volume to float32 first", spec.dtype)))?;
        let [z, y, x] = spec.size;
        let mut dims = vec![x, y, z];
        dims.extend(spec.channels);
        // NIfTI-1 counts voxels in 16 bits.
        let version = if dims.iter().all(|&n| i16::try_from(n).is_ok()) { Version::One } else { Version::Two };
        let mut head = Fields { bytes: vec![0; version.header_bytes() + EXTENSION_FLAG_BYTES], version };
        let f = version.fields();
        head.bytes[..4].copy_from_slice(&(version.header_bytes() as i32).to_le_bytes());
        let magic = version.magic(pair);
        head.bytes[f.magic..f.magic + magic.len()].copy_from_slice(magic);
        head.dim(f.dim, 0, dims.len());
        (1..8).for_each(|i| head.dim(f.dim, i, dims.get(i - 1).copied().unwrap_or(1)));
        head.bytes[f.datatype..f.datatype + 2].copy_from_slice(&data_type.code.to_le_bytes());
        let bits = 8 * data_type.voxel_bytes() as i16;
        head.bytes[f.bitpix..f.bitpix + 2].copy_from_slice(&bits.to_le_bytes());
        let [dz, dy, dx] = spec.affine.spacing_mm();
        for (i, step) in [1.0, dx, dy, dz, 1.0, 1.0, 1.0, 1.0].into_iter().enumerate() {
            head.real(f.pixdim, i, step);
        }
        head.real(f.slope, 0, spec.slope);
        head.real(f.intercept, 0, spec.intercept);
        head.bytes[f.sform_code..f.sform_code + 2].copy_from_slice(&ALIGNED.to_le_bytes());
        for row in 0..3 {
            (0..4).for_each(|column| head.real(f.srow, 4 * row + column, spec.affine.0[row][column]));
        }
        head.bytes[f.units] = UNITS_MM;
        let offset = if pair { 0 } else { head.bytes.len() as u64 };
        let mut bytes = head.bytes;
        set_offset(&mut bytes, version, Order::Little, offset);
        Ok(Self { bytes, order: Order::Little, data_type })
    }
}

/// A little-endian header that is being filled.
struct Fields {
    bytes: Vec<u8>,
    version: Version,
}

impl Fields {
    fn put<const N: usize>(&mut self, at: usize, i: usize, value: [u8; N]) {
        self.bytes[at + i * N..at + (i + 1) * N].copy_from_slice(&value);
    }

    fn dim(&mut self, at: usize, i: usize, value: usize) {
        match self.version {
            Version::One => self.put(at, i, (value as i16).to_le_bytes()),
            Version::Two => self.put(at, i, (value as i64).to_le_bytes()),
        }
    }

    fn real(&mut self, at: usize, i: usize, value: f64) {
        match self.version {
            Version::One => self.put(at, i, (value as f32).to_le_bytes()),
            Version::Two => self.put(at, i, value.to_le_bytes()),
        }
    }
}

fn set_offset(bytes: &mut [u8], version: Version, order: Order, offset: u64) {
    let little = |field: &mut [u8], value: &[u8]| {
        field.copy_from_slice(value);
        if order == Order::Big {
            field.reverse();
        }
    };
    match version {
        Version::One => little(&mut bytes[V1.vox_offset..V1.vox_offset + 4], &(offset as f32).to_le_bytes()),
        Version::Two => little(&mut bytes[V2.vox_offset..V2.vox_offset + 8], &offset.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_writer_leaves_nothing_and_files_are_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let spec = ExportSpec {
            size: [1, 2, 3],
            channels: None,
            dtype: Dtype::Int16,
            affine: Affine::IDENTITY,
            slope: 1.0,
            intercept: 0.0,
            origin: None,
        };
        let out = folder.path().join("a.nii");
        drop(NiftiWriter::create(&out, &spec, Existing::Refuse).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut writer = NiftiWriter::create(&out, &spec, Existing::Refuse).unwrap();
        writer.write_steps(&[7; 12], 1).unwrap();
        writer.finish().unwrap();
        assert_eq!(fs::read(&out).unwrap()[352..], [7; 12]);
        assert!(matches!(NiftiWriter::create(&out, &spec, Existing::Refuse), Err(Error::Exists { .. })));
        let half = ExportSpec { dtype: Dtype::Float16, ..spec };
        assert!(NiftiWriter::create(&out, &half, Existing::Overwrite).is_err_and(|e| e.to_string().contains("float32")));
        assert!(NiftiWriter::create(&folder.path().join("a.mha"), &half, Existing::Refuse).is_err());
    }
}
