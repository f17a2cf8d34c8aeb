//! Decides about subjects that exist already: done, to be extended, replaced, or in the way.
//!
//! # Invariants
//! - A subject counts as done only if it was made from the same bytes with the same options.
//! - A source file is read for its digest only if all else agrees.
//! - Nothing that the store holds is removed without being named by this run.

use std::path::Path;

use serde_json::{Map, Value};
use voxquarry::{
    Dataset, Error, Fault, IfExists, OpenOptions, Region, Result, Size3, StoreWriter, Subject,
    Volume,
};

use crate::grid::{Grid, settle_on};
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::planned::{PlannedSubject, PlannedVolume};
use crate::report::{Failure, IngestReport};

/// A subject that is to be written.
pub(crate) struct Outstanding {
    pub(crate) planned: PlannedSubject,
    /// Whether the volumes of the published subject stay.
    pub(crate) is_extension: bool,
}

/// The subjects that have to be written. The report receives those that are done, and those that
/// are in the way of something else.
///
/// # Errors
/// [`Error::Interrupted`], and those of opening the store.
pub(crate) fn outstanding(
    store: &StoreWriter,
    subjects: Vec<PlannedSubject>,
    options: &IngestOptions,
    observer: &dyn Observer,
    report: &mut IngestReport,
) -> Result<Vec<Outstanding>> {
    let mut known = None;
    let mut todo = Vec::new();
    for mut planned in subjects {
        check_interrupt(observer)?;
        if known.is_none() && store.has_subject(&planned.name)? {
            known = Some(Dataset::open(store.path(), &OpenOptions::default())?);
        }
        let is_known = |d: &&Dataset| d.subjects().binary_search(&planned.name).is_ok();
        let Some(dataset) = known.as_ref().filter(is_known) else {
            todo.push(Outstanding { planned, is_extension: false });
            continue;
        };
        let decide = Decision { dataset, folder: &store.path().join(&planned.name), options };
        let decided = if options.is_addition {
            decide.extension(&mut planned, observer, report)?
        } else {
            decide.whole(&planned, observer, report)?
        };
        match decided {
            Verdict::Done => {
                decide.add_splits(store, &planned, report)?;
                report.skipped.push(planned.name);
            }
            Verdict::Write => {
                todo.push(Outstanding { planned, is_extension: options.is_addition });
            }
            Verdict::Refused => {}
        }
    }
    Ok(todo)
}

enum Verdict {
    Done,
    Write,
    /// The report has the reason.
    Refused,
}

/// What a decision depends on.
struct Decision<'a> {
    dataset: &'a Dataset,
    /// The published subject.
    folder: &'a Path,
    options: &'a IngestOptions,
}

