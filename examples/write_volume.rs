//! Writes a volume layer by layer, as for an image that is larger than memory:
//! `cargo run --example write_volume -- NEW_STORE`.
//!
//! Without a path the example writes into a temporary folder.

use std::error::Error;
use std::path::{Path, PathBuf};

use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, Codec, VolumeShape};
use voxquarry::{Affine, Dtype, IfExists, Result, StoreWriter, Volume, VolumeSpec};

/// Writes the volume `case01/t1` of a new store, and opens it.
pub(crate) fn write(store: &Path) -> Result<Volume> {
    let shape = VolumeShape {
        channels: None,
        size: [40, 64, 64], // (z, y, x)
        dtype: Dtype::Float32,
        interleaved: 1,
    };
    // Chunks that patches of 32³ voxels read quickly, written within 64 MiB.
    let layout = layout::choose(&shape, &[[32; 3]], Codec::Fast, 64 << 20)?;
    let spec = VolumeSpec::new("t1", Kind::Image, layout)
        .patch_sizes(vec![[32; 3]])
        .affine(Affine::diagonal([2.0, 0.9, 0.9])); // Millimetres along (z, y, x).
    let mut subject = StoreWriter::open(store, None)?.subject("case01")?;
    let mut volume = subject.volume(spec)?;
    let mut next = 0u16;
    while volume.next_planes() > 0 {
        // The planes of a layer, as they come from a scanner: here each has its number as value.
        let planes = next..next + volume.next_planes() as u16;
        let layer: Vec<f32> = planes.clone().flat_map(|z| vec![f32::from(z); 64 * 64]).collect();
        volume.write_layer(bytemuck::cast_slice(&layer))?;
        next = planes.end;
    }
    subject.publish([volume.finish()?], IfExists::Error)?; // Readers see the subject from here on.
    voxquarry::open(store)?.subject("case01")?.volume("t1")
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = std::env::args_os().nth(1).map_or(folder.path().join("store.zarr"), PathBuf::from);
    let volume = write(&store)?;
    println!("{}: {:?}", volume.path().display(), volume.statistics());
    Ok(())
}
