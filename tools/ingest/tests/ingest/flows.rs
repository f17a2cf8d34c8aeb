//! Manifests, interrupted runs, and subjects that exist already.

use std::fs;

use voxquarry::format::attributes::Kind;
use voxquarry::{Error, IfExists};
use voxquarry_ingest::{Manifest, NoopObserver, ingest};

use crate::build::{Folder, Nifti, gzip};
use crate::recording::RecordingObserver;
use crate::{assert_sound, images, open, small, source, tree, volume, voxels};

#[test]
fn a_manifest_is_ingested_in_its_order() {
    let folder = Folder::new();
    let ct = Nifti::new(1, false, 4, &[21, 18, 35]);
    let seg = Nifti::new(2, true, 256, &[21, 18, 35]);
    let flair = Nifti::new(1, true, 16, &[9, 8, 7, 2]);
    folder.write("ct.nii.gz", &gzip(&ct.single()));
    folder.write("seg.nii", &seg.single());
    folder.write("flair.nii", &flair.single());
    let table = "subject,volume,kind,path\n\
                 b,flair,image,flair.nii\na,seg,labels,seg.nii\na,ct,image,ct.nii.gz\n";
    let manifest = Manifest::from_csv(&folder.write("t.csv", table.as_bytes())).unwrap();
    let (store, watch) = (folder.join("s.zarr"), RecordingObserver::new());
    let report = ingest(&manifest, &store, &small(), &watch).unwrap();

    assert_eq!(report.written, ["b", "a"], "in the table's order");
    assert_eq!(report.voxel_bytes, (21 * 18 * 35 * 3 + 9 * 8 * 7 * 2 * 4) as u64);
    let recorded = watch.events.into_inner().unwrap();
    let begin = format!("begin 2, skipped 0, {} bytes", report.voxel_bytes);
    let events =
        [&begin, "volume b/flair", "published b", "volume a/seg", "volume a/ct", "published a"];
    assert_eq!(recorded, events);
    assert_eq!(open(&store).subjects(), ["a", "b"]);
    let big: Vec<u8> = flair.voxels.chunks_exact(4).flat_map(|v| v.iter().rev().copied()).collect();
    for (subject, name, expected, kind, shape) in [
        ("a", "ct", &ct.voxels, Kind::Image, vec![35, 18, 21]),
        ("a", "seg", &seg.voxels, Kind::Labels, vec![35, 18, 21]),
        ("b", "flair", &big, Kind::Image, vec![2, 7, 8, 9]),
    ] {
        let volume = volume(&store, subject, name);
        assert_eq!((volume.shape(), volume.kind()), (shape, kind));
        assert_eq!(&voxels(&volume), expected, "{subject}/{name}");
    }
    assert_eq!(volume(&store, "a", "ct").source().unwrap().name, "ct.nii.gz");
    assert!(!store.join(".voxquarry-partial").exists());
    assert_sound(&store);
}

#[test]
fn an_interrupted_run_continues_where_it_stopped() {
    let folder = Folder::new();
    let files: Vec<Nifti> = (0..3).map(|i| Nifti::new(1, false, 4, &[20 + i, 17, 64])).collect();
    let paths: Vec<_> =
        (0..3).map(|i| folder.write(&format!("{i}.nii.gz"), &gzip(&files[i].single()))).collect();
    let manifest =
        images(&[("s0", "ct", &paths[0]), ("s1", "ct", &paths[1]), ("s2", "ct", &paths[2])]);
    let layers = {
        let (store, watch) = (folder.join("whole.zarr"), RecordingObserver::new());
        ingest(&manifest, &store, &small(), &watch).unwrap();
        watch.layers() / 3
    };
    assert!(layers > 1, "the test needs several layers");
    for stop in 0..=3 * layers {
        let (store, watch) = (folder.join("s.zarr"), RecordingObserver::stopping_after(stop));
        let error = ingest(&manifest, &store, &small(), &watch).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!(error.fault().exit_code(), 4);
        // A subject that was stopped at its last layer is not published.
        let done = stop.saturating_sub(1) / layers;
        if done == 0 {
            assert!(!store.exists(), "stopped after {stop} layers: nothing was published");
        } else {
            assert_eq!(open(&store).subjects().len(), done);
            assert_sound(&store);
        }
        assert!(!store.join(".voxquarry-partial").exists());
        let before = (0..done).map(|i| tree(&store.join(format!("s{i}")))).collect::<Vec<_>>();
        let report = ingest(&manifest, &store, &small(), &NoopObserver).unwrap();
        assert_eq!((report.skipped.len(), report.written.len()), (done, 3 - done));
        let after = (0..done).map(|i| tree(&store.join(format!("s{i}")))).collect::<Vec<_>>();
        assert!(before == after, "published subjects stay");
        for (i, file) in files.iter().enumerate() {
            assert_eq!(voxels(&volume(&store, &format!("s{i}"), "ct")), file.voxels);
        }
        fs::remove_dir_all(&store).unwrap();
    }
}

