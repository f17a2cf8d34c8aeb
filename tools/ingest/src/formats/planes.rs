//! Reads folders of planes: TIFF files of one page, or PNG, in natural order (`z2` before `z10`).
//!
//! # Invariants
//! - All planes have the same size and type, which is known before the first is read.
//!
//! Not here: the pages of TIFF (`tiff`).

use std::cmp::Ordering;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use serde_json::json;
use voxquarry::{Dtype, Error, Result};

use super::format::{Format, OpenedVolume, Place};
use super::slabs::{self, PlaneShape, PlaneSource};
use super::stated::Stated;
use super::tiff::TiffPlane;
use super::voxels;
use crate::files::{file_name, is_folder, open_without_waiting, zeroed};
use crate::source::{SourceVolume, VoxelStream, metadata};

/// Folders of planes.
pub(super) struct PlaneFolder;

impl Format for PlaneFolder {
    fn name(&self) -> &'static str {
        "a folder of TIFF or PNG planes"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[]
    }

    fn recognises(&self, _path: &Path, _head: &[u8]) -> bool {
        false
    }

    fn recognises_folder(&self, folder: &Path) -> Result<bool> {
        let Some(files) = files_of(folder)? else { return Ok(false) };
        // Files of several pages are images of their own.
        Ok(files.len() > 1 && Plane::open(&files[0]).is_ok())
    }

    fn admits_folder(&self, folder: &Path) -> Result<bool> {
        Ok(files_of(folder)?.is_some())
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        Ok(Box::new(OpenedPlanes::new(place.path(), stated)?))
    }

    fn digested_files(&self, _place: &Place) -> Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

/// The planes of a folder in natural order; `None` if it holds anything else, or nothing.
fn files_of(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let path = entry.map_err(Error::io(folder, "cannot list"))?.path();
        let name = file_name(&path).to_lowercase();
        if name.starts_with('.') {
            continue;
        }
        let is_plane = [".tif", ".tiff", ".png"].iter().any(|ending| name.ends_with(ending));
        if !is_plane || is_folder(&path)? {
            return Ok(None);
        }
        files.push(path);
    }
    files.sort_by(|a, b| natural(&file_name(a), &file_name(b)));
    Ok(Some(files).filter(|files| !files.is_empty()))
}

/// Compares names so that numbers in them come in the order of their values.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
        let (n, m) = (digits(left), digits(right));
        if n > 0 && m > 0 {
            let number = |text: &str, n: usize| text[..n].trim_start_matches('0').to_owned();
            let (x, y) = (number(left, n), number(right, m));
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(&y));
            if order.is_ne() {
                return order;
            }
            (left, right) = (&left[n..], &right[m..]);
            continue;
        }
        let (mut l, mut r) = (left.chars(), right.chars());
        match (l.next(), r.next()) {
            (Some(x), Some(y)) if x == y => (left, right) = (l.as_str(), r.as_str()),
            (x, y) if x == y => return a.cmp(b),
            (x, y) => return x.cmp(&y),
        }
    }
}

/// A file of one plane, opened.
enum Plane {
    Tiff(TiffPlane),
    Png(PathBuf, PlaneShape),
}

impl Plane {
    fn open(path: &Path) -> Result<Self> {
        if file_name(path).to_lowercase().ends_with(".png") {
            let reader = png_reader(path)?;
            let info = reader.info();
            let samples = match info.color_type {
                ColorType::Grayscale | ColorType::Indexed => 1,
                ColorType::GrayscaleAlpha => 2,
                ColorType::Rgb => 3,
                ColorType::Rgba => 4,
            };
            let wide = info.bit_depth == BitDepth::Sixteen;
            if (info.bit_depth as u8) < 8 {
                let reason = format!("{} has pixels of less than 8 bits", path.display());
                return Err(Error::unsupported(reason, "save it with 8 bits"));
            }
            let dtype = if wide { Dtype::UInt16 } else { Dtype::UInt8 };
            let size = [info.height as usize, info.width as usize];
            return Ok(Self::Png(path.to_owned(), PlaneShape { size, samples, dtype }));
        }
        TiffPlane::open(path).map(Self::Tiff)
    }

    fn shape(&self) -> PlaneShape {
        match self {
            Self::Tiff(plane) => plane.shape(),
            Self::Png(_, shape) => *shape,
        }
    }

