//! `voxquarry demo`.

use serde_json::Value;

use crate::workspace::{Workspace, gzip, image, labels, nifti};

fn check(figures: &Value, shape: &[usize]) {
    assert_eq!(figures["shape"], serde_json::json!(shape), "{figures}");
    assert_eq!(figures["sliding_window"]["equal"], true, "{figures}");
    assert_eq!(figures["sliding_window"]["max_difference"], 0.0, "{figures}");
    assert_eq!(figures["verify"]["ok"], true, "{figures}");
    assert_eq!(figures["export"]["equal"], true, "{figures}");
    assert_eq!(figures["patches"]["count"], 1000, "{figures}");
    for (part, key) in
        [("patches", "per_second"), ("patches", "mb_per_second"), ("ingest", "ratio")]
    {
        assert!(figures[part][key].as_f64().unwrap() > 0.0, "{part}.{key}: {figures}");
    }
}

#[test]
fn a_real_image_goes_the_whole_way_and_again() {
    let workspace = Workspace::new();
    workspace.write("t1.nii.gz", &gzip(&image()));
    workspace.write("tissue.nii", &labels());
    let words = "demo --dir out --image t1.nii.gz --labels tissue.nii --json";
    for _ in 0..2 {
        let figures = workspace.json(words);
        check(&figures, &[24, 30, 20]);
        assert_eq!(figures["phantom"], false);
        assert_eq!(figures["ingest"]["voxel_bytes"], 20 * 30 * 24 * 2);
        assert_eq!(figures["patches"]["size"], serde_json::json!([24, 30, 20]));
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
fn a_phantom_takes_the_place_of_an_image_and_says_so() {
    let workspace = Workspace::new();
    let run = workspace.ok("demo --json");
    assert!(run.err.contains("a phantom"), "{run:?}");
    let figures = run.json();
    check(&figures, &[182, 218, 182]);
    assert_eq!(figures["phantom"], true);
    assert_eq!(figures["patches"]["size"], serde_json::json!([96, 96, 96]));
    let labels =
        workspace.json("info voxquarry-demo/store.zarr/demo/labels --json")["labels"].clone();
    let ids: Vec<_> = labels.as_array().unwrap().iter().map(|l| l["label"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_series_and_a_single_voxel_go_the_whole_way() {
    let workspace = Workspace::new();
    workspace.write("series.nii", &nifti(&[9, 8, 7, 6], |i| i as i16));
    workspace.write("one.nii.gz", &gzip(&nifti(&[1, 1, 1], |_| -3)));
    let figures = workspace.json("demo --dir a --json --image series.nii");
    check(&figures, &[6, 7, 8, 9]);
    assert_eq!(figures["patches"]["channels"], 4);
    check(&workspace.json("demo --dir a --json --image one.nii.gz"), &[1, 1, 1]);
}

#[test]
fn folders_of_others_and_inputs_are_not_touched() {
    let workspace = Workspace::new();
    workspace.write("t1.nii", &image());
    std::fs::create_dir(workspace.path("mine")).unwrap();
    workspace.write("mine/store.zarr", b"mine");
    workspace.fails("demo --dir mine --image t1.nii", 2, &["mine", "no demo"]);
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
