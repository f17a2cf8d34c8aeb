//! `voxquarry ingest`: converts image files to a store.

mod outcome;
mod parts;
mod preview;

use std::time::Instant;

use voxquarry::Result;
use voxquarry::format::attributes::Kind;
use voxquarry_ingest::{
    FindOptions, Found, IngestOptions, Manifest, Source, SourceKind, find, find_in, ingest_planned,
    plan, subject_of,
};

use crate::args::IngestArgs;
use crate::output::notes;
use crate::progress::{Progress, Show, catch_interrupts};
use outcome::RunFacts;

pub(crate) fn run(args: &IngestArgs) -> Result<u8> {
    if args.part.is_some() || args.finalize {
        return parts::run(args);
    }
    let found = sources(args)?;
    let options = options(args)?;
    if let Some(path) = &args.report {
        outcome::check_writable(path)?;
    }
    catch_interrupts()?;
    let show = shown(args);
    let progress = Progress::new(show);
    if show == Show::Progress {
        notes(&found.notes);
    }
    if let Some(path) = &args.plan {
        return parts::make(&found.manifest, args, path, &progress);
    }
    let plan = plan(&found.manifest, &options, &progress)?;
    if args.dry_run {
        return preview::print(plan, args);
    }
    let started = Instant::now();
    let (report, result) = ingest_planned(plan, args.out()?, &options, &progress);
    progress.end();
    let (store, keeps_going, took) = (args.out()?, args.keep_going, started.elapsed());
    outcome::tell(report, result, args, &RunFacts { store, keeps_going, took })
}

fn shown(args: &IngestArgs) -> Show {
    if args.quiet || args.json { Show::Nothing } else { Show::Progress }
}

fn options(args: &IngestArgs) -> Result<IngestOptions> {
    let options = IngestOptions::default()
        .patch_sizes(args.patch_size.clone())
        .codec(args.codec)
        .levels(args.levels)
        .memory_bytes(args.memory)
        .threads(args.threads.map(usize::from))
        .jobs(args.jobs.map(usize::from))
        .if_exists(args.if_exists())
        .add_volumes(args.add)
        .keep_going(args.keep_going)
        .grid_tolerance_mm(args.grid_tolerance)
        .grid_from(args.grid_from.clone())
        .affine(args.affine.or(args.voxel_size))
        .raw(args.raw()?);
    Ok(args.changes.apply(options))
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
    let mut manifest = Manifest::new();
    for (named, kind) in [
        (&args.images, SourceKind::Image),
        (&args.labels, SourceKind::Labels),
        (&args.weights, SourceKind::Weights),
    ] {
        for (volume, path) in named {
            let source = Source::new(&subject, volume, Kind::Image, path.as_path());
            manifest.push_as(kind, source)?;
        }
    }
    find_in(manifest, &options)
}
