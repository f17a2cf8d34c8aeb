//! Ctrl-C and kill -9 during work: no unfinished file is visible, and the same command continues.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::workspace::{Workspace, nifti};

const SUBJECTS: usize = 4;
const INGEST: &str = "ingest --manifest t.csv --out s.zarr --threads 1 --jobs 1";

/// A workspace with a manifest of large subjects, all from one file of noise.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    let noise = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as i16;
    workspace.write("big.nii", &nifti(&[256, 256, 96], noise));
    let rows = (0..SUBJECTS).map(|i| format!("s{i},ct,image,big.nii"));
    let lines: Vec<_> = ["subject,volume,kind,path".to_owned()].into_iter().chain(rows).collect();
    workspace.write("t.csv", lines.join("\n").as_bytes());
    workspace
}

/// Runs until the log has `line`, then calls `signal`; returns the exit status and the rest of the
/// log.
fn interrupt_at(
    workspace: &Workspace,
    words: &str,
    line: &str,
    signal: fn(&mut Child),
) -> (ExitStatus, String) {
    let mut command = workspace.command(words);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut found = String::new();
    while !found.starts_with(line) {
        found.clear();
        assert!(log.read_line(&mut found).unwrap() > 0, "{words} ended before {line:?}");
    }
    signal(&mut child);
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap(), rest)
}

fn interrupt(child: &mut Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
}

fn subjects(workspace: &Workspace) -> usize {
    workspace.json("info s.zarr --json")["subjects"].as_array().unwrap().len()
}

/// Checks after a signal that the published subjects are valid and the same command adds the
/// others.
fn check_continues(workspace: &Workspace) {
    let there = subjects(workspace);
    assert!((1..SUBJECTS).contains(&there), "{there} subjects");
    assert_eq!(workspace.json("verify s.zarr --json")["subjects"], there);
    let report = workspace.json(&format!("{INGEST} --json"));
    assert_eq!(report["skipped"].as_array().unwrap().len(), there);
    assert_eq!(report["written"].as_array().unwrap().len(), SUBJECTS - there);
    assert_eq!(subjects(workspace), SUBJECTS);
    assert_eq!(workspace.json("verify s.zarr --json")["ok"], true);
    let expected = ["s0", "s1", "s2", "s3", "zarr.json"];
    assert_eq!(workspace.names("s.zarr"), expected, "no staging folder is left");
}

#[test]
fn ctrl_c_keeps_published_subjects_and_the_same_command_continues() {
    let workspace = workspace();
    let (status, log) = interrupt_at(&workspace, INGEST, "s0 published", interrupt);
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("error: interrupted"), "{log}");
    assert!(!workspace.names("s.zarr").contains(&".voxquarry-partial".to_owned()));
    check_continues(&workspace);
}

#[test]
fn ctrl_c_before_the_first_subject_leaves_no_store() {
    let workspace = workspace();
    let (status, log) = interrupt_at(&workspace, INGEST, "ingesting s0/ct", interrupt);
    assert_eq!(status.code(), Some(4), "{log}");
    assert_eq!(workspace.names(""), ["big.nii", "t.csv"]);
}

#[test]
fn kill_9_keeps_published_subjects_and_the_same_command_continues() {
    let workspace = workspace();
    let (status, log) = interrupt_at(&workspace, INGEST, "s0 published", kill);
    assert_eq!(status.code(), None, "{log}");
    check_continues(&workspace);
}

#[test]
fn ctrl_c_in_an_export_leaves_no_file() {
    let workspace = workspace();
    workspace.ok("ingest big.nii --out s.zarr --quiet");
    let (status, log) = interrupt_at(
        &workspace,
        "export s.zarr/big/image out.nii.gz",
        "exporting big/image",
        interrupt,
    );
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("error: interrupted"), "{log}");
    assert_eq!(workspace.names(""), ["big.nii", "s.zarr", "t.csv"]);
}

#[test]
fn ctrl_c_in_a_verification_ends_it() {
    let workspace = workspace();
    workspace.ok(&format!("{INGEST} --codec compact --quiet"));
    let (status, log) = interrupt_at(&workspace, "verify s.zarr", "checking s0/ct", interrupt);
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("error: interrupted"), "{log}");
    assert!(!log.contains("s3/ct"), "it went on to the last subject: {log}");
}
