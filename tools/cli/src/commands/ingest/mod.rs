//! `voxquarry ingest`: converts image files to a store.

mod outcome;
mod preview;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use voxquarry::Result;
use voxquarry::format::attributes::Kind;
use voxquarry_ingest::{
    FindOptions, Found, IngestOptions, Manifest, Source, find, find_in, ingest_planned, plan,
    subject_of,
};

use crate::args::IngestArgs;
use crate::output::error_line;
use crate::progress::{Progress, Show, Unit, catch_interrupts};

pub(crate) fn run(args: &IngestArgs) -> Result<ExitCode> {
    let found = sources(args)?;
    let options = options(args);
    if let Some(path) = &args.report {
        outcome::check_writable(path)?;
    }
    catch_interrupts()?;
    let show = if args.quiet || args.json { Show::Nothing } else { Show::Progress };
    let progress = Progress::new(show, Unit::Bytes);
    if show == Show::Progress {
        found.notes.iter().for_each(|note| error_line(&format!("note: {note}")));
    }
    let plan = plan(&found.manifest, &options, &progress)?;
    if args.dry_run {
        return preview::print(plan, args);
    }
    let started = Instant::now();
    let (report, result) = ingest_planned(plan, &args.out, &options, &progress);
    progress.end();
    outcome::tell(report, result, args, started.elapsed())
}

fn options(args: &IngestArgs) -> IngestOptions {
    IngestOptions::default()
        .patch_sizes(args.patch_size.clone())
        .codec(args.codec)
        .memory_bytes(args.memory)
        .threads(args.threads.map(usize::from))
        .jobs(args.jobs.map(usize::from))
        .if_exists(args.if_exists())
        .add_volumes(args.add)
        .keep_going(args.keep_going)
        .grid_tolerance_mm(args.grid_tolerance)
        .grid_from(args.grid_from.clone())
        .affine(args.affine.or(args.voxel_size))
}

/// The sources that the arguments name.
fn sources(args: &IngestArgs) -> Result<Found> {
    let mut options = FindOptions::default();
    options.layout = args.layout;
    options.pattern.clone_from(&args.pattern);
    options.kinds.clone_from(&args.kind);
    options.subset.clone_from(&args.subset);
    options.subject.clone_from(&args.subject);
    let named = || args.images.iter().chain(&args.labels).chain(&args.weights);
    if let Some(table) = &args.manifest {
        return find_in(Manifest::from_csv(table)?, &options);
    }
    let Some((_, first)) = named().next() else { return find(&args.sources, &options) };
    // All these volumes belong to one subject, which is named after its first file by default.
    let subject = args.subject.clone().unwrap_or_else(|| subject_of(first));
    let source = |volume: &String, kind, path: &PathBuf| Source {
        subject: subject.clone(),
        volume: volume.clone(),
        kind,
        input: path.clone().into(),
        named_in: String::new(),
    };
    let mut manifest = Manifest::new();
    for (named, kind) in [(&args.images, Kind::Image), (&args.labels, Kind::Labels)] {
        for (name, path) in named {
            manifest.push(source(name, kind, path))?;
        }
    }
    for (name, path) in &args.weights {
        manifest.push_weights(source(name, Kind::Image, path))?;
    }
    find_in(manifest, &options)
}
