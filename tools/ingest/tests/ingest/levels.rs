//! Coarser levels of ingested volumes: which, from what, in how much memory, and compared with what
//! is there.

use std::fs;
use std::path::{Path, PathBuf};

use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::format::levels::Levels;
use voxquarry::{Dtype, IfExists, Normalization};
use voxquarry_ingest::{IngestOptions, Manifest, NoopObserver, ingest, plan};

use crate::build::{Folder, Nifti};
use crate::{assert_sound, images, open, small, source, tree, volume, voxels};

/// The files below a folder.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let below =
        |(path, bytes): (PathBuf, Vec<u8>)| (path.strip_prefix(folder).unwrap().to_owned(), bytes);
    tree(folder).into_iter().map(below).collect()
}

/// An image of int16 voxels and its label map of uint8.
fn sources(folder: &Folder) -> Manifest {
    let dims = [45, 40, 34];
    let mut image = Nifti::new(1, false, 4, &dims);
    for (i, voxel) in image.voxels.chunks_exact_mut(2).enumerate() {
        voxel.copy_from_slice(&((i * 7 % 4001) as i16 - 900).to_le_bytes());
    }
    let mut seg = Nifti::new(1, false, 2, &dims);
    for (i, voxel) in seg.voxels.iter_mut().enumerate() {
        *voxel = (i / 5 % 3) as u8;
    }
    let mut manifest = Manifest::new();
    for (name, kind, file) in [("ct", Kind::Image, image), ("seg", Kind::Labels, seg)] {
        let path = folder.write(&format!("{name}.nii"), &file.single());
        manifest.push(source("a", name, kind, &path)).unwrap();
    }
    manifest
}

#[test]
fn every_volume_gets_its_levels_and_the_others_stay_as_they_were() {
    let folder = Folder::new();
    let manifest = sources(&folder);
    let (plain, levelled) = (folder.join("plain.zarr"), folder.join("levelled.zarr"));
    ingest(&manifest, &plain, &small(), &NoopObserver).unwrap();
    let options = small().levels(Levels::Count(2));
    let again = folder.join("again.zarr");
    for store in [&levelled, &again] {
        ingest(&manifest, store, &options, &NoopObserver).unwrap();
        assert_sound(store);
    }
    assert!(files(&levelled) == files(&again), "a run has no bytes of its own");
    for name in ["ct", "seg"] {
        let (before, now) = (volume(&plain, "a", name), volume(&levelled, "a", name));
        assert_eq!(voxels(&before), voxels(&now));
        assert_eq!((before.levels().len(), now.levels().len()), (1, 3), "{name}");
        assert_eq!(now.level(1).unwrap().size(), [0, 1, 2].map(|a| now.size()[a].div_ceil(2)));
        // Level 0 is the same file for file.
        let array = |store: &Path| files(&store.join("a").join(name).join("0"));
        assert!(array(&plain) == array(&levelled), "{name}");
    }
}

#[test]
fn a_run_with_other_levels_is_another_run() {
    let folder = Folder::new();
    let (manifest, store) = (sources(&folder), folder.join("s.zarr"));
    let run = |levels, if_exists| {
        let options = small().levels(levels).if_exists(if_exists);
        ingest(&manifest, &store, &options, &NoopObserver)
    };
    run(Levels::Count(1), IfExists::Error).unwrap();
    assert_eq!(run(Levels::Count(1), IfExists::Error).unwrap().skipped, ["a"]);
    let error = run(Levels::default(), IfExists::Error).unwrap_err().to_string();
    assert!(error.contains("the levels: [[2, 2, 2]], now []"), "{error}");
    run(Levels::Count(2), IfExists::Replace).unwrap();
    assert_eq!(volume(&store, "a", "ct").levels().len(), 3);
    assert_sound(&store);
}

#[test]
fn levels_that_cannot_be_are_told_before_the_work() {
    let folder = Folder::new();
    let manifest = sources(&folder);
    let options = small().levels(Levels::Count(7));
    let plan = plan(&manifest, &options, &NoopObserver).unwrap();
    assert_eq!((plan.subjects.len(), plan.failed.len()), (0, 2));
    let error = plan.failed[0].error.to_string();
    assert!(error.contains("levels 7") && error.contains("at most 6"), "{error}");
    assert!(ingest(&manifest, &folder.join("s.zarr"), &options, &NoopObserver).is_err());
    assert!(!folder.join("s.zarr").exists());
}

#[test]
fn changed_and_cropped_volumes_have_levels_of_what_they_became() {
    let folder = Folder::new();
    let manifest = sources(&folder);
    let store = folder.join("s.zarr");
    let options = small()
        .levels(Levels::Count(1))
        .target_spacing([2.0, 1.0, 1.0])
        .normalize(Normalization::ZScore)
        .crop_foreground(true);
    ingest(&manifest, &store, &options, &NoopObserver).unwrap();
    let ct = volume(&store, "a", "ct");
    let level = ct.level(1).unwrap();
    assert_eq!(level.dtype(), Dtype::Float32);
    assert_eq!(ct.levels()[1], Levels::Count(1).factors(ct.size(), ct.spacing()).unwrap()[0]);
    assert_sound(&store);
    assert_eq!(ingest(&manifest, &store, &options, &NoopObserver).unwrap().skipped, ["a"]);
}

#[test]
fn the_plan_counts_what_levels_take() {
    let folder = Folder::new();
    let manifest = sources(&folder);
    let plan = |levels| plan(&manifest, &small().levels(levels), &NoopObserver).unwrap();
    let (none, some) = (plan(Levels::default()), plan(Levels::Count(1)));
    assert_eq!(none.subjects[0].levels_bytes(), 0);
    let size = some.subjects[0].volumes[0].layout.size;
    let halved: u64 = size.iter().map(|n| n.div_ceil(2) as u64).product();
    assert_eq!(some.subjects[0].levels_bytes(), halved * 3);
    assert!(some.peak_memory_bytes() > none.peak_memory_bytes());
}

/// With the codec that keeps chunks as large as their voxels.
#[test]
fn codecs_reach_the_levels() {
    let folder = Folder::new();
    let path = {
        sources(&folder);
        folder.join("ct.nii")
    };
    let manifest = images(&[("a", "ct", &path)]);
    for codec in [Codec::Fast, Codec::Compact, Codec::None] {
        let store = folder.join(codec.name());
        let options = IngestOptions::default().codec(codec).levels(Levels::Count(3));
        ingest(&manifest, &store, &options, &NoopObserver).unwrap();
        let volume = open(&store).subject("a").unwrap().volume("ct").unwrap();
        for level in 0..4 {
            let level = volume.level(level).unwrap();
            assert_eq!(
                std::mem::discriminant(&level.layout().codec),
                std::mem::discriminant(&volume.layout().codec)
            );
        }
        assert_sound(&store);
        fs::remove_dir_all(&store).unwrap();
    }
}
