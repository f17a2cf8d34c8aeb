//! Ingests source files into a store, subject by subject.
//!
//! # Invariants
//! - A subject is published whole or not at all. Subjects published before an error stay.

use std::path::Path;

use voxquarry::{Dataset, Error, IfExists, OpenOptions, Result, StoreWriter};

use crate::copy::ingest_volume;
use crate::manifest::Manifest;
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::plan::{PlannedSubject, PlannedVolume, plan};

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Subjects written.
    pub written: Vec<String>,
    /// Subjects that existed already and were skipped.
    pub skipped: Vec<String>,
    /// Bytes of voxels read.
    pub voxel_bytes: u64,
}

/// Ingests what the manifest names into the store at `out`.
///
/// `options.if_exists` decides about a subject that exists already. An interrupted run continues
/// when it is started again: while some subjects are missing, those that were ingested from the
/// same files count as done.
///
/// # Errors
/// As [`plan`], [`Error::Exists`], [`Error::NotAStore`], and [`Error::Interrupted`] if the observer
/// asked to stop.
pub fn ingest(
    manifest: &Manifest,
    out: &Path,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<IngestReport> {
    let planned = plan(manifest, options)?;
    let store = StoreWriter::open(out, options.threads)?;
    let mut report = IngestReport::default();
    let present: Vec<bool> = planned.iter().map(|s| store.has_subject(&s.name)).collect();
    let resumes = present.iter().any(|p| !p);
    let mut todo = Vec::new();
    for (subject, present) in planned.iter().zip(present) {
        match options.if_exists {
            _ if !present => todo.push(subject),
            IfExists::Replace => todo.push(subject),
            IfExists::Skip => report.skipped.push(subject.name.clone()),
            IfExists::Error if resumes && is_from_same_sources(&store, subject) => {
                report.skipped.push(subject.name.clone());
            }
            IfExists::Error => {
                let remedy = "replace it, or skip it".to_owned();
                return Err(Error::Exists { path: out.join(&subject.name), remedy });
            }
        }
    }
    let bytes = todo.iter().flat_map(|s| &s.volumes).map(PlannedVolume::voxel_bytes).sum();
    observer.event(Event::Begin { subjects: todo.len(), skipped: report.skipped.len(), bytes });
    for subject in todo {
        let mut writer = store.subject(&subject.name)?;
        let mut finished = Vec::new();
        for volume in &subject.volumes {
            observer.event(Event::Volume { subject: &subject.name, volume: &volume.source.volume });
            finished.push(ingest_volume(&mut writer, volume, options, observer)?);
            report.voxel_bytes += volume.voxel_bytes();
        }
        // An observer that asked to stop at the last layer must not see the subject appear.
        check_interrupt(observer)?;
        writer.publish(finished, options.if_exists)?;
        observer.event(Event::Published { subject: &subject.name });
        report.written.push(subject.name.clone());
    }
    Ok(report)
}

/// Whether a published subject came from the planned sources: same volumes, kinds and inputs.
fn is_from_same_sources(store: &StoreWriter, planned: &PlannedSubject) -> bool {
    let same = || -> Result<bool> {
        let subject =
            Dataset::open(store.path(), &OpenOptions::default())?.subject(&planned.name)?;
        for volume in &planned.volumes {
            let found = subject.volume(&volume.source.volume)?;
            let same_source =
                found.source().is_some_and(|known| volume.source.input.is_source(known));
            if !same_source || found.kind() != volume.source.kind {
                return Ok(false);
            }
        }
        Ok(subject.volumes().len() == planned.volumes.len())
    };
    same().unwrap_or(false)
}
