//! `voxquarry ingest` that changes voxels, and `voxquarry fingerprint`.

use serde_json::{Value, json};

use crate::workspace::{Workspace, gzip, image, labels, nifti, with_store};

const CASE: &str = "--subject case --image ct=ct.nii.gz --labels seg=seg.nii --patch-size 8";

fn sources() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("ct.nii.gz", &gzip(&image()));
    workspace.write("seg.nii", &labels());
    workspace
}

fn volume(workspace: &Workspace, path: &str) -> Value {
    workspace.json(&format!("info {path} --json"))
}

#[test]
fn options_change_voxels_and_are_told() {
    let workspace = sources();
    let options = "--spacing 2,2,1 --canonical --clip -50,800.5 --normalize zscore --dtype float64";
    let told = workspace.ok(&format!("ingest {CASE} {options} --out s.zarr --dry-run"));
    assert!(told.out.contains("case/ct (image): 36 × 30 × 20 float64, from 24 × 30 × 20 int16 by"));
    assert!(told.out.contains("for copies that are removed again"), "{told:?}");
    assert!(!workspace.path("s.zarr").exists());
    let plan = workspace.json(&format!("ingest {CASE} {options} --out s.zarr --dry-run --json"));
    assert_eq!(plan["volumes"][0]["changes"]["spacing"], json!([2.0, 2.0, 1.0]));
    assert_eq!(plan["volumes"][0]["shape"], json!([36, 30, 20]));
    // The copy of one volume at a time, of real values.
    assert_eq!(plan["scratch_bytes_at_most"], 24 * 30 * 20 * 4);
    workspace.ok(&format!("ingest {CASE} {options} --out s.zarr"));
    let ct = volume(&workspace, "s.zarr/case/ct");
    assert_eq!((&ct["dtype"], &ct["shape"]), (&json!("float64"), &json!([36, 30, 20])));
    assert_eq!(ct["changes"]["normalize"], "zscore");
    assert_eq!(ct["changes"]["clip"], json!([-50.0, 800.5]));
    assert_eq!(ct["changes"]["native"]["dtype"], "int16");
    assert!(ct["statistics"]["mean"].as_f64().unwrap().abs() < 1e-9, "{ct}");
    assert!((ct["statistics"]["std"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{ct}");
    let seg = volume(&workspace, "s.zarr/case/seg");
    assert_eq!((&seg["dtype"], &seg["shape"]), (&json!("int16"), &json!([36, 30, 20])));
    assert!(workspace.ok("info s.zarr/case/ct").out.contains("  changes  clip [-50.0,800.5]"));
    workspace.ok("verify s.zarr");
    let again = workspace.json(&format!("ingest {CASE} {options} --out s.zarr --json"));
    assert_eq!(again["skipped"], json!(["case"]));
    let other = options.replace("800.5", "900");
    workspace.fails(
        &format!("ingest {CASE} {other} --out s.zarr"),
        2,
        &["the bounds of the clip: [-50.0,800.5], now [-50.0,900.0]", "--overwrite"],
    );
    assert_eq!(workspace.names("s.zarr"), ["case", "zarr.json"], "no copy is left");
}

#[test]
fn a_crop_is_an_upper_bound_until_it_is_known() {
    let workspace = Workspace::new();
    // Not 0 from plane 3 to 5.
    let voxel = |i: usize| if (3..6).contains(&(i / 600)) { 7 } else { 0 };
    workspace.write("ct.nii", &nifti(&[20, 30, 24], voxel));
    let ingest = "ingest ct.nii --crop-foreground --patch-size 8 --out s.zarr";
    let told = workspace.ok(&format!("{ingest} --dry-run")).out;
    assert!(told.contains("24 × 30 × 20 int16, at most, from 24 × 30 × 20 int16 by crop"));
    let report = workspace.json(&format!("{ingest} --json"));
    assert_eq!(report["voxel_bytes"], 3 * 30 * 20 * 2);
    let image = volume(&workspace, "s.zarr/ct/image");
    assert_eq!(image["changes"]["crop"], json!({ "start": [3, 0, 0], "size": [3, 30, 20] }));
    assert_eq!(image["affine"][2], json!([0.0, 0.0, 3.0, 9.0]));
}

#[test]
fn changes_that_cannot_be_are_the_callers_fault() {
    let workspace = sources();
    for option in [
        "--spacing 0",
        "--spacing 1,-1,1",
        "--spacing nan",
        "--clip 1,0",
        "--clip 5",
        "--normalize minmax",
        "--normalize 3,3",
        "--dtype int24",
        "--normalize zscore --dtype int16",
        "--clip 0.2,0.8",
        "--spacing 1e-9",
    ] {
        let run = workspace.run(&format!("ingest {CASE} {option} --out s.zarr"));
        assert_eq!(run.code, Some(2), "{option}: {run:?}");
    }
    workspace.fails(
        &format!("ingest {CASE} --dtype uint8 --out s.zarr"),
        3,
        &["ct.nii.gz", "which uint8 does not hold", "nothing is wrapped"],
    );
    assert_eq!(workspace.names(""), ["ct.nii.gz", "seg.nii"]);
}

#[test]
fn a_fingerprint_has_the_keys_of_nnunet() {
    let workspace = with_store();
    let found = workspace.json("fingerprint s.zarr --json");
    assert_eq!(found["subjects"], json!(["case"]));
    assert_eq!(found["spacings"], json!([[3.0, 2.0, 1.0]]));
    assert_eq!(found["shapes_after_crop"], json!([[24, 30, 20]]));
    assert_eq!(found["labels"]["2"]["voxels"], 24 * 10 * 20);
    let values = &found["foreground_intensity_properties_per_channel"]["0"];
    assert_eq!(values["voxels"], 24 * 20 * 20);
    let text = workspace.ok("fingerprint s.zarr").out;
    assert!(text.contains("case: 24 × 30 × 20, 3.0000 × 2.0000 × 1.0000 mm"), "{text}");
    assert!(text.contains("label 1: 4800 voxels in 1 subjects"), "{text}");
    workspace.fails("fingerprint s.zarr --labels ct2", 2, &["labels", "ct2"]);
    workspace.fails("fingerprint s.zarr --volumes t1", 2, &["no volume", "t1"]);
    workspace.fails("fingerprint gone.zarr", 2, &["gone.zarr"]);
}
