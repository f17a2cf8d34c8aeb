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
        "ingest ct.nii --out s.zarr --levels many",
        "ingest ct.nii --out s.zarr --levels -1",
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
    let again = "ingest --subject case --image ct=new.nii --labels seg=new.nii --out s.zarr";
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
    assert_eq!(plan["existing"], serde_json::json!([]));
    assert_eq!(plan["disk_bytes_at_most"], 20 * 30 * 24 * 2);
    assert!(plan["free_bytes"].as_u64().unwrap() > 0);
    assert_eq!(workspace.names(""), ["ct.nii"]);
    workspace.fails("ingest gone.nii --out s.zarr --dry-run", 2, &["no file gone.nii"]);
    workspace.ok("ingest ct.nii --out s.zarr --quiet");
    workspace.write("new.nii", &image());
    let text = workspace.ok("ingest ct.nii new.nii --out s.zarr --dry-run").out;
    for line in ["; exists\n", "2 subjects, 1 of them exist\n", "disk: at most 28.1 KiB of "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(workspace.names("s.zarr"), ["ct", "zarr.json"]);
}

#[test]
fn logs_have_plain_lines_and_quiet_has_none() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    let run = workspace.ok("ingest ct.nii --out s.zarr");
    assert!(run.err.contains("ingesting ct/image\n"), "{run:?}");
    assert!(run.err.contains("ct published (1 of 1): 28.1 KiB in, "), "{run:?}");
    assert!(run.out.starts_with("1 subject in s.zarr: "), "{run:?}");
    let run = workspace.ok("ingest ct.nii --out s.zarr --overwrite --quiet");
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
}

#[test]
fn volumes_are_added_and_none_is_removed_by_the_way() {
    let workspace = with_store();
    workspace.write("pet.nii", &image());
    let pet = "ingest --subject case --image pet=pet.nii --patch-size 8 --out s.zarr";
    let volumes = || -> Vec<String> {
        let found = workspace.json("info s.zarr/case --json");
        let names = found["volumes"].as_array().unwrap().iter();
        names.map(|v| v["volume"].as_str().unwrap().to_owned()).collect()
    };
    workspace.fails(&format!("{pet} --overwrite"), 2, &["ct", "seg", "would remove", "--add"]);
    assert_eq!(volumes(), ["ct", "seg"]);
    workspace.ok(&format!("{pet} --add"));
    assert_eq!(volumes(), ["ct", "pet", "seg"]);
    workspace.ok("verify s.zarr");
    let report = workspace.json(&format!("{pet} --add --json"));
    assert_eq!(report["skipped"], serde_json::json!(["case"]), "the same again is done");
    workspace.write("pet.nii", &labels());
    let words = ["case/pet", "content of its file", "--overwrite"];
    workspace.fails(&format!("{pet} --add"), 2, &words);
    workspace.ok(&format!("{pet} --add --overwrite"));
    assert_eq!(volumes(), ["ct", "pet", "seg"]);
}

#[test]
fn broken_subjects_are_listed_and_the_others_ingested() {
    let workspace = Workspace::new();
    for name in ["a.nii", "b.nii", "c.nii", "d.nii"] {
        workspace.write(name, &image());
    }
    workspace.write("b.nii", b"no image");
    workspace.write("d.nii", &image()[..1000]);
    let all = "ingest a.nii b.nii c.nii d.nii --out s.zarr --report r.json";
    let run = workspace.run(all);
    assert_eq!(run.code, Some(3), "{run:?}");
    for word in ["error: 2 failures:\n", "  b  image  b.nii: ", "  d  image  d.nii: "] {
        assert!(run.err.contains(word), "{word}: {run:?}");
    }
    assert!(!workspace.path("s.zarr").exists());
    let report = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(workspace.path("r.json")).unwrap()).unwrap()
    };
    assert_eq!(report()["done"], serde_json::json!([]));
    assert_eq!(report()["failed"].as_array().unwrap().len(), 2);

    let run = workspace.run(&format!("{all} --keep-going"));
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.out.starts_with("2 subjects in s.zarr"), "{run:?}");
    let found = report();
    assert_eq!(found["done"], serde_json::json!(["a", "c"]));
    assert_eq!(found["failed"][0]["subject"], "b");
    assert_eq!(found["failed"][0]["volume"], "image");
    assert_eq!(found["failed"][0]["path"], "b.nii");
    assert!(found["failed"][1]["error"].as_str().unwrap().contains("d.nii"), "{found}");
    workspace.write("d.nii", &image());
    assert_eq!(workspace.run(&format!("{all} --keep-going --quiet")).code, Some(3));
    assert_eq!(report()["done"], serde_json::json!(["d"]));
    assert_eq!(report()["skipped"], serde_json::json!(["a", "c"]));
    let no_folder = "ingest a.nii --out s.zarr --report no/folder/r.json";
    workspace.fails(no_folder, 2, &["report", "no/folder"]);
}

