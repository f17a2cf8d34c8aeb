//! The volumes of `format-spec/golden/v1`, voxel by voxel: its README in Rust, for the generator
//! and the tests.
#![allow(dead_code)] // The generator and each test use their part of it.

use voxquarry::format::array::{ArrayLayout, BloscParameters, ChunkCodec, Compressor, Shuffle};
use voxquarry::format::attributes::{Kind, LabelName, SourceFile};
use voxquarry::format::layout::Codec;
use voxquarry::{Affine, Dtype, Size3, VolumeSpec, f16};

/// An oblique grid that flips x.
pub const AFFINE: Affine = Affine([
    [-2.0, 0.125, 0.0, 90.0],
    [0.0, 1.5, 0.25, -126.0],
    [0.0, 0.0, 0.5, -72.0],
    [0.0, 0.0, 0.0, 1.0],
]);

/// One volume.
pub struct Golden {
    /// Its subject.
    pub subject: &'static str,
    /// Its name in the subject.
    pub name: &'static str,
    /// Image or labels.
    pub kind: Kind,
    /// Its shape, dtype, chunks and shards.
    pub layout: ArrayLayout,
    /// The codec that it names.
    pub codec: Codec,
    /// Slope and intercept.
    pub scaling: (f64, f64),
    /// Shards that are not all zero.
    pub shard_files: u64,
    voxel: fn(At) -> Vec<u8>,
}

/// A voxel's place.
#[derive(Clone, Copy)]
struct At {
    c: usize,
    z: usize,
    y: usize,
    x: usize,
    /// Its number in C order.
    i: u32,
}

impl At {
    /// Low numbers in steps, so that every compressor finds something.
    fn n(self) -> u8 {
        (1 + 40 * self.c + 5 * (self.z / 2) + 3 * (self.y / 4) + self.x % 4) as u8
    }
}

/// The patch sizes that every volume names.
pub const PATCH_SIZES: [Size3; 1] = [[4, 8, 16]];

impl Golden {
    /// The properties that its writer is given.
    pub fn spec(&self) -> VolumeSpec {
        let (slope, intercept) = self.scaling;
        VolumeSpec::new(self.name, self.kind, self.layout.clone())
            .codec(self.codec)
            .patch_sizes(PATCH_SIZES.to_vec())
            .affine(AFFINE)
            .scaling(slope, intercept)
    }

    /// Every voxel, C order, channel slowest.
    pub fn bytes(&self) -> Vec<u8> {
        let layout = &self.layout;
        let ([nz, ny, nx], channels) = (layout.size, layout.channel_count());
        let voxel = |i: usize| {
            let (c, z, y, x) = (i / (nz * ny * nx), i / (ny * nx) % nz, i / nx % ny, i % nx);
            (self.voxel)(At { c, z, y, x, i: i as u32 })
        };
        (0..channels * nz * ny * nx).flat_map(voxel).collect()
    }
}

/// Where the volumes that have one say they came from.
pub fn source() -> SourceFile {
    let origin = serde_json::json!({ "format": "golden" }).as_object().cloned();
    SourceFile {
        name: "u8.raw".into(),
        bytes: 1200,
        sha256: "0123456789abcdef".repeat(4),
        origin: origin.expect("an object"),
    }
}

const GRID: Size3 = [6, 10, 20];
const CHUNK: Size3 = [4, 8, 16];
const SHARD: Size3 = [4, 16, 32];

fn blosc(compressor: Compressor, shuffle: Shuffle, block_bytes: usize) -> ChunkCodec {
    let level = if compressor == Compressor::Lz4 { 5 } else { 8 };
    ChunkCodec::Blosc(BloscParameters { compressor, level, shuffle, block_bytes })
}

fn volume(
    (subject, name): (&'static str, &'static str),
    (dtype, channels): (Dtype, Option<usize>),
    [size, chunk, shard]: [Size3; 3],
    codec: ChunkCodec,
    shard_files: u64,
    voxel: fn(At) -> Vec<u8>,
) -> Golden {
    let layout = ArrayLayout { channels, size, dtype, chunk, shard, codec };
    let labels = name.starts_with("labels");
    let kind = if labels { Kind::Labels } else { Kind::Image };
    let codec = match codec {
        ChunkCodec::Raw => Codec::None,
        ChunkCodec::Blosc(b) if b.compressor == Compressor::Lz4 => Codec::Fast,
        ChunkCodec::Blosc(_) => Codec::Compact,
    };
    let scaling = if name == "i16" { (0.5, -1024.0) } else { (1.0, 0.0) };
    Golden { subject, name, kind, layout, codec, scaling, shard_files, voxel }
}

/// Five ids, two of them negative; the shard at z = 0 is empty.
fn label(at: At) -> Vec<u8> {
    let ids = [0, -7, 3, i32::MAX, i32::MIN];
    let id = if at.z < 4 { 0 } else { ids[usize::from(at.n()) % 5] };
    id.to_le_bytes().into()
}

