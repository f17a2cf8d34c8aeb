//! `ingest` with a plan: an ingest that several processes share.

use std::path::PathBuf;

use pyo3::prelude::*;
use voxquarry::Part;
use voxquarry_ingest::{IngestOptions, IngestReport, PartsPlan};

use crate::errors::raise;
use crate::ingest::{Choices, IngestRequest, Listener, Outcome, REMEDY, Row, outcome};

/// Makes a plan, writes it to `plan`, and lets the store at `out` wait for its parts. What was done
/// is what was taken over from another plan.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // Python's keywords, checked and bundled here.
pub(crate) fn plan_ingest(
    py: Python<'_>,
    paths: Option<Vec<PathBuf>>,
    rows: Vec<Row<'_>>,
    out: PathBuf,
    patch_size: &Bound<'_, PyAny>,
    codec: &str,
    memory_bytes: &Bound<'_, PyAny>,
    threads: Option<usize>,
    existing: &str,
    choices: Choices,
    plan: PathBuf,
) -> PyResult<Outcome> {
    let request = IngestRequest::new(
        py,
        paths,
        rows,
        patch_size,
        codec,
        memory_bytes,
        threads,
        existing,
        &choices,
    )?;
    let IngestRequest { found, options, raised } = request;
    let listener = Listener::new(None);
    let mut report = IngestReport::default();
    let make = || {
        // The command compares what it was given with what is written here; Python gives a plan's
        // parts nothing to compare.
        let made = PartsPlan::make(&found.manifest, &out, &options, "null", &listener)?;
        report.notes = made.notes;
        report.failed = made.failed;
        if !made.plan.keeps_going() && !report.failed.is_empty() {
            return std::mem::take(&mut report).all_or_error().map(drop);
        }
        made.plan.write(&plan)?;
        made.plan.install().map(drop)
    };
    let result = py.detach(make);
    listener.end(result, REMEDY).map_err(|error| raised.or_cause(error))?;
    Ok(outcome(report, found.notes))
}

/// Ingests a part of the plan at `plan`, or of the one that the store at `out` waits for; without
/// a `part`, publishes all. Returns the store, and what was done.
#[pyfunction]
pub(crate) fn run_ingest_plan(
    py: Python<'_>,
    plan: Option<PathBuf>,
    out: Option<PathBuf>,
    part: Option<(usize, usize)>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(PathBuf, Outcome)> {
    let part = part.map(|(i, n)| Part::new(i, n)).transpose().map_err(raise)?;
    let listener = Listener::new(progress);
    let mut report = IngestReport::default();
    let mut store = PathBuf::new();
    let run = || {
        let plan = plan_of(plan, out)?;
        plan.store().clone_into(&mut store);
        let (done, result) = match part {
            Some(part) => {
                let machine = IngestOptions::default().threads(threads);
                plan.run_part(part, &machine, &listener)
            }
            None => plan.finalize(&listener),
        };
        result?;
        report = if plan.keeps_going() { done } else { done.all_or_error()? };
        Ok(())
    };
    let result = py.detach(run);
    listener.end(result, REMEDY)?;
    Ok((store, outcome(report, Vec::new())))
}

fn plan_of(plan: Option<PathBuf>, out: Option<PathBuf>) -> voxquarry::Result<PartsPlan> {
    match (plan, out) {
        (Some(path), out) => {
            let mut plan = PartsPlan::read(&path)?;
            out.map_or(Ok(()), |out| plan.set_store(&out))?;
            Ok(plan)
        }
        (None, Some(out)) => PartsPlan::installed(&out),
        (None, None) => {
            let reason = "a part without a plan and a store";
            Err(voxquarry::Error::unsupported(reason, "give plan= or out="))
        }
    }
}
