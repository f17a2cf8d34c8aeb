//! A program that blends predictions into a store, to be killed: `--blend STORE/SUBJECT/VOLUME`.

use std::io::{Write, stderr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;
use voxquarry::{
    Affine, AggregateOptions, Aggregator, Dtype, Error, GridSampler, Result, Size3, StoreWriter,
};

use crate::stores::{SIZE, affine};

/// A volume that has several shards.
const LARGE: Size3 = [56, 20, 20];
const PATCH: Size3 = [8; 3];
/// So little that a shard is one layer of chunks deep.
const MEMORY_BYTES: u64 = 64 << 20;

/// Blends, and says like the command how it went.
pub(crate) fn run(out: &Path, keep: bool, stop: Option<usize>) -> ExitCode {
    // As Python and the command do: a file that is too large is an error.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    match blend(out, keep, stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {error}");
            ExitCode::from(error.fault().exit_code())
        }
    }
}

fn blend(out: &Path, keep: bool, stop: Option<usize>) -> Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let subject = out.parent().unwrap_or(out);
    let store = subject.parent().unwrap_or(subject);
    let writer = StoreWriter::open(store, Some(2))?;
    let (size, affine) = if writer.has_subject(&name(subject))? {
        (SIZE, affine(1))
    } else {
        (LARGE, Affine::IDENTITY)
    };
    let grid = GridSampler::new(PATCH, 4)?.grid(size)?;
    let note = keep.then(|| "a model".to_owned());
    let options = AggregateOptions::default().memory_bytes(MEMORY_BYTES).threads(2).resume(note);
    let place = (&*name(subject), &*name(out));
    let aggregator = Aggregator::to_store(grid, &options, Dtype::Float32, &writer, place, affine)?;
    for start in aggregator.needed()?.into_iter().take(stop.unwrap_or(usize::MAX)) {
        aggregator.add(&prediction(start), &[start])?;
    }
    match aggregator.finish() {
        Err(Error::Incomplete { .. }) if stop.is_some() => Ok(()),
        finished => finished.map(drop),
    }
}

/// What a model says about the patch at `start`.
fn prediction(start: [i64; 3]) -> Vec<f32> {
    let number = |i: usize| (start[0] * 31 + start[1] * 7 + start[2] + i as i64 % 11) as f32;
    (0..PATCH.iter().product()).map(number).collect()
}
