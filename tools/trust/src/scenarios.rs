//! Commands that write, what lies there before, and what must lie there afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use voxquarry::format::layout::Codec;

use crate::Args;
use crate::commands::{BenchCommand, COMMANDS, Effect};
use crate::stores::write_store;
use crate::strace::{self, Calls};
use crate::tree::Tree;

/// A command in a folder.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    pub(crate) initial: Tree,
    pub(crate) reference: Tree,
    pub(crate) output: Vec<u8>,
    pub(crate) calls: Calls,
    pub(crate) words: &'static str,
    /// Commands that finish the work, where it is one part of several.
    pub(crate) after: &'static [&'static str],
    /// What lies there after them.
    pub(crate) finished: Tree,
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
        let scenario = |command: &BenchCommand| {
            common.restore(self.path()).map_err(|e| e.to_string())?;
            for words in command.before {
                self.run(words)?;
            }
            let initial = self.tree()?;
            let (calls, output) = strace::list(&self.command(command.words), self.path())?;
            let name = command.name;
            if !output.status.success() {
                return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
            }
            let reference = self.tree()?;
            for words in command.after {
                self.run(words)?;
            }
            Ok(Scenario {
                name,
                effect: command.effect,
                initial,
                reference,
                output: output.stdout,
                calls,
                words: command.words,
                after: command.after,
                finished: self.tree()?,
            })
        };
        COMMANDS.iter().map(scenario).collect()
    }
}
