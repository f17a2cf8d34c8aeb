//! The metadata of a level's array (§5), parsed into a valid [`ArrayLayout`].

use serde_json::{Value, json};

use super::document::{Document, Node};
use super::limits;
use crate::{Dtype, Error, Result, Size3};

/// Shape, element type, chunks, shards and codec of a volume's array.
///
/// ```
/// use std::path::Path;
/// use voxquarry::format::array::ArrayLayout;
/// use voxquarry::format::document::Document;
///
/// # let store = "format-spec/golden/v1";
/// let folder = Path::new(store).join("grid/i16/0");
/// let layout = ArrayLayout::parse(&Document::read(&folder)?.expect("an array"))?;
/// assert_eq!(layout.shape(), [2, 6, 10, 20]);
/// assert_eq!((layout.channels, layout.size), (Some(2), [6, 10, 20]));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayLayout {
    /// Channels, or `None` if the array has no such axis.
    pub channels: Option<usize>,
    /// Extents in voxels, `(z, y, x)`.
    pub size: Size3,
    /// Element type.
    pub dtype: Dtype,
    /// Extents of a chunk, `(z, y, x)`; a chunk holds one channel.
    pub chunk: Size3,
    /// Extents of a shard, `(z, y, x)`, multiples of the chunk's; a shard holds one channel.
    pub shard: Size3,
    /// The encoding of a chunk's voxels.
    pub codec: ChunkCodec,
}

/// The encoding of chunks.
///
/// ```
/// use voxquarry::Dtype;
/// use voxquarry::format::array::{ChunkCodec, Compressor};
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
///
/// let size = [64, 256, 256];
/// let volume = VolumeShape { channels: None, size, dtype: Dtype::Int16, interleaved: 1 };
/// let layout = layout::choose(&volume, &[[64, 64, 64]], Codec::Fast, 1 << 30)?;
/// let ChunkCodec::Blosc(blosc) = layout.codec else { panic!("fast compresses") };
/// assert_eq!(blosc.compressor, Compressor::Lz4);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkCodec {
    /// Uncompressed voxels.
    Raw,
    /// One Blosc frame.
    Blosc(BloscParameters),
}

/// Parameters of the Blosc encoder; a reader follows the header of each frame instead.
///
/// ```
/// use voxquarry::format::array::{BloscParameters, ChunkCodec, Compressor, Shuffle};
///
/// let (compressor, shuffle) = (Compressor::Zstd, Shuffle::Byte);
/// let blosc = BloscParameters { compressor, level: 8, shuffle, block_bytes: 32 << 10 };
/// assert_ne!(ChunkCodec::Blosc(blosc), ChunkCodec::Raw);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BloscParameters {
    /// The compressor.
    pub compressor: Compressor,
    /// The compression level, in the compressor's own range.
    pub level: i32,
    /// The reordering before compression.
    pub shuffle: Shuffle,
    /// Bytes of a block.
    pub block_bytes: usize,
}

/// The compressor of a Blosc frame.
///
/// ```
/// use voxquarry::Dtype;
/// use voxquarry::format::array::{ChunkCodec, Compressor};
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
///
/// let shape =
///     VolumeShape { channels: None, size: [64; 3], dtype: Dtype::Int16, interleaved: 1 };
/// let layout = layout::choose(&shape, &[[32; 3]], Codec::Fast, 64 << 20)?;
/// let ChunkCodec::Blosc(blosc) = layout.codec else { panic!("it is compressed") };
/// assert_eq!(blosc.compressor, Compressor::Lz4);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compressor {
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// The reordering of a block's bytes before compression (§6).
///
/// ```
/// assert_eq!(voxquarry::format::array::Shuffle::Bit.name(), "bitshuffle");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shuffle {
    /// None.
    None,
    /// Bytes of the same significance lie together.
    Byte,
    /// Bits of the same significance lie together.
    Bit,
}

impl Shuffle {
    /// The name in metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "noshuffle",
            Self::Byte => "shuffle",
            Self::Bit => "bitshuffle",
        }
    }
}

