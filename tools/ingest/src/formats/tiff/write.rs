//! Writes stacks: `.tif` as ImageJ does where ImageJ has the type, everything else as OME-TIFF.
//!
//! All planes follow each other behind the first directory, so that each has a known place whatever
//! the order in which channels come. A stack of ImageJ beyond 4 GiB has one directory, as ImageJ
//! itself writes it; OME-TIFF becomes BigTIFF.
//!
//! # Invariants
//! - A file appears under its name when it is finished, and whole. A dropped writer leaves nothing.

use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use voxquarry::{Dtype, Error, IfExists, LengthUnit, Result};

use super::ifd::tag;
use crate::files::file_name;
use crate::formats::export_spec::ExportSpec;
use crate::formats::format::VolumeExport;
use crate::staged_file::StagedFile;

/// Offsets of TIFF have 32 bits; directories come behind the voxels.
const CLASSIC_BYTES: u64 = u32::MAX as u64;
/// More than a directory of a page takes.
const DIRECTORY_BYTES: u64 = 512;

/// Kinds of values.
const TEXT: u16 = 2;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const FRACTION: u16 = 5;
const LONG_8: u16 = 16;

/// A stack that is being written.
pub(super) struct StackWriter {
    path: PathBuf,
    file: File,
    staged: StagedFile,
    form: StackForm,
    /// Where the first plane begins, and the place of the first directory's link to the next.
    voxels_at: u64,
    link_at: u64,
    plane_bytes: usize,
    depth: usize,
    channels: usize,
    written: u64,
}

/// What all directories of a file have in common.
#[derive(Clone, Debug)]
struct StackForm {
    is_big: bool,
    is_imagej: bool,
    width: u64,
    height: u64,
    dtype: Dtype,
    /// Pixels per unit along x and y, as fractions.
    resolution: [[u32; 2]; 2],
}

impl StackWriter {
    /// Begins the file at `out`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a dtype that OME-TIFF does not have, [`Error::Exists`],
    /// [`Error::Io`].
    pub(super) fn create(out: &Path, spec: &ExportSpec, if_exists: IfExists) -> Result<Self> {
        let name = file_name(out).to_lowercase();
        let is_ome = [".ome.tif", ".ome.tiff", ".ome.btf"].iter().any(|end| name.ends_with(end));
        let is_big = file_name(out).to_lowercase().split('.').next_back() == Some("btf");
        let has_imagej = matches!(spec.dtype, Dtype::UInt8 | Dtype::UInt16 | Dtype::Float32);
        let is_imagej = has_imagej && !is_ome && !is_big;
        let ome_type = ome_type(spec.dtype).ok_or_else(|| {
            let reason = format!("OME-TIFF has no {}", spec.dtype);
            Error::unsupported(reason, "export it as .nii.gz or .npy, or convert it before")
        })?;
        let [depth, height, width] = spec.size;
        let channels = spec.channels.unwrap_or(1);
        let plane_bytes = height * width * spec.dtype.size();
        let bytes = (plane_bytes as u64).saturating_mul((depth * channels) as u64);
        let directories = DIRECTORY_BYTES * (depth * channels) as u64;
        let is_long = bytes.saturating_add(directories).saturating_add(1 << 20) > CLASSIC_BYTES;
        let form = StackForm {
            is_big: is_big || is_long && !is_imagej,
            is_imagej,
            width: width as u64,
            height: height as u64,
            dtype: spec.dtype,
            resolution: [2, 1].map(|axis| fraction(1.0 / spec.affine.spacing_mm()[axis])),
        };
        let description = if is_imagej { imagej(spec) } else { ome(spec, ome_type, &name) };
        let (staged, file) = StagedFile::new(out, if_exists)?;
        let head = form.head(description.as_bytes());
        file.write_all_at(&head.bytes, 0).map_err(Error::io(out, "cannot write"))?;
        Ok(Self {
            path: out.to_owned(),
            file,
            staged,
            form,
            voxels_at: head.bytes.len() as u64,
            link_at: head.link_at,
            plane_bytes,
            depth,
            channels,
            written: 0,
        })
    }

    /// The number of the page of a plane, counted in the order in which planes are written.
    fn page(&self, plane: u64) -> u64 {
        let (channel, z) = (plane / self.depth as u64, plane % self.depth as u64);
        // ImageJ has channels fastest.
        if self.form.is_imagej { z * self.channels as u64 + channel } else { plane }
    }

    fn planes(&self) -> u64 {
        (self.depth * self.channels) as u64
    }
}

