//! House rules that no compiler knows, checked over the files that git tracks.
//!
//! Each rule is a function from text to findings. The tests below run them over the tree, and over
//! bad examples, so that every rule is known to be able to fail.

#[path = "tidy/architecture.rs"]
mod architecture;
#[path = "tidy/cycles.rs"]
mod cycles;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/form.rs"]
mod form;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/unsafe_code.rs"]
mod unsafe_code;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use architecture::{other_docs, other_ground, other_imports, other_unsafe};
use cycles::import_cycles;
use documents::{cargo_dependencies, dead_links, error_messages, undocumented, unexplained_errors};
use form::{
    COLUMNS, FILE_LINES, FUNCTION_LINES, MACHINE_PATHS, UNFINISHED, joined_sentences, long_files,
    long_functions, long_lines, repeated_types, undescribed_files, words,
};
use imports::{GROUND, MAY_IMPORT, rooms_by_name, upward_imports};
use tree::{assert_tidy, has_extension, is_code, read, root, tracked};
use unsafe_code::{UNSAFE_ROOMS, allows_unsafe, unjustified_unsafe};

#[test]
fn lines_and_files_are_short_enough() {
    assert_tidy(is_code, long_lines);
    assert_tidy(is_code, long_files);
}

#[test]
fn functions_fit_a_screen() {
    assert_tidy(|name| has_extension(name, "rs"), long_functions);
}

#[test]
fn type_names_are_unique_in_a_package() {
    let files = tracked();
    for package in ["src/", "tools/ingest/src/", "tools/cli/src/", "python/src/"] {
        let sources = files
            .iter()
            .filter(|(name, _)| name.starts_with(package) && has_extension(name, "rs"))
            .map(|(name, text)| (name.as_str(), text.as_str()));
        let found = repeated_types(sources);
        assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    }
}

#[test]
fn markdown_has_one_sentence_a_line() {
    let is_page = |name: &str| has_extension(name, "md") && !name.starts_with("benches/results/");
    assert_tidy(is_page, joined_sentences);
}

#[test]
fn files_of_a_room_form_no_circle() {
    let files = tracked();
    for package in ["", "tools/ingest/"] {
        let rust = files.iter().filter(|(name, _)| has_extension(name, "rs"));
        let inside = rust.filter_map(|(name, text)| Some((name.strip_prefix(package)?, &**text)));
        let sources: Vec<(&str, &str)> =
            inside.filter(|(name, _)| name.starts_with("src/")).collect();
        let found = import_cycles(&sources);
        assert!(found.is_empty(), "\n{package}\n{}\n", found.join("\n"));
    }
}

#[test]
fn every_file_says_what_it_is() {
    assert_tidy(is_code, undescribed_files);
}

#[test]
fn nothing_is_unfinished_and_nothing_is_of_one_machine() {
    assert_tidy(|_| true, |name, text| words(name, text, &UNFINISHED));
    assert_tidy(|_| true, |name, text| words(name, text, &MACHINE_PATHS));
}

#[test]
fn imports_point_down() {
    let rooms = rooms_by_name(&read("src/lib.rs"));
    assert_tidy(|name| name.starts_with("src/"), |name, text| upward_imports(name, text, &rooms));
}

#[test]
fn unsafe_stays_in_its_rooms_and_says_why() {
    let files = tracked();
    // The rules themselves name what they look for.
    let is_concerned = |name: &str| has_extension(name, "rs") && !name.starts_with("tests/tidy");
    let rust = files.iter().filter(|(name, _)| is_concerned(name));
    let rooms: Vec<_> =
        rust.filter(|(_, text)| allows_unsafe(text)).map(|(name, _)| name).collect();
    assert_eq!(rooms, UNSAFE_ROOMS, "rooms that allow unsafe code, and those that may");
    assert_tidy(is_concerned, unjustified_unsafe);
}

#[test]
fn every_dependency_has_its_reasons() {
    let page = read("docs/dependencies.md");
    let asks = |name: &str| has_extension(name, "toml") || has_extension(name, "txt");
    assert_tidy(asks, |name, text| undocumented(name, text, &page));
}

#[test]
fn the_architecture_names_every_package_and_folder() {
    let page = read("ARCHITECTURE.md");
    let files = tracked();
    let mut places: BTreeSet<&str> =
        files.iter().filter_map(|(name, _)| name.split_once('/')).map(|(top, _)| top).collect();
    places.extend(files.iter().filter_map(|(name, _)| name.strip_suffix("/Cargo.toml")));
    for place in places {
        assert!(page.contains(&format!("`{place}/`")), "ARCHITECTURE.md does not name `{place}/`");
    }
}

#[test]
fn the_architecture_lists_what_the_tree_has() {
    let page = read("ARCHITECTURE.md");
    let files = tracked();
    let docs = files.iter().map(|(name, _)| name.as_str()).filter(|n| n.starts_with("docs/"));
    let found = [
        other_imports(&page, &MAY_IMPORT),
        other_ground(&page, &GROUND),
        other_unsafe(&page, &UNSAFE_ROOMS),
        other_docs(&page, docs),
    ];
    let found = found.concat();
    assert!(found.is_empty(), "ARCHITECTURE.md:\n{}\n", found.join("\n"));
}

