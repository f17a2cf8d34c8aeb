//! The Brain Imaging Data Structure (BIDS): `sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz`.
//!
//! A subject is `sub-01`, or `sub-01_ses-1`; a volume is the rest of a file's name, as `T1w` or
//! `acq-high_T1w`. Labels are the suffixes `dseg` and `mask`, most of them in `derivatives`. Files
//! of one session lie on several grids: the plan makes a subject of each grid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::{Error, Result};

use super::found::Found;
use super::tree;
use crate::files::{file_name, is_folder};
use crate::formats::is_image;
use crate::manifest::{Source, subject_of};

const LABELS: [&str; 2] = ["dseg", "mask"];

/// Adds the data set in `folder`, and its derivatives.
pub(super) fn add(found: &mut Found, folder: &Path) -> Result<()> {
    found.manifest.split_by_grid();
    let known = found.manifest.subjects().len();
    let mut ignored = Vec::new();
    add_tree(found, folder, None, &mut ignored)?;
    let derivatives = folder.join("derivatives");
    if is_folder(&derivatives)? {
        for pipeline in tree::folders(&derivatives)? {
            add_tree(found, &pipeline, Some(&file_name(&pipeline)), &mut ignored)?;
        }
    }
    if found.manifest.subjects().len() == known {
        let reason = format!("{} has no image in folders sub-*", folder.display());
        return Err(Error::unsupported(reason, "state another layout, or a pattern"));
    }
    found.ignore(&ignored, "their names are not those of BIDS");
    Ok(())
}

/// Adds the images of one tree of `sub-*` folders; `pipeline` made them, if they are derivatives.
fn add_tree(
    found: &mut Found,
    root: &Path,
    pipeline: Option<&str>,
    ignored: &mut Vec<PathBuf>,
) -> Result<()> {
    let mut tables = label_tables(tree::files_in(root)?);
    for subject in tree::folders(root)? {
        if !file_name(&subject).starts_with("sub-") {
            continue;
        }
        let files = tree::files(&subject)?;
        tables.extend(label_tables(files.clone()));
        for path in files.into_iter().filter(|path| is_image(path)) {
            let Some(name) = BidsName::of(&path) else {
                ignored.push(path);
                continue;
            };
            let kind =
                if LABELS.contains(&name.suffix.as_str()) { Kind::Labels } else { Kind::Image };
            let mut volume = name.volume.clone();
            // Two pipelines may write files of the same name.
            if found.manifest.has_volume(&name.subject, &volume) {
                volume = format!("{}_{volume}", pipeline.unwrap_or("other"));
            }
            found.manifest.push(Source::new(name.subject, &volume, kind, path))?;
            if kind == Kind::Labels
                && let Some(table) = tables.get(&name.volume)
            {
                found.manifest.set_label_names(&volume, read_labels(table)?);
            }
        }
    }
    Ok(())
}

/// A file's name in its parts.
struct BidsName {
    subject: String,
    volume: String,
    suffix: String,
}

impl BidsName {
    fn of(path: &Path) -> Option<Self> {
        let stem = subject_of(path);
        let (entities, suffix) = stem.rsplit_once('_')?;
        let is_word = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
        };
        let (mut subject, mut rest) = (Vec::new(), Vec::new());
        for entity in entities.split('_') {
            let (key, label) = entity.split_once('-')?;
            if !is_word(key) || !is_word(label) {
                return None;
            }
            let part = if matches!(key, "sub" | "ses") { &mut subject } else { &mut rest };
            part.push(entity);
        }
        rest.push(suffix);
        let starts = subject.first().is_some_and(|entity| entity.starts_with("sub-"));
        (starts && is_word(suffix)).then(|| Self {
            subject: subject.join("_"),
            volume: rest.join("_"),
            suffix: suffix.to_owned(),
        })
    }
}

/// The tables of label names (`*_dseg.tsv`) among these files, by the volume that they describe.
fn label_tables(files: Vec<PathBuf>) -> BTreeMap<String, PathBuf> {
    let described = |path: PathBuf| {
        let name = file_name(&path);
        let stem = name.strip_suffix(".tsv")?;
        if stem == "dseg" {
            return Some(("dseg".to_owned(), path));
        }
        let words = stem.split('_').filter(|w| !w.starts_with("sub-") && !w.starts_with("ses-"));
        let volume = words.collect::<Vec<_>>().join("_");
        volume.ends_with("_dseg").then_some((volume, path))
    };
    files.into_iter().filter_map(described).collect()
}

/// Reads a table with the columns `index`, `name` and perhaps `color`.
fn read_labels(table: &Path) -> Result<Vec<LabelName>> {
    let text = tree::read_text(table)?;
    let mut lines = text.lines().map(|line| line.split('\t').map(str::trim).collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    let column = |name: &str| header.iter().position(|found| *found == name);
    let (Some(index), Some(name)) = (column("index"), column("name")) else {
        let found = header.join(", ");
        let message = format!("expected the columns index and name, found {found}");
        return Err(Error::data(table, message));
    };
    let mut names = Vec::new();
    for (i, row) in lines.enumerate().filter(|(_, row)| row.len() > 1) {
        let wrong =
            || Error::data(table, format!("line {}: expected an integer and a name", i + 2));
        let id = row.get(index).and_then(|id| id.parse().ok()).ok_or_else(wrong)?;
        let name = (*row.get(name).ok_or_else(wrong)?).to_owned();
        let color = column("color").and_then(|c| row.get(c)).and_then(|text| color(text));
        names.push(LabelName { ids: vec![id], name, color });
    }
    Ok(names)
}

/// A colour as `#rrggbb`.
fn color(text: &str) -> Option<String> {
    let digits = text.strip_prefix('#')?;
    let is_color = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_color.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_entities_and_a_suffix() {
        let parts = |name: &str| BidsName::of(Path::new(name)).map(|n| (n.subject, n.volume));
        let named = |subject: &str, volume: &str| Some((subject.to_owned(), volume.to_owned()));
        assert_eq!(parts("sub-01_T1w.nii.gz"), named("sub-01", "T1w"));
        assert_eq!(
            parts("sub-01_ses-a_acq-hi_run-1_bold.nii"),
            named("sub-01_ses-a", "acq-hi_run-1_bold")
        );
        for other in ["T1w.nii", "sub-01_acq_T1w.nii", "task-x_bold.nii", "sub-01_ses-_T1w.nii"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
