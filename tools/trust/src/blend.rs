//! A program that blends predictions into a store, to be killed: `--blend STORE/SUBJECT/VOLUME`.

use std::io::{Write, stderr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;
use voxquarry::{
    Affine, AggregateOptions, Aggregator, Dtype, Error, GridSampler, Part, Result, Sink, Size3,
    StoreWriter,
};

use crate::stores::{SIZE, affine};

/// A volume that has several shards.
const LARGE: Size3 = [56, 20, 20];
const PATCH: Size3 = [8; 3];
/// So little that a shard is one layer of chunks deep.
const MEMORY_BYTES: u64 = 64 << 20;

/// Blends, and says like the command how it went.
pub(crate) fn run(out: &Path, keep: bool, stop: Option<usize>, part: Option<Part>) -> ExitCode {
    // As Python and the command do: a file that is too large is an error.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    match blend(out, keep, stop, part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {error}");
            ExitCode::from(error.fault().exit_code())
        }
    }
}

fn blend(out: &Path, keep: bool, stop: Option<usize>, part: Option<Part>) -> Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let subject = out.parent().unwrap_or(out);
    let store = subject.parent().unwrap_or(subject);
    // The journals of two threads would have an order of their own.
    let threads = if part.is_some() { 1 } else { 2 };
    let writer = StoreWriter::open(store, Some(threads))?;
    let (size, affine) = if writer.has_subject(&name(subject))? {
        (SIZE, affine(1))
    } else {
        (LARGE, Affine::IDENTITY)
    };
    let grid = GridSampler::new(PATCH, 4)?.grid(size)?;
    let note = keep.then(|| "a model".to_owned());
    let options = AggregateOptions::default().memory_bytes(MEMORY_BYTES);
    let options = options.threads(threads).resume(note);
    let (place, dtype) = ((&*name(subject), &*name(out)), Dtype::Float32);
    let finished = match part {
        None => {
            let whole = Aggregator::to_store(grid, &options, dtype, &writer, place, affine)?;
            add(&whole, stop)?;
            whole.finish().map(drop)
        }
        Some(part) => {
            let own = Aggregator::to_part(grid, &options, dtype, &writer, place, affine, part)?;
            add(&own, stop)?;
            own.finish().map(drop)
        }
    };
    match finished {
        Err(Error::Incomplete { .. }) if stop.is_some() => Ok(()),
        finished => finished,
    }
}

fn add<S: Sink>(aggregator: &Aggregator<S>, stop: Option<usize>) -> Result<()> {
    let needed = aggregator.needed()?.into_iter().take(stop.unwrap_or(usize::MAX));
    needed.into_iter().try_for_each(|start| aggregator.add(&prediction(start), &[start]))
}

/// What a model says about the patch at `start`.
fn prediction(start: [i64; 3]) -> Vec<f32> {
    let number = |i: usize| (start[0] * 31 + start[1] * 7 + start[2] + i as i64 % 11) as f32;
    (0..PATCH.iter().product()).map(number).collect()
}
