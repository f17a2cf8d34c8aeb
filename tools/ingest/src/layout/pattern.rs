//! Templates of paths: `{subject}/{volume}.nii.gz`.
//!
//! `{subject}`, `{volume}`, `{kind}` and `{split}` stand for at least one character other than `/`,
//! and take as much as they can; a name that comes twice stands for the same text. `*` stands for
//! any characters but `/`, `?` for one, a part `**` for any folders.

use std::path::{Path, PathBuf};

use voxquarry::{Error, Result};

use super::found::{Found, kind_of_name};
use super::tree;
use crate::formats::is_image;
use crate::manifest::Source;

const NAMES: [&str; 4] = ["subject", "volume", "kind", "split"];
/// More steps than any sensible template needs for one path.
const STEPS: u32 = 100_000;

/// A template, as a list of the parts between `/`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
    is_absolute: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    AnyFolders,
    One(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(char),
    AnyChar,
    Any,
    Name(usize),
}

impl Piece {
    /// What one character outside of a name stands for.
    fn of(c: char) -> Self {
        match c {
            '*' => Self::Any,
            '?' => Self::AnyChar,
            c => Self::Text(c),
        }
    }
}

/// The texts that the names of a template stand for.
pub(super) type Captures = [Option<String>; NAMES.len()];

impl Template {
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown or unfinished name.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let part = |text: &str| -> Result<Part> {
            if text == "**" {
                return Ok(Part::AnyFolders);
            }
            let (mut pieces, mut rest) = (Vec::new(), text);
            while let Some(c) = rest.chars().next() {
                rest = &rest[c.len_utf8()..];
                pieces.push(match c {
                    '{' => {
                        let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
                        rest = after;
                        let known = NAMES.iter().position(|known| *known == name);
                        Piece::Name(known.ok_or_else(|| {
                            let names = NAMES.map(|name| format!("{{{name}}}")).join(", ");
                            Error::invalid("pattern", format!("{{{name}}}"), names)
                        })?)
                    }
                    c => Piece::of(c),
                });
            }
            Ok(Part::One(pieces))
        };
        let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
        let parts = parts.map(part).collect::<Result<_>>()?;
        Ok(Self { parts, is_absolute: text.starts_with('/') })
    }

    /// The folder before the first part that stands for something.
    pub(super) fn fixed_folder(&self) -> PathBuf {
        let mut folder = PathBuf::from(if self.is_absolute { "/" } else { "." });
        for text in self.parts[..self.fixed_parts()].iter().filter_map(Part::text) {
            folder.push(text);
        }
        folder
    }

    fn fixed_parts(&self) -> usize {
        let fixed = self.parts.iter().take_while(|part| part.text().is_some()).count();
        fixed.min(self.parts.len().saturating_sub(1))
    }

    /// The template of the paths below its fixed folder.
    pub(super) fn relative(&self) -> Self {
        Self { parts: self.parts[self.fixed_parts()..].to_vec(), is_absolute: false }
    }

    fn has(&self, name: &str) -> bool {
        let wanted = NAMES.iter().position(|known| *known == name);
        let is_wanted = |piece: &Piece| matches!(piece, Piece::Name(n) if Some(*n) == wanted);
        let mut parts = self.parts.iter();
        parts.any(|part| matches!(part, Part::One(pieces) if pieces.iter().any(is_wanted)))
    }

    /// What the names stand for in a relative path, if it matches.
    pub(super) fn matches(&self, path: &Path) -> Option<Captures> {
        let parts: Vec<String> =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let mut captures = Captures::default();
        let mut steps = STEPS;
        match_parts(&self.parts, &parts, &mut captures, &mut steps).then_some(captures)
    }
}

impl Part {
    /// The text of a part without anything that varies.
    fn text(&self) -> Option<String> {
        let Self::One(pieces) = self else { return None };
        let letter = |piece: &Piece| match piece {
            Piece::Text(c) => Some(*c),
            _ => None,
        };
        pieces.iter().map(letter).collect()
    }
}

fn match_parts(parts: &[Part], path: &[String], captures: &mut Captures, steps: &mut u32) -> bool {
    match parts.split_first() {
        None => path.is_empty(),
        Some((Part::AnyFolders, rest)) => {
            (0..=path.len()).any(|skipped| match_parts(rest, &path[skipped..], captures, steps))
        }
        Some((Part::One(pieces), rest)) => {
            let Some((name, below)) = path.split_first() else { return false };
            let name: Vec<char> = name.chars().collect();
            let before = captures.clone();
            let mut then = |captures: &mut Captures, steps: &mut u32| {
                match_parts(rest, below, captures, steps)
            };
            let found = match_pieces(pieces, &name, captures, steps, &mut then);
            if !found {
                *captures = before;
            }
            found
        }
    }
}

