//! `voxquarry verify`: checks a whole store.

use serde_json::json;
use voxquarry::{Fault, Result, verify};

use crate::SUCCESS;
use crate::args::VerifyArgs;
use crate::output::{bytes, json, line, print_error};
use crate::progress::{Progress, Show, catch_interrupts, check_interrupt};

pub(crate) fn run(args: &VerifyArgs) -> Result<u8> {
    let show = if args.json { Show::Nothing } else { Show::Progress };
    let progress = Progress::new(show);
    catch_interrupts()?;
    let (mut total, mut done) = (0, 0);
    let checked = verify(&args.store, &mut |step| {
        if step.total > total {
            total = step.total;
            progress.begin(total);
        }
        if !step.volume.is_empty() {
            progress.at("checking", step.volume);
        }
        progress.advance(step.done - done);
        done = step.done;
        check_interrupt()
    });
    progress.end();
    let report = checked?;
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
