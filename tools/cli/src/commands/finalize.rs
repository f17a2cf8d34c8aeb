//! `voxquarry finalize`: joins the parts of an inference.

use serde_json::json;
use voxquarry::{Error, Result, StoreWriter};

use super::split;
use crate::args::FinalizeArgs;
use crate::output::{extents, json, line};

pub(crate) fn run(args: &FinalizeArgs) -> Result<u8> {
    let place = args.volume.to_string_lossy();
    let (store, subject, volume) = split(&args.volume).ok_or_else(|| {
        Error::invalid("volume", &place, "STORE/SUBJECT/VOLUME, the --out of the parts")
    })?;
    if !store.is_dir() {
        let reason = "there is nothing at that path".to_owned();
        return Err(Error::NotAStore { path: store.to_owned(), reason });
    }
    let store = StoreWriter::open(store, None)?;
    if args.discard {
        let parts = store.discard_volume_parts(subject, volume)?;
        if args.json {
            json(&json!({ "volume": place, "discarded": parts }));
        } else if !args.quiet {
            line(&format!("{place}: {parts} unfinished parts were removed"));
        }
        return Ok(0);
    }
    let joined = store.finalize_volume(subject, volume)?;
    let (shape, dtype, kind) = (joined.shape(), joined.dtype().name(), joined.kind().name());
    if args.json {
        json(&json!({ "volume": place, "shape": shape, "dtype": dtype, "kind": kind }));
    } else if !args.quiet {
        line(&format!("{place}: {} {dtype} ({kind})", extents(&shape)));
    }
    Ok(0)
}
