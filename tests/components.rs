//! Connected components and joined instance labels, each against a flood fill that knows no boxes.

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use common::{Plain, write};
use proptest::prelude::*;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{
    ComponentOptions, Components, Connectivity, Dtype, Error, Objects, Part, Result, Size3,
    StoreWriter, Volume,
};

#[allow(clippy::unnecessary_wraps)] // Progress may end the work.
fn ignore(_: u64, _: u64) -> Result<()> {
    Ok(())
}

/// A volume of `u8` voxels in a store, in chunks for patches of `patch`.
fn stored(store: &Path, voxels: &[u8], size: Size3, patch: usize) -> Volume {
    let plain = Plain { channels: None, size, dtype: Dtype::UInt8, bytes: voxels.to_vec() };
    write(store, "s", "v", &plain, Kind::Labels, Codec::Fast, [patch; 3]);
    voxquarry::open(store).unwrap().subject("s").unwrap().volume("v").unwrap()
}

/// What the voxels at two places are to each other.
#[derive(Clone, Copy, PartialEq)]
enum Pair {
    Apart,
    /// They are one object if they touch.
    Touching,
    /// They are one object wherever they are.
    Same,
}

fn pair(objects: Objects, voxels: &[u8], size: Size3, [one, other]: [usize; 2]) -> Pair {
    let (a, b) = (voxels[one], voxels[other]);
    match objects {
        _ if a == 0 || b == 0 => Pair::Apart,
        Objects::EqualValues => {
            if a == b {
                Pair::Touching
            } else {
                Pair::Apart
            }
        }
        Objects::BlockIds(block) => {
            let block = |i: usize| {
                let at = place(i, size);
                [0, 1, 2].map(|axis| at[axis] / block[axis])
            };
            match (block(one) == block(other), a == b) {
                (true, true) => Pair::Same,
                (true, false) => Pair::Apart,
                (false, _) => Pair::Touching,
            }
        }
        _ => Pair::Touching,
    }
}

fn place(i: usize, [_, ny, nx]: Size3) -> Size3 {
    [i / nx / ny, i / nx % ny, i % nx]
}

/// The number of every voxel's object, by filling one object after the other.
fn filled(voxels: &[u8], size: Size3, objects: Objects, neighbours: usize) -> (Vec<u32>, Vec<u64>) {
    let most = [6, 18, 26].iter().position(|&n| n == neighbours).unwrap() + 1;
    let mut numbers = vec![0u32; voxels.len()];
    let mut counts = Vec::new();
    for first in 0..voxels.len() {
        if voxels[first] == 0 || numbers[first] != 0 {
            continue;
        }
        let number = counts.len() as u32 + 1;
        counts.push(0);
        numbers[first] = number;
        let mut waiting = VecDeque::from([first]);
        while let Some(i) = waiting.pop_front() {
            counts[number as usize - 1] += 1;
            let at = place(i, size);
            for j in 0..voxels.len() {
                let to = place(j, size);
                let apart = [0, 1, 2].map(|a| at[a].abs_diff(to[a]));
                let is_near =
                    apart.iter().all(|&n| n < 2) && apart.iter().sum::<usize>() <= most && i != j;
                let joins = match pair(objects, voxels, size, [i, j]) {
                    Pair::Apart => false,
                    Pair::Touching => is_near,
                    Pair::Same => true,
                };
                if joins && numbers[j] == 0 {
                    numbers[j] = number;
                    waiting.push_back(j);
                }
            }
        }
    }
    (numbers, counts)
}

/// The numbers of the objects that stay, from 1 again.
fn filtered(numbers: &[u32], counts: &[u64], min_voxels: u64, largest: Option<usize>) -> Vec<u32> {
    let mut stay: Vec<u32> =
        (1..=counts.len() as u32).filter(|&n| counts[n as usize - 1] >= min_voxels).collect();
    stay.sort_by_key(|&n| std::cmp::Reverse(counts[n as usize - 1]));
    stay.truncate(largest.unwrap_or(usize::MAX));
    stay.sort_unstable();
    let again: BTreeMap<u32, u32> = stay.into_iter().zip(1..).collect();
    numbers.iter().map(|number| again.get(number).copied().unwrap_or(0)).collect()
}