impl ArrayLayout {
    /// Channels, 1 if the array has no such axis.
    pub fn channel_count(&self) -> usize {
        self.channels.unwrap_or(1)
    }

    /// The array's shape, `(z, y, x)` or `(c, z, y, x)`.
    pub fn shape(&self) -> Vec<usize> {
        self.channels.into_iter().chain(self.size).collect()
    }

    /// Bytes of one decoded chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk.iter().product::<usize>() * self.dtype.size()
    }

    /// Chunks along each axis of one shard.
    pub fn shard_chunks(&self) -> Size3 {
        [0, 1, 2].map(|a| self.shard[a] / self.chunk[a])
    }

    /// Checks the extents against each other and the limits.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), String> {
        for extent in self.shape() {
            if extent == 0 || extent as u64 > limits::AXIS_VOXELS {
                return Err(format!(
                    "shape {:?}: expected extents of 1 to {}",
                    self.shape(),
                    limits::AXIS_VOXELS
                ));
            }
        }
        let product =
            |extents: &[usize]| extents.iter().try_fold(1u64, |n, &e| n.checked_mul(e as u64));
        match product(&self.shape()) {
            Some(voxels) if voxels <= limits::VOLUME_VOXELS => {}
            _ => {
                return Err(format!(
                    "shape {:?}: expected at most {} voxels",
                    self.shape(),
                    limits::VOLUME_VOXELS
                ));
            }
        }
        let chunk_voxels = product(&self.chunk).filter(|&n| n > 0);
        if chunk_voxels
            .and_then(|n| n.checked_mul(self.dtype.size() as u64))
            .is_none_or(|b| b > limits::CHUNK_BYTES as u64)
        {
            let most = limits::CHUNK_BYTES;
            return Err(format!("chunk {:?}: expected 1 to {most} bytes", self.chunk));
        }
        if (0..3).any(|a| {
            self.shard[a] == 0
                || !self.shard[a].is_multiple_of(self.chunk[a])
                || self.shard[a] as u64 > 2 * limits::AXIS_VOXELS
        }) {
            let Self { shard, chunk, .. } = self;
            return Err(format!("shard {shard:?}: expected a multiple of chunk {chunk:?}"));
        }
        if product(&self.shard_chunks()).is_none_or(|n| n > limits::SHARD_CHUNKS as u64) {
            let most = limits::SHARD_CHUNKS;
            return Err(format!("shard {:?}: expected at most {most} chunks", self.shard));
        }
        Ok(())
    }

    /// Parses and checks a level's `zarr.json`.
    ///
    /// # Errors
    /// [`Error::Metadata`] with the first key that is outside of the profile.
    pub fn parse(document: &Document) -> Result<Self> {
        document.expect_node("array")?;
        let root = document.root();
        let shape: Vec<usize> = root.parse("shape")?;
        let has_channels = shape.len() == 4;
        if !has_channels && shape.len() != 3 {
            return Err(
                root.error("shape", &format!("found {} axes, expected 3 or 4", shape.len()))
            );
        }
        let names: &[&str] = if has_channels { &["c", "z", "y", "x"] } else { &["z", "y", "x"] };
        root.expect("dimension_names", &json!(names))?;
        let dtype = root.string("data_type")?;
        let dtype = Dtype::from_name(dtype).ok_or_else(|| {
            root.error("data_type", &format!("{dtype:?} is outside of the profile"))
        })?;
        // −0.0 differs from the zeros of an absent chunk.
        if root.value("fill_value")?.as_f64().map(f64::to_bits) != Some(0) {
            return Err(root
                .error("fill_value", &format!("found {}, expected 0", root.value("fill_value")?)));
        }
        let encoding = root.extension("chunk_key_encoding", "default")?;
        encoding.expect("separator", &json!("/"))?;
        if root
            .get("storage_transformers")
            .is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty()))
        {
            return Err(root.error("storage_transformers", "outside of the profile"));
        }
        let grid = root.extension("chunk_grid", "regular")?;
        let shard = spatial(&grid, has_channels)?;
        let [sharding] = &root.objects("codecs")?[..] else {
            return Err(root.error("codecs", "expected sharding_indexed alone"));
        };
        sharding.expect("name", &json!("sharding_indexed"))?;
        let sharding = sharding.object("configuration")?;
        let chunk = spatial(&sharding, has_channels)?;
        sharding.expect("index_location", &json!("end"))?;
        let index_codecs = sharding.objects("index_codecs")?;
        let [bytes, crc] = &index_codecs[..] else {
            return Err(sharding.error("index_codecs", "expected bytes, crc32c"));
        };
        expect_bytes(bytes, 8)?;
        crc.expect("name", &json!("crc32c"))?;
        let codec = parse_codecs(&sharding, dtype)?;
        let size = shape[shape.len() - 3..].try_into().expect("three spatial axes");
        let layout =
            Self { channels: has_channels.then(|| shape[0]), size, dtype, chunk, shard, codec };
        layout.validate().map_err(|message| Error::metadata(document.path(), message))?;
        Ok(layout)
    }

    /// The level's `zarr.json`.
    pub fn to_json(&self) -> Value {
        let with_channel = |extents: Size3| {
            self.channels.map(|_| 1).into_iter().chain(extents).collect::<Vec<_>>()
        };
        let little = json!({ "name": "bytes", "configuration": { "endian": "little" } });
        let crc32c = json!({ "name": "crc32c" });
        let mut codecs = vec![little.clone()];
        if let ChunkCodec::Blosc(blosc) = self.codec {
            let cname = match blosc.compressor {
                Compressor::Lz4 => "lz4",
                Compressor::Zstd => "zstd",
            };
            codecs.push(json!({ "name": "blosc", "configuration": {
                "cname": cname,
                "clevel": blosc.level.clamp(0, 9),
                "shuffle": blosc.shuffle.name(),
                "typesize": self.dtype.size(),
                "blocksize": blosc.block_bytes,
            }}));
        }
        codecs.push(crc32c.clone());
        let names: &[&str] =
            if self.channels.is_some() { &["c", "z", "y", "x"] } else { &["z", "y", "x"] };
        json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": self.shape(),
            "data_type": self.dtype.name(),
            "chunk_grid": {
                "name": "regular",
                "configuration": { "chunk_shape": with_channel(self.shard) },
            },
            "chunk_key_encoding": { "name": "default", "configuration": { "separator": "/" } },
            "fill_value": if self.dtype.is_float() { json!(0.0) } else { json!(0) },
            "codecs": [{ "name": "sharding_indexed", "configuration": {
                "chunk_shape": with_channel(self.chunk),
                "codecs": codecs,
                "index_codecs": [little, crc32c],
                "index_location": "end",
            }}],
            "dimension_names": names,
            "attributes": {},
        })
    }
}

