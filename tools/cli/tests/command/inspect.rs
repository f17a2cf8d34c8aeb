//! `voxquarry info` and `voxquarry verify`: descriptions, and damage that is found.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::workspace::{Workspace, with_store};

#[test]
fn info_describes_what_was_ingested() {
    let workspace = with_store();
    let store = workspace.json("info s.zarr --json");
    assert_eq!(store["subjects"][0]["subject"], "case");
    let subject = workspace.json("info s.zarr/case --json");
    assert_eq!(subject, store["subjects"][0]);
    let ct = workspace.json("info s.zarr/case/ct/ --json");
    assert_eq!(ct, subject["volumes"][0]);
    assert_eq!(ct["shape"], json!([24, 30, 20]));
    assert_eq!(ct["dtype"], "int16");
    assert_eq!(ct["kind"], "image");
    assert_eq!(ct["spacing_mm"], json!([3.0, 2.0, 1.0]));
    assert_eq!(ct["patch_sizes"], json!([[8, 8, 8]]));
    assert_eq!(ct["statistics"]["min"], 0);
    assert_eq!(ct["statistics"]["max"], 999);
    assert_eq!(ct["source"]["name"], "ct.nii.gz");
    let seg = &subject["volumes"][1];
    let third = 20 * 10 * 24;
    // Background is not counted.
    let counts = json!([{"label": 1, "voxels": third}, {"label": 2, "voxels": third}]);
    assert_eq!(seg["labels"], counts);
    let text = workspace.ok("info s.zarr").out;
    assert!(text.contains("case: ct 24 × 30 × 20 int16, seg 24 × 30 × 20 int16"), "{text}");
    let text = workspace.ok("info s.zarr/case/seg").out;
    assert!(text.contains("labels   1: 4800, 2: 4800"), "{text}");
}

#[test]
fn missing_items_are_named_with_the_existing_ones() {
    let workspace = with_store();
    workspace.fails("info s.zarr/cas", 2, &["\"cas\"", "\"case\""]);
    workspace.fails("info s.zarr/case/mr", 2, &["\"mr\"", "\"ct\"", "\"seg\""]);
    workspace.fails("info nothing", 2, &["nothing", "not a voxquarry store"]);
    workspace.fails("verify ct.nii.gz", 2, &["ct.nii.gz", "not a voxquarry store"]);
    fs::create_dir(workspace.path("empty")).unwrap();
    workspace.fails("verify empty", 2, &["empty", "zarr.json"]);
}

#[test]
fn a_whole_store_is_verified_chunk_by_chunk() {
    let workspace = with_store();
    let report = workspace.json("verify s.zarr --json");
    assert_eq!(report["ok"], true);
    assert_eq!(report["subjects"], 1);
    assert_eq!(report["volumes"], 2);
    assert_eq!(report["error_count"], 0);
    assert_eq!(report["errors"], json!([]));
    // Chunks of zeros are not stored; the image has none.
    let chunk = workspace.json("info s.zarr/case/ct --json")["chunk"].clone();
    let per_axis = |size: u64, a: usize| size.div_ceil(chunk[a].as_u64().unwrap());
    let image_chunks = per_axis(24, 0) * per_axis(30, 1) * per_axis(20, 2);
    assert!(report["chunks"].as_u64().unwrap() >= image_chunks, "{report}");
    let run = workspace.ok("verify s.zarr");
    assert!(run.out.starts_with("no damage: 1 subjects, 2 volumes"), "{run:?}");
    assert!(run.err.contains("checking case/ct\n") && run.err.contains("checking case/seg\n"));
}

#[test]
fn every_flipped_byte_of_a_shard_is_found() {
    let workspace = with_store();
    let shard = first_file(&workspace.path("s.zarr/case/ct/0/c"));
    let whole = fs::read(&shard).unwrap();
    // From the first byte of a chunk to the index and its checksum.
    for at in (0..whole.len()).step_by(whole.len() / 13).chain([whole.len() - 1]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&shard, damaged).unwrap();
        let run = workspace.run("verify s.zarr --json");
        assert_eq!(run.code, Some(3), "byte {at}: {run:?}");
        let report = run.json();
        assert_eq!(report["ok"], false, "byte {at}");
        assert!(report["error_count"].as_u64().unwrap() >= 1, "byte {at}");
        let error = report["errors"][0].as_str().unwrap();
        assert!(error.contains("case/ct/0/c"), "byte {at}: {error}");
    }
    workspace.fails("verify s.zarr", 3, &["case/ct/0/c"]);
    fs::write(&shard, whole).unwrap();
    workspace.ok("verify s.zarr");
    fs::remove_file(&shard).unwrap();
    workspace.fails("verify s.zarr", 3, &["missing"]);
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let workspace: Workspace = with_store();
    let mut child = workspace
        .command("info s.zarr --json")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

fn first_file(folder: &Path) -> PathBuf {
    let entry = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    if entry.is_dir() { first_file(&entry) } else { entry }
}
