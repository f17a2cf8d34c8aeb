//! Rules about `ARCHITECTURE.md`: its lists of rooms, unsafe files and documents are those of the
//! tree.

use std::collections::BTreeSet;

use super::tree::Findings;

/// The text below a heading, up to the next one of the same depth.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let begin = format!("\n## {heading}\n");
    let below = page.split_once(&begin).map_or("", |(_, below)| below);
    below.split("\n## ").next().unwrap_or_default()
}

/// The cells of each row of a section's tables.
fn rows(section: &str) -> impl Iterator<Item = Vec<&str>> {
    let tables = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    tables.map(|row| row.split('|').map(str::trim).collect())
}

/// Words between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The targets of links.
fn links(text: &str) -> BTreeSet<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// What the names that a page lists lack, and what they have too much.
fn differences(what: &str, listed: &BTreeSet<&str>, expected: &BTreeSet<&str>) -> Findings {
    let missing = expected.difference(listed).map(|name| format!("{what}: no {name}"));
    let unknown = listed.difference(expected).map(|name| format!("{what}: {name} does not belong"));
    missing.chain(unknown).collect()
}

/// Rows of the table of imports that differ from `may_import`.
pub(crate) fn other_imports(page: &str, may_import: &[(&str, &[&str])]) -> Findings {
    let mut listed: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows(section(page, "What may import what?")) {
        if let [room, imports, ..] = row[..]
            && let [room] = quoted(room)[..]
        {
            listed.push((room, quoted(imports)));
        }
    }
    let expected = may_import.iter().map(|(room, imports)| (*room, imports.to_vec()));
    if expected.clone().eq(listed.iter().cloned()) {
        return Vec::new();
    }
    let expected: Vec<_> = expected.collect();
    vec![format!("the table of imports has {listed:?}, tidy has {expected:?}")]
}

/// Files of the ground that the table of imports does not name.
pub(crate) fn other_ground(page: &str, ground: &[&str]) -> Findings {
    let mut rows = rows(section(page, "What may import what?"));
    let row = rows.find(|row| row[0] == "`ground`").unwrap_or_default();
    let files: Vec<String> = ground.iter().map(|file| format!("src/{file}.rs")).collect();
    let expected = files.iter().map(String::as_str).collect();
    differences("the files of the ground", &links(&row.join(" ")), &expected)
}

/// Files of the table of unsafe code that differ from `rooms`.
pub(crate) fn other_unsafe(page: &str, rooms: &[&str]) -> Findings {
    let expected = rooms.iter().copied().collect();
    differences("the table of unsafe code", &links(section(page, "Where is `unsafe`?")), &expected)
}

/// Files of `docs/` that the row of this folder does not name.
pub(crate) fn other_docs<'a>(page: &str, files: impl Iterator<Item = &'a str>) -> Findings {
    let mut rows = rows(section(page, "Which folder holds what?"));
    let row = rows.find(|row| row[0] == "`docs/`").unwrap_or_default();
    differences("the row of docs/", &links(&row.join(" ")), &files.collect())
}
