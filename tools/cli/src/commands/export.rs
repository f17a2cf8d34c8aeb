//! `voxquarry export`.

use std::process::ExitCode;

use voxquarry::store::Existing;
use voxquarry::{Error, Result};

use super::Place;
use crate::args::ExportArgs;
use crate::output::voxel_bytes;
use crate::progress::{Progress, Show, Unit, catch_interrupts};

pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode> {
    let Place::Volume(subject, volume) = Place::open(&args.volume)? else {
        return Err(Error::usage(format!(
            "{}: name a volume, as STORE/SUBJECT/VOLUME",
            args.volume.display()
        )));
    };
    let existing = if args.overwrite { Existing::Overwrite } else { Existing::Refuse };
    catch_interrupts()?;
    let progress = Progress::new(Show::Progress, Unit::Bytes);
    progress.begin(voxel_bytes(&volume));
    progress.at("exporting", &format!("{}/{}", subject.name(), volume.name()));
    let exported = voxquarry_ingest::export_observed(&volume, &args.out, existing, &progress);
    progress.end();
    exported?;
    Ok(ExitCode::SUCCESS)
}
