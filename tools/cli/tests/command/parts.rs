//! Ingests that processes share: killed at any moment, run twice at one time, and told apart.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::workspace::{Workspace, files_in, nifti};

const PARTS: usize = 16;

/// A workspace with 24 subjects of an image and labels, of different sizes.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("data")).unwrap();
    for i in 0..24u64 {
        let dims = [32, 30, 20 + 2 * i as i16];
        let noise = |n: usize| ((n as u64 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as i16;
        let folder = format!("data/s{i:02}");
        std::fs::create_dir(workspace.path(&folder)).unwrap();
        workspace.write(&format!("{folder}/ct.nii"), &nifti(&dims, noise));
        let labels = nifti(&dims, |n| noise(n) & 3);
        workspace.write(&format!("{folder}/seg_labels.nii"), &labels);
    }
    workspace
}

const SOURCE: &str = "ingest data --pattern {subject}/{volume}.nii --patch-size 16 --quiet";

/// Waits until the process has ended or the time is over; returns whether it has ended.
fn ends_within(child: &mut Child, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % n
    }
}

/// Issue 25: 16 parts whose processes are killed at random moments, each started again, give the
/// files of one process. `VOXQUARRY_KILLS` asks for another number of kills.
#[test]
fn parts_that_are_killed_give_the_files_of_one_process() {
    let workspace = workspace();
    workspace.ok(&format!("{SOURCE} --out alone.zarr"));
    let wanted = std::env::var("VOXQUARRY_KILLS").map_or(40, |n| n.parse::<u32>().unwrap());
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed =
        std::env::var("VOXQUARRY_SEED").map_or(since.as_micros() as u64, |n| n.parse().unwrap());
    println!("VOXQUARRY_SEED={seed}");
    let mut random = Random(seed);
    let (mut kills, mut rounds) = (0, 0);
    while kills < wanted || rounds == 0 {
        let store = format!("s{rounds}.zarr");
        workspace.ok(&format!("{SOURCE} --out {store} --plan plan.json"));
        let mut open: Vec<usize> = (0..PARTS).collect();
        while !open.is_empty() {
            let at = random.below(open.len() as u64) as usize;
            let command = format!(
                "ingest --plan plan.json --part {}/{PARTS} --threads 1 --jobs 1 --quiet",
                open[at]
            );
            let mut command = workspace.command(&command);
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            // In most runs a part would end within this time.
            if kills < wanted {
                if ends_within(&mut child, Duration::from_micros(random.below(120_000))) {
                    open.swap_remove(at);
                    continue;
                }
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                assert!(!workspace.path(&format!("{store}/zarr.json")).exists());
            } else {
                assert!(child.wait().unwrap().success());
                open.swap_remove(at);
            }
        }
        workspace.ok("ingest --plan plan.json --finalize --quiet");
        assert!(
            files_in(&workspace.path(&store)) == files_in(&workspace.path("alone.zarr")),
            "after {kills} kills"
        );
        std::fs::remove_dir_all(workspace.path(&store)).unwrap();
        rounds += 1;
    }
    println!("{kills} kills in {rounds} rounds");
}

#[test]
fn two_processes_with_one_part_do_its_work_once() {
    let workspace = workspace();
    workspace.ok(&format!("{SOURCE} --out alone.zarr"));
    workspace.ok(&format!("{SOURCE} --out s.zarr --plan plan.json"));
    let reports = ["a.json", "b.json"];
    let both: Vec<Child> = reports
        .iter()
        .map(|report| {
            let words = format!("ingest --plan plan.json --part 1/2 --quiet --report {report}");
            workspace.command(&words).spawn().unwrap()
        })
        .collect();
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    let read = |name: &&str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(workspace.path(name)).unwrap()).unwrap()
    };
    let count = |report: &serde_json::Value, key: &str| report[key].as_array().unwrap().len();
    let found: Vec<_> = reports.iter().map(read).collect();
    let [done, skipped] =
        ["done", "skipped"].map(|key| found.iter().map(|report| count(report, key)).sum::<usize>());
    assert!(done == 12 && skipped == 12, "{found:?}");
    // 2/2 is 0/2, for those that count from 1.
    workspace.ok("ingest --plan plan.json --part 2/2 --quiet");
    let run = workspace.ok("ingest --plan plan.json --finalize");
    assert!(run.out.contains("24 subjects in"), "{run:?}");
    assert!(files_in(&workspace.path("s.zarr")) == files_in(&workspace.path("alone.zarr")));
    let again = workspace.ok("ingest --out s.zarr --plan plan.json --finalize");
    assert!(again.err.contains("finalized before"), "{again:?}");
}

