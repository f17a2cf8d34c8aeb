//! Predicts overlapping patches of a CT and blends them into a label map of a new store:
//! `cargo run --example blend_predictions -- STORE`.
//!
//! The first volume of the store is a CT (`int16`). Without a path the example reads a small
//! synthetic store; the new store lies in a temporary folder.

use std::error::Error;
use std::path::Path;

use voxquarry::{AggregateOptions, Aggregator, Dtype, Finish, GridSampler, Region, Result, Volume};
use voxquarry::{StoreWriter, Window};

mod phantom;

/// Stands for a network: the probability that each voxel is tissue.
fn model(patch: &[i16]) -> Vec<f32> {
    patch.iter().map(|&hounsfield| if hounsfield > -500 { 0.9 } else { 0.1 }).collect()
}

/// Writes the label map `tissue` of the first subject, and returns it.
pub(crate) fn predict(store: &Path, predictions: &Path) -> Result<Volume> {
    let dataset = voxquarry::open(store)?;
    let subject = dataset.subject(&dataset.subjects()[0])?;
    let ct = subject.first_volume()?;
    let grid = GridSampler::new([16; 3], 8)?.grid(ct.size())?;
    let options =
        AggregateOptions::default().window(Window::Gaussian).finish(Finish::Threshold(0.5));
    let out = StoreWriter::open(predictions, None)?;
    let names = (subject.name(), "tissue");
    let aggregator =
        Aggregator::to_store(grid.clone(), &options, Dtype::UInt8, &out, names, *ct.affine())?;
    let mut patch = vec![0i16; 16 * 16 * 16];
    for start in grid.starts() {
        ct.read_into(Region::new(start, [16; 3]), &mut patch)?;
        aggregator.add(&model(&patch), &[start])?; // Patches may come in any order.
    }
    aggregator.finish() // Readers see the volume from here on, complete.
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = phantom::ExampleStore::from_arguments()?;
    let folder = tempfile::tempdir()?;
    let tissue = predict(store.path(), &folder.path().join("predictions.zarr"))?;
    println!("{}: {:?}", tissue.path().display(), tissue.statistics());
    Ok(())
}
