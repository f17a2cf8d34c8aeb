//! Reads the headers of a folder's files, and groups their frames into volumes.
//!
//! # Invariants
//! - The same files give the same volumes with the same names, in whichever order the disk lists
//!   them.
//! - Names are made of the modality alone.
//!
//! Not here: the order of frames (`arrange`).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use voxquarry::format::attributes::Kind;
use voxquarry::{Error, Result};

use super::arrange::has_repeated_places;
use super::frame::{Frame, FramePlane};
use super::instance::{FileContent, Instance, read_instance};
use super::parse::is_dicom;
use super::pixel_form::{Photometric, SampleType};
use super::segments::SegmentCoding;
use crate::files::{file_name, is_folder};
use crate::formats::head::read_head;

/// Cosines that differ by more are another orientation.
const SAME_COSINE: f64 = 1e-3;
/// Distances of pixels that differ by more than this part are other distances.
const SAME_SPACING: f64 = 1e-3;
/// Files that have not been written for this long are taken to be as they were.
const SETTLED: Duration = Duration::from_secs(2);
/// The index of a medium: it lists files and has no pixels.
const MEDIA_INDEX: &str = "DICOMDIR";

/// The DICOM files of a folder, or one file, and the volumes in them.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) files: Vec<Instance>,
    pub(super) volumes: Vec<ScannedVolume>,
    /// Sentences about files that were left out.
    pub(super) notes: Vec<String>,
}

/// The frames of a volume, in any order.
#[derive(Debug)]
pub(super) struct ScannedVolume {
    pub(super) name: String,
    pub(super) kind: Option<Kind>,
    pub(super) frames: Vec<Frame>,
}

/// A file of a folder, as far as it tells whether something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// The last folder that was read: a folder with many volumes is asked for each of them.
static LAST: Mutex<Option<(Vec<Listed>, Arc<Scan>)>> = Mutex::new(None);

/// Reads the headers of a file, or of the files of a folder, and groups their frames.
///
/// # Errors
/// [`Error::Data`] that names those that are damaged, [`Error::Unsupported`] if there is no image,
/// [`Error::Io`].
pub(super) fn scan(path: &Path) -> Result<Arc<Scan>> {
    let listed = if is_folder(path)? { list(path)? } else { vec![listed(path.to_owned())?] };
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, scan)) = &*last
        && *known == listed
        && !listed.is_empty()
    {
        return Ok(scan.clone());
    }
    let scan = Arc::new(scan_files(path, &listed)?);
    // A file that has just been written may be written again without another time.
    let is_old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > SETTLED);
    let is_settled = listed.iter().all(|file| file.modified.is_some_and(is_old));
    *last = is_settled.then(|| (listed, scan.clone()));
    Ok(scan)
}

fn listed(path: PathBuf) -> Result<Listed> {
    let metadata = path.metadata().map_err(Error::io(&path, "cannot look at"))?;
    Ok(Listed { bytes: metadata.len(), modified: metadata.modified().ok(), path })
}