fn objects() -> impl Strategy<Value = Objects> {
    prop_oneof![
        Just(Objects::Foreground),
        Just(Objects::EqualValues),
        prop::array::uniform3(1usize..9).prop_map(Objects::BlockIds),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn labels_are_those_of_a_flood_fill(
        (size, voxels) in prop::array::uniform3(1usize..9).prop_flat_map(|size| {
            let voxel = prop_oneof![3 => Just(0u8), 2 => Just(1), 1 => Just(2), 1 => Just(200)];
            (Just(size), prop::collection::vec(voxel, size.iter().product::<usize>()))
        }),
        objects in objects(),
        connectivity in prop::sample::select(vec![
            Connectivity::Faces, Connectivity::Edges, Connectivity::Corners,
        ]),
        block in prop::array::uniform3(1usize..10),
        patch in prop::sample::select(vec![1usize, 2, 3, 8]),
        min_voxels in 1u64..4,
        largest in prop::option::of(1usize..5),
        threads in 1usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let volume = stored(&folder.path().join("in"), &voxels, size, patch);
        let options = ComponentOptions::default()
            .objects(objects)
            .connectivity(connectivity)
            .block_size(Some(block))
            .min_voxels(min_voxels)
            .largest(largest)
            .threads(Some(threads));
        let components = Components::find(&volume, &options, &mut ignore).unwrap();
        let (numbers, counts) = filled(&voxels, size, objects, connectivity.neighbours());
        let expected = filtered(&numbers, &counts, min_voxels, largest);
        let mut found = vec![9u32; voxels.len()];
        components.write_into(&mut found, &mut ignore).unwrap();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(components.count(), expected.iter().copied().max().unwrap());

        let store = StoreWriter::open(folder.path().join("out"), Some(threads)).unwrap();
        let written = components.to_store(&store, ("s", "n"), &mut ignore).unwrap();
        let read = written.read::<u8>(voxquarry::Region::whole(size)).unwrap();
        prop_assert!(read.iter().map(|&n| u32::from(n)).eq(expected));
        prop_assert_eq!(written.kind(), Kind::Labels);
        prop_assert_eq!(written.affine(), volume.affine());
    }
}

/// Many objects, a few of which go through the whole volume.
fn many(size: Size3) -> Vec<u8> {
    let plain = Plain::new(None, size, Dtype::UInt8, 7);
    plain
        .bytes
        .iter()
        .enumerate()
        .map(|(i, &v)| u8::from(v > 40 || i % 31 == 0) * (v | 1))
        .collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = files(&entry.path());
            found.extend(below.into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn parts_are_the_whole_byte_for_byte() {
    let (folder, size) = (tempfile::tempdir().unwrap(), [40, 36, 50]);
    let volume = stored(&folder.path().join("in"), &many(size), size, 8);
    let options = ComponentOptions::default().connectivity(Connectivity::Edges).memory_bytes(1);
    for objects in [Objects::Foreground, Objects::EqualValues, Objects::BlockIds([13, 36, 17])] {
        let options = options.clone().objects(objects);
        let out = |name: &str| folder.path().join(format!("{name}-{objects:?}"));
        let find = || Components::find(&volume, &options, &mut ignore).unwrap();
        let store = StoreWriter::open(out("whole"), Some(2)).unwrap();
        let whole = find().to_store(&store, ("s", "n"), &mut ignore).unwrap();
        assert!(whole.layout().shard_count() > 3, "{:?}", whole.layout());
        assert_eq!(whole.dtype(), find().dtype().unwrap());
        assert!(objects != Objects::Foreground || whole.dtype() == Dtype::UInt16);
        let store = StoreWriter::open(out("parts"), Some(2)).unwrap();
        for part in Part::all(3).unwrap() {
            // One that is stopped half-way is continued.
            let mut left = 3;
            let mut stop = |_: u64, _: u64| {
                left -= 1;
                if left == 0 { Err(Error::Interrupted) } else { Ok(()) }
            };
            let stopped = find().to_part(&store, ("s", "n"), part, &mut stop);
            assert!(matches!(stopped, Err(Error::Interrupted)));
            find().to_part(&store, ("s", "n"), part, &mut ignore).unwrap();
        }
        store.finalize_volume("s", "n").unwrap();
        assert_eq!(files(&out("parts").join("s")), files(&out("whole").join("s")));
        let other = options.clone().min_voxels(2);
        let other = Components::find(&volume, &other, &mut ignore).unwrap();
        let parts = Part::all(2).unwrap().next().unwrap();
        other.to_part(&store, ("s", "other"), parts, &mut ignore).unwrap();
        let refused = find().to_part(&store, ("s", "other"), parts, &mut ignore);
        assert!(matches!(refused, Err(Error::ResumeMismatch { .. })));
    }
}

#[test]
fn what_stops_leaves_nothing() {
    let (folder, size) = (tempfile::tempdir().unwrap(), [20, 20, 20]);
    let volume = stored(&folder.path().join("in"), &many(size), size, 4);
    let options = ComponentOptions::default().memory_bytes(1).threads(Some(1));
    let stop_after = |calls: usize| {
        let mut left = calls;
        move |visited: u64, total: u64| {
            assert!(visited <= total && total == 16_000);
            left = left.wrapping_sub(1);
            if left == 0 { Err(Error::Interrupted) } else { Ok(()) }
        }
    };
    let stopped = Components::find(&volume, &options, &mut stop_after(2));
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let out = folder.path().join("out");
    let store = StoreWriter::open(&out, Some(1)).unwrap();
    let components = Components::find(&volume, &options, &mut ignore).unwrap();
    let stopped = components.to_store(&store, ("s", "n"), &mut stop_after(3));
    assert!(matches!(stopped, Err(Error::Interrupted)) && !out.exists());
    assert_eq!(components.to_store(&store, ("s", "n"), &mut ignore).unwrap().size(), size);
    assert!(matches!(
        components.to_store(&store, ("s", "n"), &mut ignore),
        Err(Error::Exists { .. })
    ));
}

#[test]
fn what_has_no_objects_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let find = |channels, dtype, options: ComponentOptions| {
        let store = folder.path().join(format!("{dtype}-{channels:?}"));
        let plain = Plain::new(channels, [6, 7, 8], dtype, 1);
        write(&store, "s", "v", &plain, Kind::Image, Codec::Fast, [4; 3]);
        let volume = voxquarry::open(&store).unwrap().subject("s").unwrap().volume("v").unwrap();
        let found = Components::find(&volume, &options, &mut ignore);
        found.map(|components| components.count()).map_err(|error| error.to_string())
    };
    let plain = ComponentOptions::default;
    for dtype in Dtype::ALL {
        let found = find(None, dtype, plain());
        assert_eq!(found.is_err(), dtype.is_float(), "{dtype}: {found:?}");
        assert!(found.err().is_none_or(|error| error.contains("threshold")));
    }
    assert!(find(Some(2), Dtype::UInt8, plain()).unwrap_err().contains("channel"));
    for (options, word) in [
        (plain().block_size(Some([0, 1, 1])), "block_size"),
        (plain().objects(Objects::BlockIds([1, 1, 0])), "block_size"),
        (plain().largest(Some(0)), "largest"),
        (plain().dtype(Some(Dtype::Float32)), "integer"),
    ] {
        assert!(find(None, Dtype::UInt8, options).unwrap_err().contains(word), "{word}");
    }
}

#[test]
fn a_type_holds_all_labels_or_is_refused() {
    let (folder, size) = (tempfile::tempdir().unwrap(), [10, 10, 10]);
    // Every second voxel of a row is an object: 500.
    let voxels: Vec<u8> = (0..1000).map(|i| u8::from((i + i / 10 + i / 100) % 2 == 0)).collect();
    let volume = stored(&folder.path().join("in"), &voxels, size, 4);
    let of = |dtype| {
        let options = ComponentOptions::default().dtype(dtype);
        Components::find(&volume, &options, &mut ignore).unwrap()
    };
    assert_eq!((of(None).count(), of(None).dtype().unwrap()), (500, Dtype::UInt16));
    assert_eq!(of(Some(Dtype::Int64)).dtype().unwrap(), Dtype::Int64);
    let small = of(Some(Dtype::Int8));
    assert!(small.dtype().unwrap_err().to_string().contains("500 labels"));
    assert!(small.write_into(&mut vec![0i8; 1000], &mut ignore).is_err());
    assert!(small.write_into(&mut vec![0u16; 999], &mut ignore).is_err());
    assert!(small.write_into(&mut vec![0u16; 1000], &mut ignore).is_ok());
}