impl Decision<'_> {
    /// Decides about a subject that takes the place of the published one.
    fn whole(
        &self,
        planned: &PlannedSubject,
        observer: &dyn Observer,
        report: &mut IngestReport,
    ) -> Result<Verdict> {
        let published = self.dataset.subject(&planned.name);
        let error = match self.options.if_exists {
            IfExists::Skip => return Ok(Verdict::Done),
            IfExists::Replace => match published {
                Err(error) if error.fault() == Fault::Environment => error,
                // What is damaged has nothing to lose.
                Err(_) => return Ok(Verdict::Write),
                Ok(published) => {
                    let comes =
                        |name: &&String| planned.volumes.iter().any(|v| v.source.volume == **name);
                    let stay = published.volumes().iter().filter(|name| !comes(name));
                    let volumes: Vec<_> = stay.cloned().collect();
                    if volumes.is_empty() {
                        return Ok(Verdict::Write);
                    }
                    Error::WouldRemove { path: self.folder.to_owned(), volumes }
                }
            },
            IfExists::Error => {
                let compared =
                    published.and_then(|s| self.subject_difference(&s, planned, observer));
                match refusal(compared, self.folder)? {
                    None => return Ok(Verdict::Done),
                    Some(error) => error,
                }
            }
        };
        report.failed.push(self.failure(planned, String::new(), error));
        Ok(Verdict::Refused)
    }

    /// Decides which volumes are added to the published subject, and leaves only those in the plan.
    fn extension(
        &self,
        planned: &mut PlannedSubject,
        observer: &dyn Observer,
        report: &mut IngestReport,
    ) -> Result<Verdict> {
        let published = self.dataset.subject(&planned.name)?;
        let mut refused = Vec::new();
        let mut added = Vec::new();
        for volume in std::mem::take(&mut planned.volumes) {
            let name = volume.source.volume.clone();
            let is_there = published.volumes().contains(&name);
            let refused_by = match self.options.if_exists {
                _ if !is_there => None,
                IfExists::Replace => None,
                IfExists::Skip => continue,
                IfExists::Error => {
                    let open = published.volume(&name);
                    let compared = open.and_then(|v| self.volume_difference(&v, &volume, observer));
                    match refusal(compared, &self.folder.join(&name))? {
                        None => continue,
                        refusal => refusal,
                    }
                }
            };
            match refused_by {
                None => added.push(volume),
                Some(error) => refused.push((name, error)),
            }
        }
        planned.volumes = added;
        let stays = |name: &&String| planned.volumes.iter().all(|v| v.source.volume != **name);
        if let Some(first) = published.volumes().iter().find(stays) {
            let first = published.volume(first)?;
            refused.extend(self.crop_as(&first, planned));
            let grid = Grid {
                name: first.name().to_owned(),
                path: first.path().to_owned(),
                size: first.size(),
                affine: *first.affine(),
            };
            match settle_on(&grid, &mut planned.volumes, self.options) {
                Ok(notes) => {
                    report.notes.extend(notes.iter().map(|n| format!("{}: {n}", planned.name)));
                }
                Err(mismatches) => {
                    let named = |(i, error): (usize, Error)| {
                        (planned.volumes[i].source.volume.clone(), error)
                    };
                    refused.extend(mismatches.into_iter().map(named));
                }
            }
        }
        if refused.is_empty() {
            return Ok(if planned.volumes.is_empty() { Verdict::Done } else { Verdict::Write });
        }
        let failures = refused.into_iter().map(|(name, error)| self.failure(planned, name, error));
        report.failed.extend(failures);
        Ok(Verdict::Refused)
    }

    /// Crops planned volumes to the box that a volume of their subject was cropped to; returns
    /// those that cannot be.
    fn crop_as(&self, first: &Volume, planned: &mut PlannedSubject) -> Vec<(String, Error)> {
        let mut refused = Vec::new();
        let origin = first.source().map(|source| &source.origin);
        let region = origin.and_then(recorded_crop).filter(|region| !region.is_empty());
        for volume in planned.volumes.iter_mut().filter(|volume| volume.awaits_crop()) {
            let size = volume.native().map_or(volume.header.size, |native| native.size);
            let cropped = if let Some(region) = region.filter(|region| region.is_inside(size)) {
                volume.cropped(region, self.options)
            } else {
                let what = "the crop to the foreground: none, now asked for";
                Err(otherwise(self.folder, format!("{}: {what}", first.name())))
            };
            match cropped {
                Ok(cropped) => *volume = cropped,
                Err(error) => refused.push((volume.source.volume.clone(), error)),
            }
        }
        refused
    }

    /// Adds a subject that is done to the splits that it is in now; that needs no voxels.
    fn add_splits(
        &self,
        store: &StoreWriter,
        planned: &PlannedSubject,
        report: &mut IngestReport,
    ) -> Result<()> {
        let published = self.dataset.subject(&planned.name);
        let known = published.map(|subject| subject.splits().to_vec()).unwrap_or_default();
        let new: Vec<_> = planned.splits.iter().filter(|split| !known.contains(split)).collect();
        if !new.is_empty() {
            store.add_to_splits(&planned.name, new.iter().copied().cloned())?;
            report.notes.push(format!("{}: added to the splits {new:?}", planned.name));
        }
        Ok(())
    }

    fn failure(&self, planned: &PlannedSubject, volume: String, error: Error) -> Failure {
        let (subject, path) = (planned.name.clone(), self.folder.to_owned());
        Failure { subject, volume, path, error }
    }

    /// The first difference between a published subject and the one that is planned.
    fn subject_difference(
        &self,
        subject: &Subject,
        planned: &PlannedSubject,
        observer: &dyn Observer,
    ) -> Result<Option<String>> {
        let mut names: Vec<_> = planned.volumes.iter().map(|v| &v.source.volume).collect();
        names.sort_unstable();
        if !subject.volumes().iter().eq(names.iter().copied()) {
            let found = subject.volumes().join(", ");
            let asked: Vec<_> = names.iter().map(|n| n.as_str()).collect();
            return Ok(Some(format!("its volumes are {found}, now {}", asked.join(", "))));
        }
        for volume in &planned.volumes {
            let found = subject.volume(&volume.source.volume)?;
            if let Some(difference) = self.volume_difference(&found, volume, observer)? {
                return Ok(Some(format!("{}: {difference}", volume.source.volume)));
            }
        }
        Ok(None)
    }

    /// The first difference between a published volume and the one that is planned; the bytes of
    /// the source come last, because reading them takes time.
    fn volume_difference(
        &self,
        found: &Volume,
        planned: &PlannedVolume,
        observer: &dyn Observer,
    ) -> Result<Option<String>> {
        let source = &planned.source;
        let attributes = found.attributes();
        let Some(file) = found.source() else {
            return Ok(Some("it was not made from a file".to_owned()));
        };
        if let Some(difference) = changes_difference(&file.origin, planned.changes().as_ref()) {
            return Ok(Some(difference));
        }
        // The bytes of an array are those of its voxels, which its shape and dtype tell.
        let bytes = source.input.file_bytes()?.unwrap_or(file.bytes);
        let name = source.input.name();
        let pairs = [
            ("the file", file.name.clone(), name),
            ("the file's bytes", file.bytes.to_string(), bytes.to_string()),
            ("the kind", found.kind().name().to_owned(), source.kind.name().to_owned()),
            ("the codec", attributes.codec.clone(), self.options.codec.name().to_owned()),
            (
                "the patch sizes",
                format!("{:?}", attributes.patch_sizes),
                format!("{:?}", self.options.patch_sizes),
            ),
            ("the dtype", found.dtype().to_string(), planned.layout.dtype.to_string()),
            ("the levels", format!("{:?}", &found.levels()[1..]), levels_as(found, planned)),
        ];
        let affines =
            [found.affine(), &planned.header.affine].map(|affine| format!("{:?}", affine.0));
        let [found_affine, affine] = affines;
        // That of a volume that will be cropped is not known; the source's was compared.
        let affine = if planned.awaits_crop() { found_affine.clone() } else { affine };
        let pairs = pairs.into_iter().chain([("the affine", found_affine, affine)]);
        if found.labels() != planned.label_names {
            return Ok(Some("the names of the labels are others".to_owned()));
        }
        for (what, found, now) in pairs {
            if found != now {
                return Ok(Some(format!("{what}: {found}, now {now}")));
            }
        }
        // Sums that a sampler computed later make no difference.
        if planned.is_weights && !found.has_weight_sums()? {
            return Ok(Some("the sums of weights: absent, now present".to_owned()));
        }
        if planned.header.origin.iter().any(|(key, value)| file.origin.get(key) != Some(value)) {
            return Ok(Some("the header of its file has changed".to_owned()));
        }
        observer.event(Event::Comparing {
            subject: &source.subject,
            volume: &source.volume,
            bytes,
        });
        let is_same = source.input.has_digest(&file.sha256, observer)?;
        Ok((!is_same).then(|| {
            "the content of its file has changed, at the same length (by SHA-256)".to_owned()
        }))
    }
}