/// The spatial extents of `chunk_shape`, whose extent along the channel axis is 1.
fn spatial(node: &Node<'_>, has_channels: bool) -> Result<Size3> {
    let shape: Vec<usize> = node.parse("chunk_shape")?;
    match (has_channels, &shape[..]) {
        (true, &[1, z, y, x]) | (false, &[z, y, x]) => Ok([z, y, x]),
        _ => Err(node.error(
            "chunk_shape",
            &format!(
                "found {shape:?}, expected {}",
                if has_channels { "[1, z, y, x]" } else { "[z, y, x]" }
            ),
        )),
    }
}

fn expect_bytes(node: &Node<'_>, size: usize) -> Result<()> {
    node.expect("name", &json!("bytes"))?;
    let endian = node.object("configuration").ok().and_then(|c| c.get("endian").cloned());
    match endian {
        Some(value) if value == "little" => Ok(()),
        None if size == 1 => Ok(()),
        found => Err(node.error("endian", &format!("found {found:?}, expected little"))),
    }
}

fn parse_codecs(sharding: &Node<'_>, dtype: Dtype) -> Result<ChunkCodec> {
    let codecs = sharding.objects("codecs")?;
    let refuse = || sharding.error("codecs", "expected bytes, at most one blosc, crc32c");
    let (bytes, compressor, crc) = match &codecs[..] {
        [bytes, crc] => (bytes, None, crc),
        [bytes, compressor, crc] => (bytes, Some(compressor), crc),
        _ => return Err(refuse()),
    };
    expect_bytes(bytes, dtype.size())?;
    if crc.string("name")? != "crc32c" {
        return Err(refuse());
    }
    let Some(node) = compressor else { return Ok(ChunkCodec::Raw) };
    if node.string("name")? != "blosc" {
        return Err(refuse());
    }
    let node = node.object("configuration")?;
    node.expect("typesize", &json!(dtype.size()))?;
    Ok(ChunkCodec::Blosc(BloscParameters {
        compressor: match node.string("cname")? {
            "lz4" | "lz4hc" => Compressor::Lz4,
            "zstd" => Compressor::Zstd,
            other => {
                return Err(node.error("cname", &format!("{other:?} is outside of the profile")));
            }
        },
        level: node.parse("clevel")?,
        shuffle: match node.string("shuffle")? {
            "noshuffle" => Shuffle::None,
            "shuffle" => Shuffle::Byte,
            "bitshuffle" => Shuffle::Bit,
            other => return Err(node.error("shuffle", &format!("{other:?} is unknown"))),
        },
        block_bytes: node.parse("blocksize")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::document;

    fn layout() -> ArrayLayout {
        ArrayLayout {
            channels: Some(3),
            size: [40, 50, 60],
            dtype: Dtype::Int16,
            chunk: [16, 32, 32],
            shard: [32, 64, 64],
            codec: ChunkCodec::Blosc(BloscParameters {
                compressor: Compressor::Lz4,
                level: 5,
                shuffle: Shuffle::Byte,
                block_bytes: 16384,
            }),
        }
    }

    fn parse(json: &Value) -> Result<ArrayLayout> {
        let folder = tempfile::tempdir().unwrap();
        document::write(folder.path(), json).unwrap();
        ArrayLayout::parse(&Document::read(folder.path()).unwrap().unwrap())
    }

    #[test]
    fn metadata_round_trips() {
        for (channels, codec) in
            [(None, ChunkCodec::Raw), (Some(3), layout().codec), (Some(1), layout().codec)]
        {
            let layout = ArrayLayout { channels, codec, ..layout() };
            assert_eq!(parse(&layout.to_json()).unwrap(), layout);
        }
    }

    #[test]
    fn keys_outside_of_the_profile_are_refused() {
        let sharding = "/codecs/0/configuration";
        let cases: [(&str, Value, &str); 16] = [
            ("/zarr_format", json!(2), "zarr_format"),
            ("/shape", json!([3, 0, 50, 60]), "extent"),
            ("/shape", json!([40, 50]), "axes"),
            ("/shape", json!([3, 1u64 << 30, 1u64 << 30, 1u64 << 30]), "voxels"),
            ("/data_type", json!("complex64"), "data_type"),
            ("/fill_value", json!(-1), "fill_value"),
            ("/dimension_names", json!(["t", "z", "y", "x"]), "dimension_names"),
            ("/chunk_key_encoding/configuration/separator", json!("."), "separator"),
            ("/chunk_grid/name", json!("rectilinear"), "chunk_grid"),
            ("/chunk_grid/configuration/chunk_shape", json!([1, 32, 64, 65]), "multiple"),
            (&format!("{sharding}/chunk_shape"), json!([1, 0, 32, 32]), "chunk"),
            (&format!("{sharding}/chunk_shape"), json!([3, 16, 32, 32]), "chunk_shape"),
            (&format!("{sharding}/index_location"), json!("start"), "index_location"),
            (&format!("{sharding}/codecs/0/configuration/endian"), json!("big"), "endian"),
            (&format!("{sharding}/codecs/1/configuration/cname"), json!("snappy"), "cname"),
            (&format!("{sharding}/codecs/1/name"), json!("gzip"), "codecs"),
        ];
        for (pointer, value, word) in cases {
            let mut json = layout().to_json();
            *json.pointer_mut(pointer).unwrap() = value;
            let message = parse(&json).unwrap_err().to_string();
            assert!(message.contains(word), "{pointer}: {message}");
        }
    }
}
