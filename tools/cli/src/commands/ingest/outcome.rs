//! What `voxquarry ingest` tells at its end: a summary, the subjects that failed, a report file.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use voxquarry::{Error, Fault, Result};
use voxquarry_ingest::{Failure, IngestReport};

use crate::SUCCESS;
use crate::args::IngestArgs;
use crate::output::{bytes, error_line, json, line, notes};

/// What the outcome says of a run.
pub(super) struct RunFacts<'a> {
    pub(super) store: &'a Path,
    /// Whether subjects that failed were listed and the others ingested.
    pub(super) keeps_going: bool,
    pub(super) took: Duration,
}

/// Refuses a report whose folder does not exist, before the work.
pub(super) fn check_writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let is_folder = |path: &Path| match path.metadata() {
        Ok(found) => Ok(found.is_dir()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(Error::io(path, "cannot look at")(e)),
    };
    if folder.map_or(Ok(true), is_folder)? && !is_folder(path)? {
        return Ok(());
    }
    Err(Error::invalid("report", path.display(), "a file in a folder that exists"))
}

/// Prints the outcome of a run and writes the report. The error is that of the run, or of the only
/// subject that failed.
pub(super) fn tell(
    report: IngestReport,
    result: Result<()>,
    args: &IngestArgs,
    run: &RunFacts<'_>,
) -> Result<u8> {
    if let Some(path) = &args.report {
        let text = serde_json::to_vec_pretty(&document(&report)).expect("a JSON tree serialises");
        fs::write(path, text).map_err(Error::io(path, "cannot write"))?;
    }
    if !args.quiet && !args.json {
        notes(&report.notes);
    }
    result?;
    if run.keeps_going || report.failed.is_empty() {
        if args.json {
            let mut whole = document(&report);
            whole["store"] = run.store.to_string_lossy().into();
            if let Some(part) = args.part {
                whole["part"] = json!([part.number(), part.count()]);
            }
            whole["written"] = report.written.clone().into();
            whole["voxel_bytes"] = report.voxel_bytes.into();
            whole["stored_bytes"] = report.stored_bytes.into();
            whole["seconds"] = run.took.as_secs_f64().into();
            json(&whole);
        } else if !args.quiet {
            summary(&report, args, run);
        }
    }
    end(report, run.keeps_going)
}

/// Prints the failures of a run, and ends the command with their code.
pub(super) fn end(report: IngestReport, keeps_going: bool) -> Result<u8> {
    if keeps_going && !report.failed.is_empty() {
        print_failures(&report.failed);
        return Ok(Fault::Data.exit_code());
    }
    if report.failed.len() > 1 {
        print_failures(&report.failed);
        let fault = report.all_or_error().map_or_else(|e| e.fault(), |_| Fault::Data);
        return Ok(fault.exit_code());
    }
    report.all_or_error().map(|_| SUCCESS)
}

/// The report in JSON.
fn document(report: &IngestReport) -> Value {
    json!({
        "done": report.written,
        "skipped": report.skipped,
        "failed": failures_json(&report.failed),
    })
}

pub(super) fn failures_json(failures: &[Failure]) -> Vec<Value> {
    let failure = |f: &Failure| {
        json!({
            "subject": f.subject,
            "volume": f.volume,
            "path": f.path.to_string_lossy(),
            "error": f.error.to_string(),
        })
    };
    failures.iter().map(failure).collect()
}

fn summary(report: &IngestReport, args: &IngestArgs, run: &RunFacts<'_>) {
    let (seconds, n) = (run.took.as_secs_f64(), report.written.len());
    let count = |n: usize| format!("{n} {}", if n == 1 { "subject" } else { "subjects" });
    let rate = bytes((report.voxel_bytes as f64 / seconds) as u64);
    line(&format!(
        "{}{} in {}: {} of voxels in {seconds:.1} s, {rate}/s",
        args.part.map_or_else(String::new, |part| format!("part {part}: ")),
        count(n),
        run.store.display(),
        bytes(report.voxel_bytes),
    ));
    if n > 0 {
        let (read, stored) = (report.voxel_bytes, report.stored_bytes);
        let ratio = read as f64 / stored.max(1) as f64;
        let bytes = format!("{} in, {} out, ratio {ratio:.2}", bytes(read), bytes(stored));
        line(&format!("  written  {}: {bytes}", count(n)));
    }
    if !report.skipped.is_empty() {
        let reason = match args {
            IngestArgs { part: Some(_), .. } => "done before",
            IngestArgs { skip_existing: true, .. } => "there by name",
            _ => "there, as asked for now",
        };
        line(&format!("  skipped  {}: {reason}", count(report.skipped.len())));
    }
    let failed: BTreeSet<_> = report.failed.iter().map(|failure| &failure.subject).collect();
    if !failed.is_empty() {
        line(&format!("  failed   {}: see the list", count(failed.len())));
    }
}

/// Prints a table of all failures.
fn print_failures(failures: &[Failure]) {
    let n = failures.len();
    error_line(&format!("error: {n} {}:", if n == 1 { "failure" } else { "failures" }));
    let width = |text: fn(&Failure) -> &str| {
        failures.iter().map(|f| text(f).chars().count()).max().unwrap_or(0)
    };
    let (subject, volume) = (width(|f| &f.subject), width(|f| &f.volume));
    for f in failures {
        error_line(&format!("  {:subject$}  {:volume$}  {}", f.subject, f.volume, f.error));
    }
}
