//! Chooses chunk, block and shard sizes for the patches that will be read (§7).
//!
//! A random patch of side p meets `Π (1 + (p − 1) / c)` chunks of side c on average and decodes `Π ((p + c − 1) / p)` times its own
//! bytes: small chunks cost calls, large ones cost bytes. A quarter of the patch is where both are cheap, with rows of a
//! cache line and no more; along z a block is the unit, and one of 32 KiB costs few calls and stays in the near caches.
//!
//! Measured, each against rows of a line: int16 patches of 160³ to 256³ out of 32×32×64 0.83, out of 32×64×32 0.94; 24×256×256
//! out of 16×64×64 0.91, uncompressed 0.83; float32 96³ out of 32×32×32 0.83. Shorter rows, int16 96³ out of 32×32×16: 0.89.

use super::array::{ArrayLayout, BloscParameters, ChunkCodec, Compressor, Shuffle};
use super::limits::WRITER_SHARD_CHUNKS;
use crate::{Dtype, Error, Result, Size3};

const SIDE: [usize; 2] = [16, 64];
const GROWN_SIDE: usize = 256;
const CHUNK_BYTES: [usize; 2] = [32 << 10, 64 << 10];
const ROW_BYTES: usize = 64;
const BLOCK_BYTES: usize = 32 << 10;
const SHARD_BYTES: usize = 64 << 20;
/// LZ4's level, and that for floats of a volume which is written once and read often.
///
/// Measured with 9 for 5: float32 CT-like 2.689 to 2.707, 96³ patches 1.03 to 1.06 times as fast, ingest of a thread 114 to 82 MB/s;
/// brain MR 5.15 to 5.19, 1.06, 79 to 40 MB/s. For int16 ingest slows down likewise, and patches gain 1 %.
const LZ4_LEVEL: i32 = 5;
const LZ4_FLOAT_LEVEL: i32 = 9;

/// What a writer is asked to optimise for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Codec {
    /// LZ4: decodes at memory speed.
    #[default]
    Fast,
    /// Zstandard: fewest bytes.
    Compact,
    /// Voxels as they are.
    None,
}

impl Codec {
    /// The name in metadata and on the command line.
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
            .ok_or_else(|| Error::usage(format!("codec {name:?}: expected fast, compact or none")))
    }
}

/// What is known of a volume before its first voxel.
#[derive(Clone, Debug)]
pub struct VolumeShape {
    /// Channels, or `None` without that axis.
    pub channels: Option<usize>,
    /// Extents in `(z, y, x)`.
    pub size: Size3,
    /// Element type.
    pub dtype: Dtype,
    /// Channels that arrive together for each z.
    pub interleaved: usize,
}

impl VolumeShape {
    /// Bytes of one z plane of the channels that arrive together.
    pub fn plane_bytes(&self) -> u64 {
        self.size[1] as u64 * self.size[2] as u64 * (self.interleaved * self.dtype.size()) as u64
    }
}

/// Chunk extents for patches of those sizes (at least one), before the codec is looked at.
pub fn chunk_size(size: Size3, dtype: Dtype, patch_sizes: &[Size3]) -> Size3 {
    // Mixed patches meet in the middle: the geometric mean on each axis.
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
        // The axis with the smallest share of the patch grows, a row before the others until it is a line.
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
    // So many bytes lie along all three axes.
    while bytes(chunk) > CHUNK_BYTES[1] {
        let across = usize::from(share(chunk, 1) > share(chunk, 0));
        let a = if row(chunk) > ROW_BYTES { 2 } else { across };
        chunk[a] /= 2;
    }
    chunk
}

/// The chunk codec for that chunk: whole z planes in a block, so that a block is a slab.
///
/// Bit planes compress a tenth better than byte planes under LZ4, since the noisy ones come to lie together, and long
/// matches decode fastest. Zstandard codes single bytes by their frequency, which bit planes hide from it.
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

/// The whole layout of a volume, such that writing it in z order needs at most `memory_bytes`.
///
/// # Errors
/// [`Error::Usage`] if not even one layer of chunks fits into `memory_bytes`; the message says what would do.
pub fn choose(
    volume: &VolumeShape,
    patch_sizes: &[Size3],
    codec: Codec,
    memory_bytes: u64,
) -> Result<ArrayLayout> {
    let chunk = chunk_size(volume.size, volume.dtype, patch_sizes);
    // Zstandard codes a stream by one table of frequencies: the smaller its part of a slice, the better that fits. Twice the
    // depth keeps its length, and blocks, which are as deep, what a patch decodes in vain. It is no reason to ask for memory.
    if codec == Codec::Compact && chunk[1] > SIDE[0] && chunk[0] * 2 <= volume.size[0] {
        let slim = [chunk[0] * 2, chunk[1] / 2, chunk[2]];
        if let Ok(layout) = with_chunk(volume, slim, codec, memory_bytes) {
            return Ok(layout);
        }
    }
    with_chunk(volume, chunk, codec, memory_bytes)
}

