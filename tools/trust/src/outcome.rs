//! Whether a command that was disturbed has kept its promises.
//!
//! Oracle: the command ends with exit code 4 and names the path, or has done its work. Nothing
//! half-written is visible. The same command again, and after it those that finish the work where
//! it is one part of several, leads to what it leads to undisturbed, byte for byte.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use voxquarry::{Dataset, OpenOptions, verify};

use crate::campaign::Verdict;
use crate::commands::Effect;
use crate::scenarios::{Bench, Scenario};
use crate::strace::LIMIT_SECONDS;
use crate::tree::{Node, Tree};

/// How a command was disturbed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// It was killed.
    Kill,
    /// A system call failed, or a limit was reached.
    Refusal,
    /// As a refusal, and every message to the user was refused as well.
    Silence,
}

impl Bench {
    /// Whether a command that ended like that has kept all promises.
    pub(crate) fn check(&self, scenario: &Scenario, output: &Output, blow: Blow) -> Verdict {
        let found = self.tree()?;
        let outcome = self.check_exit(scenario, output, blow, &found)?;
        self.check_visible(scenario, &found)?;
        self.check_again(scenario, outcome)?;
        Ok(outcome)
    }

    /// How the command ended; a success must have done everything.
    fn check_exit(
        &self,
        scenario: &Scenario,
        output: &Output,
        blow: Blow,
        found: &Tree,
    ) -> Verdict {
        let said = String::from_utf8_lossy(&output.stderr);
        match (output.status.code(), output.status.signal()) {
            (None, Some(9)) | (Some(137), _) if blow == Blow::Kill => Ok("killed"),
            (None, Some(9)) | (Some(137), _) => Err(format!("no end after {LIMIT_SECONDS} s")),
            (Some(4), _) if blow == Blow::Silence => Ok("an error that could not be printed"),
            (Some(4), _) => {
                let place = self.path().to_string_lossy().into_owned();
                let listed = String::from_utf8_lossy(&output.stdout);
                let of_no_path = ["standard output", "not enough memory"];
                let names =
                    said.contains(&place) || of_no_path.iter().any(|what| said.contains(what));
                if said.contains("error: ") && names || listed.contains(&place) {
                    Ok("an error that names the path")
                } else {
                    Err("an error without the path".to_owned())
                }
            }
            (Some(0), _) => {
                if output.stdout != scenario.output {
                    let said = String::from_utf8_lossy(&output.stdout);
                    return Err(format!("it succeeded and said {said:.200}"));
                }
                if scenario.effect == Effect::Publishes {
                    let difference =
                        without_litter(found).difference(&without_litter(&scenario.reference));
                    if let Some(difference) = difference {
                        return Err(format!("it succeeded, and {difference}"));
                    }
                }
                Ok("success all the same")
            }
            // Rust ends a program that cannot allocate; the command makes an error of it.
            _ if said.contains("memory allocation of") && scenario.words.starts_with('+') => {
                Ok("no memory")
            }
            _ => Err("it ended in another way".to_owned()),
        }
    }

    /// Whether only whole things are visible, of before or of after.
    fn check_visible(&self, scenario: &Scenario, found: &Tree) -> Result<(), String> {
        let found = without_lists(without_litter(found));
        let known = [&scenario.initial, &scenario.reference].map(without_litter);
        let [initial, reference] = known.map(without_lists);
        for (path, node) in &found.0 {
            let known = [&initial, &reference].iter().any(|tree| tree.0.get(path) == Some(node));
            if !known && *node != Node::Folder {
                return Err(format!("{} is of neither before nor after", path.display()));
            }
        }
        let units: BTreeSet<PathBuf> =
            initial.0.keys().chain(reference.0.keys()).filter_map(|path| unit(path)).collect();
        for name in &units {
            let part = |tree: &Tree| tree.filter(|path| unit(path).as_ref() == Some(name));
            let (now, before, after) = (part(&found), part(&initial), part(&reference));
            let is_visible = now.0.keys().any(|path| is_head(path));
            let has_all = |whole: &Tree| {
                !whole.0.is_empty()
                    && whole.0.iter().all(|(path, node)| now.0.get(path) == Some(node))
            };
            if is_visible && !has_all(&before) && !has_all(&after) {
                return Err(format!("{} is half of before, half of after", name.display()));
            }
            if !is_visible && has_all(&before) && before.0.keys().any(|path| is_head(path)) {
                return Err(format!("{} has lost its head", name.display()));
            }
        }
        for store in ["s.zarr", "p.zarr"].map(|name| self.path().join(name)) {
            if let Ok(dataset) = Dataset::open(&store, &OpenOptions::default()) {
                let document = fs::read(store.join("zarr.json"));
                let listed = listed_subjects(&document.map_err(|e| e.to_string())?);
                if listed.is_some_and(|listed| listed != dataset.subjects()) {
                    return Err("the list of subjects lacks some, or has others".to_owned());
                }
                let report = verify(&store, &mut |_| Ok(())).map_err(|e| format!("verify: {e}"))?;
                if let Some(error) = report.errors.first() {
                    return Err(format!("verify says {error}"));
                }
            } else if scenario.initial.0.contains_key(Path::new("s.zarr/zarr.json"))
                && store.ends_with("s.zarr")
            {
                return Err("the store cannot be opened".to_owned());
            }
        }
        Ok(())
    }

