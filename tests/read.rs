//! Every read equals a naive look-up in a plain array: dtypes, channels, codecs, borders, paddings,
//! batches, threads.

#[allow(unreachable_pub)]
mod common;

use common::{Plain, write};
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{Access, Dataset, Dtype, Error, OpenOptions, Padding, Size3, Verify, Volume};

/// What a read must give, voxel by voxel; `constant` stands where nothing else does.
fn naive(
    plain: &Plain,
    start: [i64; 3],
    size: Size3,
    padding: Padding,
    constant: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    for c in 0..plain.channels.unwrap_or(1) {
        for i in 0..size.iter().product::<usize>() {
            let local = [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
            let at = [0, 1, 2].map(|a| start[a] + local[a] as i64);
            let inside = (0..3).all(|a| (0..plain.size[a] as i64).contains(&at[a]));
            let mirrored = |a: usize| -> usize {
                let (mut i, n) = (at[a], plain.size[a] as i64);
                while !(0..n).contains(&i) {
                    i = match padding {
                        Padding::Edge => i.clamp(0, n - 1),
                        _ if n == 1 => 0,
                        _ if i < 0 => -i,
                        _ => 2 * (n - 1) - i,
                    };
                }
                i as usize
            };
            match padding {
                Padding::Constant(_) if !inside => out.extend_from_slice(constant),
                _ => out.extend_from_slice(plain.voxel(c, [0, 1, 2].map(mirrored))),
            }
        }
    }
    out
}

fn open(path: &std::path::Path, cache_bytes: usize, threads: usize, access: Access) -> Volume {
    let options = OpenOptions::default()
        .cache_bytes(cache_bytes)
        .threads(threads)
        .access(access)
        .verify(Verify::First);
    Dataset::open(path, &options).unwrap().subject("s").unwrap().volume("v").unwrap()
}

fn check(volume: &Volume, plain: &Plain, starts: &[[i64; 3]], size: Size3, padding: Padding) {
    let channels = plain.channels.unwrap_or(1);
    let mut out =
        vec![0xaa; starts.len() * channels * size.iter().product::<usize>() * plain.dtype.size()];
    volume.read_bytes(starts, size, padding, 0..channels, &mut out).unwrap();
    let constant = match padding {
        Padding::Constant(v) if plain.dtype == Dtype::Float32 => (v as f32).to_le_bytes().to_vec(),
        Padding::Constant(v) => (v as i64).to_le_bytes()[..plain.dtype.size()].to_vec(),
        _ => vec![],
    };
    let expected: Vec<u8> =
        starts.iter().flat_map(|&s| naive(plain, s, size, padding, &constant)).collect();
    assert!(out == expected, "{:?} {:?} {starts:?} {size:?} {padding:?}", plain.dtype, plain.size);
}

#[test]
fn every_dtype_codec_and_channel_count() {
    let folder = tempfile::tempdir().unwrap();
    for (n, dtype) in Dtype::ALL.into_iter().enumerate() {
        for codec in [Codec::Fast, Codec::Compact, Codec::None] {
            for channels in [None, Some(3)] {
                let plain = Plain::new(channels, [37, 45, 70], dtype, n as u64);
                write(folder.path(), "s", "v", &plain, Kind::Image, codec, [32, 48, 64]);
                for (cache, access) in [(0, Access::Map), (1 << 20, Access::Read)] {
                    let volume = open(folder.path(), cache, 2, access);
                    assert_eq!(volume.dtype(), dtype);
                    check(&volume, &plain, &[[0, 0, 0]], plain.size, Padding::None);
                    check(
                        &volume,
                        &plain,
                        &[[5, 7, 11], [5, 7, 11], [20, 1, 33], [0, 0, 0]],
                        [16, 21, 30],
                        Padding::None,
                    );
                    check(&volume, &plain, &[[36, 44, 69]], [1, 1, 1], Padding::None);
                }
            }
        }
    }
}

#[test]
fn every_padding_at_every_border() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [Dtype::Int16, Dtype::Float32] {
        for size in [[20, 33, 40], [1, 33, 40], [3, 1, 1]] {
            let plain = Plain::new(Some(2), size, dtype, 7);
            write(folder.path(), "s", "v", &plain, Kind::Image, Codec::Fast, [16, 16, 16]);
            let volume = open(folder.path(), 0, 1, Access::Map);
            for padding in [Padding::Constant(-3.0), Padding::Edge, Padding::Reflect] {
                for start in
                    [[-5, -5, -5], [15, 30, 35], [-50, 2, 2], [2, 200, 2], [-4, 3, 39], [0, 0, 0]]
                {
                    check(&volume, &plain, &[start, [1, 0, 0]], [9, 8, 7], padding);
                }
                check(&volume, &plain, &[[-30, -30, -30]], [70, 90, 100], padding);
            }
        }
    }
}

