//! A prediction that is blended in two halves, by two writers, over a volume that may have been
//! replaced between them.

use std::fs;
use std::path::{Path, PathBuf};

use voxquarry::{
    AggregateOptions, Aggregator, Dtype, GridSampler, Padding, Result, StoreSink, StoreWriter,
    Volume,
};

use crate::observe::whole;
use crate::stores::{CHUNK, SIZE};

/// Blends the first patches, and stops.
pub(crate) fn begin(store: &Path, volume: &Volume, patches: usize) -> Result<()> {
    let aggregator = aggregator(store, volume)?;
    add(&aggregator, volume, patches)
}

/// Blends the other patches, and returns the voxels of the result, which is removed.
pub(crate) fn finish(store: &Path, volume: &Volume) -> Result<Vec<u8>> {
    let aggregator = aggregator(store, volume)?;
    add(&aggregator, volume, usize::MAX)?;
    let result = aggregator.finish()?;
    let voxels = whole(&result);
    give_up(store);
    voxels
}

/// Removes the result and what was begun.
pub(crate) fn give_up(store: &Path) {
    // Whatever stays is not found by the next schedule, which has a store of its own.
    let _ = fs::remove_dir_all(prediction(store));
}

/// The store of predictions.
fn prediction(store: &Path) -> PathBuf {
    store.with_extension("predictions")
}

fn aggregator(store: &Path, volume: &Volume) -> Result<Aggregator<StoreSink>> {
    let writer = StoreWriter::open(prediction(store), Some(1))?;
    let grid = GridSampler::new(CHUNK, 4)?.grid(SIZE)?;
    // What the caller says about its input is what resuming depends on; voxquarry.infer says this.
    let note = format!("identity of {:016x}", volume.content_id());
    let options = AggregateOptions::default().threads(1).memory_bytes(64 << 20).resume(note);
    let affine = *volume.affine();
    Aggregator::to_store(grid, &options, Dtype::Float32, &writer, ("anna", "p"), affine)
}

/// Adds up to so many patches that are missing: the volume's own voxels.
fn add(aggregator: &Aggregator<StoreSink>, volume: &Volume, patches: usize) -> Result<()> {
    let mut bytes = vec![0; CHUNK.iter().product::<usize>() * 4];
    for start in aggregator.needed()?.into_iter().take(patches) {
        volume.read_bytes(&[start], CHUNK, Padding::None, 0..1, &mut bytes)?;
        let voxels: Vec<f32> =
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        aggregator.add(&voxels, &[start])?;
    }
    Ok(())
}
