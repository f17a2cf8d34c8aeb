//! Publishes what all parts of a plan have written.

use std::collections::BTreeMap;
use std::fmt::Write;

use voxquarry::{Dataset, Error, OpenOptions, Part, Result, StoreWriter, UnpublishedSubjects};

use super::document::{FailedCase, PlanCase, PlanDocument};
use super::notes::{DoneCase, Notes};
use super::owners::owners;
use super::run::{done, open};
use crate::observer::{Observer, check_interrupt};
use crate::report::IngestReport;

/// Parts that a message names.
const SHOWN: usize = 20;

/// See [`PartsPlan::finalize`](super::PartsPlan::finalize).
pub(super) fn finalize(
    document: &PlanDocument,
    observer: &dyn Observer,
    report: &mut IngestReport,
) -> Result<()> {
    let again = "make the plan again, and run its parts";
    let unpublished = match open(document, "finalize", again) {
        Ok(unpublished) => unpublished,
        Err(error @ Error::Unsupported { .. }) => {
            // The process that finalized it may have been killed before its last step.
            return if is_finalized(document, report)? { list(document) } else { Err(error) };
        }
        Err(error) => return Err(error),
    };
    let notes = Notes::of(&unpublished);
    let _lock = notes.lock("finalize", observer)?;
    if !notes.has_plan()? {
        // Another process finalized it while this one waited.
        is_finalized(document, report)?;
        return Ok(());
    }
    let mut missing = Vec::new();
    let mut whole = Vec::new();
    for (number, case) in document.cases.iter().enumerate() {
        check_interrupt(observer)?;
        if let Some(done) = done(document, &unpublished, case)? {
            whole.push((case, done));
        } else if let Some(failed) =
            notes.failed(&case.name)?.filter(|_| document.options.keep_going)
        {
            report.failed.extend(failed.iter().map(FailedCase::failure));
        } else {
            missing.push(number);
        }
    }
    if !missing.is_empty() {
        return Err(incomplete(document, &notes.counts()?, &missing));
    }
    report.failed.extend(document.failed.iter().map(FailedCase::failure));
    publish(document, unpublished, whole, report)
}

fn publish(
    document: &PlanDocument,
    unpublished: UnpublishedSubjects,
    whole: Vec<(&PlanCase, DoneCase)>,
    report: &mut IngestReport,
) -> Result<()> {
    let written = whole.iter().flat_map(|(_, done)| &done.subjects);
    let checksums: Vec<_> = written.map(|s| (s.name.clone(), s.crc32c)).collect();
    unpublished.publish(&checksums, document.options.if_exists()?)?;
    for (case, done) in whole {
        for subject in done.subjects {
            report.voxel_bytes += subject.voxel_bytes;
            report.stored_bytes += subject.stored_bytes;
            report.written.push(subject.name);
        }
        add_splits(document, case, &done.skipped)?;
        report.skipped.extend(done.skipped);
    }
    unpublished.remove()?;
    list(document)
}

/// Lists the subjects, as an ingest without parts does at its end.
fn list(document: &PlanDocument) -> Result<()> {
    StoreWriter::open(&document.store, Some(1))?.list_subjects().map(drop)
}

/// Adds subjects that were in the store to the splits that they are in now.
fn add_splits(document: &PlanDocument, case: &PlanCase, skipped: &[String]) -> Result<()> {
    if skipped.is_empty() || case.splits().is_empty() {
        return Ok(());
    }
    let dataset = Dataset::open(&document.store, &OpenOptions::default())?;
    for name in skipped {
        let known = dataset.subject(name)?.splits().to_vec();
        let new = case.splits().iter().filter(|split| !known.contains(split));
        let new: Vec<_> = new.cloned().collect();
        if !new.is_empty() {
            StoreWriter::open(&document.store, Some(1))?.add_to_splits(name, new)?;
        }
    }
    Ok(())
}

/// Whether the store has every subject of the plan, which were published before.
fn is_finalized(document: &PlanDocument, report: &mut IngestReport) -> Result<bool> {
    let dataset = match Dataset::open(&document.store, &OpenOptions::default()) {
        Ok(dataset) => dataset,
        Err(Error::NotAStore { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let subjects = || document.cases.iter().flat_map(|case| &case.subjects);
    let is_there = |name: &&String| dataset.subjects().binary_search(name).is_ok();
    let found: Vec<String> = subjects().filter(is_there).cloned().collect();
    let may_lack_some = document.options.keep_going && !found.is_empty();
    if document.cases.is_empty() || !(may_lack_some || found.len() == subjects().count()) {
        return Ok(false);
    }
    report.skipped.extend(found);
    report.notes.push("the plan was finalized before: nothing was left to do".to_owned());
    Ok(true)
}

/// Says which parts have to be run.
fn incomplete(document: &PlanDocument, counts: &[usize], missing: &[usize]) -> Error {
    let what = format!("the ingest into {}", document.store.display());
    let first = &document.cases[missing[0]].name;
    let of = document.cases.len();
    let subjects = format!("{} of {of} subjects are not done, the first is {first}", missing.len());
    let [count] = counts else {
        let missing = format!("{subjects}: run its parts, 0/N to N-1/N, and finalize it then");
        return Error::Incomplete { what, missing };
    };
    let owners = owners(&document.cases, *count);
    let mut parts: BTreeMap<usize, usize> = BTreeMap::new();
    for &case in missing {
        *parts.entry(owners[case]).or_default() += 1;
    }
    let mut names = String::new();
    for (n, number) in parts.keys().take(SHOWN).enumerate() {
        let part = Part::new(*number, *count).expect("an owner is a part");
        let separator = if n == 0 { "" } else { ", " };
        write!(names, "{separator}{part}").expect("a string takes everything");
    }
    if parts.len() > SHOWN {
        write!(names, " and {} more", parts.len() - SHOWN).expect("a string takes everything");
    }
    let word = if parts.len() == 1 { "part" } else { "parts" };
    let missing = format!("{subjects}: run {word} {names} again, and finalize it then");
    Error::Incomplete { what, missing }
}
