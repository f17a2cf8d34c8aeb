//! Coarser levels: their voxels beside a naive pyramid, how they are read, and what happens to a
//! damaged one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, Codec, VolumeShape};
use voxquarry::format::levels::Levels;
use voxquarry::{
    Access, Affine, Dataset, Dtype, Error, GridSampler, IfExists, LabelSampler, OpenOptions,
    Padding, Region, Resume, Size3, StoreWriter, Volume, VolumeSpec, Voxel, verify, with_voxel,
};

mod common;

use common::{Plain, write_with};

fn all_voxels(volume: &Volume) -> Vec<u8> {
    let mut bytes = vec![0xaa; volume.voxel_bytes() as usize];
    let channels = volume.layout().channel_count();
    volume.read_bytes(&[[0; 3]], volume.size(), Padding::None, 0..channels, &mut bytes).unwrap();
    bytes
}

/// The numbers under each voxel of the next level, in C order.
fn boxes(plain: &Plain, step: Size3) -> (Size3, Vec<Vec<&[u8]>>) {
    let size = [0, 1, 2].map(|a| plain.size[a].div_ceil(step[a]));
    let mut found = Vec::new();
    for c in 0..plain.channels.unwrap_or(1) {
        for i in 0..size.iter().product() {
            let at = [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
            let ends = [0, 1, 2].map(|a| (at[a] * step[a] + step[a]).min(plain.size[a]));
            let mut under = Vec::new();
            for z in at[0] * step[0]..ends[0] {
                for y in at[1] * step[1]..ends[1] {
                    for x in at[2] * step[2]..ends[2] {
                        under.push(plain.voxel(c, [z, y, x]));
                    }
                }
            }
            found.push(under);
        }
    }
    (size, found)
}

fn value<T: Voxel>(bytes: &[u8]) -> T {
    bytemuck::pod_read_unaligned(bytes)
}

fn integer(bytes: &[u8], dtype: Dtype) -> i128 {
    let mut wide = [0; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    let is_signed = matches!(dtype, Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64);
    if is_signed && bytes[bytes.len() - 1] >= 128 {
        wide[bytes.len()..].fill(0xff);
    }
    i128::from_le_bytes(wide)
}

/// The mean of a box: of integers the nearest by distance, of floats in `f64`.
fn mean(under: &[&[u8]], dtype: Dtype) -> Vec<u8> {
    if !dtype.is_float() {
        let (sum, n) = (under.iter().map(|v| integer(v, dtype)).sum::<i128>(), under.len() as i128);
        let near = |m: i128| (m * n - sum).abs();
        let down = sum.div_euclid(n);
        let best = [down, down + 1].into_iter().min_by_key(|&m| (near(m), m & 1)).unwrap();
        return best.to_le_bytes()[..dtype.size()].to_vec();
    }
    with_voxel!(dtype, T => {
        let there = under.iter().map(|v| value::<T>(v).to_f64()).filter(|v| !v.is_nan());
        let there: Vec<f64> = there.collect();
        let sum = there.iter().fold(0.0, |sum, v| sum + v);
        bytemuck::bytes_of(&T::from_f64_rounded(sum / there.len() as f64)).to_vec()
    })
}

/// The most frequent label: counted in a map, the ties sorted.
fn mode(under: &[&[u8]], dtype: Dtype) -> Vec<u8> {
    with_voxel!(dtype, T => {
        let mut counts = BTreeMap::<i64, usize>::new();
        for voxel in under {
            *counts.entry(value::<T>(voxel).to_label().unwrap()).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let mut tied: Vec<i64> =
            counts.into_iter().filter(|(_, n)| Some(*n) == most).map(|(id, _)| id).collect();
        tied.sort_by_key(|&id| (id == 0, id));
        let of_label = |voxel: &&&[u8]| value::<T>(voxel).to_label() == Some(tied[0]);
        under.iter().find(of_label).unwrap().to_vec()
    })
}

fn next_level(plain: &Plain, step: Size3, kind: Kind) -> Plain {
    let (size, boxes) = boxes(plain, step);
    let dtype = plain.dtype;
    let reduced = boxes.iter().flat_map(|under| match kind {
        Kind::Labels => mode(under, dtype),
        _ => mean(under, dtype),
    });
    Plain { bytes: reduced.collect(), size, ..plain.clone() }
}

/// Voxels of every bit pattern that the type has, in a few places close together, so that labels
/// tie.
fn ragged(channels: Option<usize>, size: Size3, dtype: Dtype, kind: Kind) -> Plain {
    let mut plain = Plain::new(channels, size, dtype, 5);
    let width = dtype.size();
    for (i, voxel) in plain.bytes.chunks_exact_mut(width).enumerate() {
        let noise = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 13;
        match (kind, dtype.is_float()) {
            (Kind::Labels, false) => {
                // Huge, negative and small ids.
                let largest = if dtype == Dtype::UInt64 { u64::MAX >> 1 } else { u64::MAX };
                let ids = [0, 1, 7, largest, (largest >> 1) + 1, 0];
                let id = ids[noise as usize % ids.len()];
                voxel.copy_from_slice(&id.to_le_bytes()[..width]);
            }
            (Kind::Labels, true) => with_voxel!(dtype, T => {
                let id = T::from_f64_rounded([0.0, -3.0, 2048.0, -0.0][noise as usize % 4]);
                voxel.copy_from_slice(bytemuck::bytes_of(&id));
            }),
            (_, true) if noise.is_multiple_of(11) => with_voxel!(dtype, T => {
                let odd = [f64::NAN, f64::INFINITY, -0.0, f64::NAN][noise as usize / 11 % 4];
                voxel.copy_from_slice(bytemuck::bytes_of(&T::from_f64_rounded(odd)));
            }),
            (_, true) => {}
            (_, false) => voxel.copy_from_slice(&(noise << 9).to_le_bytes()[8 - width..]),
        }
    }
    plain
}

/// Bytes, but any NaN for any other.
fn same(found: &[u8], expected: &[u8], dtype: Dtype) -> bool {
    found.len() == expected.len()
        && found.chunks(dtype.size()).zip(expected.chunks(dtype.size())).all(|(a, b)| {
            let both_nan = || {
                with_voxel!(dtype, T => {
                    value::<T>(a).to_f64().is_nan() && value::<T>(b).to_f64().is_nan()
                })
            };
            // Labels of value 0 are stored as +0.
            let zeros = || {
                with_voxel!(dtype, T => {
                    value::<T>(a) == T::default() && value::<T>(b) == T::default()
                })
            };
            a == b || (dtype.is_float() && (both_nan() || zeros()))
        })
}

#[test]
fn levels_are_those_of_the_naive_pyramid() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    for dtype in Dtype::ALL {
        for (kind, channels, size, spacing) in [
            (Kind::Image, None, [37, 50, 67], [1.0, 1.0, 1.0]),
            (Kind::Image, Some(2), [5, 33, 40], [5.0, 0.8, 0.9]),
            (Kind::Labels, None, [19, 34, 21], [1.0, 2.0, 1.0]),
            (Kind::Image, None, [1, 1, 9], [0.1, 0.1, 3.0]),
        ] {
            number += 1;
            let store = folder.path().join(number.to_string());
            let mut plain = ragged(channels, size, dtype, kind);
            let codec = [Codec::Fast, Codec::Compact, Codec::None][number % 3];
            let affine = Affine::diagonal(spacing);
            let levels = |spec: VolumeSpec| spec.affine(affine).levels(Levels::Count(3));
            write_with(&store, ("s", "v"), &plain, kind, codec, [16; 3], levels);
            let volume =
                voxquarry::open(&store).unwrap().subject("s").unwrap().volume("v").unwrap();
            let expected = Levels::Count(3).factors(size, spacing).unwrap();
            assert_eq!(volume.levels()[1..], expected);
            let mut before = [1; 3];
            for (n, factors) in volume.levels().into_iter().enumerate() {
                let level = volume.level(n).unwrap();
                let context = format!("{dtype} {kind:?} {size:?} level {n}");
                if n > 0 {
                    plain = next_level(&plain, [0, 1, 2].map(|a| factors[a] / before[a]), kind);
                }
                before = factors;
                assert_eq!((level.size(), level.dtype()), (plain.size, dtype), "{context}");
                assert_eq!((level.channels(), level.level_number()), (channels, n), "{context}");
                let found = all_voxels(&level);
                assert!(same(&found, &plain.bytes, dtype), "{context}");
                let statistics = level.statistics();
                assert_eq!(statistics.voxels as usize * dtype.size(), plain.bytes.len());
                // The outer face stays in place.
                let corner = |v: &Volume| v.affine().apply([-0.5; 3]);
                let (a, b) = (corner(&level), corner(&volume));
                assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{context}");
            }
            let report = verify(&store, &mut |_| Ok(())).unwrap();
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            assert_eq!(report.volumes, 1);
        }
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

fn spec(size: Size3, kind: Kind, levels: Levels) -> VolumeSpec {
    let dtype = if kind == Kind::Labels { Dtype::UInt8 } else { Dtype::Int16 };
    let shape = VolumeShape { channels: None, size, dtype, interleaved: 1 };
    let layout = layout::choose(&shape, &[[16; 3]], Codec::Fast, 1 << 30).unwrap();
    VolumeSpec::new("v", kind, layout).levels(levels)
}

/// Writes one volume of a subject, by planes, with so many threads.
fn write_planes(store: &Path, threads: usize, spec: VolumeSpec, bytes: &[u8]) {
    let mut subject = StoreWriter::open(store, Some(threads)).unwrap().subject("s").unwrap();
    let mut volume = subject.volume(spec).unwrap();
    let mut rest = bytes;
    while volume.next_planes() > 0 {
        let [_, ny, nx] = volume.layout().size;
        let count = volume.next_planes() * ny * nx * volume.layout().dtype.size();
        let (layer, after) = rest.split_at(count);
        volume.write_layer(layer).unwrap();
        rest = after;
    }
    subject.publish([volume.finish().unwrap()], IfExists::Error).unwrap();
}

#[test]
fn threads_and_the_way_of_writing_make_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let size = [40, 50, 60];
    for kind in [Kind::Image, Kind::Labels] {
        let spec = spec(size, kind, Levels::Count(2));
        let dtype = if kind == Kind::Labels { Dtype::UInt8 } else { Dtype::Int16 };
        let plain = Plain::new(None, size, dtype, 3);
        let mut all = Vec::new();
        for (name, threads) in [("one", 1), ("four", 4)] {
            let store = folder.path().join(format!("{name} {kind:?}"));
            write_planes(&store, threads, spec.clone(), &plain.bytes);
            all.push(store);
        }
        // By chunks, and by the work of an interrupted process, which left half a level.
        for resume in [Resume::Never, Resume::With("again".to_owned())] {
            let store = folder.path().join(format!("{resume:?} {kind:?}"));
            let writer = StoreWriter::open(&store, Some(2)).unwrap();
            let volume = writer.add_volume("s", spec.clone(), &resume).unwrap();
            let left = volume.work_folder().join("content/v");
            for (path, text) in [("1/c/7/7/7", "x"), ("1/zarr.json", "y"), ("shards-1/c/3", "z")] {
                let path = left.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let whole = Region::whole(size);
            for number in 0..volume.chunks_in(&whole) {
                volume.put_chunk(&whole, &[&plain.bytes], number).unwrap();
            }
            assert_eq!(volume.publish().unwrap().levels(), [[1; 3], [2; 3], [4; 3]]);
            all.push(store);
        }
        let content = |store: &PathBuf| -> Vec<(PathBuf, Vec<u8>)> {
            let below = |(path, bytes): (PathBuf, Vec<u8>)| {
                (path.strip_prefix(store).unwrap().to_owned(), bytes)
            };
            files(&store.join("s")).into_iter().map(below).collect()
        };
        let first = content(&all[0]);
        assert!(first.iter().any(|(path, _)| path.ends_with("v/2/zarr.json")));
        for store in &all[1..] {
            let other = content(store);
            let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
                files.iter().map(|(path, _)| path.clone()).collect()
            };
            assert_eq!(names(&other), names(&first), "{}", store.display());
            assert!(other == first, "{}", store.display());
        }
    }
}

/// A store with an image and a label map of two coarser levels.
fn golden() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/format-spec/golden/v1-levels")).to_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::write(target, fs::read(&path).unwrap()).unwrap();
        }
    }
}

