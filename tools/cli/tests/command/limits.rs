//! Few descriptors, little memory, and a disk that fails: an error in time that says what to do,
//! and nothing lost.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::workspace::{BINARY, Run, Workspace, files_in, labels, nifti, with_store};

/// Far more than any of these commands takes.
const LONGEST: Duration = Duration::from_mins(1);

/// Runs the command in a shell with at most `count` open files, and ends it when it hangs.
fn run_with_files(workspace: &Workspace, words: &str, count: u32) -> Run {
    run_limited(workspace, words, &format!("ulimit -n {count}"))
}

fn run_limited(workspace: &Workspace, words: &str, limit: &str) -> Run {
    let script = format!("ulimit -c 0; {limit}; exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh", BINARY]).args(words.split_whitespace());
    shell.current_dir(workspace.path("")).stdin(Stdio::null());
    let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    in_time(child, &format!("{words} after {limit}"))
}

fn in_time(mut child: Child, what: &str) -> Run {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LONGEST {
            child.kill().unwrap();
            panic!("{what}: no end: {:?}", Run::from(child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Run::from(child.wait_with_output().unwrap())
}

/// Issue 19: `export` under `ulimit -n 6` waited for ever. Its siblings are the other commands,
/// other limits, and waits around waits (a shard that waits for its list).
#[test]
fn too_few_descriptors_are_an_error_in_time() {
    let workspace = with_store();
    workspace.ok("ingest --subject w --weights w=ct.nii.gz --patch-size 8 --out w.zarr --quiet");
    let sums = workspace.path("w.zarr/w/w/sums");
    let _ = fs::remove_dir_all(&sums);
    let before = workspace.names("");
    let commands = [
        ("info s.zarr/case", ""),
        ("verify s.zarr", ""),
        ("sample s.zarr --sampler label --labels seg --patch-size 4 --count 3", ""),
        ("sample w.zarr --sampler weighted --weights w --patch-size 4 --count 3", ""),
        ("preview s.zarr/case case.png", "case.png"),
        ("export s.zarr/case/ct a.nii", "a.nii"),
        ("export s.zarr/case/ct b.nii.gz", "b.nii.gz"),
        ("export s.zarr/case/ct c.hdr", "c.hdr"),
        ("ingest ct.nii.gz seg.nii --patch-size 8 --quiet --out n.zarr", "n.zarr"),
    ];
    let mut refusals = 0;
    for (words, made) in commands {
        for count in [4, 5, 6, 7, 8, 9, 10, 12, 15] {
            let run = run_with_files(&workspace, words, count);
            let context = format!("{words} with {count} files: {run:?}");
            match run.code {
                // The loader had none for the libraries.
                Some(127) => {}
                Some(0) => {
                    assert!(made.is_empty() || workspace.path(made).exists(), "{context}");
                }
                Some(4) => {
                    refusals += 1;
                    // Sources are read at once: where several fail, each has a line of its own.
                    let error = run.err.find("error: ").map_or("", |at| &run.err[at..]);
                    let limit = format!("this process may have {count} files open (ulimit -n)");
                    assert!(error.contains(&limit), "{context}");
                    assert!(error.contains("allow more"), "{context}");
                    assert!(made == "n.zarr" || workspace.names("") == before, "{context}");
                }
                _ => panic!("{context}"),
            }
            for name in workspace.names("").iter().filter(|name| !before.contains(name)) {
                let path = workspace.path(name);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .unwrap();
            }
            let _ = fs::remove_dir_all(&sums);
        }
    }
    assert!(refusals > commands.len(), "{refusals} refusals");
}

/// Runs the command on a disk that does not say what is at `place`.
#[cfg(target_os = "linux")]
fn run_with_failing_disk(workspace: &Workspace, words: &str, place: &str) -> Run {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(workspace.path(place));
    strace.args(["-e", "trace=?statx,?newfstatat,?stat,?lstat"]);
    strace.args(["-e", "inject=?statx,?newfstatat,?stat,?lstat:error=EIO", "--", BINARY]);
    let folder = workspace.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    strace.args(words.split_whitespace().map(|word| word.replace('@', folder)));
    strace.current_dir(workspace.path("")).stdin(Stdio::null());
    Run::from(strace.output().expect("strace is installed"))
}

/// Issue 19: EIO in `StoreWriter::has_subject` read as "not there", so that the command said that
/// the subject exists (exit code 2) where it could not know. Its siblings: what data sets hold
/// beside their images, halves of pairs, and where a run would write.
#[test]
#[cfg(target_os = "linux")]
fn what_a_disk_does_not_say_is_not_taken_for_absent() {
    let workspace = with_store();
    workspace.write("labels.nii", &labels());
    let image = nifti(&[6, 5, 4], |i| i as i16);
    for folder in ["d/imagesTr", "d/labelsTr", "f/x", "b/sub-1/anat", "b/derivatives/p/sub-1/anat"]
    {
        fs::create_dir_all(workspace.path(folder)).unwrap();
    }
    workspace.write("d/imagesTr/a_0000.nii", &image);
    workspace.write("d/labelsTr/a.nii", &labels());
    let list = r#"{"channel_names":{"0":"CT"},"labels":{"background":0,"a":1},"numTraining":1,
        "file_ending":".nii"}"#;
    workspace.write("d/dataset.json", list.as_bytes());
    workspace.write("b/sub-1/anat/sub-1_T1w.nii", &image);
    workspace.write("b/derivatives/p/sub-1/anat/sub-1_T2w.nii", &image);
    workspace.ok("export s.zarr/case/ct pair.hdr");
    let before = workspace.names("");
    let store = "ingest --subject case --image ct=@/ct.nii.gz --patch-size 8 --out @/s.zarr";
    for (words, place) in [
        (store, "s.zarr/case/zarr.json"),
        (&format!("{store} --overwrite"), "s.zarr/case/zarr.json"),
        ("ingest @/d --patch-size 4 --out @/n.zarr", "d"),
        ("ingest @/d --patch-size 4 --out @/n.zarr", "d/dataset.json"),
        ("ingest @/d --patch-size 4 --out @/n.zarr", "d/labelsTr"),
        ("ingest @/d --patch-size 4 --out @/n.zarr --layout nnunet", "d/labelsTr"),
        ("ingest @/b --patch-size 4 --out @/n.zarr --layout bids", "b/derivatives"),
        ("ingest @/f --patch-size 4 --out @/n.zarr", "f/x"),
        ("ingest @/pair.hdr --patch-size 4 --out @/n.zarr", "pair.img"),
        ("ingest @/ct.nii.gz --patch-size 8 --dry-run --out @/s.zarr", "s.zarr"),
        ("export @/s.zarr/case/ct @/new.nii", "new.nii"),
        ("preview @/s.zarr/case/ct @/new.png", "new.png"),
    ] {
        let run = run_with_failing_disk(&workspace, words, place);
        assert_eq!(run.code, Some(4), "{words} with EIO at {place}: {run:?}");
        let says = |line: &str| line.starts_with("error: ") && line.contains("(os error 5)");
        assert!(run.err.lines().any(says), "{words} with EIO at {place}: {run:?}");
        workspace.ok("verify s.zarr");
        fs::remove_dir_all(workspace.path("n.zarr")).unwrap_or_default();
        assert_eq!(workspace.names(""), before, "{words} with EIO at {place}");
    }
}

/// A campaign of `make trust` found it: `ingest` with 56 MiB of address space ended with "thread
/// pool: cannot start", without a path. Its siblings are the other threads: those that read ahead,
/// flush, deflate and listen for Ctrl-C. A thread of 2⁵⁰ bytes is refused by every system.
#[test]
fn where_no_thread_is_granted_the_callers_own_does_all_the_work() {
    let workspace = with_store();
    let alone = |words: &str| {
        let mut command = workspace.command(words);
        command.env("RUST_MIN_STACK", (1_u64 << 50).to_string());
        in_time(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), words)
    };
    let ingest = "ingest ct.nii.gz seg.nii --patch-size 8 --levels 2 --quiet --out";
    for words in [
        "info s.zarr/case",
        "verify s.zarr",
        "sample s.zarr --sampler label --labels seg --patch-size 4 --count 3",
    ] {
        let run = alone(words);
        assert_eq!(run.code, Some(0), "{words}: {run:?}");
        assert_eq!(run.out, workspace.ok(words).out, "{words}");
    }
    for (words, made) in [
        (ingest, "n.zarr"),
        ("export s.zarr/case/ct", "a.nii"),
        ("export s.zarr/case/ct", "b.nii.gz"),
        ("components s.zarr/case/seg --out", "c.zarr/case/parts"),
        ("preview s.zarr/case", "case.png"),
    ] {
        let (one, many) = (format!("alone-{made}"), format!("many-{made}"));
        let run = alone(&format!("{words} {one}"));
        assert_eq!(run.code, Some(0), "{words}: {run:?}");
        workspace.ok(&format!("{words} {many}"));
        let is_same = if made.contains(".zarr") {
            files_in(&workspace.path(&one)) == files_in(&workspace.path(&many))
        } else {
            fs::read(workspace.path(&one)).unwrap() == fs::read(workspace.path(&many)).unwrap()
        };
        assert!(is_same, "{words} {made}");
    }
    let run = alone("bench s.zarr");
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(run.err.contains("thread: cannot start"), "{run:?}");
}

/// Issue 19: with little memory, small allocations ended commands by SIGABRT, and a thread that
/// could not be started let `ingest` hang. From the least memory
/// in which the program can be loaded on, whatever fails is an error.
#[cfg(target_os = "linux")]
#[test]
fn a_small_allocation_that_fails_is_an_error() {
    const STEP_KIB: usize = 384;
    let workspace = with_store();
    // With the variable, Rust's own report of a failed allocation could wait for itself.
    let limit = |kib| format!("export RUST_BACKTRACE=1; ulimit -v {kib}");
    let run = |words: &str, kib: usize| run_limited(&workspace, words, &limit(kib));
    let begins = |kib: &usize| run("--version", *kib).code == Some(0);
    let least = (4 << 10..1 << 20).step_by(1 << 10).find(begins).expect("a gigabyte is enough");
    let (mut aborts, mut refusals) = (0, 0);
    for words in [
        "info s.zarr/case",
        "sample s.zarr --sampler label --labels seg --patch-size 4 --count 3",
        "verify s.zarr",
        "export s.zarr/case/ct a.nii.gz --overwrite",
        "preview s.zarr/case case.png --overwrite",
        "ingest ct.nii.gz --patch-size 8 --quiet --out n.zarr",
    ] {
        for kib in (least - (2 << 10)..least + (12 << 10)).step_by(STEP_KIB) {
            let run = run(words, kib);
            let context = format!("{words} with {kib} KiB: {run:?}");
            match run.code {
                Some(0) => {}
                Some(4) => {
                    refusals += 1;
                    aborts += usize::from(run.err.contains("memory allocation of"));
                    assert!(run.err.contains("error: "), "{context}");
                }
                // The system could not load it, or grants it no memory at all.
                _ => assert!(!begins(&kib), "{context}"),
            }
        }
    }
    assert!(aborts > 0 && refusals > aborts, "{aborts} of {refusals}");
    assert_eq!(workspace.json("verify s.zarr --json")["ok"], true);
}