#[test]
fn grids_are_told_in_words_and_stated_by_options() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    let moved = |mm: f32, at: usize| {
        let mut file = labels();
        file[at..at + 4].copy_from_slice(&mm.to_le_bytes());
        file
    };
    // Places of the x, y, z offsets in the sform.
    let [x, y] = [292, 308];
    workspace.write("rounded.nii", &moved(0.03, x));
    workspace.write("moved.nii", &moved(1.0, y));
    let mut flipped = labels();
    flipped[280..284].copy_from_slice(&(-1.0f32).to_le_bytes());
    flipped[292..296].copy_from_slice(&19.0f32.to_le_bytes());
    workspace.write("flipped.nii", &flipped);
    let run = |seg: &str, options: &str| {
        format!(
            "ingest --subject s --image ct=ct.nii --labels seg={seg} --out {seg}.zarr {options}"
        )
    };
    let told = workspace.ok(&run("rounded.nii", "")).err;
    let note = "note: s: seg has the affine of ct instead of its own: shifted by 0.030 mm";
    assert!(told.contains(note), "{told}");
    workspace.ok("verify rounded.nii.zarr");
    workspace.fails(&run("rounded.nii", "--grid-tolerance 0.01"), 3, &["shifted by 0.030 mm"]);
    let words = ["shifted by 1.000 mm (0.000, 0.500, 0.000 voxels along z, y, x)", "grid-from"];
    workspace.fails(&run("moved.nii", ""), 3, &words);
    workspace.ok(&run("moved.nii", "--grid-tolerance 1"));
    workspace.fails(&run("flipped.nii", ""), 3, &["flipped along x"]);
    workspace.fails(&run("flipped.nii", "--grid-from pet"), 2, &["pet", "ct, seg"]);
    workspace.ok(&run("flipped.nii", "--grid-from ct"));
    let affine = |store: &str| {
        let found = workspace.json(&format!("info {store}/s --json"));
        assert_eq!(found["volumes"][0]["affine"], found["volumes"][1]["affine"]);
        found["volumes"][0]["affine"][0][0].as_f64().unwrap()
    };
    assert_eq!(affine("flipped.nii.zarr"), 1.0);
}

#[test]
fn a_wrong_affine_can_be_stated() {
    let workspace = Workspace::new();
    let mut singular = image();
    singular[280..292].fill(0);
    workspace.write("ct.nii", &singular);
    workspace.fails("ingest ct.nii --out s.zarr", 3, &["ct.nii", "singular"]);
    workspace.ok("ingest ct.nii --out s.zarr --voxel-size 3,2,1");
    let spacing = |store: &str| {
        workspace.json(&format!("info {store}/ct/image --json"))["spacing_mm"].clone()
    };
    assert_eq!(spacing("s.zarr"), serde_json::json!([3.0, 2.0, 1.0]));
    workspace.write("affine.txt", b"-1 0 0 0\n0 4 0 0\n0 0 5 0\n0 0 0 1\n");
    workspace.ok("ingest ct.nii --out t.zarr --affine affine.txt");
    assert_eq!(spacing("t.zarr"), serde_json::json!([5.0, 4.0, 1.0]));
    workspace.fails("ingest ct.nii --out s.zarr --voxel-size 3,2,2", 2, &["the affine"]);
    for wrong in ["--affine 1,2,3", "--voxel-size 3", "--affine gone.txt", "--grid-tolerance x"] {
        assert_eq!(workspace.run(&format!("ingest ct.nii --out u.zarr {wrong}")).code, Some(2));
    }
}

/// An nnU-Net data set of two cases, the second without its label.
fn nnunet() -> Workspace {
    let workspace = Workspace::new();
    for folder in ["D", "D/imagesTr", "D/labelsTr"] {
        std::fs::create_dir(workspace.path(folder)).unwrap();
    }
    let document = br#"{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz"}"#;
    workspace.write("D/dataset.json", document);
    for case in ["a", "b"] {
        workspace.write(&format!("D/imagesTr/{case}_0000.nii.gz"), &gzip(&image()));
    }
    workspace.write("D/labelsTr/a.nii.gz", &gzip(&labels()));
    workspace
}

