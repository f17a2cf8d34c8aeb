//! Finds the images, labels and splits of a data set by its layout.
//!
//! Each layout is a file with one function that fills a [`Found`]. What is recognised automatically
//! is told in a note, and so are the files that match nothing.
//!
//! # Invariants
//! - Nothing is opened but folders, tables and lists; headers are read by the plan.
//! - A file that a data set lists is never sought outside of its folder.

mod bids;
mod csv;
mod folder;
mod found;
mod msd;
mod nnunet;
mod pattern;
mod tree;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use voxquarry::format::attributes::Kind;
use voxquarry::{Error, Result};

use crate::files::{exists, file_name, is_file, is_folder};
use crate::formats::{is_image, is_image_folder};
use crate::input::VolumeInput;
use crate::manifest::{Manifest, SourceKind, subject_of};
pub use found::Found;
use pattern::Template;

/// The layout of a data set.
///
/// ```
/// use voxquarry_ingest::Layout;
///
/// assert_eq!("nnunet".parse::<Layout>()?, Layout::Nnunet);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Recognised by the files of a folder.
    #[default]
    Auto,
    /// nnU-Net's raw data: `dataset.json`, `imagesTr`, `labelsTr`, channels `_0000`.
    Nnunet,
    /// Medical Segmentation Decathlon: a `dataset.json` that lists `training` and `test`.
    Msd,
    /// Brain Imaging Data Structure: folders `sub-*`, `derivatives`.
    Bids,
    /// A template, as in `{subject}/{volume}.nii.gz`.
    Pattern,
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "auto" => Self::Auto,
            "nnunet" => Self::Nnunet,
            "msd" => Self::Msd,
            "bids" => Self::Bids,
            "pattern" => Self::Pattern,
            _ => {
                let expected = "auto, nnunet, msd, bids or pattern";
                return Err(Error::invalid("layout", format!("{name:?}"), expected));
            }
        })
    }
}

/// How [`find`] looks for sources.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FindOptions {
    /// The layout of folders.
    pub layout: Layout,
    /// The template of [`Layout::Pattern`], which it implies.
    pub pattern: Option<String>,
    /// Kinds of volumes by their names, where names and layouts say otherwise.
    pub kinds: Vec<(String, SourceKind)>,
    /// Splits, and names of subjects with `*`: others are left out. Empty for all.
    pub subset: Vec<String>,
    /// The name of the subject, if there is only one file.
    pub subject: Option<String>,
}

/// Finds the sources that `paths` name: files, folders, tables (`.csv`, `.tsv`), a `dataset.json`,
/// and names with `*` and `?`.
///
/// # Errors
/// [`Error::NoSuchFile`], [`Error::InvalidArgument`] for a pattern or subset that matches nothing,
/// [`Error::Unsupported`] for a folder of no known layout, and the errors of [`Manifest::push`].
pub fn find(paths: &[PathBuf], options: &FindOptions) -> Result<Found> {
    let mut found = Found::default();
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() && options.pattern.is_some() { &here } else { paths };
    for path in paths {
        add(&mut found, path, options)?;
    }
    finish(&mut found, options)?;
    Ok(found)
}

/// As [`find`], for sources that are listed already: applies kinds and subset.
///
/// # Errors
/// [`Error::InvalidArgument`] for a kind or subset that matches nothing.
pub fn find_in(manifest: Manifest, options: &FindOptions) -> Result<Found> {
    let mut found = Found { manifest, notes: Vec::new() };
    finish(&mut found, options)?;
    Ok(found)
}

/// Applies the options that hold for all sources.
fn finish(found: &mut Found, options: &FindOptions) -> Result<()> {
    for (volume, kind) in &options.kinds {
        if !found.manifest.set_kind(volume, *kind) {
            let names = found.manifest.volume_names().join(", ");
            let expected = format!("a volume that was found: {names}");
            return Err(Error::invalid("kind", format!("{volume:?}"), expected));
        }
    }
    take_subset(found, &options.subset)
}

/// Adds what one path names.
fn add(found: &mut Found, path: &Path, options: &FindOptions) -> Result<()> {
    if is_folder(path)? && !is_image_folder(path)? {
        return add_folder(found, path, options);
    }
    let named = |name: &str| path.file_name().is_some_and(|n| n == name);
    if named("dataset.json") && exists(path)? {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        return add_folder(found, folder.unwrap_or(Path::new(".")), options);
    }
    if csv::is_table(path) {
        return found.manifest.extend_from_csv(path);
    }
    let text = path.to_string_lossy();
    if text.contains(['*', '?']) && !exists(path)? {
        return add_glob(found, &text, options);
    }
    add_file(found, path, options)
}

