//! Ingests the subjects of a plan into a store: streams voxels, publishes subjects.
//!
//! # Invariants
//! - A subject is published whole or not at all. Subjects published before an error stay.
//! - A fault of one subject, even a panic, does not reach another.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use voxquarry::{Error, FinishedVolume, Result, StoreWriter};

use crate::change::ingest_volumes;
use crate::existing::{Outstanding, outstanding};
use crate::manifest::{Manifest, Source};
use crate::observer::{Event, Observer, WatchedObserver, check_interrupt};
use crate::options::IngestOptions;
use crate::plan::{Plan, plan};
use crate::planned::PlannedSubject;
use crate::report::{Failure, IngestReport};

/// Ingests what the manifest names into the store at `out`.
///
/// `options` decide about subjects that exist already. An interrupted run continues when it is
/// started again: subjects that were made from the same files with the same options count as done.
/// For these, each source file is read once to compare its SHA-256.
///
/// # Errors
/// As [`plan`]; the errors of the subjects that failed, unless the run keeps going: one as it is,
/// several as [`Error::Several`]; [`Error::NotAStore`], [`Error::Io`], and [`Error::Interrupted`]
/// if the observer asked to stop.
pub fn ingest(
    manifest: &Manifest,
    out: &Path,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<IngestReport> {
    let (report, result) =
        ingest_planned(plan(manifest, options, observer)?, out, options, observer);
    result?;
    if options.keep_going { Ok(report) } else { report.all_or_error() }
}

/// Ingests the subjects of a plan. The report tells what was done, whatever the result.
///
/// Subjects that fail are listed in the report. Unless the run keeps going it ends with the first
/// of them; if the plan has some, nothing is begun.
///
/// # Errors
/// What no subject is to blame for: [`Error::NotAStore`], [`Error::Io`] of the store, and
/// [`Error::Interrupted`].
pub fn ingest_planned(
    plan: Plan,
    out: &Path,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> (IngestReport, Result<()>) {
    let Plan { subjects, failed, notes, .. } = plan;
    let mut report = IngestReport { failed, notes, ..IngestReport::default() };
    let result = ingest_subjects(subjects, out, options, observer, &mut report);
    (report, result)
}

fn ingest_subjects(
    subjects: Vec<PlannedSubject>,
    out: &Path,
    options: &IngestOptions,
    observer: &dyn Observer,
    report: &mut IngestReport,
) -> Result<()> {
    let stops = |report: &IngestReport| !report.failed.is_empty() && !options.keep_going;
    if subjects.is_empty() || stops(report) {
        return Ok(());
    }
    let store = StoreWriter::open(out, options.threads)?;
    let todo = outstanding(&store, subjects, options, observer, report)?;
    if stops(report) {
        return Ok(());
    }
    let bytes = todo.iter().map(|subject| subject.planned.work_bytes()).sum();
    observer.event(Event::Begin { subjects: todo.len(), skipped: report.skipped.len(), bytes });
    let costs: Vec<u64> = todo.iter().map(|s| s.planned.own_memory_bytes()).collect();
    let watched = WatchedObserver::new(observer);
    let work = |i: usize| ingest_subject(&store, &todo[i], options, &watched);
    let (mut outcomes, mut fatal) = (Vec::with_capacity(todo.len()), None);
    let take = |i: usize, outcome: Result<Written, Box<Failure>>| {
        let subject = &todo[i].planned.name;
        match outcome {
            Err(failure) if ends_the_run(&failure.error, store.path()) => {
                fatal.get_or_insert(failure.error);
                return ControlFlow::Break(());
            }
            Ok(Written { voxel_bytes, stored_bytes, .. }) => {
                observer.event(Event::Published { subject, voxel_bytes, stored_bytes });
            }
            Err(_) => observer.event(Event::Failed { subject }),
        }
        let goes_on = outcome.is_ok() || options.keep_going;
        outcomes.push((i, outcome));
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    options.side_by_side().run(&costs, work, take, || watched.look());
    // In the manifest's order, whichever was ready first.
    outcomes.sort_by_key(|(i, _)| *i);
    for (i, outcome) in outcomes {
        match outcome {
            Ok(written) => {
                report.voxel_bytes += written.voxel_bytes;
                report.stored_bytes += written.stored_bytes;
                report.notes.extend(written.notes);
                report.written.push(todo[i].planned.name.clone());
            }
            Err(failure) => report.failed.push(*failure),
        }
    }
    if let Some(error) = fatal {
        return Err(error);
    }
    // For servers that list no folders; they do without where there are too many subjects.
    store.list_subjects().map(drop)
}

/// Whether an error is no fault of the subject, so that the next would meet it too.
fn ends_the_run(error: &Error, store: &Path) -> bool {
    match error {
        Error::Io { path, .. } => path.starts_with(store),
        Error::Interrupted | Error::OutOfMemory { .. } => true,
        _ => false,
    }
}

/// A subject that is published.
struct Written {
    voxel_bytes: u64,
    /// Bytes of its files.
    stored_bytes: u64,
    notes: Vec<String>,
}

/// Ingests and publishes one subject.
fn ingest_subject(
    store: &StoreWriter,
    subject: &Outstanding,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<Written, Box<Failure>> {
    let (planned, current) = (&subject.planned, AtomicUsize::new(0));
    let whole = || -> Result<Written> {
        let name = &planned.name;
        let mut writer =
            if subject.is_extension { store.extend_subject(name) } else { store.subject(name) }?;
        writer.set_splits(planned.splits.iter().cloned())?;
        let volumes = ingest_volumes(&mut writer, planned, &current, options, observer)?;
        let stored_bytes = volumes.finished.iter().map(FinishedVolume::stored_bytes).sum();
        // An observer that asked to stop at the last layer must not see the subject appear.
        check_interrupt(observer)?;
        writer.publish(volumes.finished, options.if_exists)?;
        Ok(Written { voxel_bytes: volumes.voxel_bytes, stored_bytes, notes: volumes.notes })
    };
    let outcome = catch_unwind(AssertUnwindSafe(whole));
    let source = &planned.volumes[current.into_inner()].source;
    outcome
        .unwrap_or_else(|panic| Err(panicked(source, panic.as_ref())))
        .map_err(|error| Box::new(Failure::of(source, error)))
}

/// The error of a subject whose reader or encoder broke one of its own rules.
fn panicked(source: &Source, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a reason");
    let message = format!("reading or encoding it panicked ({text}): report it with the file");
    Error::data(source.input.location(), message)
}