#[test]
fn every_damaged_and_lost_file_of_a_level_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    copy(&golden(), &store);
    let open = |access| {
        let options = OpenOptions::default().cache_bytes(0).threads(1).access(access);
        Dataset::open(&store, &options).unwrap().subject("grid").unwrap().volume("i16").unwrap()
    };
    let expected = [0, 1, 2].map(|n| all_voxels(&open(Access::Read).level(n).unwrap()));
    let noticed = || verify(&store, &mut |_| Ok(())).map_or(true, |report| report.error_count > 0);
    assert!(!noticed());
    // The right voxels or an error, of every level.
    let check = |context: &str| {
        let volume = open(Access::Read);
        for (n, expected) in expected.iter().enumerate() {
            let Ok(level) = volume.level(n) else { continue };
            let mut bytes = vec![0xaa; expected.len()];
            let read = level.read_bytes(&[[0; 3]], level.size(), Padding::None, 0..2, &mut bytes);
            match read {
                Ok(()) => assert!(&bytes == expected, "{context}: other voxels of level {n}"),
                Err(error) => {
                    assert_ne!(error.fault(), voxquarry::Fault::Caller, "{context}: {error}");
                }
            }
        }
        assert_eq!(all_voxels(&volume), expected[0], "{context}: level 0 needs no other");
    };
    let volume = store.join("grid/i16");
    let of_levels = ["1", "2", "shards-1", "shards-2"].iter().flat_map(|n| files(&volume.join(n)));
    let of_levels: Vec<_> = of_levels.collect();
    assert_eq!(of_levels.len(), 2 * (1 + 2 + 2));
    for (path, whole) in of_levels {
        let name = path.strip_prefix(&store).unwrap().display().to_string();
        for at in (0..whole.len()).step_by(5) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, damaged).unwrap();
            assert!(noticed(), "{name} byte {at}");
            check(&format!("{name} byte {at}"));
        }
        for length in [0, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(noticed(), "{name} of {length} bytes");
            check(&format!("{name} of {length} bytes"));
        }
        fs::remove_file(&path).unwrap();
        assert!(noticed(), "{name} is lost");
        check(&format!("{name} is lost"));
        fs::write(&path, whole).unwrap();
    }
    assert!(!noticed());
    // The level of another volume has other documents.
    fs::rename(volume.join("1"), volume.join("spare")).unwrap();
    copy(&store.join("grid/u8/1"), &volume.join("1"));
    let error = open(Access::Map).level(1).unwrap_err();
    assert!(matches!(error, Error::Metadata { .. }) && noticed(), "{error}");
    assert!(error.to_string().contains("the volume lists"), "{error}");
}

