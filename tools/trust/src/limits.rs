//! Commands with too little memory, too few descriptors, too small files, a full disk, a folder
//! that is read-only, or another user's store.
//!
//! Oracle: that of [`outcome`](crate::outcome); and what may not be written is as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::Args;
use crate::campaign::{Campaign, Verdict};
use crate::commands::Effect;
use crate::outcome::Blow;
use crate::random::Random;
use crate::scenarios::{Bench, SCENARIOS, Scenario};
use crate::strace::limited;
use crate::tree::Tree;

/// Mebibytes of address space.
const MEMORY: &[u32] = &[24, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256];
const DESCRIPTORS: &[u32] = &[4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 32];
/// 512 bytes each.
const FILE_BLOCKS: &[u32] = &[0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64];
/// Pages of 4 KiB that are free on a disk.
const FREE_PAGES: &[u32] = &[0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64];

/// A number without a common factor with that of the cases.
const STRIDE: u64 = 7919;
/// Options of `unshare`: what is mounted, nobody else sees.
const NAMESPACE: &[&str] = &["--mount", "--map-root-user"];
/// Runs a command as user 65534, which owns no file.
const NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

#[derive(Clone, Copy, Debug)]
enum Limit {
    Memory(u32),
    Descriptors(u32),
    FileBlocks(u32),
    FreePages(u32),
    /// The command runs as a user who may read the folder and not write it.
    Foreign,
    /// One subject may not be entered.
    Locked,
}

/// All limits of a command.
fn limits() -> Vec<Limit> {
    let memory = MEMORY.iter().copied().map(Limit::Memory);
    let descriptors = DESCRIPTORS.iter().copied().map(Limit::Descriptors);
    let blocks = FILE_BLOCKS.iter().copied().map(Limit::FileBlocks);
    let pages = FREE_PAGES.iter().copied().map(Limit::FreePages);
    memory
        .chain(descriptors)
        .chain(blocks)
        .chain(pages)
        .chain([Limit::Foreign, Limit::Locked])
        .collect()
}

/// The number of different cases.
pub(crate) fn count() -> u64 {
    (limits().len() * SCENARIOS) as u64
}

pub(crate) struct Limits {
    bench: Bench,
    /// Whether a disk can be mounted that only one process sees.
    has_disks: bool,
    /// Whether a process may become another user.
    has_users: bool,
    scenarios: Vec<Scenario>,
    all: Vec<Limit>,
    /// Results of commands that run where only they see the disk.
    results: TempDir,
}

impl Limits {
    pub(crate) fn begin(args: &Args) -> Result<Self, String> {
        let mut bench = Bench::new(args)?;
        bench.copy_programs()?;
        let scenarios = bench.scenarios()?;
        let works = |words: &[&str]| {
            let run = Command::new(words[0]).args(&words[1..]).output();
            run.is_ok_and(|output| output.status.success())
        };
        let mount = format!("mount -t tmpfs none {}", bench.path().display());
        let has_disks = works(&[&["unshare"], NAMESPACE, &["sh", "-c", &mount]].concat());
        let has_users = works(&[NOBODY, &["true"]].concat());
        let results = tempfile::tempdir_in(args.folder()).map_err(|e| e.to_string())?;
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bench.path(), everybody).map_err(|e| e.to_string())?;
        Ok(Self { bench, has_disks, has_users, scenarios, all: limits(), results })
    }
}

impl Campaign for Limits {
    fn case(&mut self, number: u64, _: &mut Random) -> Verdict {
        // A few cases in a row have different commands and limits.
        let at = (number.wrapping_mul(STRIDE) % count()) as usize;
        let scenario = &self.scenarios[at % self.scenarios.len()];
        let limit = self.all[at / self.scenarios.len()];
        scenario.initial.restore(self.bench.path()).map_err(|e| format!("cannot restore: {e}"))?;
        let (verdict, output) = match limit {
            Limit::Memory(mebibytes) => {
                let preparation = format!("ulimit -v {}", mebibytes << 10);
                if !self.begins(scenario, &preparation)? {
                    return Ok("the program could not be loaded");
                }
                self.shell(scenario, &preparation)
            }
            Limit::Descriptors(count) => self.shell(scenario, &format!("ulimit -n {count}")),
            Limit::FileBlocks(count) => self.shell(scenario, &format!("ulimit -f {count}")),
            Limit::FreePages(_) if !self.has_disks => {
                return Ok("NOT TRIED: no disk may be mounted here; small files stand for it");
            }
            Limit::FreePages(count) => self.full_disk(scenario, count),
            Limit::Foreign | Limit::Locked if !self.has_users => {
                return Ok("NOT TRIED: this user may not become another one");
            }
            Limit::Foreign | Limit::Locked => self.foreign(scenario, limit),
        }?;
        let said = String::from_utf8_lossy(&output.stderr);
        verdict.map_err(|message| {
            format!("{}: {limit:?}: {message} ({}, {said:.300})", scenario.name, output.status)
        })
    }
}