/// The regular files of a folder that may be images, sorted; links are followed, hidden files left
/// out.
fn list(folder: &Path) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let path = entry.map_err(Error::io(folder, "cannot list"))?.path();
        let name = file_name(&path);
        // A link to nothing is nothing.
        let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file && !name.starts_with('.') && !name.eq_ignore_ascii_case(MEDIA_INDEX) {
            found.push(listed(path)?);
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Whether a folder has DICOM files; the first of its files that may be tell.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn has_dicom(folder: &Path) -> Result<bool> {
    /// Files whose beginnings are read.
    const LOOKED_AT: usize = 16;
    let mut paths = list(folder)?;
    // Names of DICOM files end so, in a UID or a number, or have no ending.
    let is_likely = |path: &Path| match path.extension().and_then(|e| e.to_str()) {
        None => true,
        Some(ending) => {
            let is = |name: &&str| ending.eq_ignore_ascii_case(name);
            ["dcm", "dicom", "ima", "img"].iter().any(is)
                || ending.bytes().all(|c| c.is_ascii_digit())
        }
    };
    paths.sort_by_key(|listed| !is_likely(&listed.path));
    for Listed { path, .. } in paths.into_iter().take(LOOKED_AT) {
        if is_dicom(&read_head(&path)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn scan_files(path: &Path, listed: &[Listed]) -> Result<Scan> {
    let (mut files, mut frames, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    // What was left out, by the reason.
    let mut others: Vec<(String, Vec<String>)> = Vec::new();
    for Listed { path, .. } in listed {
        let reason = match read_instance(path, files.len()) {
            Ok(FileContent::Image(instance, own)) => {
                files.push(*instance);
                frames.extend(own);
                continue;
            }
            Ok(FileContent::Other(reason)) if listed.len() == 1 => {
                let reason = format!("{} is {reason}", path.display());
                return Err(Error::unsupported(reason, "name a file or folder of images"));
            }
            Ok(FileContent::Other(reason)) => reason,
            Err(error) if listed.len() == 1 => return Err(error),
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) if is_dicom(&read_head(path)?) => {
                damaged.push(error);
                continue;
            }
            Err(_) if is_blank(path)? => {
                damaged.push(Error::data(path, "it is empty, or ends within its preamble"));
                continue;
            }
            Err(_) => "no DICOM file".to_owned(),
        };
        match others.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(file_name(path)),
            None => others.push((reason, vec![file_name(path)])),
        }
    }
    refuse_damaged(path, damaged)?;
    let mut notes = others.iter().map(|(reason, names)| match &names[..] {
        [name] => format!("{name} was left out: {reason}"),
        [name, ..] => format!("{} files were left out, as {name}: {reason}", names.len()),
        [] => unreachable!("there is a name for each reason"),
    });
    if files.is_empty() {
        let reasons: Vec<_> = notes.collect();
        let reasons =
            if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
        let reason = format!("{} holds no DICOM image{reasons}", path.display());
        return Err(Error::unsupported(reason, "name a file or folder of images"));
    }
    let mut notes: Vec<_> = notes.by_ref().collect();
    let volumes = group(&files, frames, &mut notes);
    Ok(Scan { files, volumes, notes })
}

/// Refuses a folder with damaged files: which series lacks them, nobody can say.
///
/// # Errors
/// The only error; [`Error::Data`] with the first of several.
fn refuse_damaged(folder: &Path, mut errors: Vec<Error>) -> Result<()> {
    /// More are counted.
    const NAMED: usize = 20;
    let count = errors.len();
    if count <= 1 {
        return errors.pop().map_or(Ok(()), Err);
    }
    let mut message = format!("{count} of its files cannot be read; move them away, or mend them");
    for error in errors.iter().take(NAMED) {
        let _ = write!(message, "\n    {error}");
    }
    if count > NAMED {
        let _ = write!(message, "\n    and {} more", count - NAMED);
    }
    Err(Error::data(folder, message))
}

/// Whether a file has nothing but the zeros that a preamble begins with.
fn is_blank(path: &Path) -> Result<bool> {
    let head = read_head(path)?;
    Ok(head.len() < 132 && head.iter().all(|byte| *byte == 0))
}

/// What the frames of a volume have in common, besides orientation and spacing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct SeriesKey<'a> {
    series: &'a str,
    is_localizer: bool,
    extents: [usize; 3],
    bits: u64,
    is_float: bool,
    is_inverted: bool,
    part: &'a str,
}

fn key_of(file: &Instance) -> SeriesKey<'_> {
    let form = &file.form;
    SeriesKey {
        series: &file.series,
        is_localizer: file.is_localizer,
        extents: [form.rows, form.columns, form.samples],
        bits: form.sample.bits(),
        is_float: !matches!(form.sample, SampleType::Integer { .. }),
        is_inverted: form.photometric == Photometric::Monochrome1,
        part: &file.part,
    }
}

/// Whether planes have the same orientation and distances of pixels.
pub(super) fn is_same_plane(a: &FramePlane, b: &FramePlane) -> bool {
    let is_near = |a: Option<[f64; 6]>, b: Option<[f64; 6]>| match (a, b) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME_COSINE),
        (a, b) => a.is_none() == b.is_none(),
    };
    let is_as_large = |a: Option<[f64; 2]>, b: Option<[f64; 2]>| match (a, b) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME_SPACING * a.abs()),
        (a, b) => a.is_none() == b.is_none(),
    };
    is_near(a.orientation, b.orientation) && is_as_large(a.spacing, b.spacing)
}

