//! `voxquarry ingest`: converts image files to a store.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use voxquarry::Result;
use voxquarry::format::attributes::Kind;
use voxquarry_ingest::{IngestOptions, Manifest, PlannedSubject, Source, ingest, plan, subject_of};

use crate::args::IngestArgs;
use crate::output::{bytes, extents, json, line};
use crate::progress::{Progress, Show, Unit, catch_interrupts};

pub(crate) fn run(args: &IngestArgs) -> Result<ExitCode> {
    let manifest = manifest(args)?;
    let options = IngestOptions::default()
        .patch_sizes(args.patch_size.clone())
        .codec(args.codec)
        .memory_bytes(args.memory)
        .threads(args.threads.map(usize::from))
        .if_exists(args.if_exists());
    if args.dry_run {
        let planned = plan(&manifest, &options)?;
        print_plan(&planned, args.json);
        return Ok(ExitCode::SUCCESS);
    }
    catch_interrupts()?;
    let started = Instant::now();
    let show = if args.quiet || args.json { Show::Nothing } else { Show::Progress };
    let report = ingest(&manifest, &args.out, &options, &Progress::new(show, Unit::Bytes))?;
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        json(&json!({
            "store": args.out.to_string_lossy(),
            "written": report.written,
            "skipped": report.skipped,
            "voxel_bytes": report.voxel_bytes,
            "seconds": seconds,
        }));
    } else if !args.quiet {
        let rate = bytes((report.voxel_bytes as f64 / seconds) as u64);
        let (n, store) = (report.written.len(), args.out.display());
        let subjects = if n == 1 { "subject" } else { "subjects" };
        line(&format!(
            "{n} {subjects} in {store}: {} of voxels in {seconds:.1} s, {rate}/s",
            bytes(report.voxel_bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn manifest(args: &IngestArgs) -> Result<Manifest> {
    if let Some(table) = &args.manifest {
        return Manifest::from_csv(table);
    }
    let mut manifest = Manifest::new();
    let source = |subject: String, volume: &str, kind, path: &Path| Source {
        subject,
        volume: volume.to_owned(),
        kind,
        input: path.into(),
        named_in: String::new(),
    };
    let subject = |path: &Path| args.subject.clone().unwrap_or_else(|| subject_of(path));
    for path in &args.sources {
        manifest.push(source(subject(path), "image", Kind::Image, path))?;
    }
    // All these volumes belong to one subject, which is named after its first file by default.
    let mut named = args.images.iter().chain(&args.labels).chain(&args.weights);
    let Some((_, first)) = named.next() else { return Ok(manifest) };
    let subject = subject(first);
    for (named, kind) in [(&args.images, Kind::Image), (&args.labels, Kind::Labels)] {
        for (name, path) in named {
            manifest.push(source(subject.clone(), name, kind, path))?;
        }
    }
    for (name, path) in &args.weights {
        manifest.push_weights(source(subject.clone(), name, Kind::Image, path))?;
    }
    Ok(manifest)
}

fn print_plan(planned: &[PlannedSubject], as_json: bool) {
    let peak = planned.iter().flat_map(|s| &s.volumes).map(|v| v.memory.bytes).max().unwrap_or(0);
    if as_json {
        let volume = |s: &PlannedSubject, v: &voxquarry_ingest::PlannedVolume| -> Value {
            json!({
                "subject": s.name, "volume": v.source.volume, "kind": v.source.kind.name(),
                "path": v.source.input.location().to_string_lossy(), "shape": v.layout.shape(),
                "dtype": v.layout.dtype.name(), "chunk": v.layout.chunk, "shard": v.layout.shard,
                "voxel_bytes": v.voxel_bytes(), "memory_bytes": v.memory.bytes,
            })
        };
        let volumes: Vec<Value> =
            planned.iter().flat_map(|s| s.volumes.iter().map(move |v| volume(s, v))).collect();
        json(&json!({ "volumes": volumes, "peak_memory_bytes": peak }));
        return;
    }
    for subject in planned {
        for v in &subject.volumes {
            line(&format!(
                "{}/{} ({}): {} {}, {}, chunk {}, shard {}",
                subject.name,
                v.source.volume,
                v.source.kind.name(),
                extents(&v.layout.shape()),
                v.layout.dtype,
                bytes(v.voxel_bytes()),
                extents(&v.layout.chunk),
                extents(&v.layout.shard),
            ));
        }
    }
    line(&format!("peak memory at most {}", bytes(peak)));
}
