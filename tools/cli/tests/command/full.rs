//! A full disk: the error names the file, the exit code is 4, and nothing half-written stays.

use std::process::Command;

use crate::workspace::{BINARY, Run, Workspace, labels, nifti, with_store};

/// Runs the command with a limit of `blocks` × 512 bytes for each file, beyond which writes fail as
/// on a full disk, and raise a signal that ends a process which does not handle it.
fn run_limited(workspace: &Workspace, words: &str, blocks: u32) -> Run {
    let script = format!("ulimit -f {blocks}; exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh", BINARY]).args(words.split_whitespace());
    Run::from(shell.current_dir(workspace.path("")).output().unwrap())
}

/// Raises the limit until the command succeeds. Every failure before names `place` and leaves the
/// folder as it was.
fn fails_until_there_is_space(workspace: &Workspace, words: &str, place: &str) {
    let before = workspace.names("");
    let limits = std::iter::once(0).chain((0..12).map(|i| 1 << i));
    for (failures, blocks) in limits.enumerate() {
        let run = run_limited(workspace, words, blocks);
        if run.code == Some(0) {
            assert!(failures > 0, "{words}: the limit never mattered");
            return;
        }
        assert_eq!(run.code, Some(4), "{words}, {blocks} blocks: {run:?}");
        let names_it = |line: &str| line.starts_with("error: ") && line.contains(place);
        assert!(run.err.lines().any(names_it), "{words}, {blocks} blocks: {run:?}");
        assert!(run.err.contains("help: allow larger files"), "{words}, {blocks} blocks: {run:?}");
        assert_eq!(workspace.names(""), before, "{words}, {blocks} blocks");
    }
    panic!("{words}: every limit was too small");
}

#[test]
fn an_ingest_survives_a_full_disk_at_every_file() {
    let workspace = Workspace::new();
    let mut state = 1u32;
    let noise: Vec<i16> = (0..20 * 30 * 24)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i16
        })
        .collect();
    workspace.write("ct.nii", &nifti(&[20, 30, 24], |i| noise[i]));
    workspace.write("seg.nii", &labels());
    let ingest = "ingest --subject a --image ct=ct.nii --labels seg=seg.nii --patch-size 8 --quiet \
                  --out s.zarr";
    fails_until_there_is_space(&workspace, ingest, "s.zarr");
    workspace.ok("verify s.zarr");
}

#[test]
fn exports_and_pictures_survive_a_full_disk() {
    let workspace = with_store();
    for out in ["a.nii", "b.nii.gz", "c.hdr"] {
        fails_until_there_is_space(&workspace, &format!("export s.zarr/case/ct {out}"), &out[..1]);
    }
    fails_until_there_is_space(&workspace, "preview s.zarr/case case.png", "case.png");
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_printed_is_an_error() {
    let workspace = with_store();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = Run::from(workspace.command("info s.zarr --json").stdout(full).output().unwrap());
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(run.err.starts_with("error: standard output: cannot write: "), "{run:?}");
}
