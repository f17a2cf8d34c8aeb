//! `voxquarry components`: numbers the connected components of a volume.

use serde_json::json;
use voxquarry::{ComponentOptions, Components, Error, Objects, OpenOptions, Result, StoreWriter};

use super::{StoreItem, split};
use crate::args::ComponentsArgs;
use crate::output::{extents, json, line};
use crate::progress::{Progress, Show, catch_interrupts, check_interrupt};

pub(crate) fn run(args: &ComponentsArgs) -> Result<u8> {
    let threads = args.threads.map(usize::from);
    let open = OpenOptions::default().threads(threads);
    let StoreItem::Volume(subject, volume) = StoreItem::open_with(&args.volume, &open)? else {
        let reason = format!("{} is not a volume", args.volume.display());
        return Err(Error::unsupported(reason, "name one, as in STORE/SUBJECT/VOLUME"));
    };
    let place = args.out.to_string_lossy();
    let (store, out_subject, name) = split(&args.out)
        .ok_or_else(|| Error::invalid("out", &place, "STORE/SUBJECT/VOLUME, the result"))?;
    let objects = match (args.block_ids, args.equal_values) {
        (Some(blocks), _) => Objects::BlockIds(blocks),
        (None, true) => Objects::EqualValues,
        (None, false) => Objects::Foreground,
    };
    let options = ComponentOptions::default()
        .objects(objects)
        .connectivity(args.connectivity)
        .min_voxels(args.min_voxels)
        .largest(args.largest.map(|most| most as usize))
        .dtype(args.dtype)
        .memory_bytes(args.memory);
    catch_interrupts()?;
    let show = if args.json || args.quiet { Show::Nothing } else { Show::Progress };
    let progress = Progress::new(show);
    let voxel_bytes = volume.dtype().size() as u64;
    progress.begin(2 * volume.voxel_bytes());
    progress.at("numbering", &format!("{}/{}", subject.name(), volume.name()));
    let mut last = 0;
    let mut step = |done: u64, _: u64| {
        progress.advance((done - last) * voxel_bytes);
        last = done;
        check_interrupt()
    };
    let found = Components::find(&volume, &options, &mut step);
    let written = found.and_then(|found| {
        let (store, target) = (StoreWriter::open(store, threads)?, (out_subject, name));
        match args.part {
            None => found.to_store(&store, target, &mut step).map(drop)?,
            Some(part) => found.to_part(&store, target, part, &mut step)?,
        }
        Ok((found.count(), found.dtype()?))
    });
    progress.end();
    let (count, dtype) = written?;
    if args.json {
        let (shape, part) = (volume.shape(), args.part.map(|part| part.to_string()));
        json(&json!({
            "volume": place, "objects": count, "shape": shape, "dtype": dtype.name(), "part": part,
        }));
    } else if !args.quiet {
        let what = args.part.map_or_else(String::new, |part| format!(", part {part}"));
        line(&format!("{place}: {count} objects, {} {dtype}{what}", extents(&volume.shape())));
    }
    Ok(0)
}