    /// The same command again, undisturbed, and those that finish its work. If what it makes is
    /// there already, in whole or, of a pair of files, in half, it is asked to replace that.
    fn check_again(&self, scenario: &Scenario, outcome: &str) -> Result<(), String> {
        let again = |more: &[&str]| {
            let output = self.command(scenario.words).args(more).output();
            output.map_err(|e| format!("again: {e}"))
        };
        let mut output = again(&[])?;
        let exists = |output: &Output| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.code() == Some(2) && said.contains("exists")
        };
        let may_replace = scenario.name.starts_with("export");
        let is_half = || Ok::<_, String>(self.tree()?.difference(&scenario.reference).is_some());
        if exists(&output) && may_replace && is_half()? {
            output = again(&["--overwrite"])?;
        }
        if !output.status.success() && !exists(&output) {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{outcome}; again: {}: {said:.300}", output.status));
        }
        for words in scenario.after {
            self.run(words).map_err(|message| format!("{outcome}; then {message:.300}"))?;
        }
        let (mut found, mut reference) = (self.tree()?, scenario.finished.clone());
        if scenario.effect == Effect::Caches {
            // Readers do not clean up: the next writer does.
            (found, reference) = (without_litter(&found), without_litter(&reference));
        }
        match found.difference(&reference) {
            Some(difference) => Err(format!("{outcome}; again: {difference}")),
            None => Ok(()),
        }
    }
}

/// What belongs together: a subject of a store, or the files of an image.
fn unit(path: &Path) -> Option<PathBuf> {
    let mut names = path.components().map(Component::as_os_str);
    let first = Path::new(names.next()?);
    if first.extension().is_some_and(|e| e == "zarr") {
        let subject = names.next()?;
        (subject != "zarr.json").then(|| first.join(subject))
    } else {
        let name = first.to_string_lossy();
        name.starts_with("a.").then(|| PathBuf::from("a"))
    }
}

/// Whether a unit is visible by this path: the document of a subject; an image, or the header of a
/// pair.
fn is_head(path: &Path) -> bool {
    path.components().count() == 3 && path.ends_with("zarr.json")
        || path.components().count() == 1 && !path.ends_with("a.img")
}

/// Without unfinished work, which no reader sees.
pub(crate) fn without_litter(tree: &Tree) -> Tree {
    tree.filter(|path| {
        !path.iter().any(|name| {
            let name = name.to_string_lossy();
            name == ".voxquarry-partial" || name.starts_with('.') && name.contains(".partial-")
        })
    })
}

/// The subjects that a store's document lists, if it does.
fn listed_subjects(document: &[u8]) -> Option<Vec<String>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    serde_json::from_value(document["attributes"]["voxquarry"].get("subjects")?.clone()).ok()
}

/// Without the lists of subjects in the documents of stores, nor the seals that follow from them:
/// a writer removes a list before a subject appears that it lacks, and writes it again at its end.
fn without_lists(mut tree: Tree) -> Tree {
    for (path, node) in &mut tree.0 {
        if path.components().count() != 2 || !path.ends_with("zarr.json") {
            continue;
        }
        if let Node::File(bytes) = node
            && let Ok(mut document) = serde_json::from_slice::<Value>(bytes)
            && let Some(own) = document["attributes"]["voxquarry"].as_object_mut()
        {
            own.retain(|key, _| key != "subjects" && key != "crc32c");
            *bytes = document.to_string().into_bytes();
        }
    }
    tree
}
