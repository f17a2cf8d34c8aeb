//! `voxquarry plan-layout`: compares layouts on the voxels of a file.

use serde_json::{Value, json};
use voxquarry::Result;
use voxquarry_ingest::IngestOptions;
use voxquarry_ingest::trial::{Candidate, PatchCost, Trial, trial};

use crate::SUCCESS;
use crate::args::PlanLayoutArgs;
use crate::output::{bytes, extents, json, line, megabytes_per_second};

pub(crate) fn run(args: &PlanLayoutArgs) -> Result<u8> {
    let options = IngestOptions::default().patch_sizes(args.patch_size.clone()).codec(args.codec);
    let tried = trial(&args.file, &options)?;
    if args.json {
        json(&document(args, &tried));
    } else {
        print(args, &tried);
    }
    Ok(SUCCESS)
}

fn document(args: &PlanLayoutArgs, tried: &Trial) -> Value {
    let cost = |p: &PatchCost| {
        json!({
            "patch_size": p.size,
            "chunks": p.chunks,
            "over_read": p.over_read,
            "patches_per_second": p.patches_per_second,
            "voxel_bytes_per_second": p.bytes_per_second,
        })
    };
    let candidate = |c: &Candidate| {
        json!({
            "chunk": c.layout.chunk,
            "shard": c.layout.shard,
            "codec": c.codec.name(),
            "chosen": c.is_chosen,
            "ratio": c.ratio,
            "patches": c.patches.iter().map(cost).collect::<Vec<_>>(),
        })
    };
    json!({
        "path": args.file.to_string_lossy(),
        "shape": tried.candidates[0].layout.shape(),
        "dtype": tried.header.dtype.name(),
        "sample": { "start": tried.sample.start, "size": tried.sample.size },
        "candidates": tried.candidates.iter().map(candidate).collect::<Vec<_>>(),
    })
}

fn print(args: &PlanLayoutArgs, tried: &Trial) {
    let (layout, dtype) = (&tried.candidates[0].layout, tried.header.dtype);
    line(&format!("{}: {} {dtype}", args.file.display(), extents(&layout.shape())));
    line(&format!(
        "tried on {} voxels at {:?} (z, y, x), {}; one thread, warm",
        extents(&tried.sample.size),
        tried.sample.start,
        bytes((tried.sample.len() * dtype.size()) as u64),
    ));
    for (i, patch) in tried.candidates[0].patches.iter().enumerate() {
        line(&format!("\npatches of {}", extents(&patch.size)));
        line(&format!(
            "  {:<15} {:<8} {:>6} {:>7} {:>10} {:>10}",
            "  chunk", "codec", "ratio", "chunks", "over-read", "patches/s"
        ));
        for candidate in &tried.candidates {
            let cost = &candidate.patches[i];
            line(&format!(
                "{} {:<15} {:<8} {:>6.2} {:>7.1} {:>10.2} {:>10.0} {:>12}",
                if candidate.is_chosen { "*" } else { " " },
                extents(&candidate.layout.chunk),
                candidate.codec.name(),
                candidate.ratio,
                cost.chunks,
                cost.over_read,
                cost.patches_per_second,
                megabytes_per_second(cost.bytes_per_second),
            ));
        }
    }
    line(&format!(
        "\n* the choice of ingest for these patches and --codec {}; \
         over-read: voxels decoded for each voxel of a patch",
        args.codec.name()
    ));
}
