//! The files that git tracks, and running a rule over them.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Sentences about what breaks a rule.
pub(crate) type Findings = Vec<String>;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path and text of every tracked text file, golden bytes left out.
pub(crate) fn tracked() -> Vec<(String, String)> {
    let git = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(git.status.success(), "tidy looks at what git tracks: run it in a clone");
    let names = String::from_utf8(git.stdout).unwrap();
    let files: Vec<_> = names
        .split_terminator('\0')
        .filter(|name| !name.starts_with("format-spec/golden/v"))
        .filter_map(|name| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?)))
        .collect();
    assert!(files.len() > 50, "git lists the project's files");
    files
}

pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub(crate) fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}

pub(crate) fn is_code(name: &str) -> bool {
    has_extension(name, "rs") || has_extension(name, "py")
}

/// Runs a rule over the tracked files that `concerns` picks.
pub(crate) fn assert_tidy(concerns: impl Fn(&str) -> bool, rule: impl Fn(&str, &str) -> Findings) {
    let files = tracked();
    let concerned: Vec<_> = files.iter().filter(|(name, _)| concerns(name)).collect();
    assert!(!concerned.is_empty(), "a rule that concerns no file");
    let found: Vec<_> = concerned.iter().flat_map(|(name, text)| rule(name, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}
