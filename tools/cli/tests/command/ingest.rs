//! `voxquarry ingest`: its output, its errors, and the files it leaves.

use crate::workspace::{Workspace, gzip, image, labels, nifti, with_store};

#[test]
fn a_single_file_becomes_a_subject_of_its_name() {
    let workspace = Workspace::new();
    workspace.write("ct.nii.gz", &gzip(&image()));
    let report = workspace.json("ingest ct.nii.gz --out s.zarr --json");
    assert_eq!(report["written"], serde_json::json!(["ct"]));
    assert_eq!(report["skipped"], serde_json::json!([]));
    assert_eq!(report["voxel_bytes"], 20 * 30 * 24 * 2);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(
        workspace.json("info s.zarr --json")["subjects"][0]["volumes"][0]["volume"],
        "image"
    );
}

#[test]
fn invalid_arguments_are_the_callers_fault() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    for words in [
        "",
        "ingest",
        "ingest ct.nii",
        "ingest ct.nii --out s.zarr --patch-size 0",
        "ingest ct.nii --out s.zarr --patch-size 1,2",
        "ingest ct.nii --out s.zarr --codec gzip",
        "ingest ct.nii --out s.zarr --memory 1XB",
        "ingest ct.nii --out s.zarr --threads 0",
        "ingest ct.nii --out s.zarr --overwrite --skip-existing",
        "ingest ct.nii --out s.zarr --image a=ct.nii",
        "ingest --image ct.nii --out s.zarr",
        "frobnicate",
    ] {
        let run = workspace.run(words);
        assert_eq!(run.code, Some(2), "{words}: {run:?}");
        assert!(run.out.is_empty() && !run.err.is_empty(), "{words}: {run:?}");
    }
    workspace.fails("ingest --subject ../x ct.nii --out s.zarr", 2, &["name"]);
    workspace.fails("ingest ct.nii ct.nii --out s.zarr", 2, &["twice"]);
    workspace.fails("ingest ct.nii --out s.zarr --memory 1KiB", 2, &["--memory"]);
    assert_eq!(workspace.names(""), ["ct.nii"]);
}

#[test]
fn damaged_and_missing_files_are_named_and_nothing_is_left() {
    let workspace = Workspace::new();
    workspace.write("good.nii", &image());
    let whole = gzip(&image());
    workspace.write("cut.nii.gz", &whole[..whole.len() / 2]);
    workspace.write("short.nii", &image()[..2000]);
    workspace.write("text.nii", b"this is not an image");
    workspace.write("other.nii", &nifti(&[5, 4, 3], |i| i as i16));
    workspace.write("alone.hdr", &image()[..352]);
    let pipe = workspace.path("pipe.nii");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let before = workspace.names("");
    workspace.fails("ingest cut.nii.gz --out s.zarr", 3, &["cut.nii.gz"]);
    workspace.fails("ingest short.nii --out s.zarr", 3, &["short.nii"]);
    workspace.fails("ingest text.nii --out s.zarr", 3, &["text.nii"]);
    workspace.fails("ingest gone.nii --out s.zarr", 2, &["no file gone.nii"]);
    // The half of a pair that the user names is an argument, the other half is data.
    workspace.fails("ingest gone.img --out s.zarr", 2, &["no file gone.img"]);
    workspace.fails("ingest alone.hdr --out s.zarr", 3, &["alone.img", "pair"]);
    workspace.fails("ingest pipe.nii --out s.zarr", 2, &["pipe.nii", "regular file"]);
    let grids = "ingest --image a=good.nii --labels b=other.nii --out s.zarr";
    workspace.fails(grids, 3, &["other.nii", "another grid"]);
    assert_eq!(workspace.names(""), before);
}

