//! `voxquarry export`: writes a volume to an image file.

use voxquarry::{Error, IfExists, OpenOptions, Result};

use super::StoreItem;
use crate::SUCCESS;
use crate::args::ExportArgs;
use crate::progress::{Progress, Show, catch_interrupts};

pub(crate) fn run(args: &ExportArgs) -> Result<u8> {
    let options = OpenOptions::default().threads(args.threads.map(usize::from));
    let StoreItem::Volume(subject, volume) = StoreItem::open_with(&args.volume, &options)? else {
        let reason = format!("{} is not a volume", args.volume.display());
        return Err(Error::unsupported(reason, "name one, as in STORE/SUBJECT/VOLUME"));
    };
    let if_exists = if args.overwrite { IfExists::Replace } else { IfExists::Error };
    catch_interrupts()?;
    let progress = Progress::new(Show::Progress);
    progress.begin(volume.voxel_bytes());
    progress.at("exporting", &format!("{}/{}", subject.name(), volume.name()));
    let exported = voxquarry_ingest::export_observed(&volume, &args.out, if_exists, &progress);
    progress.end();
    exported?;
    Ok(SUCCESS)
}
