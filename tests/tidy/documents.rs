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

/// The literal parts of a message, between its placeholders: `{…}` in code, `…` on a page.
fn literal_parts(message: &str, placeholders: [char; 2]) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in message.chars() {
        match c {
            c if c == placeholders[0] => {
                inside = placeholders[0] != placeholders[1];
                parts.push(String::new());
            }
            c if c == placeholders[1] => inside = false,
            c if !inside => parts.last_mut().expect("begins with one").push(c),
            _ => {}
        }
    }
    parts.retain(|part| part.chars().any(char::is_alphabetic));
    parts
}

/// The messages of the variants of an error: the text of each `#[error("…")]`, in one line.
pub(crate) fn error_messages(code: &str) -> Vec<String> {
    let attributes = code.split("#[error(").skip(1);
    let texts = attributes.filter_map(|rest| rest.trim_start().strip_prefix('"'));
    // A message has no quotation marks of its own.
    let messages = texts.filter_map(|text| Some(text[..text.find('"')?].to_owned()));
    let one_line =
        |text: String| text.split("\\\n").map(str::trim_start).collect::<Vec<_>>().concat();
    messages.map(one_line).collect()
}

/// Headings of a page that quote no message of the code, and messages without a heading.
///
/// A heading quotes a message if all its parts stand in one file. It explains a message of the
/// library if they are parts of it, and at least a quarter of its letters.
pub(crate) fn unexplained_errors(page: &str, library: &str, code: &[String]) -> Findings {
    let quoted: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .map(|heading| literal_parts(heading, ['…', '…']))
        .collect();
    let stands = |parts: &[String]| {
        code.iter().any(|file| parts.iter().all(|part| file.contains(part.trim())))
    };
    let letters = |parts: &[String]| parts.iter().map(|part| part.trim().len()).sum::<usize>();
    let invented = quoted.iter().filter(|parts| parts.is_empty() || !stands(parts));
    let mut found: Vec<_> =
        invented.map(|parts| format!("no message reads {}", parts.join("…"))).collect();
    for message in error_messages(library) {
        let known = literal_parts(&message, ['{', '}']);
        let explains = |heading: &Vec<String>| {
            heading.iter().all(|part| known.iter().any(|text| text.contains(part.trim())))
                && 4 * letters(heading) >= letters(&known)
        };
        if !known.is_empty() && !quoted.iter().any(explains) {
            found.push(format!("no heading quotes {message:?}"));
        }
    }
    found
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
