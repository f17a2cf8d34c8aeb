//! Ctrl-C and kill -9 in the middle of work: nothing half-made is seen, and the same command goes on.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::world::{World, nifti};

const SUBJECTS: usize = 4;
const INGEST: &str = "ingest --manifest t.csv --out s.zarr --threads 1";

/// Subjects that take a while each: of one file, of noise.
fn world() -> World {
    let world = World::new();
    let noise = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as i16;
    world.write("big.nii", &nifti(&[256, 256, 96], noise));
    let rows = (0..SUBJECTS).map(|i| format!("s{i},ct,image,big.nii"));
    let lines: Vec<_> = ["subject,volume,kind,path".to_owned()].into_iter().chain(rows).collect();
    world.write("t.csv", lines.join("\n").as_bytes());
    world
}

/// Runs until `line` stands in the log, then strikes; gives the exit status and the rest of the log.
fn strike(world: &World, words: &str, line: &str, blow: fn(&mut Child)) -> (ExitStatus, String) {
    let mut command = world.command(words);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut found = String::new();
    while !found.starts_with(line) {
        found.clear();
        assert!(log.read_line(&mut found).unwrap() > 0, "{words} ended before {line:?}");
    }
    blow(&mut child);
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

fn subjects(world: &World) -> usize {
    world.json("info s.zarr --json")["subjects"].as_array().unwrap().len()
}

/// After a blow: what is there is whole, and the same command makes the rest.
fn goes_on(world: &World) {
    let there = subjects(world);
    assert!((1..SUBJECTS).contains(&there), "{there} subjects");
    assert_eq!(world.json("verify s.zarr --json")["subjects"], there);
    let report = world.json(&format!("{INGEST} --json"));
    assert_eq!(report["skipped"].as_array().unwrap().len(), there);
    assert_eq!(report["written"].as_array().unwrap().len(), SUBJECTS - there);
    assert_eq!(subjects(world), SUBJECTS);
    assert_eq!(world.json("verify s.zarr --json")["ok"], true);
    let expected = ["s0", "s1", "s2", "s3", "zarr.json"];
    assert_eq!(world.names("s.zarr"), expected, "no unfinished work is left");
}

#[test]
fn ctrl_c_keeps_what_is_published_and_the_same_command_goes_on() {
    let world = world();
    let (status, log) = strike(&world, INGEST, "s0 published", interrupt);
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("error: interrupted"), "{log}");
    assert!(!world.names("s.zarr").contains(&".voxquarry-partial".to_owned()));
    goes_on(&world);
}

#[test]
fn ctrl_c_before_the_first_subject_leaves_no_store() {
    let world = world();
    let (status, log) = strike(&world, INGEST, "ingesting s0/ct", interrupt);
    assert_eq!(status.code(), Some(4), "{log}");
    assert_eq!(world.names(""), ["big.nii", "t.csv"]);
}

#[test]
fn kill_9_keeps_what_is_published_and_the_same_command_goes_on() {
    let world = world();
    let (status, log) = strike(&world, INGEST, "s0 published", kill);
    assert_eq!(status.code(), None, "{log}");
    goes_on(&world);
}

#[test]
fn ctrl_c_in_an_export_leaves_no_file() {
    let world = world();
    world.ok("ingest big.nii --out s.zarr --quiet");
    let (status, log) =
        strike(&world, "export s.zarr/big/image out.nii.gz", "exporting big/image", interrupt);
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("error: interrupted"), "{log}");
    assert_eq!(world.names(""), ["big.nii", "s.zarr", "t.csv"]);
}