/// Matches the pieces of one part, and then the parts behind it.
fn match_pieces(
    pieces: &[Piece],
    text: &[char],
    captures: &mut Captures,
    steps: &mut u32,
    then: &mut dyn FnMut(&mut Captures, &mut u32) -> bool,
) -> bool {
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    let Some((piece, rest)) = pieces.split_first() else {
        return text.is_empty() && then(captures, steps);
    };
    match piece {
        Piece::Text(c) => {
            text.first() == Some(c) && match_pieces(rest, &text[1..], captures, steps, then)
        }
        Piece::AnyChar => !text.is_empty() && match_pieces(rest, &text[1..], captures, steps, then),
        Piece::Any => {
            (0..=text.len()).rev().any(|n| match_pieces(rest, &text[n..], captures, steps, then))
        }
        Piece::Name(name) => {
            if let Some(known) = captures[*name].clone() {
                let known: Vec<char> = known.chars().collect();
                return text.starts_with(&known)
                    && match_pieces(rest, &text[known.len()..], captures, steps, then);
            }
            (1..=text.len()).rev().any(|n| {
                captures[*name] = Some(text[..n].iter().collect());
                let found = match_pieces(rest, &text[n..], captures, steps, then);
                if !found {
                    captures[*name] = None;
                }
                found
            })
        }
    }
}

/// Whether a name matches a text with `*` and `?`.
pub(super) fn is_like(pattern: &str, name: &str) -> bool {
    let pieces: Vec<_> = pattern.chars().map(Piece::of).collect();
    let name: Vec<char> = name.chars().collect();
    let mut steps = STEPS;
    match_pieces(&pieces, &name, &mut Captures::default(), &mut steps, &mut |_, _| true)
}

/// Adds the files below `root` that match `pattern`.
pub(super) fn add(found: &mut Found, root: &Path, pattern: &str) -> Result<()> {
    let template = Template::parse(pattern)?;
    if !template.has("subject") {
        let expected = "a pattern with {subject}, as in {subject}/{volume}.nii.gz";
        return Err(Error::invalid("pattern", format!("{pattern:?}"), expected));
    }
    let root = if template.is_absolute {
        template.fixed_folder()
    } else {
        root.join(template.fixed_folder().strip_prefix(".").unwrap_or(Path::new("")))
    };
    let template = template.relative();
    let (known, mut ignored) = (found.manifest.subjects().len(), Vec::new());
    for path in tree::files(&root)? {
        let relative = path.strip_prefix(&root).unwrap_or(&path);
        let Some([subject, volume, kind, split]) = template.matches(relative) else {
            ignored.extend(is_image(&path).then_some(path));
            continue;
        };
        let subject = subject.unwrap_or_default();
        let volume = volume.unwrap_or_else(|| "image".to_owned());
        if let Some(split) = split {
            found.manifest.add_to_split(&subject, &split)?;
        }
        let source = Source::new(subject, &volume, kind_of_name(&volume), path);
        match kind {
            Some(kind) => found.manifest.push_as(kind.parse()?, source)?,
            None => found.manifest.push(source)?,
        }
    }
    let n = found.manifest.subjects().len() - known;
    if n == 0 {
        let expected = format!("a pattern that matches files below {}", root.display());
        return Err(Error::invalid("pattern", format!("{pattern:?}"), expected));
    }
    found.notes.push(format!("{} has {n} subjects like {pattern:?}", root.display()));
    found.note_kinds();
    found.ignore(&ignored, "they do not match the pattern");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(template: &str, path: &str) -> Option<Vec<String>> {
        let found = Template::parse(template).unwrap().matches(Path::new(path))?;
        Some(found.into_iter().flatten().collect())
    }

    #[test]
    fn names_stand_for_text_of_one_part() {
        for (template, path, expected) in [
            ("{subject}/{volume}.nii.gz", "a/ct.nii.gz", Some(vec!["a", "ct"])),
            ("{subject}/{volume}.nii.gz", "a/b/ct.nii.gz", None),
            ("{subject}/{volume}.nii.gz", "a/ct.nii", None),
            ("{subject}_{volume}.nii", "case_01_ct.nii", Some(vec!["case_01", "ct"])),
            ("{subject}/{subject}_{volume}.nii", "b_1/b_1_t1.nii", Some(vec!["b_1", "t1"])),
            ("{subject}/{subject}_{volume}.nii", "b_1/b_2_t1.nii", None),
            ("images*/{subject}_000?.nii", "imagesTr/x_0003.nii", Some(vec!["x"])),
            ("**/{subject}.nii", "a.nii", Some(vec!["a"])),
            ("**/{subject}.nii", "x/y/a.nii", Some(vec!["a"])),
            ("{split}/{subject}.nii", "train/ä.nii", Some(vec!["ä", "train"])),
            ("{subject}/*", "a/", None),
        ] {
            let expected: Option<Vec<String>> =
                expected.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(captures(template, path), expected, "{template} {path}");
        }
        let unknown = Template::parse("{case}/{volume}.nii").unwrap_err().to_string();
        assert!(unknown.contains("{subject}") && unknown.contains("{case}"), "{unknown}");
        assert!(Template::parse("{subject").is_ok(), "an open brace names what follows");
    }

    #[test]
    fn a_hostile_template_ends() {
        let template = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b";
        let name = "a".repeat(200);
        assert_eq!(captures(template, &name), None);
        assert!(!is_like(template, &name));
    }

    #[test]
    fn the_fixed_folder_ends_where_something_varies() {
        let fixed = |text: &str| Template::parse(text).unwrap().fixed_folder();
        assert_eq!(fixed("/data/x/im*/a.nii"), Path::new("/data/x"));
        assert_eq!(fixed("a/b.nii"), Path::new("./a"));
        assert_eq!(fixed("*.nii"), Path::new("."));
    }

    #[test]
    fn stars_match_names() {
        assert!(is_like("case_*", "case_01") && is_like("a?c", "abc") && is_like("a", "a"));
        assert!(!is_like("case_*", "Case_01") && !is_like("a", "ab"));
    }
}