#[test]
fn a_plan_may_be_named_by_its_store_and_its_whole_command() {
    let workspace = workspace();
    workspace.ok(&format!("{SOURCE} --out alone.zarr"));
    let made = workspace
        .json(&format!("{} --out s.zarr --plan plan.json --json", SOURCE.replace(" --quiet", "")));
    assert_eq!((&made["subjects"], &made["done"]), (&24.into(), &0.into()));
    workspace.ok(&format!("{SOURCE} --out s.zarr --part 0/2"));
    let part = workspace.json("ingest --out s.zarr --part 1/2 --json");
    assert_eq!(part["part"], serde_json::json!([1, 2]));
    let finished = workspace.json("ingest --out s.zarr --finalize --json");
    assert_eq!(finished["done"].as_array().unwrap().len(), 24);
    assert!(files_in(&workspace.path("s.zarr")) == files_in(&workspace.path("alone.zarr")));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let workspace = workspace();
    let plan = format!("{SOURCE} --out s.zarr --plan plan.json");
    workspace.ok(&plan);
    for (words, code, expected) in [
        ("ingest --plan plan.json --part 17/16", 2, "17/16"),
        ("ingest --plan plan.json --part 1-16", 2, "3/16"),
        ("ingest --part 1/16", 2, "--out"),
        ("ingest --plan plan.json --part 1/16 --finalize", 2, "--finalize"),
        ("ingest --plan plan.json --part 1/16 --dry-run", 2, "--dry-run"),
        ("ingest --plan gone.json --part 1/16", 2, "gone.json"),
        ("ingest --plan data/s00/ct.nii --part 1/16", 3, "make the plan again"),
        ("ingest --plan plan.json --part 1/16 --codec compact", 2, "other options"),
        ("ingest --plan plan.json --part 1/16 --levels 1", 2, "other options"),
        ("ingest --plan plan.json --part 1/16 --clip 0,100", 2, "other options"),
        ("ingest --plan plan.json --part 1/16 --spacing 2,2,2", 2, "other options"),
        ("ingest --plan plan.json --part 1/16 --patch-size 16 data/s00", 2, "other sources"),
        ("ingest --out other.zarr --part 1/16", 2, "other.zarr waits for no part"),
        ("ingest --plan plan.json --finalize", 2, "0/N to N-1/N"),
        ("ingest data --out s.zarr --add --plan p.json", 2, "--add"),
    ] {
        let run = workspace.run(words);
        assert_eq!(run.code, Some(code), "{words}: {run:?}");
        assert!(run.err.contains(expected), "{words}: {run:?}");
    }
    workspace.ok("ingest --plan plan.json --part 0/2 --quiet");
    workspace.fails(
        "ingest --plan plan.json --part 1/3",
        2,
        &["part 1/3", "parts of 2 were begun"],
    );
    workspace.fails("ingest --plan plan.json --finalize", 2, &["run part 1/2 again"]);
    for i in 0..24 {
        workspace.write(&format!("data/s{i:02}/ct.nii"), b"another");
    }
    let both = [0, 1].map(|n| workspace.run(&format!("ingest --plan plan.json --part {n}/2")));
    let changed = both.iter().find(|run| run.code == Some(3)).unwrap();
    assert!(changed.err.contains("make the plan again, then run part 1/2 again"), "{changed:?}");
}