#[test]
fn a_level_is_read_as_a_volume_and_opened_once() {
    let volume = voxquarry::open(golden()).unwrap().subject("grid").unwrap();
    let volume = volume.volume("labels-i32").unwrap();
    let level = volume.level(1).unwrap();
    assert_eq!((level.name(), level.kind()), ("labels-i32", Kind::Labels));
    assert_eq!(level.spacing()[0], 2.0 * volume.spacing()[0]);
    assert_ne!(level.content_id(), volume.content_id());
    assert_eq!(level.levels(), [[1; 3]]);
    assert_eq!(level.level(0).unwrap().size(), level.size());
    assert!(level.level(1).is_err());
    // Counts are those of the level's voxels.
    let mut counts = BTreeMap::<i64, u64>::new();
    for id in all_voxels(&level).chunks_exact(4).map(|id| i64::from(value::<i32>(id))) {
        *counts.entry(id).or_default() += u64::from(id != 0);
    }
    counts.remove(&0);
    let totals: BTreeMap<_, _> = level.label_counts().unwrap().totals().into_iter().collect();
    assert_eq!(totals, counts);
    assert!(level.stored_bytes().unwrap() < volume.stored_bytes().unwrap());
    assert!(!level.has_weight_sums().unwrap());
    let error = volume.level(7).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }));
    assert!(error.to_string().contains("0 to 2"), "{error}");
    let plain = voxquarry::open(golden().with_file_name("v1")).unwrap();
    let error = plain.subject("grid").unwrap().volume("u8").unwrap().level(1).unwrap_err();
    assert!(error.to_string().contains("no other level"), "{error}");
}