/// What is not finite, zeros of both signs, and tenths.
fn double(at: At) -> Vec<u8> {
    let value = match (at.z, at.y, at.x) {
        (0, 0, 0) => f64::INFINITY,
        (0, 0, 1) => f64::NEG_INFINITY,
        (0, 0, 2) => f64::from_bits(0x7ff8_0000_0000_0000),
        (0..4, 5.., 16..) => 0.0,
        (4.., 5.., 16..) => -0.0,
        _ => f64::from(at.n()) * 0.1,
    };
    value.to_le_bytes().into()
}

/// The volumes of version 1, in the order of the README's tables.
pub fn v1() -> Vec<Golden> {
    use Compressor::{Lz4, Zstd};
    use Dtype::{
        Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64,
    };
    use Shuffle::{Bit, Byte, None as Plain};
    let sizes = [GRID, CHUNK, SHARD];
    let whole = [GRID, [8, 16, 32], [8, 16, 32]];
    let odd = [GRID, [2, 5, 8], [4, 10, 24]];
    let one = [[1, 1, 1], [1, 1, 16], [1, 1, 16]];
    let grid = |name, dtype, codec, shard_files, voxel| {
        volume(("grid", name), (dtype, None), sizes, codec, shard_files, voxel)
    };
    vec![
        grid("u8", UInt8, blosc(Lz4, Plain, 256), 2, |at| vec![at.n()]),
        grid("i8", Int8, blosc(Lz4, Plain, 256), 2, |at| {
            vec![(at.i.wrapping_mul(at.i).wrapping_mul(2_654_435_761) >> 24) as u8]
        }),
        grid("u16", UInt16, blosc(Zstd, Bit, 1024), 2, |at| {
            (3 * u16::from(at.n())).to_le_bytes().into()
        }),
        volume(("grid", "i16"), (Int16, Some(2)), sizes, blosc(Lz4, Byte, 512), 4, |at| {
            (-257 * i16::from(at.n())).to_le_bytes().into()
        }),
        volume(("grid", "u32"), (UInt32, Some(1)), whole, blosc(Zstd, Byte, 4096), 1, |at| {
            (1_000_003 * u32::from(at.n())).to_le_bytes().into()
        }),
        grid("labels-i32", Int32, blosc(Lz4, Byte, 1024), 1, label),
        grid("u64", UInt64, blosc(Lz4, Bit, 1000), 2, |at| {
            u64::from(at.n()).wrapping_mul(0x0123_4567_89ab_cdef).to_le_bytes().into()
        }),
        grid("i64", Int64, blosc(Lz4, Byte, 4096), 0, |_| vec![0; 8]),
        grid("f16", Float16, blosc(Lz4, Byte, 192), 2, |at| {
            f16::from_f32(f32::from(at.n()) / 4.0).to_le_bytes().into()
        }),
        grid("f32", Float32, blosc(Zstd, Byte, 2048), 2, |at| {
            ((f64::from(at.n()) * 0.37) as f32).to_le_bytes().into()
        }),
        volume(("grid", "f64"), (Float64, None), odd, ChunkCodec::Raw, 2, double),
        volume(("one voxel", "f32"), (Float32, None), one, blosc(Lz4, Byte, 64), 1, |_| {
            1.5f32.to_le_bytes().into()
        }),
        volume(("one voxel", "labels-f32"), (Float32, None), one, ChunkCodec::Raw, 1, |_| {
            7f32.to_le_bytes().into()
        }),
    ]
}

/// The volumes of the store in micrometres: an image and its label map.
pub fn v1_units() -> Vec<Golden> {
    let is_wanted = |golden: &Golden| ["u8", "labels-i32"].contains(&golden.name);
    v1().into_iter().filter(is_wanted).collect()
}

/// The volumes of the store with chunk sums.
pub fn v1_sums() -> Vec<Golden> {
    v1().into_iter().filter(|golden| golden.name == "f32" && golden.subject == "grid").collect()
}

/// The volumes of the store with names of labels and splits.
pub fn v1_names() -> Vec<Golden> {
    v1().into_iter().filter(|golden| golden.name == "labels-i32").collect()
}

/// The volumes of the store with coarser levels.
pub fn v1_levels() -> Vec<Golden> {
    let wanted = ["u8", "i16", "labels-i32", "f16", "f64"];
    v1().into_iter().filter(|golden| wanted.contains(&golden.name)).collect()
}

/// The splits of its subject.
pub fn splits() -> Vec<String> {
    ["fold_0_val", "train"].map(str::to_owned).into()
}

/// The names of its labels.
pub fn label_names() -> Vec<LabelName> {
    let name = |ids: &[i64], name: &str, color: Option<&str>| LabelName {
        ids: ids.to_vec(),
        name: name.to_owned(),
        color: color.map(str::to_owned),
    };
    vec![name(&[3], "liver", Some("#ff8000")), name(&[-7, 3], "abdomen", None)]
}
