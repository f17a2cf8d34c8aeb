//! How far a verification is told to be, and how it ends early.

mod common;

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use common::{Plain, write_scaled};
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{Dataset, Dtype, Error, OpenOptions, VerifyReport, verify};

/// What was told: the volume, what is done, and all.
type Told = Vec<(String, u64, u64)>;

fn watched(store: &Path) -> (VerifyReport, Told) {
    let mut told = Told::new();
    let report = verify(store, &mut |step| {
        told.push((step.volume.to_owned(), step.done, step.total));
        Ok(())
    });
    (report.unwrap(), told)
}

/// Bytes of the voxels of all levels of a store.
fn voxel_bytes(store: &Path) -> u64 {
    let dataset = Dataset::open(store, &OpenOptions::default()).unwrap();
    let mut bytes = 0;
    for name in dataset.subjects() {
        let subject = dataset.subject(name).unwrap();
        for name in subject.volumes() {
            let volume = subject.volume(name).unwrap();
            let levels = (0..volume.levels().len()).map(|n| volume.level(n).unwrap());
            bytes += levels.map(|level| level.voxel_bytes()).sum::<u64>();
        }
    }
    bytes
}

/// What is done grows to the whole, which has the volumes' names before their bytes.
fn check_told(told: &Told, total: u64) {
    let counted = told.iter().take_while(|(volume, ..)| volume.is_empty()).count();
    assert!(counted > 0 && told[..counted].iter().all(|step| (step.1, step.2) == (0, 0)));
    let steps = &told[counted..];
    assert!(steps.is_sorted_by_key(|step| step.1));
    assert!(steps.iter().all(|step| !step.0.is_empty() && step.2 == total), "{steps:?}");
    assert_eq!(steps.last().unwrap().1, total);
    let ends = steps.iter().filter(|step| step.1 == total).count();
    assert_eq!(ends, 1, "the end is told once");
}

#[test]
fn all_levels_of_all_volumes_count() {
    for store in ["v1", "v1-levels", "v1-sums", "v1-names"] {
        let store = Path::new("format-spec/golden").join(store);
        let (report, told) = watched(&store);
        assert_eq!(report.error_count, 0);
        check_told(&told, voxel_bytes(&store));
        let mut volumes: Vec<_> = told.into_iter().map(|step| step.0).collect();
        volumes.dedup();
        assert_eq!(volumes.len() as u64, 1 + report.volumes, "and the counting before");
    }
}

#[test]
fn a_large_volume_is_told_between_its_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let plain = Plain::new(None, [160, 256, 256], Dtype::UInt16, 7);
    let threads = available_parallelism().unwrap().get() as u64;
    for codec in [Codec::Fast, Codec::None] {
        let _ = fs::remove_dir_all(&store);
        write_scaled(&store, &plain, Kind::Image, codec, [32; 3], (1.0, 0.0));
        let (report, told) = watched(&store);
        assert_eq!(report.error_count, 0);
        let total = plain.bytes.len() as u64;
        check_told(&told, total);
        let largest = told.windows(2).map(|steps| steps[1].1 - steps[0].1).max().unwrap();
        assert!(largest <= threads * (4 << 20), "{largest} bytes at a time");
    }
}

/// What damage hides counts as checked.
#[test]
fn a_damaged_store_is_told_to_its_end() {
    let damages: [fn(&Path); 4] = [
        |volume| fs::remove_dir_all(volume.join("0/c")).unwrap(),
        |volume| fs::write(volume.join("0/c/0/0/0/0"), b"damage").unwrap(),
        |volume| fs::remove_file(volume.join("shards/zarr.json")).unwrap(),
        |volume| fs::remove_file(volume.join("zarr.json")).unwrap(),
    ];
    for damage in damages {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.zarr");
        let plain = Plain::new(Some(2), [20, 30, 40], Dtype::Int16, 3);
        write_scaled(&store, &plain, Kind::Image, Codec::Fast, [8; 3], (1.0, 0.0));
        let mut first = None;
        damage(&store.join("s/v"));
        let report = verify(&store, &mut |step| {
            first.get_or_insert(step.total);
            assert!(step.done <= step.total);
            Ok(())
        });
        assert_ne!(report.unwrap().error_count, 0);
        let (_, told) = watched(&store);
        let &(_, done, total) = told.last().unwrap();
        assert_eq!(done, total);
    }
}

/// Wherever the caller's function fails, its error is the result, and it is not called again; also
/// of a store whose damage would be reported.
#[test]
fn an_error_of_the_function_ends_the_verification() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let plain = Plain::new(Some(2), [20, 30, 40], Dtype::Int16, 3);
    write_scaled(&store, &plain, Kind::Image, Codec::Fast, [8; 3], (1.0, 0.0));
    for is_damaged in [false, true] {
        if is_damaged {
            fs::write(store.join("s/v/0/c/0/0/0/0"), b"damage").unwrap();
        }
        let calls = watched(&store).1.len();
        assert!(calls > 2);
        for last in 1..=calls {
            let mut called = 0;
            let ended = verify(&store, &mut |_| {
                called += 1;
                if called == last { Err(Error::Interrupted) } else { Ok(()) }
            });
            assert!(matches!(ended, Err(Error::Interrupted)), "call {last}");
            assert_eq!(called, last);
        }
    }
}

/// A list that lacks a subject would hide it from readers on other machines; one that has others
/// is left from a subject that was removed.
#[test]
fn a_list_that_lacks_a_subject_is_noticed() {
    use serde_json::json;
    use voxquarry::format::document::write_sealed;
    use voxquarry::{IfExists, StoreWriter, list_subjects};

    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let publish = |name: &str| {
        let subject = StoreWriter::open(&store, Some(1)).unwrap().subject(name).unwrap();
        subject.publish([], IfExists::Error).unwrap();
    };
    publish("a");
    list_subjects(&store).unwrap();
    let early = fs::read(store.join("zarr.json")).unwrap();
    publish("b");
    let errors = || {
        let report = verify(&store, &mut |_| Ok(())).unwrap();
        report.errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(errors(), [""; 0]);
    let listed = fs::read(store.join("zarr.json")).unwrap();
    // Of an earlier time.
    fs::write(store.join("zarr.json"), early).unwrap();
    assert!(errors()[0].contains("lacks \"b\""), "{:?}", errors());
    let node = serde_json::from_slice::<serde_json::Value>(&listed).unwrap();
    for (names, lacks) in [
        (json!([]), 2),
        (json!(["b"]), 1),
        (json!(["b", "a"]), 0),
        (json!(["a", "a", "b"]), 0),
        (json!(["a", "b", "c"]), 0),
        (json!(["../b", "a"]), 1),
        (json!("a"), 1),
        (json!([1]), 1),
    ] {
        let mut attributes = node["attributes"].clone();
        attributes["voxquarry"]["subjects"] = names.clone();
        write_sealed(&store, attributes).unwrap();
        assert_eq!(errors().len(), lacks, "{names}: {:?}", errors());
    }
    // Every byte of the document.
    fs::write(store.join("zarr.json"), &listed).unwrap();
    for at in 0..listed.len() {
        for bit in 0..8 {
            let mut damaged = listed.clone();
            damaged[at] ^= 1 << bit;
            fs::write(store.join("zarr.json"), &damaged).unwrap();
            let noticed = verify(&store, &mut |_| Ok(()));
            assert!(noticed.is_err(), "byte {at} bit {bit}");
        }
    }
}
