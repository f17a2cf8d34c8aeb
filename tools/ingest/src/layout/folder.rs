//! Folders of no named layout: a folder of images, or a folder of subjects.
//!
//! In a folder of images each file is a subject with the volume `image`, unless all names end in
//! nnU-Net's channel (`_0000`). In a folder of folders each folder is a subject, and each file in
//! it a volume that is named after it, without the subject's name in front.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use voxquarry::format::attributes::Kind;
use voxquarry::{Error, Result};

use super::found::{Found, kind_of_name};
use super::tree;
use crate::files::file_name;
use crate::formats::{is_image, is_image_folder};
use crate::manifest::{Source, subject_of};

/// Adds the images of a folder, and returns what it is.
pub(super) fn add(found: &mut Found, folder: &Path) -> Result<&'static str> {
    let (images, mut others): (Vec<_>, Vec<_>) =
        tree::files_in(folder)?.into_iter().partition(|path| is_image(path));
    let folders = tree::folders(folder)?;
    if !images.is_empty() {
        add_files(found, &images, None)?;
        others.extend(folders);
        found.ignore(&others, "they are no images");
        return Ok("a folder of images");
    }
    let is_part =
        |path: &PathBuf| ["imagesTr", "imagesTs", "labelsTr"].contains(&file_name(path).as_str());
    if folders.iter().any(is_part) {
        let reason = format!("{} has imagesTr or labelsTr, but no dataset.json", folder.display());
        let remedy = "add one, name the folder of images itself, or state a pattern";
        return Err(Error::unsupported(reason, remedy));
    }
    let known = found.manifest.subjects().len();
    for subject in &folders {
        let name = file_name(subject);
        for path in tree::files(subject)? {
            if !is_image(&path) && !is_image_folder(&path)? {
                others.push(path);
                continue;
            }
            let volume = volume_of(&path, subject, &name);
            let kind = kind_of_name(&volume);
            found.add_image(&name, &volume, kind, path)?;
        }
    }
    if found.manifest.subjects().len() == known {
        let reason = format!("{} holds no image", folder.display());
        let remedy = "name a folder of image files, or state its layout";
        return Err(Error::unsupported(reason, remedy));
    }
    found.note_kinds();
    found.ignore(&others, "they are no images");
    Ok("a folder of subjects")
}

/// The name of a volume in a subject's folder.
fn volume_of(path: &Path, folder: &Path, subject: &str) -> String {
    let relative = path.strip_prefix(folder).unwrap_or(path).with_file_name(subject_of(path));
    let stem = relative.to_string_lossy().replace('/', "_");
    let bare = stem.strip_prefix(subject).map(|rest| rest.trim_start_matches(['_', '-', '.']));
    bare.filter(|bare| !bare.is_empty()).unwrap_or(&stem).to_owned()
}

/// Adds image files, each a subject; or, if all names end in the number of a channel, each subject
/// with its channels.
pub(super) fn add_files(found: &mut Found, files: &[PathBuf], subject: Option<&str>) -> Result<()> {
    let split: Option<Vec<_>> = files.iter().map(|path| channel_of(path)).collect();
    let Some(split) = split.filter(|_| subject.is_none()) else {
        for path in files {
            let subject = subject.map_or_else(|| subject_of(path), str::to_owned);
            found.add_image(&subject, "image", Kind::Image, path.clone())?;
        }
        return Ok(());
    };
    let numbers: BTreeSet<_> = split.iter().map(|(_, number)| number).collect();
    for ((subject, number), path) in split.iter().zip(files) {
        let volume =
            if numbers.len() == 1 { "image".to_owned() } else { format!("image_{number}") };
        found.manifest.push(Source::new(subject.clone(), &volume, Kind::Image, path.clone()))?;
    }
    found.notes.push("all names end in a number like _0000: it is taken for the channel".into());
    Ok(())
}

/// The case and the channel in a name such as `case_0000.nii.gz`.
fn channel_of(path: &Path) -> Option<(String, String)> {
    let stem = subject_of(path);
    let (case, number) = stem.rsplit_once('_')?;
    let is_number = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
    (is_number && !case.is_empty()).then(|| (case.to_owned(), number.to_owned()))
}
