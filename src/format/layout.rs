//! Chooses the sizes of chunks, blocks and shards for the patches that will be read (§7).
//!
//! A random patch of side p intersects `Π (1 + (p − 1) / c)` chunks of side c on average, and
//! decodes `Π ((p + c − 1) / p)` times its own bytes: small chunks cost calls, large chunks cost
//! bytes. A quarter of the patch is a good compromise. Rows are a cache line long. Along z the unit
//! of decoding is a block; one of 32 KiB costs few calls and stays in the L1 and L2 caches.
//!
//! Speed of other chunks, relative to the ones chosen here. Longer rows: int16 patches of 160³ to
//! 256³ from chunks of 32×32×64 0.83, of 32×64×32 0.94; 24×256×256 from 16×64×64 0.91, uncompressed
//! 0.83; float32 96³ from 32×32×32 0.83. Shorter rows: int16 96³ from 32×32×16 0.89.

use super::array::{ArrayLayout, BloscParameters, ChunkCodec, Compressor, Shuffle};
use super::attributes::Kind;
use super::limits::WRITER_SHARD_CHUNKS;
use crate::{Dtype, Error, Result, Size3};

const SIDE: [usize; 2] = [16, 64];
const GROWN_SIDE: usize = 256;
const CHUNK_BYTES: [usize; 2] = [32 << 10, 64 << 10];
const ROW_BYTES: usize = 64;
const BLOCK_BYTES: usize = 32 << 10;
const SHARD_BYTES: usize = 64 << 20;
/// What metadata names as the level of LZ4; our encoder has one.
const LZ4_LEVEL: i32 = 5;

/// The aim of compression.
///
/// ```
/// use voxquarry::format::layout::Codec;
///
/// assert_eq!("compact".parse::<Codec>()?, Codec::Compact);
/// assert_eq!(Codec::default().name(), "fast");
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Codec {
    /// Speed: LZ4, which decodes at the speed of memory.
    #[default]
    Fast,
    /// Size: Zstandard.
    Compact,
    /// No compression.
    None,
}

impl Codec {
    /// The name in metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Compact => "compact",
            Self::None => "none",
        }
    }
}

impl std::str::FromStr for Codec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Fast, Self::Compact, Self::None]
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| Error::invalid("codec", format!("{name:?}"), "fast, compact or none"))
    }
}

/// The properties of a volume that are known before its first voxel; see [`ChunkCodec`] for an
/// example.
///
/// ```
/// use voxquarry::Dtype;
/// use voxquarry::format::layout::VolumeShape;
///
/// let ct =
///     VolumeShape { channels: None, size: [300, 512, 512], dtype: Dtype::Int16, interleaved: 1 };
/// assert_eq!(ct.plane_bytes(), 512 * 512 * 2);
/// ```
#[derive(Clone, Debug)]
pub struct VolumeShape {
    /// Channels, or `None` if the volume has no such axis.
    pub channels: Option<usize>,
    /// Extents in voxels, `(z, y, x)`.
    pub size: Size3,
    /// Element type.
    pub dtype: Dtype,
    /// Channels whose planes arrive together for each z.
    pub interleaved: usize,
}

impl VolumeShape {
    /// Bytes of one z plane of all channels that arrive together.
    pub fn plane_bytes(&self) -> u64 {
        self.size[1] as u64 * self.size[2] as u64 * (self.interleaved * self.dtype.size()) as u64
    }
}