#[test]
fn unwritable_targets_fail_before_the_work() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    workspace.write("file", b"a file");
    workspace.fails("ingest ct.nii --out /proc/s.zarr", 4, &["/proc/s.zarr"]);
    workspace.fails("ingest ct.nii --out file/s.zarr", 4, &["file/s.zarr"]);
    std::fs::create_dir(workspace.path("full")).unwrap();
    workspace.write("full/mine.txt", b"keep");
    workspace.fails("ingest ct.nii --out full", 2, &["full", "something else"]);
    assert_eq!(workspace.names("full"), ["mine.txt"]);
    assert_eq!(std::fs::read(workspace.path("file")).unwrap(), b"a file");
}

#[test]
fn an_existing_subject_is_refused_skipped_or_replaced() {
    let workspace = with_store();
    workspace.write("new.nii", &nifti(&[5, 4, 3], |i| i as i16));
    let again = "ingest --subject case --image ct=new.nii --out s.zarr";
    let shape = || workspace.json("info s.zarr/case/ct --json")["shape"].clone();
    workspace.fails(again, 2, &["case", "--overwrite", "--skip-existing"]);
    assert_eq!(shape(), serde_json::json!([24, 30, 20]));
    let report = workspace.json(&format!("{again} --skip-existing --json"));
    assert_eq!(report["skipped"], serde_json::json!(["case"]));
    assert_eq!(shape(), serde_json::json!([24, 30, 20]));
    let report = workspace.json(&format!("{again} --overwrite --json"));
    assert_eq!(report["written"], serde_json::json!(["case"]));
    assert_eq!(shape(), serde_json::json!([3, 4, 5]));
    workspace.ok("verify s.zarr");
}

#[test]
fn mistakes_in_a_manifest_are_named_with_their_line() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    workspace.write("seg.nii", &labels());
    workspace.write(
        "t.csv",
        b"subject,volume,kind,path\na,ct,image,ct.nii\na,seg,labels,seg.nii\nb,ct,image,ct.nii\n",
    );
    let report = workspace.json("ingest --manifest t.csv --out s.zarr --json");
    assert_eq!(report["written"], serde_json::json!(["a", "b"]));
    workspace.write("t.csv", b"subject,volume,kind,path\na,ct,image,ct.nii\nb,ct,image,gone.nii\n");
    workspace.fails("ingest --manifest t.csv --out new.zarr", 2, &["t.csv", "line 3", "gone.nii"]);
    workspace.fails("ingest --manifest gone.csv --out new.zarr", 2, &["no file gone.csv"]);
    assert!(!workspace.path("new.zarr").exists());
}

#[test]
fn a_dry_run_plans_and_writes_nothing() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    let text = workspace.ok("ingest ct.nii --out s.zarr --dry-run").out;
    assert!(text.contains("24 × 30 × 20 int16") && text.contains("peak memory at most"), "{text}");
    let plan = workspace.json("ingest ct.nii --out s.zarr --dry-run --json");
    let volume = &plan["volumes"][0];
    assert_eq!(volume["subject"], "ct");
    assert_eq!(volume["voxel_bytes"], 20 * 30 * 24 * 2);
    let peak = plan["peak_memory_bytes"].as_u64().unwrap();
    assert_eq!(volume["memory_bytes"], peak);
    assert!((1 << 20..1 << 28).contains(&peak), "{peak}");
    assert_eq!(workspace.names(""), ["ct.nii"]);
    workspace.fails("ingest gone.nii --out s.zarr --dry-run", 2, &["no file gone.nii"]);
}

#[test]
fn logs_have_plain_lines_and_quiet_has_none() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    let run = workspace.ok("ingest ct.nii --out s.zarr");
    assert!(run.err.contains("ingesting ct/image\n"), "{run:?}");
    assert!(run.err.contains("ct published (1 of 1)\n"), "{run:?}");
    assert!(run.out.starts_with("1 subject in s.zarr: "), "{run:?}");
    let run = workspace.ok("ingest ct.nii --out s.zarr --overwrite --quiet");
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
}