/// As [`choose`], for a chunk of the caller's.
///
/// # Errors
/// As [`choose`].
pub fn with_chunk(
    volume: &VolumeShape,
    chunk: Size3,
    codec: Codec,
    memory_bytes: u64,
) -> Result<ArrayLayout> {
    let mut layout = within(volume, chunk, codec, memory_bytes);
    if let ChunkCodec::Blosc(parameters) = &mut layout.codec
        && parameters.compressor == Compressor::Lz4
        && layout.dtype.is_float()
        && layout.dtype.size() >= size_of::<f32>()
    {
        parameters.level = LZ4_FLOAT_LEVEL;
    }
    let needed = ingest_memory(volume, &layout, memory_bytes).bytes;
    if needed > memory_bytes {
        let needed = needed.div_ceil(1 << 20);
        return Err(Error::usage(format!(
            "a layer of chunks of this volume needs {needed} MiB of memory, {} MiB are allowed: \
             allow more (--memory {needed}MiB, memory_bytes=\"{needed}MiB\")",
            memory_bytes >> 20,
        )));
    }
    Ok(layout)
}

/// As [`choose`] for a writer that keeps elsewhere what exceeds `memory_bytes`, so that no volume is too large, and whose caller
/// waits for it.
pub fn choose_for_boxes(
    volume: &VolumeShape,
    patch_sizes: &[Size3],
    codec: Codec,
    memory_bytes: u64,
) -> ArrayLayout {
    within(volume, chunk_size(volume.size, volume.dtype, patch_sizes), codec, memory_bytes)
}

/// Shards as deep as they may be while a slab of them stays modest beside `memory_bytes`.
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
    // Depth: as deep as shards may be while the slab stays modest; a slab of one layer is written as it comes.
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

/// What writing a volume in z order needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestMemory {
    /// Layers of chunks held raw: 2 where the next is read while this one is encoded.
    pub layers: usize,
    /// Upper bound over raw layers, encoded chunks and constant buffers.
    pub bytes: u64,
}

/// Code, stacks, decompressor and file buffers of a process that ingests.
const CONSTANT_BYTES: u64 = 32 << 20;

/// Bounds the memory of writing `layout`; two raw layers are used where they fit into a quarter of `budget_bytes`.
pub fn ingest_memory(
    volume: &VolumeShape,
    layout: &ArrayLayout,
    budget_bytes: u64,
) -> IngestMemory {
    let layer = volume.plane_bytes() * layout.chunk[0].min(layout.size[0]) as u64;
    let depth = layout.shard_chunks()[0];
    let shard = (layout.shard.iter().product::<usize>() * layout.dtype.size()) as u64;
    // Unfinished shards of a slab are held encoded; a slab of one layer never has any but the one at hand.
    let encoded = if depth == 1 { shard.min(layer) } else { layer * depth as u64 };
    let total = |layers: u64| layers * layer + encoded + CONSTANT_BYTES;
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
    fn floats_are_worth_more_effort_if_nobody_waits() {
        let level = |layout: ArrayLayout| match layout.codec {
            ChunkCodec::Blosc(parameters) => parameters.level,
            ChunkCodec::Raw => 0,
        };
        for (dtype, once) in [(Dtype::Float32, 9), (Dtype::Float64, 9), (Dtype::Int16, 5)] {
            let volume = VolumeShape { channels: None, size: [64; 3], dtype, interleaved: 1 };
            let patches = [[32; 3]];
            assert_eq!(level(choose(&volume, &patches, Codec::Fast, 1 << 30).unwrap()), once);
            assert_eq!(level(choose(&volume, &patches, Codec::Compact, 1 << 30).unwrap()), 8);
            assert_eq!(level(choose_for_boxes(&volume, &patches, Codec::Fast, 1 << 30)), 5);
        }
    }

    #[test]
    fn too_little_memory_says_how_much_would_do() {
        let volume = VolumeShape {
            channels: None,
            size: [64, 8192, 8192],
            dtype: Dtype::Int16,
            interleaved: 1,
        };
        let message = choose(&volume, &[[96; 3]], Codec::Fast, 1 << 30).unwrap_err().to_string();
        assert!(message.contains("--memory"), "{message}");
    }
}