#[test]
fn a_data_set_is_one_command() {
    let workspace = nnunet();
    workspace.fails("ingest D --out s.zarr", 2, &["D/labelsTr/b.nii.gz"]);
    let run = workspace.run("ingest D --out s.zarr --keep-going --patch-size 8");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.err.contains("note: D is an nnU-Net data set of 2 subjects\n"), "{run:?}");
    assert!(run.err.contains("a published (1 of 1): 56.2 KiB in, "), "{run:?}");
    for line in
        ["1 subject in s.zarr: ", "  written  1 subject: 56.2 KiB in, ", "  failed   1 subj"]
    {
        assert!(run.out.contains(line), "{line}: {run:?}");
    }
    workspace.write("D/labelsTr/b.nii.gz", &gzip(&labels()));
    let run = workspace.ok("ingest D --out s.zarr --keep-going --patch-size 8");
    assert!(run.err.contains("comparing a/image with its file of "), "{run:?}");
    assert!(run.out.contains("  skipped  1 subject: there, as asked for now\n"), "{run:?}");
    let info = workspace.json("info s.zarr/b/label --json");
    let names = serde_json::json!([
        { "ids": [0], "name": "background" },
        { "ids": [1], "name": "liver" },
    ]);
    assert_eq!(info["label_names"], names);
    assert_eq!(info["kind"], "labels");
    let info = workspace.json("info s.zarr --json");
    assert_eq!(info["splits"], serde_json::json!({ "train": ["a", "b"] }));
    assert!(workspace.ok("info s.zarr").out.contains("\n  split train: 2 subjects\n"));
    assert!(
        workspace.ok("info s.zarr/b/label").out.contains("  names    0: background, 1: liver\n")
    );
    workspace.ok("verify s.zarr");
}

#[test]
fn patterns_subsets_and_kinds_are_options() {
    let workspace = nnunet();
    let pattern = "--pattern D/imagesTr/{subject}_0000.nii.gz";
    let report = workspace.json(&format!("ingest {pattern} --out s.zarr --json"));
    assert_eq!(report["written"], serde_json::json!(["a", "b"]));
    let part = "ingest D --subset a --kind label=image --out t.zarr --json";
    assert_eq!(workspace.json(part)["written"], serde_json::json!(["a"]));
    assert_eq!(workspace.json("info t.zarr/a/label --json")["kind"], "image");
    let glob = "ingest D/imagesTr/a*.nii.gz --out u.zarr --json";
    assert_eq!(workspace.json(glob)["written"], serde_json::json!(["a"]));
    for (words, expected) in [
        ("D --subset c", ["subset", "train"]),
        ("D --kind seg=labels", ["kind", "image, label"]),
        ("D --layout msd", ["dataset.json", "labels"]),
        ("D --pattern {subject}.mha", ["pattern", "D"]),
        ("D --pattern {volume}.nii", ["{subject}", "pattern"]),
        ("x*.nii", ["x*.nii", "matches"]),
    ] {
        let run = workspace.run(&format!("ingest {words} --out v.zarr"));
        assert!(matches!(run.code, Some(2 | 3)), "{words}: {run:?}");
        assert!(expected.iter().all(|word| run.err.contains(word)), "{words}: {run:?}");
    }
    for words in ["--layout zip D", "--kind seg D", "--kind seg=picture D", "D --pattern"] {
        assert_eq!(workspace.run(&format!("ingest {words} --out v.zarr")).code, Some(2), "{words}");
    }
    assert!(!workspace.path("v.zarr").exists());
}

#[test]
fn levels_are_made_told_and_counted() {
    let workspace = Workspace::new();
    workspace.write("ct.nii", &image());
    workspace.fails("ingest ct.nii --out s.zarr --levels 99", 2, &["levels 99", "at most"]);
    let dry =
        |words: &str| workspace.json(&format!("ingest ct.nii --out s.zarr --dry-run {words}"));
    let (none, some) = (dry("--json"), dry("--levels 2 --json"));
    assert_eq!(some["volumes"][0]["levels"].as_array().unwrap().len(), 2);
    assert!(none["volumes"][0].get("levels").is_none());
    let disk = |plan: &serde_json::Value| plan["disk_bytes_at_most"].as_u64().unwrap();
    let more = some["volumes"][0]["levels_bytes"].as_u64().unwrap();
    assert!(more > 0 && disk(&some) == disk(&none) + more);
    workspace.ok("ingest ct.nii --out s.zarr --levels 2");
    let info = workspace.json("info s.zarr/ct/image --json");
    let levels = info["levels"].as_array().unwrap();
    assert_eq!((levels.len(), &levels[1]["level"]), (2, &serde_json::json!(2)));
    assert_eq!(
        levels[0]["statistics"]["voxels"].as_u64(),
        Some(levels[0]["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product())
    );
    assert!(workspace.ok("info s.zarr/ct/image").out.contains("levels   1: "));
    workspace.ok("verify s.zarr");
    // The same command finds it done, another finds other levels.
    assert_eq!(workspace.json("ingest ct.nii --out s.zarr --levels 2 --json")["skipped"][0], "ct");
    workspace.fails("ingest ct.nii --out s.zarr", 2, &["the levels"]);
}