#[test]
fn the_demo_finds_the_command_where_cargo_builds_it() {
    let folders = [(None, "target"), (Some("else where"), "else where")];
    for (set, folder) in folders {
        let mut make = Command::new("make");
        make.args(["--dry-run", "demo"]).current_dir(root()).env_remove("CARGO_TARGET_DIR");
        make.envs(set.map(|folder| ("CARGO_TARGET_DIR", folder)));
        let recipe = String::from_utf8(make.output().unwrap().stdout).unwrap();
        let expected = format!("--voxquarry \"{folder}/release/voxquarry\"");
        assert!(recipe.contains(&expected), "{recipe} has no {expected}");
    }
}

#[test]
fn links_lead_somewhere() {
    let exists = |path: &Path| root().join(path).exists();
    assert_tidy(|name| has_extension(name, "md"), |name, text| dead_links(name, text, exists));
}

/// A heading quotes a message as it is printed, and every message of the library has a heading.
#[test]
fn every_error_has_an_anchor() {
    let page = read("docs/errors.md");
    let library = read("src/error.rs");
    let files = tracked();
    let code = files.iter().filter(|(name, _)| is_code(name) && !name.starts_with("tests/tidy"));
    let one_line = |text: &str| text.split("\\\n").map(str::trim_start).collect::<String>();
    let code: Vec<_> = code.map(|(_, text)| one_line(text)).collect();
    let found = unexplained_errors(&page, &library, &code);
    assert!(found.is_empty(), "docs/errors.md:\n{}\n", found.join("\n"));
    assert!(error_messages(&library).len() > 30);
}

#[test]
fn the_changelog_knows_this_version() {
    let heading = concat!("\n## [", env!("CARGO_PKG_VERSION"), "]");
    assert!(read("CHANGELOG.md").contains(heading), "CHANGELOG.md has no {heading:?}");
}

#[test]
fn rules_of_form_can_fail() {
    let line = "ä".repeat(COLUMNS);
    assert!(long_lines("a.rs", &line).is_empty());
    assert_eq!(
        long_lines("a.rs", &format!("ok\n{line}x")),
        ["a.rs:2: 101 columns, 100 are allowed"]
    );
    assert_eq!(long_files("a.rs", &"\n".repeat(FILE_LINES + 1)).len(), 1);
    assert!(long_files("a.rs", &"\n".repeat(FILE_LINES)).is_empty());
    assert_eq!(undescribed_files("a.rs", "use b;").len(), 1);
    assert_eq!(undescribed_files("a.py", "# licence\nimport b").len(), 1);
    assert!(undescribed_files("a.py", "#!python\n\"\"\"What it is.\"\"\"").is_empty());
    let body = "    a();\n".repeat(FUNCTION_LINES - 2);
    assert!(long_functions("a.rs", &format!("fn f() {{\n{body}}}")).is_empty());
    assert_eq!(
        long_functions("a.rs", &format!("pub(crate) fn f() {{\n    b();\n{body}}}")).len(),
        1
    );
    let twice = [("a.rs", "struct State {}"), ("b.rs", "pub(super) enum State {}")];
    assert_eq!(repeated_types(twice.into_iter()), ["State is defined in a.rs, b.rs"]);
    let once =
        [("a.rs", "struct State {}\n#[cfg(test)]\nstruct Other;"), ("b.rs", "struct Other;")];
    assert!(repeated_types(once.into_iter()).is_empty());
    assert_eq!(joined_sentences("a.md", "One. Two.\n1. Three.\n## 4. Five\n| a. B |\n").len(), 1);
    for word in UNFINISHED {
        assert_eq!(words("a", &format!("fine\n{word} later"), &UNFINISHED).len(), 1, "{word}");
    }
    for path in MACHINE_PATHS {
        assert_eq!(words("a", &format!("see {path}x"), &MACHINE_PATHS).len(), 1, "{path}");
    }
}

#[test]
fn the_rule_of_errors_can_fail() {
    let code = "#[error(\"{argument} is not \\\n    whole: {x}\")]\n#[error(\n \"late\", .x\n)]\n";
    assert_eq!(error_messages(code), ["{argument} is not whole: {x}", "late"]);
    let all = &["is not whole: late".to_owned()];
    let page = "### `… is not whole: …`\n\n### `late`\n";
    assert!(unexplained_errors(page, code, all).is_empty());
    assert_eq!(unexplained_errors("### `late`", code, all).len(), 1);
    assert_eq!(unexplained_errors(&format!("{page}### `early`"), code, all).len(), 1);
}

