//! Opens a store and reads a patch of it: `cargo run --example read_patch -- STORE`.
//!
//! Without a path the example reads a small synthetic store.

use std::error::Error;
use std::path::Path;

use voxquarry::{Padding, Region, Result, Volume, Voxel, with_voxel};

mod phantom;

/// The mean real value of 16³ voxels in the middle of the first volume.
pub(crate) fn mean_of_middle(store: &Path) -> Result<f64> {
    let dataset = voxquarry::open(store)?;
    let subject = dataset.subject(&dataset.subjects()[0])?;
    let volume = subject.first_volume()?;
    println!(
        "{}/{}: {:?} voxels (z, y, x) of {}, {:?} mm",
        subject.name(),
        volume.name(),
        volume.size(),
        volume.dtype(),
        volume.spacing_mm()
    );
    let middle = Region::new(volume.size().map(|n| n as i64 / 2 - 8), [16; 3]);
    // The element type of an array is known at compile time, that of a volume at run time.
    let stored = with_voxel!(volume.dtype(), T => mean::<T>(&volume, middle))?;
    let (slope, intercept) = volume.slope_intercept();
    Ok(stored * slope + intercept)
}

fn mean<T: Voxel>(volume: &Volume, region: Region) -> Result<f64> {
    // The array is (channels, z, y, x); voxels outside of a small volume repeat its border.
    let patch = volume.read_padded::<T>(region, Padding::Edge)?;
    Ok(patch.iter().map(|voxel| voxel.to_f64()).sum::<f64>() / patch.len() as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = phantom::ExampleStore::from_arguments()?;
    println!("mean of the patch in the middle: {:.2}", mean_of_middle(store.path())?);
    Ok(())
}
