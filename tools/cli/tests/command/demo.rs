//! `voxquarry demo`.

use serde_json::Value;

use crate::world::{World, gzip, image, labels, nifti};

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
    let world = World::new();
    world.write("t1.nii.gz", &gzip(&image()));
    world.write("tissue.nii", &labels());
    let words = "demo --dir out --image t1.nii.gz --labels tissue.nii --json";
    for _ in 0..2 {
        let figures = world.json(words);
        check(&figures, &[24, 30, 20]);
        assert_eq!(figures["phantom"], false);
        assert_eq!(figures["ingest"]["voxel_bytes"], 20 * 30 * 24 * 2);
        assert_eq!(figures["patches"]["size"], serde_json::json!([24, 30, 20]));
    }
    let names = world.names("out");
    assert_eq!(names, [".voxquarry-demo", "exported.nii.gz", "preview.png", "store.zarr"]);
    assert_eq!(world.json("info out/store.zarr/demo/identity --json")["dtype"], "float32");
    let text = world.ok("demo --dir out --image t1.nii.gz").out;
    assert!(text.contains("\nmax difference        0\n"), "{text}");
    assert!(text.contains("\nexport equal          yes\n"), "{text}");
    assert!(text.trim_end().ends_with("preview.png"), "{text}");
}

#[test]
fn a_phantom_takes_the_place_of_an_image_and_says_so() {
    let world = World::new();
    let run = world.ok("demo --json");
    assert!(run.err.contains("a phantom"), "{run:?}");
    let figures = run.json();
    check(&figures, &[182, 218, 182]);
    assert_eq!(figures["phantom"], true);
    assert_eq!(figures["patches"]["size"], serde_json::json!([96, 96, 96]));
    let labels = world.json("info voxquarry-demo/store.zarr/demo/labels --json")["labels"].clone();
    let ids: Vec<_> = labels.as_array().unwrap().iter().map(|l| l["label"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_series_and_a_single_voxel_go_the_whole_way() {
    let world = World::new();
    world.write("series.nii", &nifti(&[9, 8, 7, 6], |i| i as i16));
    world.write("one.nii.gz", &gzip(&nifti(&[1, 1, 1], |_| -3)));
    let figures = world.json("demo --dir a --json --image series.nii");
    check(&figures, &[6, 7, 8, 9]);
    assert_eq!(figures["patches"]["channels"], 4);
    check(&world.json("demo --dir a --json --image one.nii.gz"), &[1, 1, 1]);
}

#[test]
fn folders_of_others_and_inputs_are_not_touched() {
    let world = World::new();
    world.write("t1.nii", &image());
    std::fs::create_dir(world.path("mine")).unwrap();
    world.write("mine/store.zarr", b"mine");
    world.fails("demo --dir mine --image t1.nii", 2, &["mine", "no demo"]);
    assert_eq!(world.names("mine"), ["store.zarr"]);
    world.fails("demo --dir t1.nii", 2, &["t1.nii"]);
    world.fails("demo --dir t1.nii/x --image t1.nii", 4, &["t1.nii/x"]);
    assert_eq!(world.run("demo --labels t1.nii").code, Some(2));
    world.ok("demo --dir out --image t1.nii");
    let again = "demo --dir out --image out/exported.nii";
    world.fails(again, 2, &["out/exported.nii", "write over"]);
    assert!(std::fs::read(world.path("out/exported.nii")).unwrap() == image());
    world.fails("demo --dir out --image gone.nii", 2, &["no file gone.nii"]);
}
