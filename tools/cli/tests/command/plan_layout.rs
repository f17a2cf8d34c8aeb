//! `voxquarry plan-layout`: its choice equals that of ingest, and it leaves no files.

use serde_json::json;

use crate::workspace::{Workspace, gzip, image};

#[test]
fn the_choice_equals_that_of_ingest_and_each_patch_size_has_a_cost() {
    let workspace = Workspace::new();
    workspace.write("ct.nii.gz", &gzip(&image()));
    let before = workspace.names("");
    for codec in ["fast", "compact", "none"] {
        let options = format!("ct.nii.gz --patch-size 8 --patch-size 1,16,16 --codec {codec}");
        let report = workspace.json(&format!("plan-layout {options} --json"));
        let plan = workspace.json(&format!("ingest {options} --out s.zarr --dry-run --json"));
        assert_eq!(report["shape"], json!([24, 30, 20]));
        let candidates = report["candidates"].as_array().unwrap();
        let chosen: Vec<_> = candidates.iter().filter(|c| c["chosen"] == true).collect();
        assert_eq!(chosen.len(), 1, "{report}");
        assert_eq!(chosen[0]["codec"], codec);
        for key in ["chunk", "shard"] {
            assert_eq!(chosen[0][key], plan["volumes"][0][key], "{key}");
        }
        for c in candidates {
            let sizes: Vec<_> =
                c["patches"].as_array().unwrap().iter().map(|p| p["patch_size"].clone()).collect();
            assert_eq!(sizes, [json!([8, 8, 8]), json!([1, 16, 16])]);
        }
    }
    assert_eq!(workspace.names(""), before);
    let text = workspace.ok("plan-layout ct.nii.gz --patch-size 8").out;
    assert!(text.contains("24 × 30 × 20 int16") && text.contains("patches of 8 × 8 × 8"), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.starts_with("* ") && line.contains("fast")).count(),
        2,
        "{text}"
    );
}

#[test]
fn unreadable_files_are_explained() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image()[..3000]);
    workspace.write("cut.nii.gz", &gzip(&image())[..1500]);
    workspace.fails("plan-layout gone.nii", 2, &["no file gone.nii"]);
    workspace.fails("plan-layout ct.nii", 3, &["ct.nii", "header promises"]);
    workspace.fails("plan-layout cut.nii.gz", 3, &["cut.nii.gz"]);
    assert_eq!(workspace.run("plan-layout ct.nii --patch-size 0").code, Some(2));
}
