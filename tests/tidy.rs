//! House rules that no compiler knows, checked over the files that git tracks.
//!
//! Each rule is a function from text to complaints; the tests below run them over the tree, and over bad examples, so that
//! every rule is known to be able to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// rustfmt keeps code at 100 columns; this is for what it leaves alone: comments, strings, macros, attributes, Python.
const COLUMNS: usize = 150;
const FILE_LINES: usize = 600;

/// What each room of `src/` may import, besides itself. Layers point down, siblings do not know each other.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    ("ground", &[]),
    ("sys", &["ground"]),
    ("format", &["ground"]),
    // A frame is decoded as `format::array` describes it; the description has to exist once.
    ("codec", &["ground", "sys", "format"]),
    ("array", &["ground", "sys", "format", "codec"]),
    ("store", &["ground", "sys", "format", "codec", "array"]),
    // Sampling depends on a subject's size, and for classes or weights on facts about its chunks.
    ("sample", &["ground", "format", "array", "store"]),
    ("queue", &["ground", "sys", "array", "store", "sample"]),
    // It chooses its output's layout (`format`), and spills into temporary files (`sys`).
    ("aggregate", &["ground", "sys", "format", "store", "sample"]),
];

/// Files at the ground of `src/`, which may use each other.
const GROUND: [&str; 3] = ["dtype", "error", "geometry"];

/// The rooms that may be `unsafe`: maps, decoders, work that threads share, and writing to disjoint parts of the caller's buffer.
const UNSAFE_ROOMS: [&str; 22] = [
    // Calls c-blosc, the oracle.
    "fuzz/src/lib.rs",
    // Lends a batch's memory to numpy.
    "python/src/batch_owner.rs",
    "src/aggregate/array.rs",
    "src/array/gather.rs",
    "src/array/scatter.rs",
    "src/codec/lz4/copy.rs",
    "src/codec/lz4/decode.rs",
    "src/codec/lz4/encode.rs",
    "src/codec/lz4/plane_refs.rs",
    "src/codec/planes.rs",
    "src/codec/shuffle/avx2.rs",
    "src/codec/shuffle/avx512.rs",
    "src/codec/shuffle/partial.rs",
    "src/codec/shuffle/split_x86.rs",
    "src/codec/strided.rs",
    "src/queue/buffer.rs",
    "src/sys/isa.rs",
    "src/sys/mmap.rs",
    "src/sys/prefetch.rs",
    "src/sys/temp_map.rs",
    "src/sys/worker_pool.rs",
    // Calls c-blosc, the oracle.
    "tests/blosc.rs",
];

/// Words of unfinished work, in pieces so that this file has none.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimpl", "emented!("),
    concat!("#[ig", "nore"),
    concat!("mark.", "skip"),
];

/// Paths that exist on one machine only.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/t", "mp/"),
];

type Complaints = Vec<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path and text of every tracked text file, golden bytes left out.
fn tracked() -> Vec<(String, String)> {
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

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}

fn is_code(name: &str) -> bool {
    has_extension(name, "rs") || has_extension(name, "py")
}

