//! Volumes with known voxels, and stores made of them.
#![allow(dead_code)]

use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, Codec, VolumeShape};
use voxquarry::{Affine, Dtype, Size3};
use voxquarry::{IfExists, StoreWriter, VolumeSpec};

/// A volume as plain bytes, C order, channel slowest: the oracle that knows nothing of chunks.
#[derive(Clone)]
pub(crate) struct Plain {
    pub(crate) channels: Option<usize>,
    pub(crate) size: Size3,
    pub(crate) dtype: Dtype,
    pub(crate) bytes: Vec<u8>,
}

impl Plain {
    /// Voxels with structure, noise and empty parts; the same for the same seed.
    pub(crate) fn new(channels: Option<usize>, size: Size3, dtype: Dtype, seed: u64) -> Self {
        let voxels = channels.unwrap_or(1) * size.iter().product::<usize>();
        let mut bytes = vec![0; voxels * dtype.size()];
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        for (i, voxel) in bytes.chunks_exact_mut(dtype.size()).enumerate() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let [z, y, x] = [i / (size[1] * size[2]) % size[0], i / size[2] % size[1], i % size[2]];
            let empty = (z / 16 + y / 32 + x / 32) % 3 == 0;
            let value =
                if empty { 0 } else { (z * 3 + y * 5 + x / 4) as u64 & 0x3f | (state >> 61) };
            voxel.copy_from_slice(&value.to_le_bytes()[..dtype.size()]);
            if dtype.is_float() && !empty {
                // Finite numbers with all their mantissa.
                let exponent = dtype.size() - 1;
                voxel[exponent] = 0x40;
                voxel[0] = (state >> 56) as u8;
            }
        }
        Self { channels, size, dtype, bytes }
    }

    /// One voxel's bytes.
    pub(crate) fn voxel(&self, c: usize, [z, y, x]: Size3) -> &[u8] {
        let i = ((c * self.size[0] + z) * self.size[1] + y) * self.size[2] + x;
        &self.bytes[i * self.dtype.size()..][..self.dtype.size()]
    }
}

/// Publishes the volume `v` of the subject `s`, with slope and intercept.
pub(crate) fn write_scaled(
    store: &Path,
    plain: &Plain,
    kind: Kind,
    codec: Codec,
    patch: Size3,
    (slope, intercept): (f64, f64),
) {
    let scaled = |spec: VolumeSpec| spec.scaling(slope, intercept);
    write_with(store, ("s", "v"), plain, kind, codec, patch, scaled);
}

/// Publishes one volume of one subject.
pub(crate) fn write(
    store: &Path,
    subject: &str,
    name: &str,
    plain: &Plain,
    kind: Kind,
    codec: Codec,
    patch: Size3,
) {
    write_with(store, (subject, name), plain, kind, codec, patch, |spec| spec);
}

pub(crate) fn write_with(
    store: &Path,
    (subject, name): (&str, &str),
    plain: &Plain,
    kind: Kind,
    codec: Codec,
    patch: Size3,
    change: impl FnOnce(VolumeSpec) -> VolumeSpec,
) {
    let shape = VolumeShape {
        channels: plain.channels,
        size: plain.size,
        dtype: plain.dtype,
        interleaved: 1,
    };
    let layout = layout::choose(&shape, &[patch], codec, 1 << 30).unwrap();
    let spec = VolumeSpec::new(name, kind, layout)
        .codec(codec)
        .patch_sizes(vec![patch])
        .affine(Affine::diagonal([2.0, 1.0, 0.5]));
    let spec = change(spec);
    let mut subject = StoreWriter::open(store, Some(2)).unwrap().subject(subject).unwrap();
    let mut volume = subject.volume(spec).unwrap();
    let mut rest = &plain.bytes[..];
    while volume.next_planes() > 0 {
        let bytes = volume.next_planes() * plain.size[1] * plain.size[2] * plain.dtype.size();
        let (layer, tail) = rest.split_at(bytes);
        volume.write_layer(layer).unwrap();
        rest = tail;
    }
    assert!(rest.is_empty());
    let finished = volume.finish().unwrap();
    subject.publish([finished], IfExists::Replace).unwrap();
}