impl VolumeExport for StackWriter {
    fn write_steps(&mut self, planes: &[u8], steps: usize) -> Result<()> {
        let left = self.planes() - self.written;
        if planes.len() != steps * self.plane_bytes || steps as u64 > left {
            let allowed = format!("{} bytes a plane, and at most {left} planes", self.plane_bytes);
            return Err(Error::invalid("planes", format!("of {} bytes", planes.len()), allowed));
        }
        for plane in planes.chunks_exact(self.plane_bytes) {
            let at = self.voxels_at + self.page(self.written) * self.plane_bytes as u64;
            self.file.write_all_at(plane, at).map_err(Error::io(&self.path, "cannot write"))?;
            self.written += 1;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let (written, planes) = (self.written, self.planes());
        if written != planes {
            let missing = format!("{written} planes were written, expected {planes}");
            return Err(Error::Incomplete { what: self.path.display().to_string(), missing });
        }
        let end = self.voxels_at + planes * self.plane_bytes as u64;
        // Directories begin at even bytes.
        let first = end.next_multiple_of(2);
        let is_whole = self.form.is_big || first + DIRECTORY_BYTES * planes <= CLASSIC_BYTES;
        if planes > 1 && is_whole {
            let write = |bytes: &[u8], at: u64| {
                self.file.write_all_at(bytes, at).map_err(Error::io(&self.path, "cannot write"))
            };
            let mut directories = Vec::new();
            for page in 1..planes {
                let at = first + directories.len() as u64;
                let voxels = self.voxels_at + page * self.plane_bytes as u64;
                let directory = self.form.directory(at, voxels, None, page + 1 < planes);
                directories.extend(directory.bytes);
            }
            write(&directories, first)?;
            write(&self.form.offset(first), self.link_at)?;
        }
        self.staged.publish(&self.file)
    }
}

/// Bytes, and where in the file the link to the next directory is.
struct WrittenDirectory {
    bytes: Vec<u8>,
    link_at: u64,
}

impl StackForm {
    /// An offset, as wide as the file has them.
    fn offset(&self, at: u64) -> Vec<u8> {
        if self.is_big { at.to_le_bytes().to_vec() } else { (at as u32).to_le_bytes().to_vec() }
    }

    /// Everything before the voxels.
    fn head(&self, description: &[u8]) -> WrittenDirectory {
        let mut bytes = if self.is_big {
            let mut head = b"II\x2b\0\x08\0\0\0".to_vec();
            head.extend(16u64.to_le_bytes());
            head
        } else {
            b"II\x2a\0\x08\0\0\0".to_vec()
        };
        let at = bytes.len() as u64;
        // The length of a directory does not depend on the place of the voxels.
        let length = self.directory(at, 0, Some(description), false).bytes.len() as u64;
        let voxels_at = (at + length).next_multiple_of(16);
        let directory = self.directory(at, voxels_at, Some(description), false);
        bytes.extend(directory.bytes);
        bytes.resize(voxels_at as usize, 0);
        WrittenDirectory { bytes, link_at: directory.link_at }
    }

    /// The directory of a page at byte `at`, whose voxels are at byte `voxels`.
    fn directory(
        &self,
        at: u64,
        voxels: u64,
        description: Option<&[u8]>,
        is_followed: bool,
    ) -> WrittenDirectory {
        let wide = if self.is_big { LONG_8 } else { LONG };
        let (format, bits) = sample(self.dtype);
        let plane = self.width * self.height * self.dtype.size() as u64;
        let number = |kind: u16, value: u64| {
            let size = match kind {
                SHORT => 2,
                LONG => 4,
                _ => 8,
            };
            (kind, 1u64, value.to_le_bytes()[..size].to_vec())
        };
        let fraction = |[above, below]: [u32; 2]| {
            (FRACTION, 1, [above.to_le_bytes(), below.to_le_bytes()].concat())
        };
        let mut entries = vec![
            (tag::WIDTH, number(LONG, self.width)),
            (tag::HEIGHT, number(LONG, self.height)),
            (tag::BITS, number(SHORT, bits)),
            (tag::COMPRESSION, number(SHORT, 1)),
            (tag::PHOTOMETRIC, number(SHORT, 1)),
        ];
        if let Some(text) = description {
            let text = [text, b"\0"].concat();
            entries.push((tag::DESCRIPTION, (TEXT, text.len() as u64, text)));
        }
        entries.extend([
            (tag::STRIP_OFFSETS, number(wide, voxels)),
            (tag::SAMPLES, number(SHORT, 1)),
            (tag::ROWS_PER_STRIP, number(LONG, self.height)),
            (tag::STRIP_COUNTS, number(wide, plane)),
            (tag::X_RESOLUTION, fraction(self.resolution[0])),
            (tag::Y_RESOLUTION, fraction(self.resolution[1])),
            (tag::RESOLUTION_UNIT, number(SHORT, 1)),
            (tag::SAMPLE_FORMAT, number(SHORT, format)),
        ]);
        let (inline, count_bytes) = if self.is_big { (8, 8) } else { (4, 2) };
        let fixed = count_bytes + entries.len() * (4 + 2 * inline) + inline;
        let count = entries.len() as u64;
        let mut bytes = count.to_le_bytes()[..count_bytes].to_vec();
        let mut beside: Vec<u8> = Vec::new();
        for (tag, (kind, count, mut value)) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(&count.to_le_bytes()[..inline]);
            if value.len() <= inline {
                value.resize(inline, 0);
                bytes.extend(value);
            } else {
                bytes.extend(self.offset(at + (fixed + beside.len()) as u64));
                beside.extend(value);
                beside.resize(beside.len().next_multiple_of(2), 0);
            }
        }
        let link_at = at + bytes.len() as u64;
        let end = at + (fixed + beside.len()) as u64;
        bytes.extend(self.offset(if is_followed { end } else { 0 }));
        bytes.extend(beside);
        WrittenDirectory { bytes, link_at }
    }
}

