//! The chunks of an array of Zarr, decoded one at a time, as a volume reads them.
//!
//! # Invariants
//! - No file outside of the array's hierarchy is read, unless links are followed on request.
//! - A chunk without a file has the fill value, as Zarr has it, as long as the array's document is
//!   there.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use voxquarry::format::grid::ChunkId;
use voxquarry::{ChunkSource, Dtype, Error, Result, SourceFolder};
use zarrs::array::{Array, ArrayMetadata, ArrayMetadataV2, ArrayMetadataV3};

use super::array::{chunk_of, dtype_of, unsupported};
use super::codecs::ChunkCodecs;
use super::shards::{Sharding, read_range};
use crate::formats::axes::Axes;

/// More than the document of an array takes.
const DOCUMENT_BYTES: u64 = 16 << 20;

/// An array whose chunks are read.
#[derive(Debug)]
pub(super) struct ZarrChunks {
    folder: SourceFolder,
    /// The array's folder in `folder`, with a slash behind it unless they are the same.
    prefix: String,
    path: PathBuf,
    document: String,
    array: Array<()>,
    codecs: ArrayCodecs,
    axes: Axes,
    pub(super) dtype: Dtype,
    /// Extents of a chunk, `(c, z, y, x)`, and the steps between its elements; 0 along an axis of
    /// one.
    extents: [usize; 4],
    strides: [usize; 4],
}

#[derive(Debug)]
enum ArrayCodecs {
    Chunks(Box<ChunkCodecs>),
    Shards(Box<Sharding>),
}

impl ZarrChunks {
    /// The array at `path`, below `folder`.
    ///
    /// # Errors
    /// [`Error::Data`] for damaged metadata, [`Error::Unsupported`] for codecs and chunks that
    /// cannot be read, [`Error::Io`].
    pub(super) fn open(folder: SourceFolder, path: &Path, axes: Axes) -> Result<Self> {
        let located = |reason: String| Error::data(path, reason);
        let below = path.strip_prefix(folder.path()).ok().and_then(Path::to_str);
        let below = below.ok_or_else(|| located("it has a name that is no text".to_owned()))?;
        let prefix = if below.is_empty() { String::new() } else { format!("{below}/") };
        let (document, metadata) = read_metadata(&folder, &prefix)?;
        if let ArrayMetadata::V3(metadata) = &metadata {
            let grid = metadata.chunk_grid.name();
            if grid != "regular" {
                return Err(unsupported(path)(format!("its chunks have the grid {grid:?}")));
            }
            if !metadata.storage_transformers.is_empty() {
                return Err(unsupported(path)("its storage is transformed"));
            }
        }
        let array = Array::new_with_metadata(Arc::new(()), "/", metadata);
        let array = array.map_err(unsupported(path))?;
        let shape: Vec<usize> = array.shape().iter().map(|&n| n as usize).collect();
        if axes.lengths() != shape {
            return Err(located("its document changed while it was read".to_owned()));
        }
        let dtype = dtype_of(&array, path)?;
        let origin = vec![0; array.dimensionality()];
        let shape = array.chunk_shape(&origin).map_err(|e| located(e.to_string()))?;
        let (chain, data_type, fill) = (array.codecs(), array.data_type(), array.fill_value());
        let size = dtype.size();
        let sharding = Sharding::of(&chain, &shape, data_type, fill, size).map_err(located)?;
        let codecs = if let Some(sharding) = sharding {
            ArrayCodecs::Shards(Box::new(sharding))
        } else {
            let codecs = ChunkCodecs::new(&chain, &shape, data_type, fill, size);
            ArrayCodecs::Chunks(Box::new(codecs.map_err(located)?))
        };
        let chunk = match &codecs {
            ArrayCodecs::Shards(_) => chunk_of(&array).map_err(located)?,
            ArrayCodecs::Chunks(_) => shape.iter().map(|n| n.get() as usize).collect(),
        };
        let steps: Vec<usize> = (0..chunk.len()).map(|a| chunk[a + 1..].iter().product()).collect();
        let (extents, mut strides) = (axes.of_each(&chunk, 1), axes.of_each(&steps, 0));
        for (stride, n) in strides.iter_mut().zip(extents) {
            *stride = if n == 1 { 0 } else { *stride };
        }
        let path = path.to_owned();
        Ok(Self { folder, prefix, path, document, array, codecs, axes, dtype, extents, strides })
    }

    /// Extents of a chunk, `(c, z, y, x)`.
    pub(super) fn extents(&self) -> [usize; 4] {
        self.extents
    }

    /// The bytes of an element that is not stored.
    pub(super) fn fill_value(&self) -> Vec<u8> {
        self.array.fill_value().as_ne_bytes().to_vec()
    }

    /// The text of the array's metadata.
    pub(super) fn metadata(&self) -> String {
        serde_json::to_string(self.array.metadata()).unwrap_or_default()
    }

    /// The encoded bytes of a chunk, and their codecs; `None` if it is not there.
    fn encoded(&self, chunk: &[usize]) -> Result<Option<(Vec<u8>, &ChunkCodecs, PathBuf)>> {
        let (key, slot, codecs) = match &self.codecs {
            ArrayCodecs::Chunks(codecs) => {
                let chunk: Vec<u64> = chunk.iter().map(|&n| n as u64).collect();
                (chunk, None, &**codecs)
            }
            ArrayCodecs::Shards(sharding) => {
                let (shard, slot) = sharding.place(chunk);
                (shard, Some((sharding, slot)), &sharding.codecs)
            }
        };
        let name = format!("{}{}", self.prefix, self.array.chunk_key(&key).as_str());
        let path = self.folder.place(&name);
        let Some((file, length)) = self.folder.file(&name)? else {
            if !self.folder.has(&self.document)? {
                let lost = "the array's document is gone: it was removed while it was open";
                return Err(Error::data(self.folder.place(&self.document), lost));
            }
            return Ok(None);
        };
        let located = |error| located(&path, codecs, error);
        let range = match slot {
            None => Some(0..length),
            Some((sharding, slot)) => {
                sharding.range(&key, slot, (&file, length)).map_err(located)?
            }
        };
        let Some(range) = range else { return Ok(None) };
        check_length(&range, codecs).map_err(located)?;
        let encoded = read_range(&file, range).map_err(located)?;
        Ok(Some((encoded, codecs, path)))
    }
}

