//! `voxquarry sample`: the locations as text and JSON, and invalid arguments.

use std::fs;

use crate::workspace::{Workspace, image, labels, nifti, with_store};

fn starts(text: &str) -> Vec<(String, Vec<i64>)> {
    text.lines()
        .map(|line| {
            let mut words = line.split('\t');
            (words.next().unwrap().to_owned(), words.map(|n| n.parse().unwrap()).collect())
        })
        .collect()
}

#[test]
fn lines_and_json_give_the_same_locations() {
    let workspace = with_store();
    workspace.write("ct.nii", &image());
    workspace.ok("ingest --subject other --image ct=ct.nii --patch-size 8 --out s.zarr");
    let found = starts(&workspace.ok("sample s.zarr --count 5 --patch-size 4,6,8 --seed 3").out);
    assert_eq!(found.len(), 10);
    let document = workspace.json("sample s.zarr --count 5 --patch-size 4,6,8 --seed 3 --json");
    for (sample, (subject, numbers)) in document["samples"].as_array().unwrap().iter().zip(&found) {
        assert_eq!(sample["subject"], **subject);
        assert_eq!(sample["n"], numbers[0]);
        assert_eq!(sample["start"], serde_json::json!(numbers[1..]));
        assert_eq!(sample["size"], serde_json::json!([4, 6, 8]));
        let room = [24 - 4, 30 - 6, 20 - 8];
        assert!(numbers[1..].iter().zip(room).all(|(&start, room)| (0..=room).contains(&start)));
    }
    // Single samples are reproducible, and another epoch gives others.
    let tail = starts(
        &workspace.ok("sample s.zarr/case --count 2 --first 3 --patch-size 4,6,8 --seed 3").out,
    );
    assert_eq!(tail, found[3..5]);
    let other = workspace.ok("sample s.zarr --count 5 --patch-size 4,6,8 --seed 3 --epoch 1").out;
    assert!(starts(&other) != found);
}

#[test]
fn labels_weights_and_constraints_are_respected() {
    let workspace = Workspace::new();
    workspace.write("seg.nii", &labels());
    workspace.write("heat.nii", &nifti(&[20, 30, 24], |i| i16::from(i / 20 % 30 >= 25)));
    let words = "ingest --subject case --labels seg=seg.nii --weights heat=heat.nii --patch-size 8 \
                 --out s.zarr";
    workspace.ok(words);
    assert!(fs::exists(workspace.path("s.zarr/case/heat/sums/zarr.json")).unwrap());
    workspace.ok("verify s.zarr");
    let ys = |words: &str| -> Vec<i64> {
        let found =
            starts(&workspace.ok(&format!("sample s.zarr --count 50 --patch-size 3 {words}")).out);
        found.iter().map(|sample| sample.1[2] + 1).collect()
    };
    let label = "--sampler label --labels seg";
    assert!(ys(label).iter().all(|&y| y >= 10));
    assert!(ys(&format!("{label} --probabilities 1=1")).iter().all(|y| (10..20).contains(y)));
    assert!(ys(&format!("{label} --pos-neg 0,1")).iter().all(|&y| y < 10));
    assert!(ys(&format!("{label} --foreground-fraction 1")).iter().all(|&y| y >= 10));
    assert!(ys("--sampler weighted --weights heat").iter().all(|&y| y >= 25));
    assert!(ys("--min-foreground 1 --labels seg").iter().all(|&y| y > 10));
    assert!(ys("--inside heat").iter().all(|&y| y > 25));
    let padded = workspace.ok("sample s.zarr --count 50 --patch-size 3 --border pad").out;
    assert!(padded.contains("\t-1"), "{padded}");

    workspace.write("table.csv", b"subject,volume,kind,path\na,w,weights,heat.nii\n");
    workspace.ok("ingest --manifest table.csv --out t.zarr --patch-size 8");
    assert!(fs::exists(workspace.path("t.zarr/a/w/sums/zarr.json")).unwrap());
    workspace.write("bad.nii", &nifti(&[20, 30, 24], |i| 1 - 2 * i16::from(i == 777)));
    let index = ["[1, 8, 17]", "-1"];
    workspace.fails("ingest --weights w=bad.nii --out b.zarr --patch-size 8", 3, &index);
}

#[test]
fn invalid_arguments_are_refused() {
    let workspace = with_store();
    workspace.fails("sample s.zarr/case/ct", 2, &["\"case\""]);
    workspace.fails("sample s.zarr --patch-size 64", 2, &["64", "larger"]);
    workspace.fails("sample s.zarr --sampler grid --patch-size 4", 2, &["not random"]);
    workspace.fails(
        "sample s.zarr --sampler label --probabilities 7=1 --patch-size 4",
        2,
        &["[7]"],
    );
    workspace.fails("sample s.zarr --min-foreground 2 --patch-size 4", 2, &["2"]);
    for words in
        ["--sampler weighted", "--border wrap", "--probabilities 1", "--pos-neg 1", "--count -1"]
    {
        assert_eq!(workspace.run(&format!("sample s.zarr {words}")).code, Some(2), "{words}");
    }
}