/// The extents of chunks, `(z, y, x)`, for patches of these sizes (at least one) and any codec.
pub fn chunk_size(size: Size3, dtype: Dtype, patch_sizes: &[Size3]) -> Size3 {
    // Patches of several sizes count as their geometric mean along each axis.
    let mean = [0, 1, 2].map(|a| {
        let sum: f64 =
            patch_sizes.iter().map(|p| (p[a].clamp(1, size[a].max(1)) as f64).log2()).sum();
        sum / patch_sizes.len() as f64
    });
    let limit = [0, 1, 2].map(|a| size[a].next_power_of_two().min(GROWN_SIDE));
    let mut chunk = [0, 1, 2].map(|a| {
        let patch = mean[a].exp2();
        let quarter = 1usize << ((mean[a] - 2.0).round().max(0.0) as u32).min(20);
        let at_most = (patch.ceil() as usize).next_power_of_two();
        quarter.clamp(SIDE[0], SIDE[1]).min(at_most).min(limit[a])
    });
    let bytes = |chunk: Size3| chunk.iter().product::<usize>() * dtype.size();
    let share = |chunk: Size3, a: usize| chunk[a] as f64 / mean[a].exp2();
    let row = |chunk: Size3| chunk[2] * dtype.size();
    while bytes(chunk) < CHUNK_BYTES[0] {
        // The axis with the smallest share of the patch grows. In a tie a row grows first, until it
        // is a cache line.
        let order = if row(chunk) < ROW_BYTES { [2, 1, 0] } else { [1, 0, 2] };
        let grows = |&a: &usize| chunk[a] < limit[a] && share(chunk, a) < 1.0;
        let Some(a) = order
            .into_iter()
            .filter(grows)
            .min_by(|&a, &b| share(chunk, a).total_cmp(&share(chunk, b)))
        else {
            break;
        };
        chunk[a] *= 2;
    }
    // A chunk this large is long along all three axes.
    while bytes(chunk) > CHUNK_BYTES[1] {
        let across = usize::from(share(chunk, 1) > share(chunk, 0));
        let a = if row(chunk) > ROW_BYTES { 2 } else { across };
        chunk[a] /= 2;
    }
    chunk
}

/// The codec of chunks of that size, with whole z planes in a block, so that a block is a slab.
///
/// With LZ4, bit planes compress a tenth better than byte planes, because noisy bits lie together,
/// and long matches decode fastest. Zstandard codes single bytes by their frequency, which bit
/// planes hide.
fn chunk_codec(codec: Codec, dtype: Dtype, chunk: Size3) -> ChunkCodec {
    let plane_bytes = chunk[1] * chunk[2] * dtype.size();
    let planes = (BLOCK_BYTES / plane_bytes).clamp(1, chunk[0]);
    let bytes = if dtype.size() > 1 { Shuffle::Byte } else { Shuffle::None };
    let (compressor, level, shuffle, planes) = match codec {
        Codec::None => return ChunkCodec::Raw,
        Codec::Fast => (Compressor::Lz4, LZ4_LEVEL, Shuffle::Bit, planes),
        Codec::Compact => (Compressor::Zstd, 8, bytes, planes),
    };
    let block_bytes = planes * plane_bytes;
    ChunkCodec::Blosc(BloscParameters { compressor, level, shuffle, block_bytes })
}

/// Chooses a layout for patches of these sizes that can be written in z order within
/// `memory_bytes`.
///
/// # Errors
/// [`Error::MemoryBudget`] if not even one layer of chunks fits into `memory_bytes`.
pub fn choose(
    volume: &VolumeShape,
    patch_sizes: &[Size3],
    codec: Codec,
    memory_bytes: u64,
) -> Result<ArrayLayout> {
    let chunk = chunk_size(volume.size, volume.dtype, patch_sizes);
    // Zstandard codes a stream by one table of frequencies, which fits the better, the smaller the
    // stream's part of a slice. Twice the depth keeps the chunk's size, and whole blocks as deep
    // keep the bytes that a patch decodes for nothing. This is not worth more memory than allowed.
    if codec == Codec::Compact && chunk[1] > SIDE[0] && chunk[0] * 2 <= volume.size[0] {
        let slim = [chunk[0] * 2, chunk[1] / 2, chunk[2]];
        if let Ok(layout) = with_chunk(volume, slim, codec, memory_bytes) {
            return Ok(layout);
        }
    }
    with_chunk(volume, chunk, codec, memory_bytes)
}

/// Chooses a layout like [`choose`], but with chunks of the extents `chunk`.
///
/// # Errors
/// [`Error::MemoryBudget`] if not even one layer of chunks fits into `memory_bytes`.
pub fn with_chunk(
    volume: &VolumeShape,
    chunk: Size3,
    codec: Codec,
    memory_bytes: u64,
) -> Result<ArrayLayout> {
    let layout = within(volume, chunk, codec, memory_bytes);
    let needed = ingest_memory(volume, &layout, memory_bytes).bytes;
    if needed > memory_bytes {
        return Err(Error::MemoryBudget {
            what: "a layer of chunks of this volume".into(),
            needed_bytes: needed,
            allowed_bytes: memory_bytes,
        });
    }
    Ok(layout)
}

/// Chooses a layout for a writer that moves to disk what exceeds `memory_bytes`, so that no volume
/// is too large.
pub fn choose_for_spilling(
    volume: &VolumeShape,
    patch_sizes: &[Size3],
    codec: Codec,
    memory_bytes: u64,
) -> ArrayLayout {
    within(volume, chunk_size(volume.size, volume.dtype, patch_sizes), codec, memory_bytes)
}

