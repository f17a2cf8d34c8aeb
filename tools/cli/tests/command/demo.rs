//! `voxquarry demo`: all its steps succeed, and it touches only its own files.

use serde_json::Value;

use crate::workspace::{Workspace, gzip, image, labels, nifti};

fn check(results: &Value, shape: &[usize]) {
    assert_eq!(results["shape"], serde_json::json!(shape), "{results}");
    assert_eq!(results["sliding_window"]["equal"], true, "{results}");
    assert_eq!(results["sliding_window"]["max_difference"], 0.0, "{results}");
    assert_eq!(results["verify"]["ok"], true, "{results}");
    assert_eq!(results["export"]["equal"], true, "{results}");
    assert_eq!(results["patches"]["count"], 1000, "{results}");
    for (part, key) in
        [("patches", "per_second"), ("patches", "mb_per_second"), ("ingest", "ratio")]
    {
        assert!(results[part][key].as_f64().unwrap() > 0.0, "{part}.{key}: {results}");
    }
}

#[test]
fn an_image_passes_every_step_twice() {
    let workspace = Workspace::new();
    workspace.write("t1.nii.gz", &gzip(&image()));
    workspace.write("tissue.nii", &labels());
    let words = "demo --dir out --image t1.nii.gz --labels tissue.nii --json";
    for _ in 0..2 {
        let results = workspace.json(words);
        check(&results, &[24, 30, 20]);
        assert_eq!(results["phantom"], false);
        assert_eq!(results["ingest"]["voxel_bytes"], 20 * 30 * 24 * 2);
        assert_eq!(results["patches"]["size"], serde_json::json!([24, 30, 20]));
    }
    let names = workspace.names("out");
    assert_eq!(names, [".voxquarry-demo", "exported.nii.gz", "preview.png", "store.zarr"]);
    assert_eq!(workspace.json("info out/store.zarr/demo/identity --json")["dtype"], "float32");
    let text = workspace.ok("demo --dir out --image t1.nii.gz").out;
    assert!(text.contains("\nmax difference        0\n"), "{text}");
    assert!(text.contains("\nexport equal          yes\n"), "{text}");
    assert!(text.trim_end().ends_with("preview.png"), "{text}");
}

#[test]
fn a_phantom_replaces_a_missing_image() {
    let workspace = Workspace::new();
    let run = workspace.ok("demo --json");
    assert!(run.err.contains("a phantom"), "{run:?}");
    let results = run.json();
    check(&results, &[182, 218, 182]);
    assert_eq!(results["phantom"], true);
    assert_eq!(results["patches"]["size"], serde_json::json!([96, 96, 96]));
    let labels =
        workspace.json("info voxquarry-demo/store.zarr/demo/labels --json")["labels"].clone();
    let ids: Vec<_> = labels.as_array().unwrap().iter().map(|l| l["label"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_series_and_a_single_voxel_pass_every_step() {
    let workspace = Workspace::new();
    workspace.write("series.nii", &nifti(&[9, 8, 7, 6], |i| i as i16));
    workspace.write("one.nii.gz", &gzip(&nifti(&[1, 1, 1], |_| -3)));
    let results = workspace.json("demo --dir a --json --image series.nii");
    check(&results, &[6, 7, 8, 9]);
    assert_eq!(results["patches"]["channels"], 4);
    check(&workspace.json("demo --dir a --json --image one.nii.gz"), &[1, 1, 1]);
}

#[test]
fn other_folders_and_inputs_are_not_touched() {
    let workspace = Workspace::new();
    workspace.write("t1.nii", &image());
    std::fs::create_dir(workspace.path("mine")).unwrap();
    workspace.write("mine/store.zarr", b"mine");
    workspace.fails("demo --dir mine --image t1.nii", 2, &["mine", "not a folder of the demo"]);
    assert_eq!(workspace.names("mine"), ["store.zarr"]);
    workspace.fails("demo --dir t1.nii", 2, &["t1.nii"]);
    workspace.fails("demo --dir t1.nii/x --image t1.nii", 4, &["t1.nii/x"]);
    assert_eq!(workspace.run("demo --labels t1.nii").code, Some(2));
    workspace.ok("demo --dir out --image t1.nii");
    let again = "demo --dir out --image out/exported.nii";
    workspace.fails(again, 2, &["out/exported.nii", "write over"]);
    assert!(std::fs::read(workspace.path("out/exported.nii")).unwrap() == image());
    workspace.fails("demo --dir out --image gone.nii", 2, &["no file gone.nii"]);
}
