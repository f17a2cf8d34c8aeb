//! Subjects that exist: done only if nothing differs, extended, and never emptied by the way.

use std::fs;
use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{Affine, Error, IfExists, Volume};
use voxquarry_ingest::{IngestOptions, Manifest, NoopObserver, ingest};

use crate::build::{Folder, Nifti};
use crate::recording::RecordingObserver;
use crate::{assert_sound, images, open, small, source, tree, volume, voxels};

/// A file of that name whose voxels all are `value`.
fn constant(folder: &Folder, name: &str, dims: &[u64], value: u8) -> std::path::PathBuf {
    let dims: Vec<_> = dims.iter().map(|&n| n as _).collect();
    let mut file = Nifti::new(1, false, 2, &dims);
    file.voxels.fill(value);
    folder.write(name, &file.single())
}

fn difference(manifest: &Manifest, store: &Path, options: &IngestOptions) -> String {
    let before = tree(store);
    let error = ingest(manifest, store, options, &NoopObserver).unwrap_err();
    assert!(tree(store) == before, "a refused run changes nothing");
    match error {
        Error::ExistsOtherwise { difference, .. } => difference,
        other => panic!("{other}"),
    }
}

#[test]
fn a_repeated_run_is_done_if_nothing_differs() {
    let folder = Folder::new();
    let a = constant(&folder, "a.nii", &[5, 6, 7], 1);
    let store = folder.join("s.zarr");
    let manifest = images(&[("a", "ct", &a)]);
    ingest(&manifest, &store, &small(), &NoopObserver).unwrap();
    let before = tree(&store);
    let watch = RecordingObserver::new();
    let report = ingest(&manifest, &store, &small(), &watch).unwrap();
    assert_eq!((report.skipped, report.written.len()), (vec!["a".to_owned()], 0));
    assert!(tree(&store) == before);
    let events = watch.events.into_inner().unwrap();
    assert_eq!(events[0], "comparing a/ct, 562 bytes", "what it costs is told");
}

#[test]
fn a_source_that_was_replaced_by_one_of_equal_length_is_noticed() {
    let folder = Folder::new();
    let a = constant(&folder, "a.nii", &[5, 6, 7], 1);
    let b = constant(&folder, "b.nii", &[5, 6, 7], 2);
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &a)]), &store, &small(), &NoopObserver).unwrap();
    constant(&folder, "a.nii", &[5, 6, 7], 9);
    let both = images(&[("a", "ct", &a), ("b", "ct", &b)]);
    let found = difference(&both, &store, &small());
    assert!(found.contains("ct: the content of its file has changed"), "{found}");
    // By name alone, as asked.
    let skipping = small().if_exists(IfExists::Skip);
    let report = ingest(&both, &store, &skipping, &NoopObserver).unwrap();
    assert_eq!((report.skipped, report.written), (vec!["a".to_owned()], vec!["b".to_owned()]));
    ingest(&both, &store, &small().if_exists(IfExists::Replace), &NoopObserver).unwrap();
    assert!(voxels(&volume(&store, "a", "ct")).iter().all(|&v| v == 9));
}

#[test]
fn the_header_of_a_pair_is_a_part_of_its_source() {
    let folder = Folder::new();
    let file = Nifti::new(1, false, 2, &[5, 6, 7]);
    let (path, _) = file.write_pair(folder.path(), "a");
    let store = folder.join("s.zarr");
    let manifest = images(&[("a", "ct", &path)]);
    ingest(&manifest, &store, &small(), &NoopObserver).unwrap();
    ingest(&manifest, &store, &small(), &NoopObserver).unwrap();
    file.with("intent_p", 0, 1.0).write_pair(folder.path(), "a");
    assert!(difference(&manifest, &store, &small()).contains("header"));
}

#[test]
fn every_option_that_shapes_the_store_is_compared() {
    let folder = Folder::new();
    let a = constant(&folder, "a.nii", &[5, 6, 7], 1);
    let store = folder.join("s.zarr");
    let manifest = images(&[("a", "ct", &a)]);
    ingest(&manifest, &store, &small(), &NoopObserver).unwrap();
    for (options, words) in [
        (small().codec(Codec::Compact), "the codec: fast, now compact"),
        (small().patch_sizes([[8; 3]]), "the patch sizes: [[16, 16, 16]], now [[8, 8, 8]]"),
        (small().affine(Affine::diagonal([3.0, 2.0, 1.0])), "the affine: "),
    ] {
        let found = difference(&manifest, &store, &options);
        assert!(found.contains(words), "{found}");
    }
    // What does not shape the store.
    for options in [small().threads(1), small().memory_bytes(2 << 30), small().keep_going(true)] {
        ingest(&manifest, &store, &options, &NoopObserver).unwrap();
    }
    let mut weights = Manifest::new();
    weights.push_weights(source("a", "ct", Kind::Image, &a)).unwrap();
    assert!(difference(&weights, &store, &small()).contains("the sums of weights"));
    let mut labels = Manifest::new();
    labels.push(source("a", "ct", Kind::Labels, &a)).unwrap();
    assert!(difference(&labels, &store, &small()).contains("the kind: image, now labels"));
    let more = images(&[("a", "ct", &a), ("a", "pet", &a)]);
    assert!(difference(&more, &store, &small()).contains("its volumes are ct, now ct, pet"));
}

