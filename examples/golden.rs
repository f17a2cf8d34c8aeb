//! Writes the golden stores of the current format version: `cargo run --example golden -- PATH`, and with chunk sums
//! `cargo run --example golden -- PATH sums`.
//!
//! Run once for each; what it wrote is then added to `format-spec/golden` and never edited.

use voxquarry::store::{Existing, StoreWriter};

#[path = "../tests/golden/voxels.rs"]
#[allow(unreachable_pub)]
mod voxels;

fn main() -> voxquarry::Result<()> {
    let path = std::env::args_os().nth(1).expect("usage: golden PATH");
    let sums = std::env::args().nth(2).is_some_and(|word| word == "sums");
    let volumes = if sums { voxels::v1_sums() } else { voxels::v1() };
    let store = StoreWriter::open(path, Some(1))?;
    for group in volumes.chunk_by(|a, b| a.subject == b.subject) {
        let mut subject = store.subject(group[0].subject)?;
        for golden in group {
            let mut volume = subject.volume(golden.spec.clone())?;
            if sums {
                volume.sum_chunks();
            }
            let bytes = golden.bytes();
            let mut rest = &bytes[..];
            while volume.next_planes() > 0 {
                let [_, ny, nx] = golden.spec.layout.size;
                let layer = volume.next_planes() * ny * nx * golden.spec.layout.dtype.size();
                volume.write_layer(&rest[..layer])?;
                rest = &rest[layer..];
            }
            if golden.spec.name == "u8" {
                volume.set_source(voxels::source());
            }
            subject.finish_volume(volume)?;
        }
        subject.publish(Existing::Refuse)?;
    }
    Ok(())
}