/// The format and bits of a sample.
fn sample(dtype: Dtype) -> (u64, u64) {
    let format = match dtype {
        Dtype::UInt8 | Dtype::UInt16 | Dtype::UInt32 | Dtype::UInt64 => 1,
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => 2,
        Dtype::Float16 | Dtype::Float32 | Dtype::Float64 => 3,
    };
    (format, 8 * dtype.size() as u64)
}

fn ome_type(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::UInt8 => "uint8",
        Dtype::Int8 => "int8",
        Dtype::UInt16 => "uint16",
        Dtype::Int16 => "int16",
        Dtype::UInt32 => "uint32",
        Dtype::Int32 => "int32",
        Dtype::Float32 => "float",
        Dtype::Float64 => "double",
        Dtype::UInt64 | Dtype::Int64 | Dtype::Float16 => return None,
    })
}

/// A positive number as a fraction of 32-bit numbers.
fn fraction(value: f64) -> [u32; 2] {
    let most = f64::from(u32::MAX);
    let below = (most / value.max(1.0)).floor().clamp(1.0, 1e9);
    [(value * below).round().clamp(1.0, most) as u32, below as u32]
}

fn imagej(spec: &ExportSpec) -> String {
    let ([depth, ..], channels) = (spec.size, spec.channels.unwrap_or(1));
    let unit = match spec.unit.unwrap_or_default() {
        LengthUnit::Micrometer => "micron",
        LengthUnit::Meter => "m",
        _ => "mm",
    };
    let spacing = spec.affine.spacing_mm()[0];
    let images = depth * channels;
    format!(
        "ImageJ=1.54f\nimages={images}\nchannels={channels}\nslices={depth}\nhyperstack=true\n\
         mode=grayscale\nunit={unit}\nspacing={spacing}\nloop=false\n"
    )
}

fn ome(spec: &ExportSpec, sample_type: &str, name: &str) -> String {
    let ([z, y, x], channels) = (spec.size, spec.channels.unwrap_or(1));
    let unit = match spec.unit.unwrap_or_default() {
        LengthUnit::Micrometer => "µm",
        LengthUnit::Meter => "m",
        _ => "mm",
    };
    let name: String =
        name.chars().filter(|c| c.is_alphanumeric() || "._- ".contains(*c)).collect();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><OME \
         xmlns=\"http://www.openmicroscopy.org/Schemas/OME/2016-06\"><Image ID=\"Image:0\" \
         Name=\"{name}\"><Pixels ID=\"Pixels:0\" DimensionOrder=\"XYZCT\" Type=\"{sample_type}\" \
         SizeX=\"{x}\" SizeY=\"{y}\" SizeZ=\"{z}\" SizeC=\"{channels}\" SizeT=\"1\" \
         BigEndian=\"false\""
    );
    for (axis, size) in ["Z", "Y", "X"].into_iter().zip(spec.affine.spacing_mm()) {
        write!(text, " PhysicalSize{axis}=\"{size}\" PhysicalSize{axis}Unit=\"{unit}\"")
            .expect("a string takes everything");
    }
    text.push('>');
    for channel in 0..channels {
        write!(text, "<Channel ID=\"Channel:0:{channel}\" SamplesPerPixel=\"1\"/>")
            .expect("a string takes everything");
    }
    text.push_str("<TiffData/></Pixels></Image></OME>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_near() {
        for value in [1e-6, 0.004, 0.15, 1.0, 1.0 / 0.3, 250.0, 1e6, 4e9] {
            let [above, below] = fraction(value);
            let found = f64::from(above) / f64::from(below);
            assert!((found / value - 1.0).abs() < 1e-3, "{value} {found}");
        }
    }
}
