//! `voxquarry ingest` with `--plan`, `--part` and `--finalize`: an ingest that processes share.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use serde_json::{Value, json};
use voxquarry::{Error, Result};
use voxquarry_ingest::{IngestReport, Manifest, PartsPlan};

use super::outcome::{self, RunFacts};
use super::{options, shown};
use crate::args::{Cli, Command, IngestArgs};
use crate::output::{bytes, json, line, notes};
use crate::progress::{Progress, Show, catch_interrupts};

/// Makes a plan, writes it to `path`, and lets the store wait for its parts.
pub(super) fn make(
    manifest: &Manifest,
    args: &IngestArgs,
    path: &Path,
    progress: &Progress,
) -> Result<u8> {
    let asked = asked(args)?.to_string();
    let made = PartsPlan::make(manifest, args.out()?, &options(args)?, asked, progress)?;
    progress.end();
    if shown(args) == Show::Progress {
        notes(&made.notes);
    }
    let plan = made.plan;
    let report = IngestReport::of_failures(made.failed);
    if !args.keep_going && !report.failed.is_empty() {
        return outcome::end(report, false);
    }
    // The file first: what the store waits for can be named.
    plan.write(path)?;
    let taken = plan.install()?;
    if args.json {
        json(&json!({
            "plan": path.to_string_lossy(),
            "store": plan.store().to_string_lossy(),
            "subjects": plan.subjects(),
            "voxel_bytes": plan.voxel_bytes(),
            "done": taken,
            "failed": outcome::failures_json(&report.failed),
        }));
    } else if !args.quiet {
        let (plan_file, n, size) = (path.display(), plan.subjects(), bytes(plan.voxel_bytes()));
        let done = if taken > 0 { format!(", {taken} done before") } else { String::new() };
        line(&format!("{plan_file}: {n} subjects, {size} of voxels{done}"));
        line(&format!("  then   voxquarry ingest --plan {plan_file} --part 0/N   to N-1/N"));
        line(&format!("  last   voxquarry ingest --plan {plan_file} --finalize"));
    }
    outcome::end(report, args.keep_going)
}

/// Runs a part of a plan, or finalizes it.
pub(super) fn run(args: &IngestArgs) -> Result<u8> {
    let plan = plan_of(args)?;
    if let Some(path) = &args.report {
        outcome::check_writable(path)?;
    }
    catch_interrupts()?;
    let progress = Progress::new(shown(args));
    let started = Instant::now();
    let (report, result) = match args.part {
        Some(part) => plan.run_part(part, &options(args)?, &progress),
        None => plan.finalize(&progress),
    };
    progress.end();
    let (store, keeps_going, took) = (plan.store(), plan.keeps_going(), started.elapsed());
    outcome::tell(report, result, args, &RunFacts { store, keeps_going, took })
}

/// The plan that the arguments name: that of a file, or the one that the store waits for.
fn plan_of(args: &IngestArgs) -> Result<PartsPlan> {
    let plan = match (&args.plan, args.named_out()) {
        (Some(path), out) => {
            let mut plan = PartsPlan::read(path)?;
            out.map_or(Ok(()), |out| plan.set_store(out))?;
            plan
        }
        (None, _) => PartsPlan::installed(args.out()?)?,
    };
    let planned: Value = serde_json::from_str(plan.asked()).unwrap_or_default();
    let now = asked(args)?;
    let refused = |what: &str| {
        let reason = format!("the plan was made with other {what}");
        let remedy = format!("leave out the {what}, which are the plan's, or make the plan again");
        Err(Error::unsupported(reason, remedy))
    };
    if args.names_sources() && now["sources"] != planned["sources"] {
        return refused("sources");
    }
    let is_default = now["options"] == default_options()?;
    if !is_default && now["options"] != planned["options"] {
        return refused("options");
    }
    Ok(plan)
}

/// The options of a command that gives none.
fn default_options() -> Result<Value> {
    match Cli::parse_from(["voxquarry", "ingest", "--out", "s", "--part", "0/1"]).command {
        Command::Ingest(args) => Ok(asked(&args)?["options"].take()),
        _ => Ok(Value::Null),
    }
}

/// All that decides what is written, as the arguments say it.
fn asked(args: &IngestArgs) -> Result<Value> {
    let absolute = |path: &PathBuf| -> Result<String> {
        let path = std::path::absolute(path).map_err(Error::io(path, "cannot find"))?;
        Ok(path.to_string_lossy().into_owned())
    };
    let named = |of: &[(String, PathBuf)]| -> Result<Vec<[String; 2]>> {
        of.iter().map(|(name, path)| Ok([name.clone(), absolute(path)?])).collect()
    };
    Ok(json!({
        "sources": {
            "paths": args.sources.iter().map(absolute).collect::<Result<Vec<_>>>()?,
            "images": named(&args.images)?,
            "labels": named(&args.labels)?,
            "weights": named(&args.weights)?,
            "manifest": args.manifest.as_ref().map(absolute).transpose()?,
            "pattern": args.pattern,
        },
        "options": {
            "layout": format!("{:?}", args.layout),
            "kind": format!("{:?}", args.kind),
            "subset": args.subset,
            "subject": args.subject,
            "patch_size": args.patch_size,
            "codec": args.codec.name(),
            "levels": args.levels.to_string(),
            "memory": args.memory,
            "overwrite": args.overwrite,
            "skip_existing": args.skip_existing,
            "add": args.add,
            "keep_going": args.keep_going,
            "grid_tolerance": args.grid_tolerance,
            "grid_from": args.grid_from,
            "affine": args.affine.or(args.voxel_size),
            "raw": format!("{:?}", args.raw()?),
            "changes": format!("{:?}", args.changes),
        },
    }))
}
