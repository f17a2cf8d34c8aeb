//! Work that was begun, one file of which is damaged or lost before it is continued.
//!
//! Oracle: what is continued leads to what it leads to undisturbed; or an error says so, and the
//! work can be begun anew; or `verify` notices what was published. No reader gives a wrong answer.

use std::fs;
use std::path::Path;

use voxquarry::{Access, verify};

use crate::Args;
use crate::campaign::{Campaign, Verdict};
use crate::commands::{
    BLEND_0, BLEND_0_BEGUN, BLEND_1, FINALIZE, JOIN, KEPT, KEPT_BEGUN, PART_0, PART_1, PLAN,
};
use crate::corruptions::{damaged, replace};
use crate::observe::{Observation, observe, wrong_answer};
use crate::outcome::without_litter;
use crate::random::Random;
use crate::scenarios::Bench;
use crate::tree::Tree;

/// Commands that begin some work, those that continue it, and those that begin it anew.
struct Work {
    name: &'static str,
    begin: &'static [&'static str],
    go_on: &'static [&'static str],
    anew: &'static [&'static str],
}

const DISCARD: &str = "finalize @/p.zarr/new/p --discard";

const WORKS: &[Work] = &[
    Work {
        name: "ingest, one part done",
        begin: &[PLAN, PART_0],
        go_on: &[PART_1, FINALIZE],
        anew: &[PLAN, PART_0, PART_1, FINALIZE],
    },
    Work {
        name: "ingest, all parts done",
        begin: &[PLAN, PART_0, PART_1],
        go_on: &[PART_0, PART_1, FINALIZE],
        anew: &[PLAN, PART_0, PART_1, FINALIZE],
    },
    Work {
        name: "ingest, to be finalized",
        begin: &[PLAN, PART_0, PART_1],
        go_on: &[FINALIZE],
        anew: &[PLAN, PART_0, PART_1, FINALIZE],
    },
    Work {
        name: "blending, a part begun",
        begin: &[BLEND_0_BEGUN],
        go_on: &[BLEND_0, BLEND_1, JOIN],
        anew: &[DISCARD, BLEND_0, BLEND_1, JOIN],
    },
    Work {
        name: "blending, all parts done",
        begin: &[BLEND_0, BLEND_1],
        go_on: &[BLEND_0, BLEND_1, JOIN],
        anew: &[DISCARD, BLEND_0, BLEND_1, JOIN],
    },
    Work {
        name: "blending, to be joined",
        begin: &[BLEND_0, BLEND_1],
        go_on: &[JOIN],
        anew: &[DISCARD, BLEND_0, BLEND_1, JOIN],
    },
    Work { name: "blending, kept", begin: &[KEPT_BEGUN], go_on: &[KEPT], anew: &[] },
];

/// Some work that was begun, and what it leads to.
struct Begun {
    work: &'static Work,
    initial: Tree,
    finished: Tree,
    expected: Observation,
}

pub(crate) struct Unfinished {
    bench: Bench,
    begun: Vec<Begun>,
}

impl Unfinished {
    pub(crate) fn begin(args: &Args) -> Result<Self, String> {
        let bench = Bench::new(args)?;
        let common = bench.common()?;
        let begin = |work: &'static Work| {
            common.restore(bench.path()).map_err(|e| e.to_string())?;
            work.begin.iter().try_for_each(|words| bench.run(words).map(drop))?;
            let initial = bench.tree()?;
            work.go_on.iter().try_for_each(|words| bench.run(words).map(drop))?;
            let expected = observe(&bench.path().join("p.zarr"), Access::Read);
            Ok::<_, String>(Begun { work, initial, finished: bench.tree()?, expected })
        };
        let begun = WORKS.iter().map(begin).collect::<Result<_, _>>()?;
        Ok(Self { bench, begun })
    }

    /// Runs commands up to the first that fails; says how it failed.
    fn run(&self, commands: &[&str]) -> Result<Option<String>, String> {
        for words in commands {
            let mut limited = crate::strace::limited(&[], &self.bench.command(words));
            let output = limited.output().map_err(|e| e.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => {}
                Some(2..=4) if said.contains("error: ") => {
                    return Ok(Some(format!("{words}: {said:.300}")));
                }
                _ => return Err(format!("{words}: {}: {said:.300}", output.status)),
            }
        }
        Ok(None)
    }

    fn check(&self, begun: &Begun) -> Verdict {
        let store = self.bench.path().join("p.zarr");
        let failed = self.run(begun.work.go_on)?;
        let found = observe(&store, Access::Read);
        if let Some(wrong) = wrong_answer(&found, &begun.expected) {
            return Err(wrong);
        }
        let is_finished = || -> Result<Option<String>, String> {
            let found = without_litter(&self.bench.tree()?);
            Ok(found.difference(&without_litter(&begun.finished)))
        };
        if let Some(failure) = failed {
            if begun.work.anew.is_empty() {
                return Ok("an error");
            }
            if let Some(again) = self.run(begun.work.anew)? {
                return Err(format!("{failure}; begun anew, {again}"));
            }
            return match is_finished()? {
                None => Ok("an error, and begun anew"),
                Some(difference) => Err(format!("{failure}; begun anew, {difference}")),
            };
        }
        let Some(difference) = is_finished()? else { return Ok("what it leads to") };
        match verify(&store, &mut |_| Ok(())) {
            Ok(report) if report.error_count == 0 => {
                Err(format!("{difference}, and verify says that all is right"))
            }
            _ => Ok("damage that verify notices"),
        }
    }
}

impl Campaign for Unfinished {
    fn case(&mut self, number: u64, random: &mut Random) -> Verdict {
        let begun = &self.begun[number as usize % self.begun.len()];
        let folder = self.bench.path();
        begun.initial.restore(folder).map_err(|e| format!("cannot restore: {e}"))?;
        let text = damage(folder, &begun.initial, random)?;
        self.check(begun).map_err(|message| format!("{}: {text}: {message}", begun.work.name))
    }
}

/// Damages or removes one file of unfinished work, and says what was done.
fn damage(folder: &Path, tree: &Tree, random: &mut Random) -> Result<String, String> {
    let files = tree.files();
    let is_unfinished = |path: &Path| path.iter().any(|name| name == ".voxquarry-partial");
    let files: Vec<_> = files.into_iter().filter(|(path, _)| is_unfinished(path)).collect();
    let done = |text: String| move |e: std::io::Error| format!("cannot damage: {text}: {e}");
    loop {
        let (path, bytes) = *random.pick(&files);
        let target = folder.join(path);
        let place = path.display();
        match random.below(100) {
            share @ 0..80 if !bytes.is_empty() => {
                let Some((kind, detail, bytes)) = damaged(bytes, share, random) else { continue };
                let text = format!("{place}: {kind} {detail}");
                replace(&target, &bytes).map_err(done(text.clone()))?;
                return Ok(text);
            }
            80..94 => {
                let text = format!("{place}: a deleted file");
                fs::remove_file(&target).map_err(done(text.clone()))?;
                return Ok(text);
            }
            // Of an empty file, such as a lock, only the name counts.
            94.. if !bytes.is_empty() => {
                let text = format!("{place}: a folder in place of a file");
                let replaced = fs::remove_file(&target).and_then(|()| fs::create_dir(&target));
                replaced.map_err(done(text.clone()))?;
                return Ok(text);
            }
            _ => {}
        }
    }
}
