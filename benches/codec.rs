//! Measures encoding and decoding of a chunk with each compressor, in bytes of voxels per second.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use voxquarry::codec::{DecodeContext, Encoder, Frame};
use voxquarry::format::array::{BloscParameters, Compressor, Shuffle};

const TYPESIZE: usize = 2;
const CHUNK_BYTES: usize = 32 * 32 * 32 * TYPESIZE;

/// Smooth values with five bits of noise, as in a CT.
fn voxels() -> Vec<u8> {
    let mut state = 1u64;
    (0..CHUNK_BYTES / TYPESIZE)
        .flat_map(|i| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((i / 512) as i16 * 3 - 100 + (state >> 59) as i16).to_le_bytes()
        })
        .collect()
}

fn decode(frame: &[u8], context: &mut DecodeContext, out: &mut [u8]) {
    let frame = Frame::parse(frame, CHUNK_BYTES, TYPESIZE).unwrap();
    for i in 0..frame.blocks() {
        let block = &mut out[frame.block_range(i)];
        block.copy_from_slice(frame.block(i, context).unwrap().whole());
    }
}

fn frames(c: &mut Criterion) {
    let voxels = voxels();
    let cases = [
        ("fast", Compressor::Lz4, 5, Shuffle::Bit),
        ("fast, bytes", Compressor::Lz4, 5, Shuffle::Byte),
        ("compact", Compressor::Zstd, 8, Shuffle::Byte),
    ];
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    for (name, compressor, level, shuffle) in cases {
        let parameters = BloscParameters { compressor, level, shuffle, block_bytes: 32 << 10 };
        let mut encoder = Encoder::new(parameters, TYPESIZE);
        let mut frame = Vec::new();
        encoder.encode(&voxels, &mut frame);
        let (mut context, mut out) = (DecodeContext::new(), vec![0; CHUNK_BYTES]);
        decode(&frame, &mut context, &mut out);
        assert_eq!(out, voxels);
        group.bench_function(format!("decode, {name}"), |b| {
            b.iter(|| decode(black_box(&frame), &mut context, &mut out));
        });
        group.bench_function(format!("encode, {name}"), |b| {
            b.iter(|| {
                frame.clear();
                encoder.encode(black_box(&voxels), &mut frame);
            });
        });
    }
}

criterion_group!(benches, frames);
criterion_main!(benches);
