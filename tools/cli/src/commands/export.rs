//! `voxquarry export`.

use std::process::ExitCode;

use voxquarry::store::Existing;
use voxquarry::{Error, Result};

use super::Place;
use crate::args::ExportArgs;

pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode> {
    let Place::Volume(_, volume) = Place::open(&args.volume)? else {
        return Err(Error::usage(format!(
            "{}: name a volume, as STORE/SUBJECT/VOLUME",
            args.volume.display()
        )));
    };
    let existing = if args.overwrite { Existing::Overwrite } else { Existing::Refuse };
    voxquarry_ingest::export(&volume, &args.out, existing)?;
    Ok(ExitCode::SUCCESS)
}
