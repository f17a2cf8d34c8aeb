//! nnU-Net's raw data sets (version 2): `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`.
//!
//! One channel is the volume `image`; several are volumes named by `channel_names`. Labels are the
//! volume `label`. `imagesTr` is the split `train`, `imagesTs` the split `test`; the folds of
//! `splits_final.json` are the splits `fold_0_train`, `fold_0_val` and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::{Error, Result};

use super::found::{Found, plain_name};
use super::tree::{self, listed, read_json};
use crate::files::{file_name, is_file, is_folder};
use crate::manifest::Source;

/// The volume of the labels.
const LABEL: &str = "label";
/// Folder of images, of labels, and split.
const PARTS: [(&str, &str, &str); 2] =
    [("imagesTr", "labelsTr", "train"), ("imagesTs", "labelsTs", "test")];

/// Adds the data set in `folder`.
pub(super) fn add(found: &mut Found, folder: &Path) -> Result<()> {
    let list = folder.join("dataset.json");
    let document = read_json(&list)?;
    let channels = channels(&document).map_err(|message| Error::data(&list, message))?;
    let names = label_names(document.get("labels"))
        .map_err(|message| Error::data(&list, format!("labels: {message}")))?;
    found.manifest.set_label_names(LABEL, names);
    if let Some(cases) = document.get("dataset") {
        add_listed(found, &list, folder, cases, &channels)?;
    } else {
        let ending = document.get("file_ending").and_then(Value::as_str).unwrap_or(".nii.gz");
        for (images, labels, split) in PARTS {
            let places = [folder.join(images), folder.join(labels)];
            add_part(found, places, ending, split, &channels)?;
        }
    }
    add_folds(found, &folder.join("splits_final.json"))
}

/// The volume of each channel, by its four digits.
fn channels(document: &Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let named = document.get("channel_names").or_else(|| document.get("modality"));
    let named = named.and_then(Value::as_object).ok_or("channel_names is missing")?;
    let mut channels = BTreeMap::new();
    for (number, name) in named {
        let digits: u32 = number
            .parse()
            .map_err(|_| format!("channel_names: {number:?} is no number of a channel"))?;
        let name = plain_name(name.as_str().unwrap_or_default());
        channels.insert(format!("{digits:04}"), name);
    }
    if channels.len() == 1 {
        for name in channels.values_mut() {
            "image".clone_into(name);
        }
        return Ok(channels);
    }
    // Names such as "zscore" may be those of several channels.
    let all: Vec<_> = channels.values().cloned().collect();
    let is_unique = |name: &String| all.iter().filter(|other| *other == name).count() == 1;
    for (digits, name) in &mut channels {
        if name.is_empty() || name == LABEL || !is_unique(name) {
            *name = format!("image_{digits}");
        }
    }
    Ok(channels)
}

/// The names in `labels`, of one id or of a region of several, by ascending ids.
fn label_names(labels: Option<&Value>) -> Result<Vec<LabelName>, String> {
    let Some(labels) = labels.and_then(Value::as_object) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for (name, ids) in labels {
        let ids = match ids {
            Value::Array(ids) => ids.iter().map(Value::as_i64).collect::<Option<Vec<_>>>(),
            id => id.as_i64().map(|id| vec![id]),
        };
        let ids = ids.filter(|ids| !ids.is_empty());
        let ids = ids.ok_or_else(|| format!("{name:?} has no integer, or several"))?;
        names.push(LabelName { ids, name: name.clone(), color: None });
    }
    names.sort_by(|a, b| a.ids.cmp(&b.ids));
    Ok(names)
}

/// Adds the cases of one folder of images, with the labels beside it.
fn add_part(
    found: &mut Found,
    [images, labels]: [PathBuf; 2],
    ending: &str,
    split: &str,
    channels: &BTreeMap<String, String>,
) -> Result<()> {
    let (mut cases, mut ignored) = (BTreeSet::<String>::new(), Vec::new());
    for path in tree::files_in(&images)? {
        let name = file_name(&path);
        let stem = name.strip_suffix(ending).and_then(|stem| stem.rsplit_once('_'));
        match stem.filter(|(case, digits)| !case.is_empty() && channels.contains_key(*digits)) {
            Some((case, _)) => drop(cases.insert(case.to_owned())),
            None => ignored.push(path),
        }
    }
    let numbers = channels.keys().cloned().collect::<Vec<_>>().join(", _");
    found.ignore(&ignored, &format!("their names do not end in _{numbers} and {ending}"));
    let has_labels = is_folder(&labels)?;
    if !cases.is_empty() && !has_labels {
        found.notes.push(format!(
            "{} has no labels: there is no {}",
            images.display(),
            labels.display()
        ));
    }
    for case in &cases {
        for (digits, volume) in channels {
            let path = images.join(format!("{case}_{digits}{ending}"));
            found.manifest.push(Source::new(case.clone(), volume, Kind::Image, path))?;
        }
        // A missing file is told by the plan, with those of all other cases.
        if has_labels {
            let path = labels.join(format!("{case}{ending}"));
            found.manifest.push(Source::new(case.clone(), LABEL, Kind::Labels, path))?;
        }
        found.manifest.add_to_split(case, split)?;
    }
    let without_image = |path: &PathBuf| {
        let name = file_name(path);
        name.strip_suffix(ending).is_none_or(|case| !cases.contains(case))
    };
    let mut others = tree::files_in(&labels)?;
    others.retain(without_image);
    found.ignore(&others, "they are labels without an image");
    Ok(())
}

/// Adds the cases that `dataset.json` lists by itself.
fn add_listed(
    found: &mut Found,
    list: &Path,
    folder: &Path,
    cases: &Value,
    channels: &BTreeMap<String, String>,
) -> Result<()> {
    let wrong = |case: &str, message: &str| Error::data(list, format!("dataset.{case}: {message}"));
    let cases = cases.as_object().ok_or_else(|| wrong("", "expected an object of cases"))?;
    for (case, files) in cases {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let images = files.get("images").and_then(Value::as_array);
        let images: Option<Vec<String>> =
            images.and_then(|images| images.iter().map(text).collect());
        let images = images.filter(|images| images.len() == channels.len());
        let n = channels.len();
        let images = images.ok_or_else(|| wrong(case, &format!("expected {n} images")))?;
        for (volume, image) in channels.values().zip(&images) {
            let path = listed(list, folder, image)?;
            found.manifest.push(Source::new(case.clone(), volume, Kind::Image, path))?;
        }
        if let Some(label) = files.get("label").and_then(Value::as_str) {
            let path = listed(list, folder, label)?;
            found.manifest.push(Source::new(case.clone(), LABEL, Kind::Labels, path))?;
        }
        found.manifest.add_to_split(case, "train")?;
    }
    Ok(())
}

/// Adds the folds of nnU-Net's cross-validation, if the file is there.
fn add_folds(found: &mut Found, path: &Path) -> Result<()> {
    if !is_file(path)? {
        return Ok(());
    }
    let folds: Vec<BTreeMap<String, Vec<String>>> =
        serde_json::from_str(&tree::read_text(path)?)
            .map_err(|error| Error::data(path, format!("expected a list of folds: {error}")))?;
    let mut unknown = Vec::new();
    for (i, fold) in folds.iter().enumerate() {
        for (part, cases) in fold {
            for case in cases {
                if found.manifest.has(case) {
                    found.manifest.add_to_split(case, &format!("fold_{i}_{}", plain_name(part)))?;
                } else {
                    unknown.push(PathBuf::from(case));
                }
            }
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    found.ignore(&unknown, &format!("{} lists them without an image", path.display()));
    Ok(())
}