/// Groups frames into volumes with names.
fn group(files: &[Instance], frames: Vec<Frame>, notes: &mut Vec<String>) -> Vec<ScannedVolume> {
    let mut places: HashMap<SeriesKey<'_>, Vec<usize>> = HashMap::new();
    let mut groups: Vec<Vec<Frame>> = Vec::new();
    for frame in frames {
        let known = places.entry(key_of(&files[frame.file])).or_default();
        let fits = known.iter().find(|&&i| is_same_plane(&groups[i][0].plane, &frame.plane));
        if let Some(&i) = fits {
            groups[i].push(frame);
        } else {
            known.push(groups.len());
            groups.push(vec![frame]);
        }
    }
    let is_localizer = |group: &[Frame]| files[group[0].file].is_localizer;
    let localizers = groups.iter().filter(|group| is_localizer(group)).map(Vec::len);
    let (in_all, count) = (localizers.clone().count(), localizers.sum::<usize>());
    if count > 0 && in_all < groups.len() {
        notes.push(format!("{count} localizer images were left out"));
        groups.retain(|group| !is_localizer(group));
    }
    let mut groups: Vec<Vec<Frame>> =
        groups.into_iter().flat_map(|group| split(files, group)).collect();
    groups.sort_by(|a, b| {
        let key = |group: &[Frame]| {
            let file = &files[group[0].file];
            let order = group.iter().map(|frame| frame.order).min();
            (base_name(file), file.series_number, &*file.series, order)
        };
        key(a).cmp(&key(b))
    });
    let mut named: HashMap<String, usize> = HashMap::new();
    let volume = |frames: Vec<Frame>| {
        let file = &files[frames[0].file];
        let base = base_name(file);
        let number = named.entry(base.clone()).or_insert(0);
        *number += 1;
        let name = if *number == 1 { base } else { format!("{base}_{number}") };
        let coding = file.segments.as_ref().map(|segments| segments.coding);
        let kind = coding.map(|coding| match coding {
            SegmentCoding::Fractional => Kind::Image,
            SegmentCoding::Binary | SegmentCoding::LabelMap => Kind::Labels,
        });
        ScannedVolume { name, kind, frames }
    };
    groups.into_iter().map(volume).collect()
}

/// Divides frames of which several lie at one place by what they are images of, then by echoes.
fn split(files: &[Instance], group: Vec<Frame>) -> Vec<Vec<Frame>> {
    if files[group[0].file].segments.is_some() || !repeats(&group) {
        return vec![group];
    }
    let by_kind = divided(group, |frame| (frame.kind.to_string(), 0));
    let by_echo = |group: Vec<Frame>| {
        if repeats(&group) {
            let echo = |frame: &Frame| frame.echo.map_or(0, f64::to_bits);
            divided(group, |frame| (String::new(), echo(frame)))
        } else {
            vec![group]
        }
    };
    by_kind.into_iter().flat_map(by_echo).collect()
}

fn repeats(group: &[Frame]) -> bool {
    has_repeated_places(&group.iter().collect::<Vec<_>>())
}

fn divided(group: Vec<Frame>, key: impl Fn(&Frame) -> (String, u64)) -> Vec<Vec<Frame>> {
    let mut parts: BTreeMap<(String, u64), Vec<Frame>> = BTreeMap::new();
    for frame in group {
        parts.entry(key(&frame)).or_default().push(frame);
    }
    parts.into_values().collect()
}

/// The modality in lower case, as a name.
fn base_name(file: &Instance) -> String {
    let mut name = file.modality.to_lowercase();
    name.retain(|c| c.is_ascii_alphanumeric());
    name.truncate(16);
    if name.is_empty() { "image".to_owned() } else { name }
}
