//! What `voxquarry ingest --dry-run` prints.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};
use voxquarry::format::levels::Levels;
use voxquarry::{Dataset, Error, OpenOptions, Result};
use voxquarry_ingest::{IngestReport, Plan, PlannedSubject, PlannedVolume, free_bytes};

use super::outcome;
use crate::args::IngestArgs;
use crate::output::{bytes, error_line, extents, json, line, notes};

/// Prints a plan, with what is wrong with subjects that are not in it. Nothing is written.
pub(super) fn print(plan: Plan, args: &IngestArgs) -> Result<u8> {
    let present = present(args)?;
    let is_present = |subject: &&PlannedSubject| present.binary_search(&subject.name).is_ok();
    let existing: Vec<_> = plan.subjects.iter().filter(is_present).map(|s| &s.name).collect();
    // Subjects that exist are skipped or take the place of what they had.
    let new = plan.subjects.iter().filter(|subject| !is_present(subject));
    let bytes_of = |subject: &PlannedSubject| subject.voxel_bytes() + subject.levels_bytes();
    let volumes: u64 = new.map(bytes_of).sum();
    let copies = plan.scratch_bytes();
    let (needed, free) = (volumes + copies, free_bytes(args.out()?)?);
    let peak = plan.peak_memory_bytes();
    if args.json {
        let volumes = plan.subjects.iter().flat_map(|s| s.volumes.iter().map(move |v| (s, v)));
        json(&json!({
            "volumes": volumes.map(|(s, v)| volume_json(s, v)).collect::<Vec<_>>(),
            "existing": existing,
            "peak_memory_bytes": peak,
            "disk_bytes_at_most": needed,
            "scratch_bytes_at_most": copies,
            "free_bytes": free,
            "failed": outcome::failures_json(&plan.failed),
        }));
    } else {
        notes(&plan.notes);
        for subject in &plan.subjects {
            let exists = if is_present(&subject) { "; exists" } else { "" };
            subject.volumes.iter().for_each(|v| line(&describe(&subject.name, v, exists)));
        }
        line(&format!(
            "{} subjects, {} of them exist",
            plan.subjects.len() + plan.failed_subjects(),
            existing.len()
        ));
        line(&format!("disk: at most {} of {} free", bytes(needed), bytes(free)));
        if copies > 0 {
            line(&format!("  of them {} for copies that are removed again", bytes(copies)));
        }
        line(&format!("peak memory at most {}", bytes(peak)));
    }
    if needed > free && !args.quiet {
        error_line("note: the disk may not suffice: this is the size without compression");
    }
    let Plan { failed, .. } = plan;
    outcome::end(IngestReport::of_failures(failed), args.keep_going)
}

/// Names of the subjects in the store, if there is one.
fn present(args: &IngestArgs) -> Result<Vec<String>> {
    let out = args.out()?;
    if !out.try_exists().map_err(Error::io(out, "cannot look at"))? {
        return Ok(Vec::new());
    }
    match Dataset::open(out, &OpenOptions::default()) {
        Ok(dataset) => Ok(dataset.subjects().to_vec()),
        // An empty folder becomes a store.
        Err(Error::NotAStore { .. }) if is_empty(out)? => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_empty(out: &Path) -> Result<bool> {
    match std::fs::read_dir(out) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(e) => Err(Error::io(out, "cannot list")(e)),
    }
}

fn volume_json(subject: &PlannedSubject, v: &PlannedVolume) -> Value {
    let mut volume = json!({
        "subject": subject.name, "volume": v.source.volume, "kind": v.source.kind.name(),
        "path": v.source.input.location().to_string_lossy(), "shape": v.layout.shape(),
        "dtype": v.layout.dtype.name(), "chunk": v.layout.chunk, "shard": v.layout.shard,
        "voxel_bytes": v.voxel_bytes(), "memory_bytes": v.memory.bytes,
    });
    if v.levels != Levels::default() {
        volume["levels"] = json!(v.level_factors().unwrap_or_default());
        volume["levels_bytes"] = v.levels_bytes().into();
    }
    if let Some(changes) = v.changes() {
        volume["changes"] = changes.into();
    }
    volume
}

/// What a volume is made from, if its voxels are changed.
fn changed(v: &PlannedVolume) -> String {
    let (Some(native), Some(changes)) = (v.native(), v.changes()) else { return String::new() };
    let crop = if changes.contains_key("crop") { "at most, " } else { "" };
    let shape: Vec<usize> = native.channels.into_iter().chain(native.size).collect();
    let names = changes.keys().filter(|name| *name != "native");
    let names: Vec<_> = names.map(String::as_str).collect();
    format!("{crop}from {} {} by {}, ", extents(&shape), native.dtype, names.join(", "))
}

/// How many coarser levels a volume gets, and what they take.
fn levels(v: &PlannedVolume) -> String {
    match v.level_factors().unwrap_or_default().len() {
        0 => String::new(),
        n => format!(", {} in {n} coarser levels", bytes(v.levels_bytes())),
    }
}

fn describe(subject: &str, v: &PlannedVolume, exists: &str) -> String {
    format!(
        "{subject}/{} ({}): {} {}, {}{}{}, chunk {}, shard {}{exists}",
        v.source.volume,
        v.source.kind.name(),
        extents(&v.layout.shape()),
        v.layout.dtype,
        changed(v),
        bytes(v.voxel_bytes()),
        levels(v),
        extents(&v.layout.chunk),
        extents(&v.layout.shard),
    )
}