/// The factors of the levels that a volume as the published one would get now.
fn levels_as(found: &Volume, planned: &PlannedVolume) -> String {
    match planned.levels.factors(found.size(), found.spacing()) {
        Ok(factors) => format!("{factors:?}"),
        Err(_) => planned.levels.to_string(),
    }
}

/// The first change of voxels that a run asks for and a store does not have, or the other way
/// round. The box of a crop follows from the voxels.
fn changes_difference(
    origin: &Map<String, Value>,
    asked: Option<&Map<String, Value>>,
) -> Option<String> {
    let recorded = origin.get("changes").and_then(Value::as_object);
    let named = [
        ("crop", "the crop to the foreground"),
        ("clip", "the bounds of the clip"),
        ("orientation", "the orientation"),
        ("spacing", "the spacing to resample to"),
        ("normalize", "the normalisation"),
        ("dtype", "the dtype to convert to"),
        ("native", "the volume in the file"),
    ];
    let text = |changes: Option<&Map<String, Value>>, key: &str| {
        let value = changes.and_then(|changes| changes.get(key));
        value.map_or("none".to_owned(), |value| match (key, value) {
            ("crop", _) => "asked for".to_owned(),
            (_, value) => value.to_string(),
        })
    };
    named.into_iter().find_map(|(key, what)| {
        let (found, now) = (text(recorded, key), text(asked, key));
        (found != now).then(|| format!("{what}: {found}, now {now}"))
    })
}

/// The box that a volume was cropped to.
fn recorded_crop(origin: &Map<String, Value>) -> Option<Region> {
    let crop = origin.get("changes")?.get("crop")?;
    let [start, size] = ["start", "size"].map(|key| crop.get(key).cloned());
    let start: [i64; 3] = serde_json::from_value(start?).ok()?;
    let size: Size3 = serde_json::from_value(size?).ok()?;
    Some(Region::new(start, size))
}

fn otherwise(path: &Path, difference: String) -> Error {
    Error::ExistsOtherwise { path: path.to_owned(), difference }
}

/// The difference that was found; a subject or volume that cannot be compared is one, too.
///
/// # Errors
/// [`Error::Interrupted`].
fn refusal(compared: Result<Option<String>>, path: &Path) -> Result<Option<Error>> {
    match compared {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        // A disk that fails says nothing about what lies on it.
        Err(error) if error.fault() == Fault::Environment => Ok(Some(error)),
        Err(error) => Ok(Some(otherwise(path, format!("it cannot be compared: {error}")))),
        Ok(difference) => Ok(difference.map(|difference| otherwise(path, difference))),
    }
}
