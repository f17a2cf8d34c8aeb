//! Writes the golden stores of the current format version: `cargo run --example golden -- PATH`,
//! the one with weight sums: `cargo run --example golden -- PATH sums`, the one with names of
//! labels and splits: `… names`, and the one with coarser levels: `… levels`.
//!
//! Run it once for each, add the result to `format-spec/golden`, and never edit it.

use voxquarry::format::levels::Levels;
use voxquarry::{IfExists, StoreWriter};

#[allow(unreachable_pub)]
mod voxels;

fn main() -> voxquarry::Result<()> {
    let path = std::env::args_os().nth(1).expect("usage: golden PATH");
    let is = |word: &str| std::env::args().nth(2).is_some_and(|found| found == word);
    let (sums, names, levels) = (is("sums"), is("names"), is("levels"));
    let volumes = match () {
        () if sums => voxels::v1_sums(),
        () if names => voxels::v1_names(),
        () if levels => voxels::v1_levels(),
        () => voxels::v1(),
    };
    let store = StoreWriter::open(path, Some(1))?;
    for group in volumes.chunk_by(|a, b| a.subject == b.subject) {
        let mut subject = store.subject(group[0].subject)?;
        if names {
            subject.set_splits(voxels::splits())?;
        }
        let mut finished = Vec::new();
        for golden in group {
            let spec = golden.spec();
            let spec = if sums { spec.weight_sums() } else { spec };
            let spec = if names { spec.labels(voxels::label_names()) } else { spec };
            let spec = if levels { spec.levels(Levels::Count(2)) } else { spec };
            let mut volume = subject.volume(spec)?;
            let bytes = golden.bytes();
            let mut rest = &bytes[..];
            while volume.next_planes() > 0 {
                let [_, ny, nx] = golden.layout.size;
                let layer = volume.next_planes() * ny * nx * golden.layout.dtype.size();
                volume.write_layer(&rest[..layer])?;
                rest = &rest[layer..];
            }
            if golden.name == "u8" {
                volume.set_source(voxels::source());
            }
            finished.push(volume.finish()?);
        }
        subject.publish(finished, IfExists::Error)?;
    }
    Ok(())
}