#[test]
fn resuming_skips_only_subjects_of_the_same_files() {
    let folder = Folder::new();
    let a = folder.write("a.nii", &Nifti::new(1, false, 4, &[5, 6, 7]).single());
    let b = folder.write("b.nii", &Nifti::new(1, false, 4, &[5, 6, 8]).single());
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &a)]), &store, &small(), &NoopObserver).unwrap();
    // Another file of the same name.
    folder.write("a.nii", &Nifti::new(1, false, 4, &[5, 6, 9]).single());
    let before = tree(&store);
    let manifest = images(&[("a", "ct", &a), ("b", "ct", &b)]);
    let error = ingest(&manifest, &store, &small(), &NoopObserver).unwrap_err();
    assert!(matches!(&error, Error::ExistsOtherwise { .. }), "{error}");
    assert!(error.to_string().contains("the file's bytes: 772, now 892"), "{error}");
    // Another kind, and one volume more.
    let mut labels = Manifest::new();
    labels.push(source("b", "ct", Kind::Image, &b)).unwrap();
    labels.push(source("a", "ct", Kind::Labels, &a)).unwrap();
    assert!(ingest(&labels, &store, &small(), &NoopObserver).is_err());
    let two = images(&[("a", "ct", &a), ("a", "pet", &a), ("b", "ct", &b)]);
    assert!(ingest(&two, &store, &small(), &NoopObserver).is_err());
    assert!(tree(&store) == before);
}

#[test]
fn existing_subjects_are_refused_skipped_or_replaced() {
    let folder = Folder::new();
    let (old, new) =
        (Nifti::new(1, false, 4, &[20, 20, 20]), Nifti::new(1, false, 2, &[7, 30, 40]));
    let (old_path, new_path) =
        (folder.write("old.nii", &old.single()), folder.write("new.nii", &new.single()));
    let store = folder.join("s.zarr");
    ingest(
        &images(&[("a", "ct", &old_path), ("b", "ct", &old_path)]),
        &store,
        &small(),
        &NoopObserver,
    )
    .unwrap();
    let before = tree(&store);
    let manifest = images(&[("a", "ct", &new_path)]);
    let with = |if_exists| small().if_exists(if_exists);

    let error = ingest(&manifest, &store, &with(IfExists::Error), &NoopObserver).unwrap_err();
    assert!(
        matches!(&error, Error::ExistsOtherwise { path, .. } if path.ends_with("a")),
        "{error}"
    );
    assert!(tree(&store) == before);
    let report = ingest(&manifest, &store, &with(IfExists::Skip), &NoopObserver).unwrap();
    assert_eq!((report.skipped, report.written.len()), (vec!["a".to_owned()], 0));
    assert!(tree(&store) == before);

    // An open reader keeps reading the old subject.
    let reader = volume(&store, "a", "ct");
    assert_eq!(voxels(&reader), old.voxels);
    let report = ingest(&manifest, &store, &with(IfExists::Replace), &NoopObserver).unwrap();
    assert_eq!(report.written, ["a"]);
    assert_eq!(voxels(&reader), old.voxels);
    assert_eq!(open(&store).subject("a").unwrap().volumes(), ["ct"]);
    assert_eq!(voxels(&volume(&store, "a", "ct")), new.voxels);
    let others = |tree: Vec<(std::path::PathBuf, Vec<u8>)>| {
        tree.into_iter().filter(|(path, _)| !path.starts_with(store.join("a"))).collect::<Vec<_>>()
    };
    assert!(others(tree(&store)) == others(before), "nothing else changed");
    assert_sound(&store);
}

#[test]
fn an_overwrite_that_fails_leaves_the_old_subject() {
    let folder = Folder::new();
    let old = Nifti::new(1, false, 4, &[20, 20, 50]);
    let path = folder.write("old.nii", &old.single());
    let store = folder.join("s.zarr");
    ingest(&images(&[("a", "ct", &path)]), &store, &small(), &NoopObserver).unwrap();
    let before = tree(&store);
    let mut zipped = gzip(&Nifti::new(1, false, 4, &[30, 30, 70]).single());
    let middle = zipped.len() / 2;
    zipped.truncate(middle);
    let cut = folder.write("cut.nii.gz", &zipped);
    let options = small().if_exists(IfExists::Replace);
    let error = ingest(&images(&[("a", "ct", &cut)]), &store, &options, &NoopObserver).unwrap_err();
    assert!(error.to_string().contains("cut.nii.gz"), "{error}");
    assert_eq!(error.fault().exit_code(), 3);
    let watch = RecordingObserver::stopping_after(1);
    ingest(&images(&[("a", "ct", &path)]), &store, &options, &watch).unwrap_err();
    assert!(tree(&store) == before);
}
