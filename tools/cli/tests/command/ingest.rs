//! `voxquarry ingest`: what it says, refuses and leaves.

use crate::world::{World, gzip, image, labels, nifti, with_store};

#[test]
fn a_lone_file_becomes_a_subject_of_its_name() {
    let world = World::new();
    world.write("ct.nii.gz", &gzip(&image()));
    let report = world.json("ingest ct.nii.gz --out s.zarr --json");
    assert_eq!(report["written"], serde_json::json!(["ct"]));
    assert_eq!(report["skipped"], serde_json::json!([]));
    assert_eq!(report["voxel_bytes"], 20 * 30 * 24 * 2);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(world.json("info s.zarr --json")["subjects"][0]["volumes"][0]["volume"], "image");
}

#[test]
fn arguments_that_cannot_be_are_the_callers_fault() {
    let world = World::new();
    world.write("ct.nii", &image());
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
        let run = world.run(words);
        assert_eq!(run.code, Some(2), "{words}: {run:?}");
        assert!(run.out.is_empty() && !run.err.is_empty(), "{words}: {run:?}");
    }
    world.fails("ingest --subject ../x ct.nii --out s.zarr", 2, &["name"]);
    world.fails("ingest ct.nii ct.nii --out s.zarr", 2, &["twice"]);
    world.fails("ingest ct.nii --out s.zarr --memory 1KiB", 2, &["--memory"]);
    assert_eq!(world.names(""), ["ct.nii"]);
}

#[test]
fn damaged_and_missing_files_name_themselves_and_leave_nothing() {
    let world = World::new();
    world.write("good.nii", &image());
    let whole = gzip(&image());
    world.write("cut.nii.gz", &whole[..whole.len() / 2]);
    world.write("short.nii", &image()[..2000]);
    world.write("text.nii", b"this is no image");
    world.write("other.nii", &nifti(&[5, 4, 3], |i| i as i16));
    let before = world.names("");
    world.fails("ingest cut.nii.gz --out s.zarr", 3, &["cut.nii.gz"]);
    world.fails("ingest short.nii --out s.zarr", 3, &["short.nii"]);
    world.fails("ingest text.nii --out s.zarr", 3, &["text.nii"]);
    world.fails("ingest gone.nii --out s.zarr", 2, &["no file gone.nii"]);
    let grids = "ingest --image a=good.nii --labels b=other.nii --out s.zarr";
    world.fails(grids, 3, &["other.nii", "another grid"]);
    assert_eq!(world.names(""), before);
}

#[test]
fn targets_that_cannot_be_written_fail_before_the_work() {
    let world = World::new();
    world.write("ct.nii", &image());
    world.write("file", b"a file");
    world.fails("ingest ct.nii --out /proc/s.zarr", 4, &["/proc/s.zarr"]);
    world.fails("ingest ct.nii --out file/s.zarr", 4, &["file/s.zarr"]);
    std::fs::create_dir(world.path("full")).unwrap();
    world.write("full/mine.txt", b"keep");
    world.fails("ingest ct.nii --out full", 2, &["full", "something else"]);
    assert_eq!(world.names("full"), ["mine.txt"]);
    assert_eq!(std::fs::read(world.path("file")).unwrap(), b"a file");
}

#[test]
fn a_subject_that_exists_is_refused_skipped_or_replaced() {
    let world = with_store();
    world.write("new.nii", &nifti(&[5, 4, 3], |i| i as i16));
    let again = "ingest --subject case --image ct=new.nii --out s.zarr";
    let shape = || world.json("info s.zarr/case/ct --json")["shape"].clone();
    world.fails(again, 2, &["case", "--overwrite", "--skip-existing"]);
    assert_eq!(shape(), serde_json::json!([24, 30, 20]));
    let report = world.json(&format!("{again} --skip-existing --json"));
    assert_eq!(report["skipped"], serde_json::json!(["case"]));
    assert_eq!(shape(), serde_json::json!([24, 30, 20]));
    let report = world.json(&format!("{again} --overwrite --json"));
    assert_eq!(report["written"], serde_json::json!(["case"]));
    assert_eq!(shape(), serde_json::json!([3, 4, 5]));
    world.ok("verify s.zarr");
}

#[test]
fn manifests_name_their_mistakes_with_the_line() {
    let world = World::new();
    world.write("ct.nii", &image());
    world.write("seg.nii", &labels());
    world.write(
        "t.csv",
        b"subject,volume,kind,path\na,ct,image,ct.nii\na,seg,labels,seg.nii\nb,ct,image,ct.nii\n",
    );
    let report = world.json("ingest --manifest t.csv --out s.zarr --json");
    assert_eq!(report["written"], serde_json::json!(["a", "b"]));
    world.write("t.csv", b"subject,volume,kind,path\na,ct,image,ct.nii\nb,ct,image,gone.nii\n");
    world.fails("ingest --manifest t.csv --out new.zarr", 2, &["t.csv", "line 3", "gone.nii"]);
    world.fails("ingest --manifest gone.csv --out new.zarr", 2, &["no file gone.csv"]);
    assert!(!world.path("new.zarr").exists());
}

#[test]
fn a_dry_run_plans_and_writes_nothing() {
    let world = World::new();
    world.write("ct.nii", &image());
    let text = world.ok("ingest ct.nii --out s.zarr --dry-run").out;
    assert!(text.contains("24 × 30 × 20 int16") && text.contains("peak memory at most"), "{text}");
    let plan = world.json("ingest ct.nii --out s.zarr --dry-run --json");
    let volume = &plan["volumes"][0];
    assert_eq!(volume["subject"], "ct");
    assert_eq!(volume["voxel_bytes"], 20 * 30 * 24 * 2);
    let peak = plan["peak_memory_bytes"].as_u64().unwrap();
    assert_eq!(volume["memory_bytes"], peak);
    assert!((1 << 20..1 << 28).contains(&peak), "{peak}");
    assert_eq!(world.names(""), ["ct.nii"]);
    world.fails("ingest gone.nii --out s.zarr --dry-run", 2, &["no file gone.nii"]);
}

#[test]
fn logs_have_lines_and_quiet_has_none() {
    let world = World::new();
    world.write("ct.nii", &image());
    let run = world.ok("ingest ct.nii --out s.zarr");
    assert!(run.err.contains("ingesting ct/image\n"), "{run:?}");
    assert!(run.err.contains("ct published (1 of 1)\n"), "{run:?}");
    assert!(run.out.starts_with("1 subject in s.zarr: "), "{run:?}");
    let run = world.ok("ingest ct.nii --out s.zarr --overwrite --quiet");
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
}