fn add_file(found: &mut Found, path: &Path, options: &FindOptions) -> Result<()> {
    let input = VolumeInput::from(path);
    let named = input.location();
    // `.` has no name, and what it stands for has one.
    let named = if named.file_name().is_some() {
        named.to_owned()
    } else {
        named.canonicalize().map_err(Error::io(named, "cannot find"))?
    };
    let subject = options.subject.clone().unwrap_or_else(|| subject_of(&named));
    found.add_image(&subject, "image", Kind::Image, input)
}

fn add_glob(found: &mut Found, text: &str, options: &FindOptions) -> Result<()> {
    let template = Template::parse(text)?;
    let root = template.fixed_folder();
    let (below, mut files) = (template.relative(), Vec::new());
    if is_folder(&root)? {
        files = tree::files(&root)?;
    }
    files.retain(|path| {
        let relative = path.strip_prefix(&root).unwrap_or(path);
        below.matches(relative).is_some() && is_image(path)
    });
    if files.is_empty() {
        let expected = "a pattern that matches image files";
        return Err(Error::invalid("source", format!("{text:?}"), expected));
    }
    folder::add_files(found, &files, options.subject.as_deref())
}

fn add_folder(found: &mut Found, path: &Path, options: &FindOptions) -> Result<()> {
    if let Some(pattern) = &options.pattern {
        if !matches!(options.layout, Layout::Auto | Layout::Pattern) {
            let expected = "no pattern, or the layout pattern";
            return Err(Error::invalid("pattern", format!("{pattern:?}"), expected));
        }
        return pattern::add(found, path, pattern);
    }
    let layout = match options.layout {
        Layout::Auto => recognise(path)?,
        layout => Some(layout),
    };
    let known = found.manifest.subjects().len();
    let name = match layout {
        Some(Layout::Nnunet) => {
            nnunet::add(found, path)?;
            "an nnU-Net data set"
        }
        Some(Layout::Msd) => {
            msd::add(found, path)?;
            "a data set of the Medical Segmentation Decathlon"
        }
        Some(Layout::Bids) => {
            bids::add(found, path)?;
            "a BIDS data set"
        }
        Some(Layout::Pattern) => {
            let expected = "a pattern beside the layout pattern";
            return Err(Error::invalid("pattern", "none", expected));
        }
        Some(Layout::Auto) | None => folder::add(found, path)?,
    };
    let n = found.manifest.subjects().len() - known;
    found.notes.push(format!("{} is {name} of {n} subjects", path.display()));
    Ok(())
}

/// Leaves out the subjects that are in none of the splits and match none of the names.
fn take_subset(found: &mut Found, subset: &[String]) -> Result<()> {
    if subset.is_empty() {
        return Ok(());
    }
    for item in subset {
        let names = found.manifest.subjects().iter().map(|(name, _)| name.as_str());
        let is_split = found.manifest.split_names().contains(item);
        if !is_split && !names.clone().any(|name| pattern::is_like(item, name)) {
            let few: Vec<_> = names.take(3).collect();
            let splits = found.manifest.split_names().join(", ");
            let splits = if splits.is_empty() { "none".to_owned() } else { splits };
            let expected =
                format!("a split ({splits}) or names of subjects, as {}", few.join(", "));
            return Err(Error::invalid("subset", format!("{item:?}"), expected));
        }
    }
    let before = found.manifest.subjects().len();
    found.manifest.retain(|name, splits| {
        subset.iter().any(|item| splits.contains(item) || pattern::is_like(item, name))
    });
    let taken = found.manifest.subjects().len();
    found.notes.push(format!("the subset has {taken} of {before} subjects"));
    Ok(())
}

/// The layout of a folder, if it has a mark of one.
fn recognise(path: &Path) -> Result<Option<Layout>> {
    let list = path.join("dataset.json");
    if is_file(&list)? {
        let document = tree::read_json(&list)?;
        return match () {
            () if document.contains_key("channel_names")
                || document.contains_key("file_ending")
                || document.contains_key("dataset") =>
            {
                Ok(Some(Layout::Nnunet))
            }
            () if document.contains_key("training") => Ok(Some(Layout::Msd)),
            () => Err(Error::data(
                &list,
                "neither a data set of nnU-Net (channel_names, file_ending) nor one of the \
                 Medical Segmentation Decathlon (training): state the layout or a pattern",
            )),
        };
    }
    let is_bids = is_file(&path.join("dataset_description.json"))?
        || tree::folders(path)?.iter().any(|folder| file_name(folder).starts_with("sub-"));
    Ok(is_bids.then_some(Layout::Bids))
}