#[test]
fn an_overwrite_never_removes_a_volume_that_it_does_not_bring() {
    let folder = Folder::new();
    let a = constant(&folder, "a.nii", &[5, 6, 7], 1);
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &a), ("a", "pet", &a)]), &store, &small(), &NoopObserver).unwrap();
    let before = tree(&store);
    let mut labels = Manifest::new();
    labels.push(source("a", "seg", Kind::Labels, &a)).unwrap();
    let replacing = small().if_exists(IfExists::Replace);
    let error = ingest(&labels, &store, &replacing, &NoopObserver).unwrap_err();
    assert!(
        matches!(&error, Error::WouldRemove { volumes, .. } if volumes == &["ct", "pet"]),
        "{error}"
    );
    assert_eq!(error.fault().exit_code(), 2);
    assert!(tree(&store) == before);
}

/// Identity of each file of a volume's level.
fn inodes(volume: &Volume) -> Vec<u64> {
    use std::os::unix::fs::MetadataExt;
    let folder = volume.path().join("0/c/0/0");
    let mut found: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().unwrap().ino()).collect();
    found.sort_unstable();
    found
}

#[test]
fn volumes_are_added_to_subjects_that_keep_theirs() {
    let folder = Folder::new();
    let [a, b] = [1, 2].map(|v| constant(&folder, &format!("{v}.nii"), &[5, 6, 7], v));
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &a)]), &store, &small(), &NoopObserver).unwrap();
    let (reader, kept) = (volume(&store, "a", "ct"), inodes(&volume(&store, "a", "ct")));
    let adding = small().add_volumes(true);
    let mut manifest = Manifest::new();
    manifest.push(source("a", "seg", Kind::Labels, &b)).unwrap();
    manifest.push(source("a", "pet", Kind::Image, &b)).unwrap();
    manifest.push(source("new", "ct", Kind::Image, &a)).unwrap();
    let report = ingest(&manifest, &store, &adding, &NoopObserver).unwrap();
    assert_eq!(report.written, ["a", "new"]);
    assert_eq!(open(&store).subject("a").unwrap().volumes(), ["ct", "pet", "seg"]);
    assert_eq!(inodes(&volume(&store, "a", "ct")), kept, "no voxel was copied");
    assert!(voxels(&volume(&store, "a", "ct")).iter().all(|&v| v == 1));
    assert!(voxels(&volume(&store, "a", "seg")).iter().all(|&v| v == 2));
    assert!(voxels(&reader).iter().all(|&v| v == 1), "a reader of the old subject goes on");
    assert_sound(&store);
    // Again: all is there.
    let before = tree(&store);
    let report = ingest(&manifest, &store, &adding, &NoopObserver).unwrap();
    assert_eq!((report.skipped.len(), report.written.len()), (2, 0));
    assert!(tree(&store) == before);
}

#[test]
fn an_added_volume_that_exists_is_refused_skipped_or_replaced() {
    let folder = Folder::new();
    let [a, b] = [1, 2].map(|v| constant(&folder, &format!("{v}.nii"), &[5, 6, 7], v));
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &a), ("a", "pet", &a)]), &store, &small(), &NoopObserver).unwrap();
    let manifest = images(&[("a", "ct", &b)]);
    let adding = small().add_volumes(true);
    let error = ingest(&manifest, &store, &adding, &NoopObserver).unwrap_err();
    assert!(
        matches!(&error, Error::ExistsOtherwise { path, .. } if path.ends_with("a/ct")),
        "{error}"
    );
    let skipping = adding.clone().if_exists(IfExists::Skip);
    let report = ingest(&manifest, &store, &skipping, &NoopObserver).unwrap();
    assert_eq!(report.skipped, ["a"]);
    let replacing = adding.clone().if_exists(IfExists::Replace);
    ingest(&manifest, &store, &replacing, &NoopObserver).unwrap();
    let first = |name| voxels(&volume(&store, "a", name))[0];
    assert_eq!((first("ct"), first("pet")), (2, 1));
    assert_sound(&store);
}

#[test]
fn an_added_volume_lies_on_the_grid_of_its_subject() {
    let folder = Folder::new();
    let a = constant(&folder, "a.nii", &[5, 6, 7], 1);
    let other = constant(&folder, "other.nii", &[5, 6, 8], 1);
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &a)]), &store, &small(), &NoopObserver).unwrap();
    let before = tree(&store);
    let adding = small().add_volumes(true);
    let manifest = images(&[("a", "pet", &other)]);
    let error = ingest(&manifest, &store, &adding, &NoopObserver).unwrap_err();
    assert!(error.to_string().contains("another grid"), "{error}");
    assert!(tree(&store) == before);
    // An extension whose source is damaged leaves the subject as it was.
    let cut = folder.write("cut.nii", &fs::read(&a).unwrap()[..400]);
    let manifest = images(&[("a", "pet", &cut)]);
    ingest(&manifest, &store, &adding, &NoopObserver).unwrap_err();
    assert!(tree(&store) == before);
}
