//! Runs the programs in `examples/` and compares the values that they compute.
// Every example has the module that writes the synthetic store, and a `main` of its own.
#![allow(clippy::duplicate_mod, dead_code)]

#[path = "../examples/blend_predictions.rs"]
mod blend_predictions;
#[path = "../examples/phantom/mod.rs"]
mod phantom;
#[path = "../examples/read_batch.rs"]
mod read_batch;
#[path = "../examples/read_patch.rs"]
mod read_patch;
#[path = "../examples/train_classifier.rs"]
mod train_classifier;
#[path = "../examples/train_queue.rs"]
mod train_queue;
#[path = "../examples/verify_store.rs"]
mod verify_store;
#[path = "../examples/write_volume.rs"]
mod write_volume;

use phantom::ExampleStore;
use voxquarry::format::attributes::Kind;
use voxquarry::{Region, Volume};

/// All voxels of a volume of `case01` in the synthetic store.
fn synthetic(store: &ExampleStore, name: &str) -> Volume {
    voxquarry::open(store.path()).unwrap().subject("case01").unwrap().volume(name).unwrap()
}

#[test]
fn read_patch_gives_the_mean_of_the_middle() {
    let store = ExampleStore::synthetic().unwrap();
    let seg = synthetic(&store, "seg");
    let middle = seg.read::<u8>(Region::new([4, 16, 16], [16; 3])).unwrap();
    let inside = f64::from(middle.iter().map(|&label| u32::from(label)).sum::<u32>());
    let expected = (inside * 40.0 - (4096.0 - inside) * 1000.0) / 4096.0;
    assert!(inside > 2000.0, "a ball of radius 8");
    assert_eq!(read_patch::mean_of_middle(store.path()).unwrap(), expected);
}

#[test]
fn read_batch_gives_the_patches_of_its_locations() {
    let store = ExampleStore::synthetic().unwrap();
    let ct = synthetic(&store, "ct");
    let (locations, bytes) = read_batch::random_patches(store.path()).unwrap();
    assert_eq!(locations.len(), 8);
    for (location, patch) in locations.iter().zip(bytes.chunks_exact(4096 * 2)) {
        let expected = ct.read_padded::<i16>(location.region, voxquarry::Padding::Edge).unwrap();
        let expected: Vec<u8> = expected.iter().flat_map(|voxel| voxel.to_le_bytes()).collect();
        assert_eq!(patch, expected, "{location:?}");
    }
}

#[test]
fn train_classifier_learns_the_ball() {
    let store = ExampleStore::synthetic().unwrap();
    let (classifier, losses) = train_classifier::train(store.path()).unwrap();
    assert_eq!(losses.len(), 10);
    assert!(losses[9] < losses[0] / 4.0, "{losses:?}");
    assert_eq!(train_classifier::accuracy(&classifier, store.path(), "case01").unwrap(), 1.0);
    let untrained = train_classifier::Classifier::default();
    assert!(train_classifier::accuracy(&untrained, store.path(), "case01").unwrap() > 0.9);
}

#[test]
fn train_queue_delivers_two_epochs_of_two_subjects() {
    let store = ExampleStore::synthetic().unwrap();
    let stats = train_queue::train(store.path()).unwrap();
    assert_eq!((stats.patches, stats.batches), (2 * 2 * 6, 2 * 3));
    assert_eq!(stats.voxel_bytes, 24 * 4096 * (2 + 1));
}

#[test]
fn blend_predictions_finds_the_ball() {
    let store = ExampleStore::synthetic().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let found =
        blend_predictions::predict(store.path(), &folder.path().join("predictions.zarr")).unwrap();
    let expected = synthetic(&store, "seg");
    let whole = Region::whole(expected.size());
    assert_eq!(found.kind(), Kind::Labels);
    assert_eq!(found.read::<u8>(whole).unwrap(), expected.read::<u8>(whole).unwrap());
    assert_eq!(found.affine(), expected.affine());
}

#[test]
fn write_volume_writes_the_number_of_each_plane() {
    let folder = tempfile::tempdir().unwrap();
    let volume = write_volume::write(&folder.path().join("store.zarr")).unwrap();
    let voxels = volume.read::<f32>(Region::whole(volume.size())).unwrap();
    assert!(voxels.indexed_iter().all(|((_, z, _, _), &voxel)| voxel == z as f32));
    assert_eq!(volume.spacing_mm(), [2.0, 0.9, 0.9]);
}

#[test]
fn verify_store_finds_no_error_and_then_one() {
    let store = ExampleStore::synthetic().unwrap();
    let report = verify_store::verify(store.path()).unwrap();
    assert_eq!((report.subjects, report.volumes, report.error_count), (2, 4, 0));
    let shard = std::fs::read_dir(synthetic(&store, "ct").path().join("0/c/0/0"));
    let shard = shard.unwrap().next().unwrap().unwrap().path();
    std::fs::write(shard, "damage").unwrap();
    assert!(verify_store::verify(store.path()).unwrap().error_count > 0);
}
