//! Reads arrays of Zarr, version 2 and 3, and images and labels of OME-Zarr.
//!
//! `node` reads the documents of a hierarchy, `find` lists the volumes in it, `array` says what one
//! is like. `open` opens one as a volume without ingesting it: `chunks` reads its chunks, `shards`
//! finds them in shards, `codecs` decodes them.
//!
//! # Invariants
//! - No file outside of the hierarchy's folder is read.
//!
//! Not here: the bytes of chunks, which the crate `zarrs` decodes; the smaller levels of pyramids.

mod array;
mod chunks;
mod codecs;
mod find;
mod node;
mod open;
mod shards;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use voxquarry::{Error, Result};

use zarrs::array::{Array, ArrayBytes, ArraySubset, CodecOptions};
use zarrs::filesystem::FilesystemStore;
use zarrs::storage::ReadableStorageTraits;

use super::boxes::{BoxSource, Boxes};
use super::format::{Format, FoundVolume, OpenedVolume, Place, only_one};
use super::slabs::{self, slab_bytes};
use super::stated::Stated;
use crate::source::{SourceVolume, VoxelStream, metadata};
use array::{chunk_of, dtype_of, unsupported};
use find::ZarrVolume;

pub use open::{ZarrOptions, open_zarr};

/// Chunks whose files are looked for; of arrays with more nobody waits for it.
const CHUNKS_LOOKED_FOR: u64 = 20_000;

/// Zarr and OME-Zarr.
pub(super) struct Zarr;

impl Format for Zarr {
    fn name(&self) -> &'static str {
        "Zarr"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".zarr", ".ome.zarr"]
    }

    fn recognises(&self, _path: &Path, _head: &[u8]) -> bool {
        false
    }

    fn recognises_folder(&self, folder: &Path) -> Result<bool> {
        node::is_node(folder)
    }

    fn volumes(&self, path: &Path) -> Result<Vec<FoundVolume>> {
        let volumes = find::volumes(path)?;
        // An image and its labels, or arrays by their names.
        let several = volumes.len() > 1;
        let found = volumes.into_iter().map(|ZarrVolume { member, kind, .. }| FoundVolume {
            name: several.then(|| match member.as_str() {
                "" => "image".to_owned(),
                member => member.strip_prefix("labels/").unwrap_or(member).replace('/', "_"),
            }),
            kind,
            place: Place::Member { path: path.to_owned(), member },
        });
        Ok(found.collect())
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        let path = place.path();
        let volume = match place {
            Place::Member { member, .. } => find::volume(path, member)?,
            Place::File(_) => {
                let members = find::volumes(path)?.into_iter().map(|volume| volume.member);
                find::volume(path, &only_one(path, members.collect())?)?
            }
        };
        Ok(Box::new(OpenedArray::new(volume, stated)?))
    }

    fn digested_files(&self, _place: &Place) -> Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

type ForeignArray = Array<dyn ReadableStorageTraits>;

/// An array whose metadata were read.
struct OpenedArray {
    array: ForeignArray,
    found: ZarrVolume,
    volume: SourceVolume,
    /// Extents of what is decoded at a time.
    chunk: Vec<usize>,
    notes: Vec<String>,
}

impl OpenedArray {
    fn new(found: ZarrVolume, stated: &Stated) -> Result<Self> {
        let folder = &found.array;
        let located = |reason: String| Error::data(folder, reason);
        let store = FilesystemStore::new(folder).map_err(|e| located(e.to_string()))?;
        let store: Arc<dyn ReadableStorageTraits> = Arc::new(store);
        let array = Array::open(store, "/").map_err(unsupported(folder))?;
        let dtype = dtype_of(&array, folder)?;
        let chunk = chunk_of(&array).map_err(located)?;
        let mut notes = found.notes.clone();
        notes.extend(found.axes.notes());
        let (affine, unit) = stated.geometry(found.affine, &mut notes);
        let origin = [("format", json!("zarr")), ("array", json!(found.member))];
        let axes = &found.axes;
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
        Ok(Self { array, found, volume, chunk, notes })
    }

    /// Planes that one row of chunks holds.
    fn natural(&self) -> usize {
        self.found.axes.space()[0].map_or(1, |z| self.chunk[z])
    }
}

/// Says how many chunks have no file; they are read as the fill value, as Zarr has it.
fn absent_chunks(array: &ForeignArray) -> Option<String> {
    let grid = array.chunk_grid_shape();
    let all = grid.iter().try_fold(1u64, |n, &count| n.checked_mul(count))?;
    if all > CHUNKS_LOOKED_FOR {
        return None;
    }
    let store = array.storage();
    let absent = (0..all).filter(|&i| {
        let mut rest = i;
        let mut at: Vec<u64> = grid
            .iter()
            .rev()
            .map(|&n| {
                let index = rest % n;
                rest /= n;
                index
            })
            .collect();
        at.reverse();
        matches!(store.size_key(&array.chunk_key(&at)), Ok(None))
    });
    let absent = absent.count();
    (absent > 0).then(|| {
        format!("{absent} of its {all} chunks have no file: they hold the fill value, or are lost")
    })
}

impl OpenedVolume for OpenedArray {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, _steps: usize) -> u64 {
        let size = self.volume.dtype.size() as u64;
        let chunk = self.chunk.iter().fold(size, |bytes, &n| bytes.saturating_mul(n as u64));
        // A chunk as it is packed, after each of some codecs, and as a box.
        slab_bytes(&self.volume, self.natural()).saturating_add(chunk.saturating_mul(5))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.iter().cloned().chain(absent_chunks(&self.array)).collect()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let (natural, volume) = (self.natural(), self.volume.clone());
        // The threads of the ingest encode meanwhile; rayon's global pool stays unused.
        let options = CodecOptions::default().with_concurrent_target(1);
        let Self { array, found: ZarrVolume { array: folder, axes, .. }, chunk, .. } = *self;
        let size = volume.dtype.size();
        let planes = Boxes::new(ZarrElements { array, folder, options }, axes, chunk, size);
        Ok(slabs::stream(planes, &volume, natural))
    }
}

/// The elements of an array.
struct ZarrElements {
    array: ForeignArray,
    folder: PathBuf,
    options: CodecOptions,
}

impl BoxSource for ZarrElements {
    fn read(&mut self, starts: &[usize], counts: &[usize], out: &mut [u8]) -> Result<()> {
        let located = |reason: String| Error::data(&self.folder, reason);
        let wide = |numbers: &[usize]| numbers.iter().map(|&n| n as u64).collect();
        let part = ArraySubset::new_with_start_shape(wide(starts), wide(counts));
        let part = part.map_err(|error| located(error.to_string()))?;
        let read = self.array.retrieve_array_subset_opt::<ArrayBytes<'_>>(&part, &self.options);
        let bytes = read.and_then(|bytes| Ok(bytes.into_fixed()?));
        let bytes = bytes.map_err(|error| located(error.to_string()))?;
        if bytes.len() != out.len() {
            return Err(located(format!("{} bytes of {} were decoded", bytes.len(), out.len())));
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }
}
