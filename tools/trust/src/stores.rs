//! Small stores whose voxels a formula gives, in generations that differ in their voxels.

use std::path::Path;

use voxquarry::format::array::ArrayLayout;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, Codec, VolumeShape};
use voxquarry::format::levels::Levels;
use voxquarry::{
    Affine, Dtype, IfExists, Part, Region, Result, Size3, StoreWriter, UnpublishedSubjects,
    VolumeSpec,
};

/// Voxels of every volume, `(z, y, x)`.
pub(crate) const SIZE: Size3 = [13, 18, 20];
pub(crate) const CHUNK: Size3 = [8, 8, 8];
/// Two shards along z and y.
const SHARD: Size3 = [8, 16, 24];
const CHANNELS: usize = 2;
pub(crate) const CODECS: [Codec; 3] = [Codec::Fast, Codec::Compact, Codec::None];
pub(crate) const SUBJECTS: [&str; 2] = ["anna", "berta"];

/// Writes both subjects of a generation.
pub(crate) fn write_store(store: &Path, codec: Codec, generation: u64) -> Result<()> {
    SUBJECTS.iter().try_for_each(|name| write_subject(store, name, codec, generation))
}

/// Writes one subject, or replaces it: an image of two channels and a label map, with a coarser
/// level each, and weights with their sums.
pub(crate) fn write_subject(store: &Path, name: &str, codec: Codec, generation: u64) -> Result<()> {
    let mut subject = StoreWriter::open(store, Some(1))?.subject(name)?;
    let mut volumes = Vec::new();
    for (volume, kind, dtype, channels) in [
        ("ct", Kind::Image, Dtype::Int16, Some(CHANNELS)),
        ("seg", Kind::Labels, Dtype::UInt8, None),
        ("weights", Kind::Image, Dtype::Float32, None),
    ] {
        let spec = VolumeSpec::new(volume, kind, layout_of(channels, dtype, codec)?)
            .codec(codec)
            .patch_sizes(vec![CHUNK])
            .affine(affine(generation))
            .scaling(1.0 + generation as f64, 0.0);
        let spec = match volume {
            "weights" => spec.weight_sums(),
            _ => spec.levels(Levels::Count(1)),
        };
        let mut writer = subject.volume(spec)?;
        let bytes = voxels(name, volume, generation);
        let plane_bytes = SIZE[1] * SIZE[2] * dtype.size();
        let mut rest = bytes.as_slice();
        while writer.next_planes() > 0 {
            let (layer, after) = rest.split_at(writer.next_planes() * plane_bytes);
            writer.write_layer(layer)?;
            rest = after;
        }
        volumes.push(writer.finish()?);
    }
    subject.publish(volumes, IfExists::Replace)
}

/// As [`write_store`], by processes that share the work: subjects that are published together, and
/// a volume whose shards two parts have written. The store may not be there.
pub(crate) fn write_store_in_parts(store: &Path, codec: Codec, generation: u64) -> Result<()> {
    let unpublished = UnpublishedSubjects::create(store, "plan")?;
    let mut done = Vec::new();
    for name in SUBJECTS {
        write_subject(&unpublished.path(), name, codec, generation)?;
        done.extend(unpublished.checksum(name)?.map(|crc32c| (name.to_owned(), crc32c)));
    }
    unpublished.publish(&done, IfExists::Error)?;
    unpublished.remove()?;
    let store = StoreWriter::open(store, Some(1))?;
    for part in Part::all(2)? {
        let layout = layout_of(None, Dtype::Float32, codec)?;
        let spec = VolumeSpec::new("joined", Kind::Image, layout);
        let spec = spec.codec(codec).patch_sizes(vec![CHUNK]).affine(affine(generation));
        let writer = store.add_volume_part(SUBJECTS[0], spec, "", part)?;
        let (whole, bytes) = (Region::whole(SIZE), voxels(SUBJECTS[0], "joined", generation));
        for number in 0..writer.chunks().chunks_in(&whole) {
            writer.chunks().put_chunk(&whole, &[&bytes], number)?;
        }
        writer.finish()?;
    }
    store.finalize_volume(SUBJECTS[0], "joined").map(drop)
}

fn layout_of(channels: Option<usize>, dtype: Dtype, codec: Codec) -> Result<ArrayLayout> {
    let shape = VolumeShape { channels, size: SIZE, dtype, interleaved: 1 };
    let mut layout = layout::with_chunk(&shape, CHUNK, codec, 1 << 30)?;
    layout.shard = SHARD;
    Ok(layout)
}

/// The affine of a generation, which tells generations apart.
pub(crate) fn affine(generation: u64) -> Affine {
    let mut affine = Affine::diagonal([2.0, 1.0, 0.5]);
    affine.0[0][3] = generation as f64;
    affine
}

/// The bytes of a volume, `(c, z, y, x)`.
///
/// Some chunks are zero, so that absent chunks occur; no other voxel of `ct` and `weights` is the
/// same in two generations.
pub(crate) fn voxels(subject: &str, volume: &str, generation: u64) -> Vec<u8> {
    let channels = if volume == "ct" { CHANNELS } else { 1 };
    let salt = subject.len() as u64 + 7 * volume.len() as u64;
    let mut bytes = Vec::new();
    for channel in 0..channels {
        for z in 0..SIZE[0] {
            for y in 0..SIZE[1] {
                for x in 0..SIZE[2] {
                    let at = ((channel * 31 + z) * 37 + y) * 41 + x;
                    let noise = (at as u64 * 2_654_435_761 + salt) >> 7;
                    let empty = z < CHUNK[0] && (y < CHUNK[1] || x < CHUNK[2]);
                    let value = if empty { 0 } else { generation % 97 + 100 * (1 + noise % 5) };
                    match volume {
                        "ct" => {
                            bytes.extend((value as i16 - 300 * i16::from(!empty)).to_le_bytes());
                        }
                        "seg" => bytes.push(if empty { 0 } else { label(generation, noise) }),
                        _ => bytes.extend((value as f32 / 8.0).to_le_bytes()),
                    }
                }
            }
        }
    }
    bytes
}

/// Labels of a generation: two of its own and the background.
pub(crate) fn label(generation: u64, noise: u64) -> u8 {
    let own = 1 + 2 * (generation % 120) as u8;
    if noise.is_multiple_of(3) { 0 } else { own + (noise % 2) as u8 }
}