/// The layout with the deepest shards of which a slab takes at most a quarter of `memory_bytes`.
fn within(volume: &VolumeShape, chunk: Size3, codec: Codec, memory_bytes: u64) -> ArrayLayout {
    let VolumeShape { channels, size, dtype, .. } = *volume;
    let chunk_codec = chunk_codec(codec, dtype, chunk);
    let chunks = [0, 1, 2].map(|a| size[a].div_ceil(chunk[a]));
    let chunk_bytes = chunk.iter().product::<usize>() * dtype.size();
    let mut across = [chunks[1], chunks[2]];
    while across[0] * across[1] > WRITER_SHARD_CHUNKS
        || across[0] * across[1] * chunk_bytes > SHARD_BYTES
    {
        let longer = usize::from(across[1] * chunk[2] > across[0] * chunk[1]);
        across[longer] = across[longer].div_ceil(2);
    }
    // A slab that is one layer deep is written as it arrives, whatever its size.
    let layer = across[0] * across[1];
    let deepest =
        chunks[0].min(WRITER_SHARD_CHUNKS / layer).min(SHARD_BYTES / (layer * chunk_bytes)).max(1);
    let with_depth = |depth: usize| ArrayLayout {
        channels,
        size,
        dtype,
        chunk,
        shard: [depth * chunk[0], across[0] * chunk[1], across[1] * chunk[2]],
        codec: chunk_codec,
    };
    let modest = memory_bytes / 4;
    let depth = (1..=deepest)
        .rev()
        .find(|&d| ingest_memory(volume, &with_depth(d), modest).bytes <= modest)
        .unwrap_or(1);
    with_depth(depth)
}

/// The memory for writing a volume in z order.
///
/// ```
/// use voxquarry::Dtype;
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
///
/// let size = [512, 512, 512];
/// let volume = VolumeShape { channels: None, size, dtype: Dtype::Int16, interleaved: 1 };
/// let layout = layout::choose(&volume, &[[96, 96, 96]], Codec::Fast, 1 << 30)?;
/// let memory = layout::ingest_memory(&volume, &layout, 1 << 30);
/// assert!(memory.bytes < 1 << 30);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestMemory {
    /// Layers of raw chunks: 2 if the next one is read while this one is encoded, else 1.
    pub layers: usize,
    /// An upper bound of raw layers, encoded chunks and constant buffers together.
    pub bytes: u64,
}

/// The part of [`IngestMemory::bytes`] that volumes share which are written side by side: code,
/// stacks and buffers of the process.
pub const SHARED_BYTES: u64 = 28 << 20;
/// The decompressor and the file buffers of one volume.
const FILE_BYTES: u64 = 4 << 20;

/// Bounds the memory of each thread that encodes chunks of `layout`, which [`ingest_memory`] leaves
/// out, because a layout does not depend on the number of threads.
pub fn encoder_memory(layout: &ArrayLayout, kind: Kind) -> u64 {
    /// Tables of the encoder: of our LZ4 encoder, of Zstandard.
    const TABLES: [u64; 2] = [384 << 10, 4 << 20];
    let voxels = layout.chunk.iter().product::<usize>() as u64;
    let chunk_bytes = layout.chunk_bytes() as u64;
    let encoder = match layout.codec {
        ChunkCodec::Raw => 2 * chunk_bytes,
        ChunkCodec::Blosc(blosc) => {
            7 * chunk_bytes + TABLES[usize::from(blosc.compressor == Compressor::Zstd)]
        }
    };
    // A vector of 16 bytes for each run of a label may be half empty.
    encoder + if kind == Kind::Labels { 32 * voxels } else { 0 }
}

