//! Rules about documents: dependencies have their reasons, and links lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use super::tree::{Findings, has_extension};

/// Names of the packages that a Cargo manifest asks for.
pub(crate) fn cargo_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end().trim_end_matches(']');
            inside = section.ends_with("dependencies");
            found.extend(section.split_once("dependencies.").map(|(_, name)| name.to_owned()));
        } else if inside && let Some((name, _)) = line.split_once('=') {
            let name = name.trim().split('.').next().unwrap_or_default();
            if !name.is_empty() && !name.starts_with('#') {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// The distribution that a Python requirement names.
pub(crate) fn requirement(line: &str) -> Option<String> {
    let is_name = |c: &char| c.is_alphanumeric() || "-_.".contains(*c);
    let name: String = line.trim().chars().take_while(is_name).collect();
    (!name.is_empty()).then(|| name.to_lowercase())
}

/// Names that a file of that name asks for.
pub(crate) fn dependencies(name: &str, text: &str) -> BTreeSet<String> {
    let file = name.rsplit('/').next().unwrap_or(name);
    if file == "Cargo.toml" {
        return cargo_dependencies(text)
            .into_iter()
            .filter(|n| !n.starts_with("voxquarry"))
            .collect();
    }
    if file == "pyproject.toml" {
        let lists =
            text.lines().filter(|l| l.starts_with("requires =") || l.starts_with("dependencies ="));
        return lists
            .flat_map(|l| l.split('"').skip(1).step_by(2))
            .filter_map(requirement)
            .collect();
    }
    let asks = has_extension(name, "txt") && name.contains("requirements");
    if asks { text.lines().filter_map(requirement).collect() } else { BTreeSet::new() }
}

/// What `docs/dependencies.md` has no row for.
pub(crate) fn undocumented(name: &str, text: &str, page: &str) -> Findings {
    let row = |dependency: &str| page.contains(&format!("\n| `{dependency}` |"));
    let missing = dependencies(name, text).into_iter().filter(|d| !row(d));
    missing.map(|d| format!("{name}: {d} has no row in docs/dependencies.md")).collect()
}

/// Links of a Markdown page that lead nowhere.
pub(crate) fn dead_links(name: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Findings {
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !target.contains(':') && !exists(&folder.join(path)) {
                found.push(format!("{name}: no {path}"));
            }
        }
    }
    found
}
