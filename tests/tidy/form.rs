//! Rules about the form of files: widths, lengths, names, forbidden words.

use std::collections::BTreeMap;

use super::tree::{Findings, has_extension};

/// The width of code and comments.
pub(crate) const COLUMNS: usize = 100;
/// The length of a file.
pub(crate) const FILE_LINES: usize = 600;
/// The length of a Rust function.
pub(crate) const FUNCTION_LINES: usize = 70;

/// Words of unfinished work, in pieces so that this file has none.
pub(crate) const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimpl", "emented!("),
    concat!("#[ig", "nore"),
    concat!("mark.", "skip"),
];

/// Paths that exist on one machine only.
pub(crate) const MACHINE_PATHS: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/t", "mp/"),
];

pub(crate) fn long_lines(name: &str, text: &str) -> Findings {
    let too_long = |(i, line): (usize, &str)| {
        let columns = line.chars().count();
        let message = || format!("{name}:{}: {columns} columns, {COLUMNS} are allowed", i + 1);
        (columns > COLUMNS).then(message)
    };
    text.lines().enumerate().filter_map(too_long).collect()
}

pub(crate) fn long_files(name: &str, text: &str) -> Findings {
    let lines = text.lines().count();
    let message = format!("{name}: {lines} lines, {FILE_LINES} are allowed: one idea per file");
    (lines > FILE_LINES).then_some(message).into_iter().collect()
}

pub(crate) fn undescribed_files(name: &str, text: &str) -> Findings {
    let opens = if has_extension(name, "rs") {
        text.starts_with("//! ")
    } else {
        let code = text.lines().find(|line| !line.starts_with('#'));
        code.is_none_or(|line| line.starts_with("\"\"\""))
    };
    let message = format!("{name}: begins without saying what it is (//! or a docstring)");
    (!opens).then_some(message).into_iter().collect()
}

pub(crate) fn words(name: &str, text: &str, forbidden: &[&str]) -> Findings {
    let on_line = |(i, line): (usize, &str)| {
        let word = forbidden.iter().find(|word| line.contains(**word))?;
        Some(format!("{name}:{}: has {word:?}", i + 1))
    };
    text.lines().enumerate().filter_map(on_line).collect()
}

/// Rust functions that do not fit a screen. Relies on rustfmt: a body ends with a brace at the
/// indentation of its `fn`.
pub(crate) fn long_functions(name: &str, text: &str) -> Findings {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let begins = code.strip_prefix("pub ").unwrap_or(code);
        let begins =
            begins.split_once(") ").filter(|_| begins.starts_with("pub(")).map_or(begins, |b| b.1);
        let words = ["fn ", "unsafe fn ", "const fn ", "const unsafe fn "];
        if !words.iter().any(|word| begins.starts_with(word)) {
            continue;
        }
        let end = format!("{indent}}}");
        let stop = lines[i..].iter().position(|line| {
            *line == end
                || line.ends_with(';')
                    && line.starts_with(indent)
                    && !line[indent.len()..].starts_with(' ')
        });
        let length = stop.map_or(0, |n| n + 1);
        if length > FUNCTION_LINES {
            found.push(format!(
                "{name}:{}: a function of {length} lines, {FUNCTION_LINES} are allowed",
                i + 1
            ));
        }
    }
    found
}

/// Names of the types that a Rust file defines outside of its tests.
pub(crate) fn type_names(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let line = match line.strip_prefix("pub(") {
                Some(rest) => rest.split_once(") ")?.1,
                None => line,
            };
            let words = ["struct ", "enum ", "trait ", "unsafe trait ", "type ", "union "];
            let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
            Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        })
        .collect()
}

/// Type names that two files of one package define.
pub(crate) fn repeated_types<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Findings {
    let mut defined: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, text) in files {
        for type_name in type_names(text) {
            defined.entry(type_name).or_default().push(name);
        }
    }
    let repeated = defined.into_iter().filter(|(_, files)| files.len() > 1);
    repeated.map(|(name, files)| format!("{name} is defined in {}", files.join(", "))).collect()
}

/// Lines of a Markdown page that hold two sentences; tables and code are left out.
pub(crate) fn joined_sentences(name: &str, text: &str) -> Findings {
    let mut is_code = false;
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            is_code = !is_code;
        }
        if is_code || trimmed.starts_with('|') || trimmed.starts_with("![") {
            continue;
        }
        let ends = [". ", "? ", "! "].iter().flat_map(|end| line.match_indices(end));
        let joins = ends.map(|(at, _)| at).filter(|&at| {
            let before = line[..at].trim_start_matches(['#', ' ']);
            let next = line[at + 2..].trim_start().chars().next();
            // Numbers of headings and list items, and abbreviations, end no sentence.
            let is_item = before.chars().all(|c| c.is_ascii_digit());
            let is_short = ["e.g", "i.e", "vs", "cf"].iter().any(|word| before.ends_with(word));
            !is_item && !is_short && next.is_some_and(char::is_uppercase)
        });
        if joins.count() > 0 {
            found.push(format!("{name}:{}: two sentences on one line", i + 1));
        }
    }
    found
}
