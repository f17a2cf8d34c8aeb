//! Reading and writing regions of random geometry beside a dense array.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use tempfile::TempDir;
use voxquarry::format::array::{ArrayLayout, BloscParameters, ChunkCodec, Compressor, Shuffle};
use voxquarry::format::attributes::Kind;
use voxquarry::{Access, Dataset, Dtype, IfExists, OpenOptions, Padding, Size3, Volume};
use voxquarry::{Result, StoreWriter, VolumeSpec};

use crate::input::Input;
use crate::scratch;

/// Bytes that describe a volume.
const VOLUME_BYTES: usize = 32;
/// Volumes that are kept for runs that differ in their reads only.
const KEPT: usize = 64;

/// A volume in a store, and its voxels.
struct Written {
    folder: TempDir,
    layout: ArrayLayout,
    dense: Vec<u8>,
}

impl Written {
    fn new(mut input: Input<'_>) -> Self {
        let (folder, layout) = (scratch::folder(), layout(&mut input));
        let dense = voxels(&mut input, &layout);
        write(&folder.path().join("s"), &layout, &dense).expect("a valid volume can be written");
        Self { folder, layout, dense }
    }

    /// Opens the volume as the bytes say, reads patches, and compares each voxel.
    fn read(&self, mut input: Input<'_>) {
        let access = if input.byte() & 1 == 0 { Access::Map } else { Access::Read };
        let cache_bytes = [0, 4096, 1 << 20][input.below(3)];
        let options = OpenOptions::default().threads(1).access(access).cache_bytes(cache_bytes);
        let dataset = Dataset::open(self.folder.path().join("s"), &options);
        let volume = dataset.and_then(|dataset| dataset.subject("s")?.volume("v"));
        let volume = volume.expect("it was written");
        for _ in 0..=input.below(4) {
            compare(&volume, &self.layout, &self.dense, &mut input);
        }
    }
}

/// Writes a volume of the geometry that the bytes describe, reads patches of it, and compares each
/// voxel with the dense array.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static WRITTEN: RefCell<HashMap<Vec<u8>, Written>> = RefCell::default();
    }
    let mut input = Input(data);
    let key = input.take(VOLUME_BYTES);
    WRITTEN.with_borrow_mut(|written| {
        if written.len() == KEPT && !written.contains_key(key) {
            written.clear();
        }
        let new = || Written::new(Input(key));
        written.entry(key.to_vec()).or_insert_with(new).read(input);
    });
}

pub(crate) fn layout(input: &mut Input<'_>) -> ArrayLayout {
    let dtype = Dtype::ALL[input.below(Dtype::ALL.len())];
    let channels = [None, Some(1), Some(2), Some(3)][input.below(4)];
    let size = [0; 3].map(|_| 1 + input.below(20));
    let chunk = [0; 3].map(|_| 1 + input.below(16));
    let shard = chunk.map(|n| n * (1 + input.below(3)));
    let compressor = if input.byte() & 1 == 0 { Compressor::Lz4 } else { Compressor::Zstd };
    let shuffle = [Shuffle::None, Shuffle::Byte, Shuffle::Bit][input.below(3)];
    let level = 1 + input.below(9) as i32;
    let codec = match input.below(6) {
        0 => ChunkCodec::Raw,
        n => {
            ChunkCodec::Blosc(BloscParameters { compressor, level, shuffle, block_bytes: 64 << n })
        }
    };
    ArrayLayout { channels, size, dtype, chunk, shard, codec }
}

/// Voxels with noise, ramps and zeros, as the next byte says for each box of some voxels.
fn voxels(input: &mut Input<'_>, layout: &ArrayLayout) -> Vec<u8> {
    let ([z, y, x], t) = (layout.size, layout.dtype.size());
    let (kinds, shift) = (input.take(8), 2 + input.below(4));
    let mut state = input.u64() | 1;
    let mut bytes = vec![0; layout.channel_count() * z * y * x * t];
    for (i, voxel) in bytes.chunks_exact_mut(t).enumerate() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = [i / (x * y) % z, i / x % y, i % x].map(|n| n >> shift);
        let kind = kinds.get((at[0] * 3 + at[1] * 5 + at[2]) % 8).copied().unwrap_or(0);
        let value = match kind % 4 {
            0 => 0,
            1 => u64::from(kind),
            2 => i as u64,
            _ => state >> 20,
        };
        voxel.copy_from_slice(&value.to_le_bytes()[..t]);
    }
    bytes
}

