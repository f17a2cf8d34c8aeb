//! Data sets of the Medical Segmentation Decathlon: a `dataset.json` that lists files.
//!
//! An image is the volume `image`, with channels if it has four axes; labels are the volume
//! `label`. The lists `training`, `validation` and `test` are the splits `train`, `validation` and
//! `test`. MONAI's additions are known: lists of images, and `fold`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::{Error, Result};

use super::found::Found;
use super::tree::{self, listed, read_json};
use crate::files::{exists, file_name};
use crate::formats::is_image;
use crate::manifest::{Source, subject_of};

const LISTS: [(&str, &str); 3] =
    [("training", "train"), ("validation", "validation"), ("test", "test")];

/// Adds the data set in `folder`.
pub(super) fn add(found: &mut Found, folder: &Path) -> Result<()> {
    let list = folder.join("dataset.json");
    let document = read_json(&list)?;
    found.manifest.set_label_names("label", label_names(&list, &document)?);
    let mut known = BTreeSet::new();
    for (key, split) in LISTS {
        let Some(items) = document.get(key) else { continue };
        let wrong = |i: usize| {
            let message = format!("{key}[{i}]: expected a file, or an object with \"image\"");
            Error::data(&list, message)
        };
        for (i, item) in items.as_array().ok_or_else(|| wrong(0))?.iter().enumerate() {
            let item = Case::of(item).ok_or_else(|| wrong(i))?;
            item.add(found, &list, folder, split, &mut known)?;
        }
    }
    let mut others = tree::files(folder)?;
    others.retain(|path| is_image(path) && !known.contains(path));
    found.ignore(&others, &format!("{} does not list them", list.display()));
    Ok(())
}

/// The names in `labels`, by their ids.
fn label_names(list: &Path, document: &Map<String, Value>) -> Result<Vec<LabelName>> {
    let Some(labels) = document.get("labels").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    let name = |(id, name): (&String, &Value)| {
        let (id, name) = (id.parse().ok()?, name.as_str()?.to_owned());
        Some(LabelName { ids: vec![id], name, color: None })
    };
    let names: Option<Vec<_>> = labels.iter().map(name).collect();
    let mut names = names.ok_or_else(|| {
        Error::data(list, "labels: expected names by integers, as \"1\": \"liver\"")
    })?;
    names.sort_by_key(|name| name.ids[0]);
    Ok(names)
}

/// An entry of a list.
struct Case {
    images: Vec<String>,
    label: Option<String>,
    fold: Option<i64>,
}

impl Case {
    fn of(item: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let Some(image) = text(item) {
            return Some(Self { images: vec![image], label: None, fold: None });
        }
        let images = match item.get("image")? {
            Value::Array(images) => images.iter().map(text).collect::<Option<Vec<_>>>()?,
            image => vec![text(image)?],
        };
        let label = match item.get("label") {
            None | Some(Value::Null) => None,
            Some(label) => Some(text(label)?),
        };
        let fold = item.get("fold").and_then(Value::as_i64);
        (!images.is_empty()).then_some(Self { images, label, fold })
    }

    fn add(
        &self,
        found: &mut Found,
        list: &Path,
        folder: &Path,
        split: &str,
        known: &mut BTreeSet<PathBuf>,
    ) -> Result<()> {
        let images = self.images.iter().map(|image| listed(list, folder, image));
        let mut images = images.collect::<Result<Vec<_>>>()?;
        let subject = subject_of(&images[0]);
        // The lists of nnU-Net's first version name cases without the number of the channel.
        if images.len() == 1 && !exists(&images[0])? {
            let numbered = numbered(&images[0])?;
            if !numbered.is_empty() {
                images = numbered;
            }
        }
        let n = images.len();
        for (i, path) in images.into_iter().enumerate() {
            let volume = if n == 1 { "image".to_owned() } else { format!("image_{i:04}") };
            known.insert(path.clone());
            found.manifest.push(Source::new(subject.clone(), &volume, Kind::Image, path))?;
        }
        if let Some(label) = &self.label {
            let path = listed(list, folder, label)?;
            known.insert(path.clone());
            found.manifest.push(Source::new(subject.clone(), "label", Kind::Labels, path))?;
        }
        if let Some(fold) = self.fold {
            found.manifest.add_to_split(&subject, &format!("fold_{fold}"))?;
        }
        found.manifest.add_to_split(&subject, split)
    }
}

/// The files of the channels `_0000`, `_0001` and so on of a case.
///
/// # Errors
/// [`Error::Io`].
fn numbered(image: &Path) -> Result<Vec<PathBuf>> {
    /// More channels than any scanner records.
    const MOST: usize = 1000;
    let name = file_name(image);
    let stem = subject_of(image);
    let ending = name.strip_prefix(&stem).unwrap_or_default();
    let path = |i| image.with_file_name(format!("{stem}_{i:04}{ending}"));
    let mut found = Vec::new();
    for path in (0..MOST).map(path) {
        if !exists(&path)? {
            break;
        }
        found.push(path);
    }
    Ok(found)
}