#[test]
fn rules_of_the_architecture_can_fail() {
    let page = "# A\n\n## Which folder holds what?\n\n| folder | what |\n|---|---|\n\
                | `docs/` | [a](docs/a.md), [b](docs/b.md) |\n\n## What may import what?\n\n\
                | `ground` | | [error.rs](src/error.rs) |\n| `sys` | `ground` | machine |\n\n\
                ## Where is `unsafe`?\n\n| [a.rs](src/a.rs), [b.rs](src/b.rs) | maps |\n";
    assert!(other_docs(page, ["docs/a.md", "docs/b.md"].into_iter()).is_empty());
    assert_eq!(other_docs(page, ["docs/a.md", "docs/c.md"].into_iter()).len(), 2);
    assert!(other_imports(page, &[("ground", &[]), ("sys", &["ground"])]).is_empty());
    assert_eq!(other_imports(page, &[("ground", &[]), ("sys", &[])]).len(), 1);
    assert_eq!(other_imports("", &[("ground", &[])]).len(), 1);
    assert!(other_ground(page, &["error"]).is_empty());
    assert_eq!(other_ground(page, &["error", "dtype"]).len(), 1);
    assert!(other_unsafe(page, &["src/a.rs", "src/b.rs"]).is_empty());
    assert_eq!(other_unsafe(page, &["src/a.rs", "src/c.rs"]).len(), 2);
}

#[test]
fn rules_of_imports_can_fail() {
    let rooms = rooms_by_name("pub use store::{Volume, Dataset};\npub use error::{Error};");
    let findings = |name: &str, text: &str| upward_imports(name, text, &rooms).len();
    assert_eq!(findings("src/codec/a.rs", "use crate::store::Volume;"), 1);
    assert_eq!(findings("src/format/a.rs", "use crate::{Error, codec::{frame::Frame, x}};"), 1);
    assert_eq!(findings("src/sample/a.rs", "fn f(v: &crate::Volume) {}"), 0);
    assert_eq!(findings("src/sys/a.rs", "fn f(v: &crate::Volume) {}"), 1);
    assert_eq!(findings("src/queue/a.rs", "use crate::aggregate::Window;"), 1);
    assert_eq!(findings("src/error.rs", "use crate::{\n    store::Volume,\n    Dataset,\n};"), 2);
    assert_eq!(findings("src/store/a.rs", "use crate::nowhere::X;"), 1);
    assert_eq!(findings("src/attic/a.rs", ""), 1, "a room that nobody described");
    assert_eq!(findings("src/sys/a.rs", "// As crate::store::Volume."), 0);
}

#[test]
fn the_rule_of_circles_can_fail() {
    let files = |b: &'static str| {
        [
            ("src/lib.rs", "mod a;\npub use a::Thing;"),
            ("src/a/mod.rs", "mod b;\nmod c;\npub use b::Thing;"),
            ("src/a/b.rs", b),
            ("src/a/c.rs", "use super::b::Thing;\nfn f(_: Thing) {}"),
        ]
    };
    assert!(import_cycles(&files("pub struct Thing;")).is_empty());
    assert_eq!(import_cycles(&files("use super::c::f;")).len(), 1);
    // A name that mod.rs hands on belongs to the file that defines it.
    assert!(import_cycles(&files("use crate::Thing;\nuse crate::a::Thing as Other;")).is_empty());
    assert_eq!(import_cycles(&files("use crate::{x::Y, a::{c::{f, g}}};")).len(), 1);
    assert!(import_cycles(&files("// super::c::f\n#[cfg(test)]\nuse super::c::f;")).is_empty());
}

#[test]
fn rules_of_unsafe_can_fail() {
    assert!(allows_unsafe("//! Doc\n#![allow(unsafe_code)]\n"));
    assert_eq!(unjustified_unsafe("a.rs", "let a = 1;\nlet b = unsafe { c() };").len(), 1);
    assert!(
        unjustified_unsafe("a.rs", "// SAFETY: c is kind.\nlet b =\n    unsafe { c() };")
            .is_empty()
    );
    let far = "// SAFETY: of another.\nunsafe { a() };\n\nunsafe impl Sync for X {}";
    assert_eq!(unjustified_unsafe("a.rs", far).len(), 1);
}

#[test]
fn rules_of_documents_can_fail() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# why\nserde.workspace = true\n\
                    [target.'cfg(unix)'.dev-dependencies]\ntempfile = \"3\"\n\
                    [dev-dependencies.zarrs]\nversion = \"1\"\n[lints]\nworkspace = true";
    let found: Vec<_> = cargo_dependencies(manifest).into_iter().collect();
    assert_eq!(found, ["serde", "tempfile", "zarrs"]);
    let page = "| name |\n|---|\n| `serde` | why |\n";
    assert_eq!(undocumented("x/Cargo.toml", manifest, page).len(), 2);
    assert_eq!(
        undocumented("python/requirements/test.txt", "# why\nSerde[x]>=1\nzarr==3\n", page).len(),
        1
    );
    let python =
        "[build-system]\nrequires = [\"maturin>=1\", \"serde\"]\ndependencies = [\"numpy\"]";
    assert_eq!(undocumented("python/pyproject.toml", python, page).len(), 2);
    let nothing = |_: &Path| false;
    let text = "[a](b.md#c) [d](https://e.f) [g](#h)\n```\n[i](j)\n```\n";
    assert_eq!(dead_links("docs/x.md", text, nothing), ["docs/x.md: no b.md"]);
    assert!(dead_links("docs/x.md", text, |p| p == Path::new("docs/b.md")).is_empty());
}
