//! `voxquarry verify`: checks a whole store.

use serde_json::json;
use voxquarry::{Dataset, Fault, OpenOptions, Result, verify};

use crate::SUCCESS;
use crate::args::VerifyArgs;
use crate::output::{bytes, json, line, print_error};
use crate::progress::{Progress, Show, Unit};

pub(crate) fn run(args: &VerifyArgs) -> Result<u8> {
    let show = if args.json { Show::Nothing } else { Show::Progress };
    let progress = Progress::new(show, Unit::Shards);
    if show == Show::Progress {
        progress.begin(shard_count(&Dataset::open(&args.store, &OpenOptions::default())?));
    }
    let report = verify(&args.store, &|volume| {
        progress.at("checking", volume);
        progress.advance(1);
    })?;
    progress.end();
    if args.json {
        json(&json!({
            "ok": report.error_count == 0,
            "subjects": report.subjects,
            "volumes": report.volumes,
            "shards": report.shards,
            "chunks": report.chunks,
            "encoded_bytes": report.encoded_bytes,
            "error_count": report.error_count,
            "errors": report.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    } else {
        report.errors.iter().for_each(print_error);
        let hidden = report.error_count - report.errors.len() as u64;
        let more = if hidden > 0 { format!(" ({hidden} not shown)") } else { String::new() };
        let verdict = if report.error_count == 0 {
            "no damage".into()
        } else {
            format!("{} errors{more}", report.error_count)
        };
        line(&format!(
            "{verdict}: {} subjects, {} volumes, {} shards, {} chunks, {}",
            report.subjects,
            report.volumes,
            report.shards,
            report.chunks,
            bytes(report.encoded_bytes),
        ));
    }
    if report.error_count == 0 {
        return Ok(SUCCESS);
    }
    // An unreadable disk is a fault of the environment, unless damage was found too.
    let damaged = report.errors.iter().any(|e| e.fault() != Fault::Environment);
    let fault = if damaged { Fault::Data } else { Fault::Environment };
    Ok(fault.exit_code())
}

/// The number of shards of all levels. Shards that damage hides only make the bar less exact; the
/// check reports them.
fn shard_count(dataset: &Dataset) -> u64 {
    let subjects = dataset.subjects().iter().filter_map(|name| dataset.subject(name).ok());
    let volumes = subjects.flat_map(|subject| {
        let open = |name: &String| subject.volume(name).ok();
        subject.volumes().iter().filter_map(open).collect::<Vec<_>>()
    });
    let levels = volumes.flat_map(|volume| {
        let open = |number| volume.level(number).ok();
        (0..volume.levels().len()).filter_map(open).collect::<Vec<_>>()
    });
    levels.map(|level| level.layout().shards().count() as u64).sum()
}
