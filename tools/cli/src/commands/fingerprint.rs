//! `voxquarry fingerprint`: measures what nnU-Net's planner needs.

use serde_json::to_value;
use voxquarry::{Dataset, OpenOptions, Result};
use voxquarry_ingest::{Fingerprint, FingerprintOptions, fingerprint};

use crate::args::FingerprintArgs;
use crate::output::{json, line};
use crate::progress::{Progress, Show, catch_interrupts};

pub(crate) fn run(args: &FingerprintArgs) -> Result<u8> {
    let dataset = Dataset::open(&args.store, &OpenOptions::default())?;
    let options =
        FingerprintOptions::default().volumes(args.volumes.clone()).labels(args.labels.clone());
    catch_interrupts()?;
    let show = if args.json { Show::Nothing } else { Show::Progress };
    let progress = Progress::new(show);
    let found = fingerprint(&dataset, &options, &progress);
    progress.end();
    let found = found?;
    if args.json {
        json(&to_value(&found).expect("numbers and names"));
    } else {
        print(&found);
    }
    Ok(0)
}

fn print(found: &Fingerprint) {
    let lines = found.spacings.iter().zip(&found.shapes_after_crop).zip(&found.subjects);
    for (([z, y, x], [nz, ny, nx]), subject) in lines {
        line(&format!("{subject}: {nz} × {ny} × {nx}, {z:.4} × {y:.4} × {x:.4} mm (z, y, x)"));
    }
    line(&format!(
        "the box of what is not 0 has {:.1} % of the voxels (median)",
        100.0 * found.median_relative_size_after_cropping
    ));
    let values = &found.foreground_intensity_properties_per_channel;
    if values.is_empty() {
        line("foreground: none, because no label map has a voxel above 0");
    }
    for (channel, v) in values {
        line(&format!(
            "channel {channel}, {}: {} voxels of foreground",
            name(found, *channel),
            v.voxels
        ));
        line(&format!("  mean {:.6}, median {:.6}, std {:.6}", v.mean, v.median, v.std));
        line(&format!(
            "  min {:.6}, 0.5 % {:.6}, 99.5 % {:.6}, max {:.6}",
            v.min, v.percentile_00_5, v.percentile_99_5, v.max
        ));
    }
    for (label, total) in &found.labels {
        let name = total.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        line(&format!(
            "label {label}{name}: {} voxels in {} subjects",
            total.voxels, total.subjects
        ));
    }
}

fn name(found: &Fingerprint, channel: usize) -> &str {
    found.channel_names.get(&channel).map_or("", String::as_str)
}