#[test]
fn repeated_reads_through_a_small_cache_stay_right() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(None, [64, 96, 96], Dtype::UInt16, 3);
    write(folder.path(), "s", "v", &plain, Kind::Image, Codec::Fast, [32, 32, 32]);
    for (cache, threads) in [(0, 1), (100_000, 1), (200_000, 2), (1 << 30, 2)] {
        let volume = open(folder.path(), cache, threads, Access::Map);
        let mut state = 5u64;
        for _ in 0..60 {
            let mut next = |bound: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize % bound
            };
            let starts: Vec<[i64; 3]> =
                (0..4).map(|_| [next(33), next(65), next(65)].map(|v| v as i64)).collect();
            check(&volume, &plain, &starts, [32, 32, 32], Padding::None);
        }
    }
}

#[test]
fn wrong_arguments_are_the_callers_fault_and_leave_the_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(None, [16, 16, 16], Dtype::UInt8, 0);
    write(folder.path(), "s", "v", &plain, Kind::Image, Codec::Fast, [16, 16, 16]);
    let volume = open(folder.path(), 0, 1, Access::Map);
    let mut out = vec![7u8; 64];
    let outside = volume.read_batch_into(&[[13, 0, 0]], [4, 4, 4], Padding::None, &mut out);
    assert!(outside.unwrap_err().to_string().contains("padding"));
    let length = volume.read_batch_into(&[[0, 0, 0]], [4, 4, 5], Padding::None, &mut out);
    assert!(matches!(length, Err(Error::BufferLength { found: 64, expected: 80 })));
    let constant =
        volume.read_batch_into(&[[-1, 0, 0]], [4, 4, 4], Padding::Constant(-1.0), &mut out);
    assert!(constant.unwrap_err().to_string().contains("uint8"));
    let dtype = volume.read_batch_into(&[[0, 0, 0]], [4, 4, 4], Padding::None, &mut [0i16; 64]);
    assert!(matches!(dtype, Err(Error::DtypeMismatch { .. })));
    assert!(volume.read_batch_into::<u8>(&[[0, 0, 0]], [0, 4, 4], Padding::None, &mut []).is_err());
    assert_eq!(out, [7; 64]);
    assert!(matches!(volume.voxels_in([usize::MAX, 2, 2], 1), Err(Error::TooLarge { .. })));
    volume.read_batch_into::<u8>(&[], [4, 4, 4], Padding::None, &mut []).unwrap();
}

#[test]
fn statistics_and_label_counts_are_those_of_the_voxels() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(Some(2), [40, 41, 42], Dtype::Int32, 9);
    write(folder.path(), "s", "v", &plain, Kind::Labels, Codec::Fast, [32, 32, 32]);
    let volume = open(folder.path(), 0, 1, Access::Map);
    let voxels: Vec<i64> = plain
        .bytes
        .chunks_exact(4)
        .map(|b| i32::from_le_bytes(b.try_into().unwrap()).into())
        .collect();
    let mut totals = std::collections::BTreeMap::new();
    voxels.iter().filter(|&&v| v != 0).for_each(|&v| *totals.entry(v).or_insert(0u64) += 1);
    let counts = volume.label_counts().unwrap();
    assert_eq!(counts.totals(), totals.into_iter().collect::<Vec<_>>());
    assert_eq!(counts.chunks() as u64, volume.layout().chunk_count());
    let statistics = volume.statistics();
    let mean = voxels.iter().sum::<i64>() as f64 / voxels.len() as f64;
    assert!((statistics.mean.unwrap() - mean).abs() < 1e-9);
    assert_eq!(statistics.max.as_ref().unwrap().as_i64(), voxels.iter().max().copied());
    assert_eq!(statistics.voxels as usize, voxels.len());
}
