//! Reads patches from a warm store, singly and in batches, with each codec.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{Dataset, Dtype, OpenOptions, Padding, Region, Volume};

#[path = "../tests/common/mod.rs"]
mod common;

const SIDE: usize = 192;
const PATCH: usize = 64;
const BATCH: usize = 8;

/// Regions that begin at no edge of a chunk.
fn regions() -> Vec<Region> {
    let start = |i: usize| [0, 1, 2].map(|a| ((i * 37 + a * 53 + 5) % (SIDE - PATCH)) as i64);
    (0..BATCH).map(|i| Region::new(start(i), [PATCH; 3])).collect()
}

fn read_each(volume: &Volume, regions: &[Region], out: &mut [i16]) {
    for (region, patch) in regions.iter().zip(out.chunks_exact_mut(PATCH.pow(3))) {
        volume.read_into(*region, patch).unwrap();
    }
}

fn patches(c: &mut Criterion) {
    let plain = common::Plain::new(None, [SIDE; 3], Dtype::Int16, 1);
    let regions = regions();
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes((BATCH * PATCH.pow(3) * 2) as u64));
    for codec in [Codec::Fast, Codec::Compact, Codec::None] {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        common::write(&store, "s", "v", &plain, Kind::Image, codec, [PATCH; 3]);
        let options = OpenOptions::default().cache_bytes(0).threads(1);
        let dataset = Dataset::open(&store, &options).unwrap();
        let volume = dataset.subject("s").unwrap().volume("v").unwrap();
        let mut out = vec![0i16; BATCH * PATCH.pow(3)];
        read_each(&volume, &regions, &mut out);
        let expected = out.clone();
        let starts: Vec<[i64; 3]> = regions.iter().map(|region| region.start).collect();
        volume.read_batch_into(&starts, [PATCH; 3], Padding::None, &mut out).unwrap();
        assert_eq!(out, expected);
        group.bench_function(format!("patch by patch, {}", codec.name()), |b| {
            b.iter(|| read_each(black_box(&volume), &regions, &mut out));
        });
        group.bench_function(format!("batch, {}", codec.name()), |b| {
            b.iter(|| {
                let volume = black_box(&volume);
                volume.read_batch_into(&starts, [PATCH; 3], Padding::None, &mut out).unwrap();
            });
        });
    }
}

criterion_group!(benches, patches);
criterion_main!(benches);
