//! `voxquarry bench`: the results agree with each other and with the store; speeds depend on the
//! machine.

use std::fs;

use serde_json::{Value, json};

use crate::workspace::{nifti, with_store};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn results_agree_with_the_store() {
    let workspace = with_store();
    let report = workspace.json("bench s.zarr --seconds 0.05 --threads 2 --json");
    let volumes = report["volumes"].as_array().unwrap();
    let names: Vec<_> = volumes.iter().map(|v| v["volume"].as_str().unwrap()).collect();
    assert_eq!(names, ["ct", "seg"]);
    for volume in volumes {
        assert_eq!(volume["patch_size"], json!([8, 8, 8]), "the size that it was ingested for");
        assert_eq!((&volume["subjects"], &volume["dtype"]), (&json!(1), &json!("int16")));
        assert_eq!(number(&volume["patch_bytes"]), f64::from(8 * 8 * 8 * 2));
        let info = workspace
            .json(&format!("info s.zarr/case/{} --json", volume["volume"].as_str().unwrap()));
        let ratio = number(&info["voxel_bytes"]) / number(&info["stored_bytes"]);
        assert!((number(&volume["ratio"]) - ratio).abs() < 1e-9, "{volume}");
        let passes = volume["passes"].as_array().unwrap();
        let kinds: Vec<_> = passes
            .iter()
            .map(|p| (p["pass"].as_str().unwrap(), p["threads"].as_u64().unwrap()))
            .collect();
        assert_eq!(kinds, [("first touch", 1), ("warm", 1), ("warm", 2)]);
        for pass in passes {
            let (patches, seconds) = (number(&pass["patches"]), number(&pass["seconds"]));
            assert!(patches >= 1.0 && seconds > 0.0, "{pass}");
            let rate = number(&pass["patches_per_second"]);
            assert!((rate * seconds / patches - 1.0).abs() < 1e-9, "{pass}");
            let bytes_rate = number(&pass["voxel_bytes_per_second"]);
            assert!((bytes_rate / rate / 1024.0 - 1.0).abs() < 1e-9, "{pass}");
        }
    }
    for volume in volumes {
        let queue = &volume["queue"];
        let (patches, seconds) = (number(&queue["patches"]), number(&queue["seconds"]));
        assert!(patches >= 1.0 && seconds > 0.0 && queue["threads"] == 2, "{queue}");
        assert!(number(&queue["stall_seconds"]) <= seconds, "{queue}");
        assert!((number(&queue["patches_per_second"]) * seconds / patches - 1.0).abs() < 1e-9);
        assert!(number(&queue["chunks_decoded"]) >= 1.0 && number(&queue["bytes_read"]) >= 1.0);
    }
    let one = workspace.json("bench s.zarr/case/seg --seconds 0.01 --threads 1 --json");
    assert_eq!(one["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(one["volumes"][0]["passes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_patch_of_the_whole_volume_intersects_every_chunk() {
    let workspace = with_store();
    let report = workspace
        .json("bench s.zarr/case/ct --patch-size 24,30,20 --seconds 0.01 --threads 1 --json");
    let info = workspace.json("info s.zarr/case/ct --json");
    let chunks: f64 = [24.0, 30.0, 20.0]
        .iter()
        .enumerate()
        .map(|(a, size): (usize, &f64)| (size / number(&info["chunk"][a])).ceil())
        .product();
    let volume = &report["volumes"][0];
    assert_eq!(number(&volume["chunks_per_patch"]), chunks);
    let stored = number(&volume["stored_bytes_per_patch"]);
    assert!((stored / number(&info["stored_bytes"]) - 1.0).abs() < 1e-9, "{volume}");
}

#[test]
fn patches_come_from_all_subjects_and_channels() {
    let workspace = with_store();
    workspace.write("small.nii", &nifti(&[6, 7, 9, 3], |i| i as i16));
    workspace.ok("ingest --subject other --image ct=small.nii --patch-size 8 --out s.zarr");
    let report = workspace.json("bench s.zarr --seconds 0.05 --threads 1 --json");
    let ct = &report["volumes"][0];
    assert_eq!((&ct["volume"], &ct["subjects"]), (&json!("ct"), &json!(2)));
    assert_eq!(ct["patch_size"], json!([8, 7, 6]), "clipped to all volumes");
    // Every second patch comes from the subject with three channels.
    let mean = number(&ct["patch_bytes"]) / f64::from(8 * 7 * 6 * 2);
    let patches = number(&ct["passes"][0]["patches"]);
    assert!((mean - 2.0).abs() <= 1.0 / patches + 1e-9, "{ct}");
    workspace.fails(
        "bench s.zarr --patch-size 8 --seconds 0.01",
        2,
        &["other", "[8, 8, 8]", "larger"],
    );
    let text = workspace.ok("bench s.zarr --seconds 0.01").out;
    for words in [
        "ct: patches of 8 × 7 × 6 int16",
        "from 2 subjects",
        "first touch",
        "warm",
        "ratio",
        "queue",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn volumes_that_cannot_be_measured_are_explained() {
    let workspace = with_store();
    workspace.fails("bench s.zarr/cas --seconds 0.01", 2, &["\"cas\"", "\"case\""]);
    workspace.fails("bench ct.nii.gz", 2, &["not a voxquarry store"]);
    for seconds in ["0", "-1", "nan", "3601", "x"] {
        assert_eq!(
            workspace.run(&format!("bench s.zarr --seconds={seconds}")).code,
            Some(2),
            "{seconds}"
        );
    }
    // Checksums are compared as in training.
    let shard = workspace.path("s.zarr/case/ct/0/c/0/0/0");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[20] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let whole = "bench s.zarr/case/ct --patch-size 24,30,20 --seconds 0.01";
    workspace.fails(whole, 3, &["case/ct/0/c/0/0/0", "crc32c"]);
}
