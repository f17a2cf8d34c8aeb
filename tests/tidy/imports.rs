//! Rules about imports: they point down a layer, and the files of a room form no circle.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Findings;

/// What each room of `src/` may import, besides itself. Layers point down, siblings do not know
/// each other.
pub(crate) const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("ground", &[]),
    ("sys", &["ground"]),
    ("format", &["ground", "sys"]),
    // A frame is decoded as `format::array` describes it; the description has to exist once.
    ("codec", &["ground", "sys", "format"]),
    ("array", &["ground", "sys", "format", "codec"]),
    // It checks shards by their indices (`format`), and stands behind a folder (`sys`).
    ("remote", &["ground", "sys", "format"]),
    // It finds chunks by their grid (`format`), and shares patches among threads (`sys`).
    ("resample", &["ground", "sys", "format", "array"]),
    ("store", &["ground", "sys", "format", "codec", "array", "remote", "resample"]),
    // Sampling depends on a subject's size, and for classes or weights on facts about its chunks.
    ("sample", &["ground", "format", "array", "store"]),
    // It draws from the streams of samples, and makes maps that patches are resampled by.
    ("augment", &["ground", "sys", "format", "resample", "sample"]),
    ("queue", &["ground", "sys", "format", "array", "resample", "store", "sample", "augment"]),
    // It chooses its output's layout (`format`), and spills into temporary files (`sys`).
    ("aggregate", &["ground", "sys", "format", "store", "sample"]),
    // It chooses its output's layout (`format`), and shares boxes among threads (`sys`).
    ("components", &["ground", "sys", "format", "store"]),
];

/// Files at the ground of `src/`, which may use each other.
pub(crate) const GROUND: [&str; 4] = ["dtype", "error", "geometry", "memory"];

/// The text without `//` comments.
pub(crate) fn uncommented(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Names that follow `prefix` in paths and braces: `crate::{a::b, C}` gives `a` and `C`.
pub(crate) fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
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
pub(crate) fn rooms_by_name(lib: &str) -> BTreeMap<String, String> {
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
pub(crate) fn room_of(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/")?;
    match inside.split_once('/') {
        Some((room, _)) => Some(room),
        None if inside == "lib.rs" => None,
        None => Some("ground"),
    }
}

pub(crate) fn upward_imports(name: &str, text: &str, rooms: &BTreeMap<String, String>) -> Findings {
    let Some(room) = room_of(name) else { return Vec::new() };
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == room) else {
        return vec![format!(
            "{name}: the room {room:?} is not in MAY_IMPORT: say what it may know"
        )];
    };
    let finding = |used: String| match rooms.get(&used) {
        Some(other) if other == room || allowed.contains(&other.as_str()) => None,
        Some(other) => Some(format!("{name}: {room} imports {used} of {other}, which it must not")),
        None => Some(format!("{name}: crate::{used} is of no room that tidy knows")),
    };
    names_after(&uncommented(text), "crate::").into_iter().filter_map(finding).collect()
}
