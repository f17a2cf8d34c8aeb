//! Reads data sets of HDF5 files, as h5py and programs of microscopy write them.
//!
//! A data set of three axes is a volume `(z, y, x)`, one of four has channels in front or, if its
//! attributes say so, at the end. Axes of one element count as absent.
//!
//! `find` lists the data sets, `attributes` interprets what is said about them.
//!
//! # Invariants
//! - No other file is read, but those that a virtual data set names below its file's folder.
//!
//! Not here: the bytes of HDF5, which the crate `rust-hdf5` reads.

mod attributes;
mod find;

use std::path::{Path, PathBuf};

use rust_hdf5::H5Dataset;
use serde_json::json;
use voxquarry::{Dtype, Error, Result};

use super::axes::Axes;
use super::boxes::{BoxSource, Boxes};
use super::format::{Format, FoundVolume, OpenedVolume, Place, only_one};
use super::slabs::{self, slab_bytes};
use super::stated::Stated;
use crate::source::{SourceVolume, VoxelStream, metadata};

/// The signature, at byte 0 or behind a block of the user's.
const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// HDF5.
pub(super) struct Hdf5;

impl Format for Hdf5 {
    fn name(&self) -> &'static str {
        "HDF5"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".h5", ".hdf5", ".hdf", ".he5", ".ims"]
    }

    fn recognises(&self, _path: &Path, head: &[u8]) -> bool {
        [0, 512].iter().any(|&at| head.get(at..).is_some_and(|head| head.starts_with(SIGNATURE)))
    }

    fn volumes(&self, path: &Path) -> Result<Vec<FoundVolume>> {
        let members = find::volumes(path)?;
        let several = members.len() > 1;
        let found = members.into_iter().map(|member| FoundVolume {
            name: several.then(|| member.trim_start_matches('/').replace('/', "_")),
            kind: None,
            place: Place::Member { path: path.to_owned(), member },
        });
        Ok(found.collect())
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        let path = place.path();
        let member = match place {
            Place::Member { member, .. } => member.clone(),
            Place::File(_) => only_one(path, find::volumes(path)?)?,
        };
        let dataset = find::dataset(path, &member)?;
        Ok(Box::new(OpenedDataset::new(path, &member, dataset, stated)?))
    }

    fn digested_files(&self, _place: &Place) -> Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

/// A data set whose description was read.
struct OpenedDataset {
    path: PathBuf,
    dataset: H5Dataset,
    axes: Axes,
    volume: SourceVolume,
    notes: Vec<String>,
}

impl OpenedDataset {
    fn new(path: &Path, member: &str, dataset: H5Dataset, stated: &Stated) -> Result<Self> {
        let located = |message: String| Error::data(path, format!("{member}: {message}"));
        let dtype = find::dtype(&dataset).map_err(located)?;
        let axes = attributes::axes_of(&dataset).map_err(located)?;
        let mut notes = axes.notes();
        let mut guesses = Vec::new();
        let found = attributes::geometry(&dataset, &axes, &mut guesses);
        if stated.affine.is_none() {
            notes.append(&mut guesses);
        }
        let (affine, unit) = stated.geometry(found, &mut notes);
        let origin = [("format", json!("hdf5")), ("dataset", json!(member))];
        let volume = SourceVolume {
            size: axes.size(),
            channels: axes.channels(),
            interleaved: axes.interleaved(),
            dtype,
            affine,
            unit,
            slope: 1.0,
            intercept: 0.0,
            origin: metadata(origin),
        };
        Ok(Self { path: path.to_owned(), dataset, axes, volume, notes })
    }

    /// Extents of what is read at a time: a chunk, or a plane.
    fn chunk(&self) -> Vec<usize> {
        let chunk = self.dataset.chunk_dims().filter(|chunk| chunk.len() == self.axes.count());
        let [_, y, x] = self.volume.size;
        chunk.unwrap_or_else(|| self.axes.each([self.volume.interleaved, 1, y, x], 1))
    }

    /// Planes that one row of chunks holds.
    fn natural(&self) -> usize {
        self.axes.space()[0].map_or(1, |z| self.chunk()[z])
    }
}

impl OpenedVolume for OpenedDataset {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, _steps: usize) -> u64 {
        let size = self.dataset.element_size() as u64;
        let chunk = self.chunk().iter().fold(size, |bytes, &n| bytes.saturating_mul(n as u64));
        // A chunk as it is packed, after each of some filters, and as a box.
        slab_bytes(&self.volume, self.natural()).saturating_add(chunk.saturating_mul(4))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let (natural, chunk, volume) = (self.natural(), self.chunk(), self.volume.clone());
        let (axes, size) = (self.axes, volume.dtype.size());
        let source = Hdf5Elements { path: self.path, dataset: self.dataset, dtype: volume.dtype };
        let planes = Boxes::new(source, axes, chunk, size);
        Ok(slabs::stream(planes, &volume, natural))
    }
}

/// The elements of a data set.
struct Hdf5Elements {
    path: PathBuf,
    dataset: H5Dataset,
    dtype: Dtype,
}

impl BoxSource for Hdf5Elements {
    fn read(&mut self, starts: &[usize], counts: &[usize], out: &mut [u8]) -> Result<()> {
        find::read_slice(&self.dataset, self.dtype, starts, counts, out)
            .map_err(|message| Error::data(&self.path, message))
    }
}