fn write(store: &Path, layout: &ArrayLayout, dense: &[u8]) -> Result<()> {
    let mut subject = StoreWriter::open(store, Some(1))?.subject("s")?;
    let mut volume = subject.volume(VolumeSpec::new("v", Kind::Image, layout.clone()))?;
    let plane = layout.size[1] * layout.size[2] * layout.dtype.size();
    let mut rest = dense;
    while volume.next_planes() > 0 {
        let (layer, after) = rest.split_at(volume.next_planes() * plane);
        volume.write_layer(layer)?;
        rest = after;
    }
    subject.publish([volume.finish()?], IfExists::Error)
}

/// Reads some patches at once.
fn compare(volume: &Volume, layout: &ArrayLayout, dense: &[u8], input: &mut Input<'_>) {
    let size = [0; 3].map(|_| 1 + input.below(24));
    let padding = [Padding::None, Padding::Constant(1.0), Padding::Edge, Padding::Reflect];
    let padding = padding[input.below(4)];
    let first = input.below(layout.channel_count());
    let channels = first..first + 1 + input.below(layout.channel_count() - first);
    let starts: Vec<[i64; 3]> =
        (0..=input.below(3)).map(|_| [0; 3].map(|_| i64::from(input.byte()) % 64 - 24)).collect();
    let t = layout.dtype.size();
    let patch = size.iter().product::<usize>();
    let mut found = vec![0xa5; starts.len() * channels.len() * patch * t];
    let read = volume.read_bytes(&starts, size, padding, channels.clone(), &mut found);
    let is_inside = |start: &[i64; 3]| {
        (0..3).all(|a| start[a] >= 0 && start[a] + size[a] as i64 <= layout.size[a] as i64)
    };
    if padding == Padding::None && !starts.iter().all(is_inside) {
        assert!(read.is_err(), "a patch outside of the volume was read without padding");
        return;
    }
    read.expect("the patches can be read");
    let one = one(layout.dtype);
    let mut rows = found.chunks_exact(size[2] * t);
    for start in &starts {
        // The oracle takes most of the time of a run: each index is found once for its axis.
        let axis = |a: usize| {
            let along = start[a]..start[a] + size[a] as i64;
            along.map(move |at| place(at, a, layout, padding)).collect::<Vec<_>>()
        };
        let [zs, ys, xs] = [0, 1, 2].map(axis);
        for (channel, z, y) in channels.clone().flat_map(|c| {
            let ys = &ys;
            zs.iter().flat_map(move |&z| ys.iter().map(move |&y| (c, z, y)))
        }) {
            let mut expected = Vec::with_capacity(size[2] * t);
            for x in &xs {
                expected.extend_from_slice(match (z, y, *x) {
                    (Some(z), Some(y), Some(x)) => voxel(dense, layout, channel, [z, y, x]),
                    _ => &one[..t],
                });
            }
            let found = rows.next().expect("as many rows as were asked for");
            assert_eq!(found, expected, "channel {channel} of {start:?}, row {z:?} {y:?}");
        }
    }
}

/// The index of the volume that stands for `at` along an axis; none if that is a constant. As
/// `numpy.pad` documents its modes, step by step.
fn place(at: i64, axis: usize, layout: &ArrayLayout, padding: Padding) -> Option<usize> {
    let last = layout.size[axis] as i64 - 1;
    let mut at = at;
    while !(0..=last).contains(&at) {
        at = match padding {
            Padding::Reflect if last > 0 && at < 0 => -at,
            Padding::Reflect if last > 0 => 2 * last - at,
            Padding::Edge | Padding::Reflect => at.clamp(0, last),
            _ => return None,
        };
    }
    Some(at as usize)
}

fn voxel<'a>(dense: &'a [u8], layout: &ArrayLayout, channel: usize, at: Size3) -> &'a [u8] {
    let index = (0..3).fold(channel, |n, a| n * layout.size[a] + at[a]);
    &dense[index * layout.dtype.size()..][..layout.dtype.size()]
}

/// The number 1 in little endian.
fn one(dtype: Dtype) -> [u8; 8] {
    match dtype {
        Dtype::Float16 => 0x3c00u64.to_le_bytes(),
        Dtype::Float32 => u64::from(1f32.to_bits()).to_le_bytes(),
        Dtype::Float64 => 1f64.to_bits().to_le_bytes(),
        _ => 1u64.to_le_bytes(),
    }
}
