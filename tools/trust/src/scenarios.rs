//! Commands that write, what lies there before, and what must lie there afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use voxquarry::format::layout::Codec;

use crate::Args;
use crate::stores::write_store;
use crate::strace::{self, Calls};
use crate::tree::Tree;

/// What a command does, which decides what may be different after a fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It publishes: success means that everything is there.
    Publishes,
    /// It reads, and writes sums on the way if it can.
    Caches,
    /// It writes nothing.
    Reads,
}

/// A command in a folder.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    pub(crate) initial: Tree,
    pub(crate) reference: Tree,
    pub(crate) output: Vec<u8>,
    pub(crate) calls: Calls,
    pub(crate) words: &'static str,
}

/// A folder in which commands run.
pub(crate) struct Bench {
    folder: TempDir,
    voxquarry: PathBuf,
    /// This program.
    own: PathBuf,
    /// Copies of both, where every user can run them.
    programs: Option<TempDir>,
}

/// The number of commands.
pub(crate) const SCENARIOS: usize = COMMANDS.len();

/// Names, effects, commands and the files beside those that every command finds: `old/` and `new/`
/// with images, and the store `s.zarr` with subject `case` made of the old ones.
///
/// `@` stands for the folder, `+` for this program.
const COMMANDS: &[(&str, Effect, &[&str], &str)] = &[
    (
        "ingest",
        Effect::Publishes,
        &[],
        "ingest --subject new --image ct=@/new/ct.nii.gz \
        --labels seg=@/new/seg.nii --weights w=@/new/w.nii --patch-size 8 --threads 2 --quiet \
        --out @/s.zarr",
    ),
    (
        "ingest of two",
        Effect::Publishes,
        &[],
        "ingest @/new/ct.nii.gz @/new/w.nii --quiet \
        --patch-size 8 --out @/p.zarr",
    ),
    (
        "overwrite",
        Effect::Publishes,
        &[],
        "ingest --subject case --image ct=@/new/ct.nii.gz \
        --labels seg=@/new/seg.nii --image w=@/new/w.nii --patch-size 8 --codec compact --quiet \
        --overwrite --out @/s.zarr",
    ),
    ("export", Effect::Publishes, &[], "export @/s.zarr/case/ct @/a.nii"),
    (
        "export over",
        Effect::Publishes,
        &["export @/s.zarr/case/seg @/a.nii.gz"],
        "export @/s.zarr/case/w @/a.nii.gz --overwrite",
    ),
    ("export pair", Effect::Publishes, &[], "export @/s.zarr/case/ct @/a.hdr"),
    (
        "export pair over",
        Effect::Publishes,
        &["export @/s.zarr/case/seg @/a.hdr"],
        "export @/s.zarr/case/w @/a.hdr --overwrite",
    ),
    (
        "preview",
        Effect::Publishes,
        &["export @/s.zarr/case/seg @/a.nii"],
        "preview @/s.zarr/case/seg @/a.png --patches 0 --patch-size 8",
    ),
    (
        "sums",
        Effect::Caches,
        &[],
        "sample @/s.zarr --sampler weighted --weights w --patch-size 4 \
        --count 3",
    ),
    ("blend", Effect::Publishes, &[], "+ --blend @/s.zarr/case/p"),
    ("blend new", Effect::Publishes, &[], "+ --blend @/p.zarr/new/p"),
    (
        "blend on",
        Effect::Publishes,
        &["+ --blend @/p.zarr/new/p --keep --stop 60"],
        "+ --blend @/p.zarr/new/p --keep",
    ),
    ("blend kept", Effect::Publishes, &[], "+ --blend @/p.zarr/new/p --keep"),
    ("verify", Effect::Reads, &[], "verify @/s.zarr --json"),
    ("info", Effect::Reads, &[], "info @/s.zarr/case --json"),
    ("sample", Effect::Reads, &[], "sample @/s.zarr --sampler label --labels seg --patch-size 4"),
];

impl Bench {
    pub(crate) fn new(args: &Args) -> Result<Self, String> {
        let folder = tempfile::tempdir_in(args.folder()).map_err(|e| e.to_string())?;
        let voxquarry = args.command();
        if !voxquarry.is_file() {
            return Err(format!("there is no command {}", voxquarry.display()));
        }
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        Ok(Self { folder, voxquarry, own, programs: None })
    }

    /// Copies the programs to where every user can run them.
    pub(crate) fn copy_programs(&mut self) -> Result<(), String> {
        let copy = || -> std::io::Result<TempDir> {
            let parent = self.path().parent().unwrap_or(self.path());
            let programs = tempfile::tempdir_in(parent)?;
            fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755))?;
            fs::copy(&self.voxquarry, programs.path().join("voxquarry"))?;
            fs::copy(&self.own, programs.path().join("own"))?;
            Ok(programs)
        };
        let programs = copy().map_err(|e| format!("cannot copy the programs: {e}"))?;
        self.voxquarry = programs.path().join("voxquarry");
        self.own = programs.path().join("own");
        self.programs = Some(programs);
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The command that `words` stand for.
    pub(crate) fn command(&self, words: &str) -> Command {
        let folder = self.path().to_string_lossy();
        let (program, words) = match words.strip_prefix("+ ") {
            Some(words) => (self.own.clone(), words),
            None => (self.voxquarry.clone(), words),
        };
        let mut command = Command::new(program);
        command.args(words.split_whitespace().map(|word| word.replace('@', &folder)));
        command
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, words: &str) -> Result<Output, String> {
        let output = self.command(words).output().map_err(|e| e.to_string())?;
        let succeeded = output.status.success();
        succeeded.then_some(output.clone()).ok_or_else(|| {
            format!("{words}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
        })
    }

    /// What lies in the folder.
    pub(crate) fn tree(&self) -> Result<Tree, String> {
        Tree::read(self.path()).map_err(|e| e.to_string())
    }

    /// Images of two generations, and a store of the old one.
    pub(crate) fn common(&self) -> Result<Tree, String> {
        for (folder, generation) in [("old", 1), ("new", 2)] {
            let store = self.path().join("source.zarr");
            write_store(&store, Codec::Fast, generation).map_err(|e| e.to_string())?;
            fs::create_dir(self.path().join(folder)).map_err(|e| e.to_string())?;
            for (volume, file) in [("ct", "ct.nii.gz"), ("seg", "seg.nii"), ("weights", "w.nii")] {
                self.run(&format!("export @/source.zarr/anna/{volume} @/{folder}/{file}"))?;
            }
            fs::remove_dir_all(store).map_err(|e| e.to_string())?;
        }
        self.run(
            "ingest --subject case --image ct=@/old/ct.nii.gz --labels seg=@/old/seg.nii \
                  --image w=@/old/w.nii --patch-size 8 --quiet --out @/s.zarr",
        )?;
        self.tree()
    }

    /// All commands, with what each does when nothing disturbs it.
    pub(crate) fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        let common = self.common()?;
        let scenario =
            |&(name, effect, before, words): &(&'static str, Effect, &[&str], &'static str)| {
                common.restore(self.path()).map_err(|e| e.to_string())?;
                for words in before {
                    self.run(words)?;
                }
                let initial = self.tree()?;
                let (calls, output) = strace::list(&self.command(words), self.path())?;
                if !output.status.success() {
                    return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
                }
                let (reference, output) = (self.tree()?, output.stdout);
                Ok(Scenario { name, effect, initial, reference, output, calls, words })
            };
        COMMANDS.iter().map(scenario).collect()
    }
}
