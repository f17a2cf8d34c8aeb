//! The graph of imports among the files of `src/`, and its circles.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{room_of, uncommented};
use super::tree::Findings;

/// A module path such as `["array", "cache"]`; the crate root is empty.
type Module = Vec<String>;

/// The modules of the crate, and the names that each hands on from another module.
struct Crate<'a> {
    files: BTreeMap<Module, &'a str>,
    reexports: BTreeMap<Module, BTreeMap<String, Module>>,
}

/// Circles of imports among the files of one room.
pub(crate) fn import_cycles(sources: &[(&str, &str)]) -> Findings {
    let files = sources.iter().map(|(name, _)| (module_of(name), *name)).collect();
    let mut known = Crate { files, reexports: BTreeMap::new() };
    for (name, text) in sources {
        let module = module_of(name);
        for (is_public, path) in uses(&code_of(text)) {
            let Some(target) = absolute(&module, &path).filter(|_| is_public) else { continue };
            let last = target.last().cloned().unwrap_or_default();
            known.reexports.entry(module.clone()).or_default().insert(last, target);
        }
    }
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, text) in sources {
        let (module, code) = (module_of(name), code_of(text));
        // A mod.rs that hands on its files' names does not use them.
        let used =
            uses(&code).into_iter().filter(|(is_public, _)| !is_public).map(|(_, path)| path);
        for path in used.chain(inline_paths(&code)) {
            let target = absolute(&module, &path).and_then(|path| known.file_of(path));
            if let Some(target) = target.filter(|t| t != name && room_of(t) == room_of(name)) {
                edges.entry(name).or_default().insert(target);
            }
        }
    }
    cycles(&edges)
}

impl<'a> Crate<'a> {
    /// The file that defines what `path` names.
    fn file_of(&self, mut path: Module) -> Option<&'a str> {
        // Each step follows one name that a module hands on.
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|&n| self.files.contains_key(&path[..n]))?;
            let module = &path[..depth];
            let next = path.get(depth).and_then(|name| self.reexports.get(module)?.get(name));
            match next {
                Some(target) if *target != path => path.clone_from(target),
                _ => return self.files.get(module).copied(),
            }
        }
        None
    }
}

/// The text without comments and tests.
fn code_of(text: &str) -> String {
    uncommented(text.split("#[cfg(test)]").next().unwrap_or_default())
}

/// The module path of a file below `src/`.
fn module_of(name: &str) -> Module {
    let inside = name.trim_start_matches("src/").trim_end_matches(".rs");
    let parts = inside.split('/').filter(|part| !["mod", "lib"].contains(part));
    parts.map(str::to_owned).collect()
}

/// A path from the crate's root; `None` for one that begins in another crate.
fn absolute(module: &[String], path: &[String]) -> Option<Module> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let supers = path.iter().take_while(|part| *part == "super").count();
            let parent = module.get(..module.len().checked_sub(supers)?)?;
            Some([parent, &path[supers..]].concat())
        }
        // `mod x; pub use x::Y;` names a module below this one.
        first if first.starts_with(char::is_lowercase) => Some([module, path].concat()),
        _ => None,
    }
}

/// The paths of every `use`, and whether it hands them on.
fn uses(code: &str) -> Vec<(bool, Module)> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let line = statement.lines().map(str::trim_start).find(|line| {
            line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "))
        });
        let Some(line) = line else { continue };
        let at = statement.find(line).unwrap_or_default();
        let Some((before, tree)) = statement[at..].split_once("use ") else { continue };
        let mut paths = Vec::new();
        expand(&tree.split_whitespace().collect::<Vec<_>>().join(" "), &[], &mut paths);
        found.extend(paths.into_iter().map(|path| (!before.is_empty(), path)));
    }
    found
}

/// The paths of a tree such as `a::{b, c::{d, e}}` below `prefix`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Module>) {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, rest)) => (head, rest.strip_suffix('}')),
        None => (tree.split(" as ").next().unwrap_or_default(), None),
    };
    let parts = head.split("::").map(str::trim).filter(|part| !part.is_empty() && *part != "*");
    let path: Module = prefix.iter().cloned().chain(parts.map(str::to_owned)).collect();
    let Some(group) = group else {
        paths.push(path);
        return;
    };
    let (mut depth, mut start) = (0usize, 0);
    for (i, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = group[start..i].trim();
                match part {
                    "" => {}
                    "self" => paths.push(path.clone()),
                    part => expand(part, &path, paths),
                }
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// Paths from `crate` or `super` in the code itself.
fn inline_paths(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for begin in ["crate::", "super::"] {
        for (at, _) in code.match_indices(begin) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = code[at..].chars().take_while(|&c| is_path(c)).collect();
            let parts = path.split("::").filter(|part| !part.is_empty());
            found.push(parts.map(str::to_owned).collect());
        }
    }
    found
}

/// One sentence for each circle; its files lie on a common circle of `edges`.
fn cycles(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Findings {
    let reachable = |from: &str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = edges.get(from).into_iter().flatten().copied().collect();
        while let Some(file) = open.pop() {
            if seen.insert(file) {
                open.extend(edges.get(file).into_iter().flatten());
            }
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|&file| (file, reachable(file))).collect();
    let is_on_circle = |a: &str, b: &str| {
        reach.get(a).is_some_and(|r| r.contains(b)) && reach.get(b).is_some_and(|r| r.contains(a))
    };
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for &file in edges.keys() {
        let circle: Vec<&str> = edges.keys().copied().filter(|f| is_on_circle(file, f)).collect();
        if !circle.is_empty() && told.insert(circle[0]) {
            found.push(format!("files that import each other: {}", circle.join(", ")));
        }
    }
    found
}
