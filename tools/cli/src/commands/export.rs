//! `voxquarry export`.

use std::process::ExitCode;

use voxquarry::IfExists;
use voxquarry::{Error, OpenOptions, Result};

use super::StoreItem;
use crate::args::ExportArgs;
use crate::progress::{Progress, Show, Unit, catch_interrupts};

pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode> {
    let options = OpenOptions::default().threads(args.threads.map(usize::from));
    let StoreItem::Volume(subject, volume) = StoreItem::open_with(&args.volume, &options)? else {
        return Err(Error::usage(format!(
            "{}: name a volume, as STORE/SUBJECT/VOLUME",
            args.volume.display()
        )));
    };
    let existing = if args.overwrite { IfExists::Replace } else { IfExists::Error };
    catch_interrupts()?;
    let progress = Progress::new(Show::Progress, Unit::Bytes);
    progress.begin(volume.voxel_bytes());
    progress.at("exporting", &format!("{}/{}", subject.name(), volume.name()));
    let exported = voxquarry_ingest::export_observed(&volume, &args.out, existing, &progress);
    progress.end();
    exported?;
    Ok(ExitCode::SUCCESS)
}