#[test]
fn samplers_work_at_the_level_that_a_dataset_is_opened_at() {
    let options = OpenOptions::default().level(2);
    let dataset = Dataset::open(golden(), &options).unwrap();
    let subject = dataset.subject("grid").unwrap();
    assert_eq!(subject.size().unwrap(), [2, 5, 10]);
    let grid = GridSampler::new([2, 3, 5], [0; 3]).unwrap();
    assert_eq!(grid.locations(&subject).unwrap().len(), 4);
    let labels = LabelSampler::new([1; 3], "labels-i32").unwrap();
    let map = subject.volume("labels-i32").unwrap();
    for location in labels.locations(&subject, 20, voxquarry::Epoch::default(), 0).unwrap() {
        let mut id = [0i32];
        map.read_into(location.region, &mut id).unwrap();
        assert!(id[0] > 0);
    }
    let other = Dataset::open(golden(), &OpenOptions::default().level(3)).unwrap();
    let error = other.subject("grid").unwrap().volume("u8").unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
}

#[test]
fn levels_stay_when_a_subject_is_extended_and_weights_are_summed_for_level_0_alone() {
    let folder = tempfile::tempdir().unwrap();
    let size = [20, 20, 20];
    let plain = Plain::new(None, size, Dtype::UInt8, 1);
    let weights = |spec: VolumeSpec| spec.levels(Levels::Count(1)).weight_sums();
    write_with(folder.path(), ("s", "v"), &plain, Kind::Image, Codec::Fast, [16; 3], weights);
    let level = || {
        let subject = voxquarry::open(folder.path()).unwrap().subject("s").unwrap();
        all_voxels(&subject.volume("v").unwrap().level(1).unwrap())
    };
    let before = level();
    assert!(folder.path().join("s/v/sums").is_dir());
    let store = StoreWriter::open(folder.path(), Some(1)).unwrap();
    store.extend_subject("s").unwrap().publish([], IfExists::Error).unwrap();
    assert_eq!(level(), before);
    assert!(verify(folder.path(), &mut |_| Ok(())).unwrap().errors.is_empty());
}

#[test]
fn levels_that_cannot_be_are_refused_before_the_first_voxel() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(folder.path().join("s"), Some(1)).unwrap();
    let mut subject = store.subject("s").unwrap();
    let error = subject.volume(spec([8, 8, 8], Kind::Image, Levels::Count(4))).unwrap_err();
    assert!(error.to_string().contains("at most 3"), "{error}");
    let part = voxquarry::Part::new(0, 2).unwrap();
    let levels = spec([8, 8, 8], Kind::Image, Levels::Auto);
    let error = store.add_volume_part("s", levels, "", part).unwrap_err();
    assert!(error.to_string().contains("in one process"), "{error}");
}