impl Limits {
    /// Whether a command's program begins after `preparation`: the system ends one that it has no
    /// memory for by a signal.
    fn begins(&self, scenario: &Scenario, preparation: &str) -> Result<bool, String> {
        let program = self.bench.command(scenario.words).get_program().to_owned();
        let script = format!("{preparation}; exec \"$0\" --version");
        let run = Command::new("sh").args(["-c", &script]).arg(program).output();
        run.map(|output| output.status.success()).map_err(|e| format!("sh: {e}"))
    }

    /// Runs a command after `preparation` in a shell.
    fn shell(&self, scenario: &Scenario, preparation: &str) -> Result<(Verdict, Output), String> {
        let script = format!("{preparation}; exec \"$@\"");
        let output = run(&["sh", "-c", &script, "sh"], &self.bench, scenario)?;
        // Without memory for its libraries a program does not begin.
        if output.status.code() == Some(127) {
            return Ok((Ok("the program could not be loaded"), output));
        }
        let verdict = self.bench.check(scenario, &output, Blow::Refusal);
        Ok((verdict, output))
    }

    /// Runs a command on a disk of its own with so many free pages, and again when there are more.
    fn full_disk(&self, scenario: &Scenario, pages: u32) -> Result<(Verdict, Output), String> {
        let results = self.results.path();
        Tree::default().restore(results).map_err(|e| e.to_string())?;
        let (folder, results) = (self.bench.path().display(), results.display());
        // What was there takes its pages first; the filler takes all but those that are left free.
        let script = format!(
            "set -e; mkdir {results}/before {results}/after; cp -a {folder}/. {results}/before; \
             mount -t tmpfs -o size=64m none {folder}; cp -a {results}/before/. {folder}; \
             used=$(df --output=used -k {folder} | tail -1); \
             mount -o remount,size=$((used + 4 * {pages}))k {folder}; set +e; \
             \"$@\"; code=$?; set -e; cp -a {folder}/. {results}/after; exit $code"
        );
        let around = [&["unshare"], NAMESPACE, &["sh", "-c", &script, "sh"]].concat();
        let output = run(&around, &self.bench, scenario)?;
        let after = Tree::read(&self.results.path().join("after")).map_err(|e| e.to_string())?;
        // The folder itself was not touched: what the command left is put there, to be judged.
        after.restore(self.bench.path()).map_err(|e| e.to_string())?;
        let verdict = self.bench.check(scenario, &output, Blow::Refusal);
        Ok((verdict, output))
    }

    /// Runs a command as a user who may only read.
    fn foreign(&self, scenario: &Scenario, limit: Limit) -> Result<(Verdict, Output), String> {
        let subject = self.bench.path().join("s.zarr/case");
        let mode = |mode| {
            fs::set_permissions(&subject, fs::Permissions::from_mode(mode))
                .map_err(|e| e.to_string())
        };
        let is_locked = matches!(limit, Limit::Locked);
        mode(if is_locked { 0o700 } else { 0o755 })?;
        let output = run(NOBODY, &self.bench, scenario);
        mode(0o755)?;
        let output = output?;
        let found = self.bench.tree()?;
        let verdict = if let Some(difference) = found.difference(&scenario.initial) {
            Err(format!("of another user {difference}"))
        } else {
            let reads = scenario.effect != Effect::Publishes;
            match output.status.code() {
                Some(0) if reads && !is_locked && output.stdout == scenario.output => {
                    Ok("another user's store was read")
                }
                Some(3 | 4) if is_locked || !reads => Ok("another user's store was refused"),
                _ => Err("of another user: it ended in another way".to_owned()),
            }
        };
        Ok((verdict, output))
    }
}

/// Runs a command of the bench by the command `around`.
fn run(around: &[&str], bench: &Bench, scenario: &Scenario) -> Result<Output, String> {
    let output = limited(around, &bench.command(scenario.words)).output();
    output.map_err(|e| format!("timeout: {e}"))
}