/// Bounds the memory for writing `layout`, with two raw layers if they fit into a quarter of
/// `budget_bytes`.
pub fn ingest_memory(
    volume: &VolumeShape,
    layout: &ArrayLayout,
    budget_bytes: u64,
) -> IngestMemory {
    let layer = volume.plane_bytes() * layout.chunk[0].min(layout.size[0]) as u64;
    let depth = layout.shard_chunks()[0];
    let shard = (layout.shard.iter().product::<usize>() * layout.dtype.size()) as u64;
    // The unfinished shards of a slab are kept encoded; a slab of one layer has only one at a time.
    let encoded = if depth == 1 { shard.min(layer) } else { layer * depth as u64 };
    let total = |layers: u64| layers * layer + encoded + SHARED_BYTES + FILE_BYTES;
    let layers = if total(2) <= budget_bytes / 4 { 2 } else { 1 };
    IngestMemory { layers: layers as usize, bytes: total(layers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_the_patch() {
        let big = [1024, 512, 512];
        let cases = [
            (Dtype::Int16, [96, 96, 96], [32, 32, 32]),
            (Dtype::Int16, [128, 128, 128], [32, 32, 32]),
            (Dtype::Int16, [64, 64, 64], [16, 32, 32]),
            (Dtype::UInt8, [96, 96, 96], [32, 32, 32]),
            (Dtype::Int16, [192, 192, 192], [32, 32, 32]),
            (Dtype::UInt8, [192, 192, 192], [32, 32, 64]),
            (Dtype::Float32, [96, 96, 96], [32, 32, 16]),
            (Dtype::Float32, [64, 64, 64], [16, 32, 16]),
            (Dtype::Float64, [96, 96, 96], [32, 32, 8]),
            (Dtype::Int16, [1, 512, 512], [1, 128, 128]),
            (Dtype::Int16, [24, 256, 256], [16, 64, 32]),
            (Dtype::Float32, [24, 256, 256], [16, 64, 16]),
        ];
        for (dtype, patch, expected) in cases {
            assert_eq!(chunk_size(big, dtype, &[patch]), expected, "{dtype} {patch:?}");
        }
        assert_eq!(chunk_size([1, 7, 300], Dtype::UInt8, &[[96; 3]]), [1, 8, 128]);
    }

    #[test]
    fn layouts_are_valid_and_within_memory() {
        let sizes = [
            [1, 1, 1],
            [3, 700, 5],
            [1024, 512, 512],
            [2048, 1024, 1024],
            [512, 2048, 2048],
            [9, 20000, 300],
        ];
        for size in sizes {
            for dtype in Dtype::ALL {
                for codec in [Codec::Fast, Codec::Compact, Codec::None] {
                    let volume = VolumeShape { channels: Some(3), size, dtype, interleaved: 1 };
                    let layout =
                        choose(&volume, &[[96; 3], [1, 256, 256]], codec, 4 << 30).unwrap();
                    layout.validate().unwrap();
                    assert!(layout.shard_chunks().iter().product::<usize>() <= WRITER_SHARD_CHUNKS);
                    assert!(ingest_memory(&volume, &layout, 4 << 30).bytes <= 4 << 30);
                }
            }
        }
    }

    #[test]
    fn four_gibibytes_need_less_than_four_hundred_mebibytes() {
        for size in [[8192, 512, 512], [2048, 1024, 1024], [512, 2048, 2048], [1290, 1290, 1290]] {
            let volume = VolumeShape { channels: None, size, dtype: Dtype::Int16, interleaved: 1 };
            let layout = choose(&volume, &[[96; 3]], Codec::Fast, 1 << 30).unwrap();
            let memory = ingest_memory(&volume, &layout, 1 << 30);
            assert!(memory.bytes <= 380 << 20, "{size:?}: {memory:?} {layout:?}");
        }
    }

    #[test]
    fn slim_chunks_of_compact_need_no_more_memory() {
        let size = [256, 2900, 2900];
        let volume = VolumeShape { channels: None, size, dtype: Dtype::Int16, interleaved: 1 };
        let chunk =
            |memory_bytes| choose(&volume, &[[96; 3]], Codec::Compact, memory_bytes).unwrap().chunk;
        assert_eq!(chunk(8 << 30), [64, 16, 32]);
        assert_eq!(chunk(1 << 30), [32, 32, 32]);
    }

    #[test]
    fn too_little_memory_is_an_error_with_the_need() {
        let volume = VolumeShape {
            channels: None,
            size: [64, 8192, 8192],
            dtype: Dtype::Int16,
            interleaved: 1,
        };
        let error = choose(&volume, &[[96; 3]], Codec::Fast, 1 << 30).unwrap_err();
        let Error::MemoryBudget { needed_bytes, allowed_bytes, .. } = error else {
            panic!("{error}")
        };
        assert!(needed_bytes > allowed_bytes && allowed_bytes == 1 << 30);
        assert!(choose(&volume, &[[96; 3]], Codec::Fast, needed_bytes).is_ok());
    }
}
