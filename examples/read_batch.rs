//! Reads eight random patches in one call: `cargo run --example read_batch -- STORE`.
//!
//! Without a path the example reads a small synthetic store.

use std::error::Error;
use std::path::Path;

use voxquarry::{Border, Epoch, Padding, PatchLocation, Result, UniformSampler};

mod phantom;

const PATCH_SIZE: [usize; 3] = [16; 3];

/// The locations of eight patches of the first volume, and their bytes: patches, channels, z, y, x.
pub(crate) fn random_patches(store: &Path) -> Result<(Vec<PatchLocation>, Vec<u8>)> {
    let dataset = voxquarry::open(store)?;
    let subject = dataset.subject(&dataset.subjects()[0])?;
    let volume = subject.first_volume()?;

    // The same seed, epoch and numbers give the same locations on every machine.
    let sampler = UniformSampler::new(PATCH_SIZE)?.border(Border::Pad);
    let locations = sampler.locations(&subject, 8, Epoch { seed: 42, epoch: 0 }, 0)?;
    let starts: Vec<_> = locations.iter().map(|location| location.region.start).collect();

    // A chunk that several patches share is decoded once. `read_batch_into` is the same for a
    // slice of numbers, if the dtype is known when the program is written.
    let voxels = volume.voxels_in(PATCH_SIZE, starts.len())?;
    let mut bytes = vec![0; voxels * volume.dtype().size()];
    let channels = 0..volume.channels().unwrap_or(1);
    volume.read_bytes(&starts, PATCH_SIZE, Padding::Edge, channels, &mut bytes)?;
    Ok((locations, bytes))
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = phantom::ExampleStore::from_arguments()?;
    let (locations, bytes) = random_patches(store.path())?;
    for (location, patch) in locations.iter().zip(bytes.chunks_exact(bytes.len() / 8)) {
        println!("{} {:?}: {} bytes", location.subject, location.region.start, patch.len());
    }
    Ok(())
}