/// Runs a rule over the tracked files that `concerns` picks.
fn assert_tidy(concerns: impl Fn(&str) -> bool, rule: impl Fn(&str, &str) -> Complaints) {
    let files = tracked();
    let concerned: Vec<_> = files.iter().filter(|(name, _)| concerns(name)).collect();
    assert!(!concerned.is_empty(), "a rule that concerns no file");
    let found: Vec<_> = concerned.iter().flat_map(|(name, text)| rule(name, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn long_lines(name: &str, text: &str) -> Complaints {
    let too_long = |(i, line): (usize, &str)| {
        let columns = line.chars().count();
        let message = || format!("{name}:{}: {columns} columns, {COLUMNS} are allowed", i + 1);
        (columns > COLUMNS).then(message)
    };
    text.lines().enumerate().filter_map(too_long).collect()
}

fn long_files(name: &str, text: &str) -> Complaints {
    let lines = text.lines().count();
    let message = format!("{name}: {lines} lines, {FILE_LINES} are allowed: one idea per file");
    (lines > FILE_LINES).then_some(message).into_iter().collect()
}

fn undescribed_files(name: &str, text: &str) -> Complaints {
    let opens = if has_extension(name, "rs") {
        text.starts_with("//! ")
    } else {
        let code = text.lines().find(|line| !line.starts_with('#'));
        code.is_none_or(|line| line.starts_with("\"\"\""))
    };
    let message = format!("{name}: begins without saying what it is (//! or a docstring)");
    (!opens).then_some(message).into_iter().collect()
}

fn words(name: &str, text: &str, forbidden: &[&str]) -> Complaints {
    let on_line = |(i, line): (usize, &str)| {
        let word = forbidden.iter().find(|word| line.contains(**word))?;
        Some(format!("{name}:{}: has {word:?}", i + 1))
    };
    text.lines().enumerate().filter_map(on_line).collect()
}

/// The text without `//` comments.
fn uncommented(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Names that follow `prefix` in paths and braces: `crate::{a::b, C}` gives `a` and `C`.
fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let mut depth = 0usize;
        let mut start = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    found.insert(name(&group[start..i]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.insert(name(&group[start..i]));
                    start = i + 1;
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

/// The room of each name that `lib.rs` offers at the crate's root, and of each module.
fn rooms_by_name(lib: &str) -> BTreeMap<String, String> {
    let mut rooms = BTreeMap::new();
    let ground = GROUND.iter().map(|&file| (file, "ground"));
    let modules = ground.chain(MAY_IMPORT.iter().map(|(room, _)| (*room, *room)));
    for (module, room) in modules {
        rooms.insert(module.to_owned(), room.to_owned());
        for name in names_after(lib, &format!("pub use {module}::")) {
            rooms.insert(name, room.to_owned());
        }
    }
    // A type and a macro that the ground hands on.
    for name in ["bf16", "f16", "with_voxel"] {
        rooms.insert(name.to_owned(), "ground".to_owned());
    }
    rooms
}

/// The room of a file below `src/`; `None` for `lib.rs`, which joins them all.
fn room_of(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/")?;
    match inside.split_once('/') {
        Some((room, _)) => Some(room),
        None if inside == "lib.rs" => None,
        None => Some("ground"),
    }
}

fn upward_imports(name: &str, text: &str, rooms: &BTreeMap<String, String>) -> Complaints {
    let Some(room) = room_of(name) else { return Vec::new() };
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == room) else {
        return vec![format!(
            "{name}: the room {room:?} is not in MAY_IMPORT: say what it may know"
        )];
    };
    let complaint = |used: String| match rooms.get(&used) {
        Some(other) if other == room || allowed.contains(&other.as_str()) => None,
        Some(other) => Some(format!("{name}: {room} imports {used} of {other}, which it must not")),
        None => Some(format!("{name}: crate::{used} is of no room that tidy knows")),
    };
    names_after(&uncommented(text), "crate::").into_iter().filter_map(complaint).collect()
}

fn allows_unsafe(text: &str) -> bool {
    text.contains("#![allow(unsafe_code)]")
}

/// `unsafe` without a comment that says who keeps the promise.
fn unjustified_unsafe(name: &str, text: &str) -> Complaints {
    // A statement may begin some lines above its `unsafe`.
    const STATEMENT_LINES: usize = 4;
    let lines: Vec<&str> = text.lines().collect();
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let justified = |at: usize| {
        let mut statement = 0;
        for line in lines[..at].iter().rev() {
            if line.contains("SAFETY:") {
                return true;
            }
            statement += usize::from(!is_comment(line));
            if statement > STATEMENT_LINES || line.is_empty() {
                return false;
            }
        }
        false
    };
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let opens = ["unsafe {", "unsafe impl"].iter().any(|word| line.contains(word));
        if opens && !is_comment(line) && !line.contains('"') && !justified(i) {
            found.push(format!("{name}:{}: unsafe without a SAFETY comment", i + 1));
        }
    }
    found
}

/// Names of the packages that a Cargo manifest asks for.
fn cargo_dependencies(manifest: &str) -> BTreeSet<String> {
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
fn requirement(line: &str) -> Option<String> {
    let is_name = |c: &char| c.is_alphanumeric() || "-_.".contains(*c);
    let name: String = line.trim().chars().take_while(is_name).collect();
    (!name.is_empty()).then(|| name.to_lowercase())
}

/// Names that a file of that name asks for.
fn dependencies(name: &str, text: &str) -> BTreeSet<String> {
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
fn undocumented(name: &str, text: &str, page: &str) -> Complaints {
    let row = |dependency: &str| page.contains(&format!("\n| `{dependency}` |"));
    let missing = dependencies(name, text).into_iter().filter(|d| !row(d));
    missing.map(|d| format!("{name}: {d} has no row in docs/dependencies.md")).collect()
}

/// Links of a Markdown page that lead nowhere.
fn dead_links(name: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Complaints {
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

#[test]
fn lines_and_files_are_short_enough() {
    assert_tidy(is_code, long_lines);
    assert_tidy(is_code, long_files);
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
    let rust =
        files.iter().filter(|(name, _)| has_extension(name, "rs") && name != "tests/tidy.rs");
    let rooms: Vec<_> =
        rust.filter(|(_, text)| allows_unsafe(text)).map(|(name, _)| name).collect();
    assert_eq!(rooms, UNSAFE_ROOMS, "rooms that allow unsafe code, and those that may");
    assert_tidy(|name| has_extension(name, "rs") && name != "tests/tidy.rs", unjustified_unsafe);
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
        ["a.rs:2: 151 columns, 150 are allowed"]
    );
    assert_eq!(long_files("a.rs", &"\n".repeat(FILE_LINES + 1)).len(), 1);
    assert!(long_files("a.rs", &"\n".repeat(FILE_LINES)).is_empty());
    assert_eq!(undescribed_files("a.rs", "use b;").len(), 1);
    assert_eq!(undescribed_files("a.py", "# licence\nimport b").len(), 1);
    assert!(undescribed_files("a.py", "#!python\n\"\"\"What it is.\"\"\"").is_empty());
    for word in UNFINISHED {
        assert_eq!(words("a", &format!("fine\n{word} later"), &UNFINISHED).len(), 1, "{word}");
    }
    for path in MACHINE_PATHS {
        assert_eq!(words("a", &format!("see {path}x"), &MACHINE_PATHS).len(), 1, "{path}");
    }
}

#[test]
fn rules_of_imports_can_fail() {
    let rooms = rooms_by_name("pub use store::{Volume, Dataset};\npub use error::{Error};");
    let complaints = |name: &str, text: &str| upward_imports(name, text, &rooms).len();
    assert_eq!(complaints("src/codec/a.rs", "use crate::store::Volume;"), 1);
    assert_eq!(complaints("src/format/a.rs", "use crate::{Error, codec::{frame::Frame, x}};"), 1);
    assert_eq!(complaints("src/sample/a.rs", "fn f(v: &crate::Volume) {}"), 0);
    assert_eq!(complaints("src/sys/a.rs", "fn f(v: &crate::Volume) {}"), 1);
    assert_eq!(complaints("src/queue/a.rs", "use crate::aggregate::Window;"), 1);
    assert_eq!(complaints("src/error.rs", "use crate::{\n    store::Volume,\n    Dataset,\n};"), 2);
    assert_eq!(complaints("src/store/a.rs", "use crate::nowhere::X;"), 1);
    assert_eq!(complaints("src/attic/a.rs", ""), 1, "a room that nobody described");
    assert_eq!(complaints("src/sys/a.rs", "// As crate::store::Volume."), 0);
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