impl ChunkSource for ZarrChunks {
    fn path(&self) -> &Path {
        &self.path
    }

    fn decode(&self, chunk: ChunkId) -> Result<Option<Vec<u8>>> {
        let [z, y, x] = chunk.at;
        let index = self.axes.each([chunk.channel / self.extents[0], z, y, x], 0);
        let Some((encoded, codecs, path)) = self.encoded(&index)? else { return Ok(None) };
        let elements = codecs.decode(encoded).map_err(|e| match &self.codecs {
            ArrayCodecs::Chunks(_) => located(&path, codecs, e),
            ArrayCodecs::Shards(_) => {
                let kind = e.kind();
                located(&path, codecs, io::Error::new(kind, format!("chunk {index:?}: {e}")))
            }
        })?;
        let bytes = self.extents.iter().product::<usize>() * self.dtype.size();
        if self.strides == c_order(self.extents) && elements.len() == bytes {
            return Ok(Some(elements));
        }
        let mut ordered = Vec::new();
        let what = "a chunk of voxels";
        let lacking = |_| Error::OutOfMemory { what: what.to_owned(), bytes: bytes as u64 };
        ordered.try_reserve_exact(bytes).map_err(lacking)?;
        ordered.resize(bytes, 0);
        match self.dtype.size() {
            1 => reorder::<1>(&elements, self.extents, self.strides, &mut ordered),
            2 => reorder::<2>(&elements, self.extents, self.strides, &mut ordered),
            4 => reorder::<4>(&elements, self.extents, self.strides, &mut ordered),
            _ => reorder::<8>(&elements, self.extents, self.strides, &mut ordered),
        }
        Ok(Some(ordered))
    }
}

/// The steps between elements that lie in C order.
fn c_order([c, z, y, x]: [usize; 4]) -> [usize; 4] {
    // Along an axis of one element there are none.
    let step = |n: usize, step: usize| if n == 1 { None } else { Some(step) };
    let steps = [step(c, z * y * x), step(z, y * x), step(y, x), step(x, 1)];
    steps.map(Option::unwrap_or_default)
}

/// Copies elements of `S` bytes whose steps are `strides` into C order.
fn reorder<const S: usize>(
    elements: &[u8],
    [nc, nz, ny, nx]: [usize; 4],
    [c, z, y, x]: [usize; 4],
    out: &mut [u8],
) {
    /// Elements along z and x that are copied together: where z is the fastest axis, they fill
    /// cache lines.
    const TILE: usize = 32;
    let (elements, out) = (elements.as_chunks::<S>().0, out.as_chunks_mut::<S>().0);
    for (channel, row) in (0..nc).flat_map(|channel| (0..ny).map(move |row| (channel, row))) {
        for (z0, x0) in
            (0..nz).step_by(TILE).flat_map(|z0| (0..nx).step_by(TILE).map(move |x0| (z0, x0)))
        {
            for depth in z0..nz.min(z0 + TILE) {
                let from = channel * c + depth * z + row * y;
                let to = ((channel * nz + depth) * ny + row) * nx;
                for column in x0..nx.min(x0 + TILE) {
                    out[to + column] = elements[from + column * x];
                }
            }
        }
    }
}

/// The document of the array in `prefix` of `folder`, and its name.
fn read_metadata(folder: &SourceFolder, prefix: &str) -> Result<(String, ArrayMetadata)> {
    for name in ["zarr.json", ".zarray"] {
        let document = format!("{prefix}{name}");
        let path = folder.place(&document);
        let Some((file, length)) = folder.file(&document)? else { continue };
        if length > DOCUMENT_BYTES {
            return Err(Error::data(path, format!("longer than {DOCUMENT_BYTES} bytes")));
        }
        let text = read_range(&file, 0..length).map_err(Error::io(&path, "cannot read"))?;
        let damaged = |error: serde_json::Error| Error::data(&path, error.to_string());
        let metadata = if name == "zarr.json" {
            serde_json::from_slice::<ArrayMetadataV3>(&text).map(ArrayMetadata::V3)
        } else {
            serde_json::from_slice::<ArrayMetadataV2>(&text).map(ArrayMetadata::V2)
        };
        return Ok((document, metadata.map_err(damaged)?));
    }
    Err(Error::data(folder.place(prefix), "it is no array of Zarr"))
}

fn check_length(range: &Range<u64>, codecs: &ChunkCodecs) -> io::Result<()> {
    let (bytes, most) = (range.end - range.start, codecs.most_bytes());
    if bytes > most {
        let message = format!("{bytes} bytes, a chunk takes at most {most}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(())
}

/// An error about the chunk, or the shard, at `path`.
fn located(path: &Path, codecs: &ChunkCodecs, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::OutOfMemory => {
            let what = format!("a chunk of {}", path.display());
            Error::OutOfMemory { what, bytes: codecs.decoded_bytes() }
        }
        _ if error.raw_os_error().is_some() => Error::io(path, "cannot read")(error),
        _ => Error::data(path, format!("a damaged or cut chunk: {error}")),
    }
}