    fn working_bytes(&self) -> u64 {
        match self {
            Self::Tiff(plane) => plane.working_bytes(),
            Self::Png(_, PlaneShape { size: [y, x], samples, dtype }) => {
                2 * (y * x * samples * dtype.size()) as u64 + (1 << 20)
            }
        }
    }

    /// Reads `(samples, y, x)`, little endian: sample `i` goes to `planes[i]`.
    fn read(self, planes: &mut [&mut [u8]]) -> Result<()> {
        let (path, shape) = match self {
            Self::Tiff(plane) => return plane.read(planes),
            Self::Png(path, shape) => (path, shape),
        };
        let located = |error: png::DecodingError| Error::data(&path, error.to_string());
        let mut reader = png_reader(&path)?;
        let ([y, x], size) = (shape.size, shape.dtype.size());
        let mut pixels = zeroed(y * x * shape.samples * size)?;
        reader.next_frame(&mut pixels).map_err(located)?;
        // PNG has the most significant byte first.
        voxels::swap(&mut pixels, size);
        voxels::split_runs(&pixels, planes, size);
        Ok(())
    }
}

fn png_reader(path: &Path) -> Result<png::Reader<BufReader<File>>> {
    let mut decoder = Decoder::new(BufReader::new(open_without_waiting(path)?));
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_limits(Limits { bytes: 64 << 20 });
    decoder.read_info().map_err(|error| Error::data(path, error.to_string()))
}

/// A folder whose planes were compared.
struct OpenedPlanes {
    files: Vec<PathBuf>,
    volume: SourceVolume,
    working_bytes: u64,
    notes: Vec<String>,
}

impl OpenedPlanes {
    fn new(folder: &Path, stated: &Stated) -> Result<Self> {
        let files = files_of(folder)?;
        let files = files.ok_or_else(|| Error::data(folder, "it holds other files than planes"))?;
        let first = Plane::open(&files[0])?;
        let (shape, working_bytes) = (first.shape(), first.working_bytes());
        for path in &files[1..] {
            let other = Plane::open(path)?.shape();
            if other != shape {
                let wanted = format!("{:?} {}, {} samples", shape.size, shape.dtype, shape.samples);
                let found = format!("{:?} {}, {} samples", other.size, other.dtype, other.samples);
                let message = format!("this plane is {found}, the first of the folder {wanted}");
                return Err(Error::data(path, message));
            }
        }
        let (n, [y, x]) = (files.len(), shape.size);
        let ends = [&files[0], &files[n - 1]].map(|path| file_name(path));
        let mut notes = vec![format!("{n} files are its planes, from {} to {}", ends[0], ends[1])];
        let (affine, unit) = stated.geometry(None, &mut notes);
        let origin = [("format", json!("planes"))];
        let volume = SourceVolume {
            size: [n, y, x],
            channels: (shape.samples > 1).then_some(shape.samples),
            interleaved: shape.samples,
            dtype: shape.dtype,
            affine,
            unit,
            slope: 1.0,
            intercept: 0.0,
            origin: metadata(origin),
        };
        Ok(Self { files, volume, working_bytes, notes })
    }
}

impl OpenedVolume for OpenedPlanes {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, _steps: usize) -> u64 {
        self.working_bytes
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let volume = self.volume.clone();
        Ok(slabs::stream(*self, &volume, 1))
    }
}

impl PlaneSource for OpenedPlanes {
    fn read(&mut self, _group: usize, z: Range<usize>, out: &mut [u8]) -> Result<()> {
        let steps = z.len();
        let plane = out.len() / steps / self.volume.interleaved;
        for (i, z) in z.enumerate() {
            let opened = Plane::open(&self.files[z])?;
            let shape = opened.shape();
            if shape.size != self.volume.size[1..]
                || shape.samples != self.volume.interleaved
                || shape.dtype != self.volume.dtype
            {
                return Err(Error::data(&self.files[z], "it changed while it was being read"));
            }
            let channels = out.chunks_exact_mut(steps * plane);
            let mut planes: Vec<_> =
                channels.map(|channel| &mut channel[i * plane..][..plane]).collect();
            opened.read(&mut planes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_come_by_their_values() {
        let sorted = ["a", "z1", "z01x", "z2", "z10", "z10a", "z00011"];
        let mut names = ["z10", "z2", "z00011", "z10a", "z01x", "a", "z1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, sorted);
        assert_eq!(natural("z1", "z01"), "z1".cmp("z01"));
    }
}
