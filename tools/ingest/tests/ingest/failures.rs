//! Failed ingests: the error is clear, nothing half-written stays, and the next run cleans up and
//! succeeds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::{Dataset, Error, OpenOptions};
use voxquarry_ingest::{Event, NoopObserver, Observer, ingest};

use crate::build::{Folder, Nifti, gzip};
use crate::{assert_sound, child, images, open, small, source, tree, volume, voxels};

/// A volume of noise, which does not compress and so exceeds a limit on the size of files.
fn noise() -> Nifti {
    let mut file = Nifti::new(1, false, 4, &[64, 64, 96]);
    let mut state = 1u64;
    for byte in &mut file.voxels {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    file
}

#[test]
fn volumes_of_a_subject_lie_on_one_grid() {
    let folder = Folder::new();
    let ct = folder.write("ct.nii", &Nifti::new(1, false, 4, &[8, 9, 10]).single());
    let sizes = Nifti::new(1, false, 2, &[8, 9, 11]);
    let spacing = Nifti::new(1, false, 2, &[8, 9, 10]).with("pixdim", 3, 1.5);
    for (file, words) in [(sizes, "[11, 9, 8]"), (spacing, "its spacing is 1.5000 × ")] {
        let seg = folder.write("seg.nii", &file.single());
        let mut manifest = images(&[("first", "ct", &ct), ("a", "ct", &ct)]);
        manifest.push(source("a", "seg", Kind::Labels, &seg)).unwrap();
        let store = folder.join("s.zarr");
        let error = ingest(&manifest, &store, &small(), &NoopObserver).unwrap_err();
        let message = error.to_string();
        for word in [words, "seg.nii", "ct.nii", "resample"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert_eq!(error.fault().exit_code(), 3);
        assert!(!store.exists(), "headers are read before the store is created");
        // Different subjects may have different grids.
        let manifest = images(&[("a", "ct", &ct), ("b", "seg", &seg)]);
        ingest(&manifest, &store, &small(), &NoopObserver).unwrap();
        fs::remove_dir_all(&store).unwrap();
    }
}

#[test]
fn a_path_that_is_not_a_store_is_not_touched() {
    let folder = Folder::new();
    let ct = folder.write("ct.nii", &Nifti::new(1, false, 4, &[8, 9, 10]).single());
    let manifest = images(&[("a", "ct", &ct)]);
    let other = folder.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "three years").unwrap();
    let zarr = folder.join("zarr");
    fs::create_dir(&zarr).unwrap();
    fs::write(zarr.join("zarr.json"), r#"{"zarr_format": 3, "node_type": "group"}"#).unwrap();
    let file = folder.write("file", b"bytes");
    let before = tree(folder.path());
    for path in [&other, &zarr, &file, &ct] {
        let error = ingest(&manifest, path, &small(), &NoopObserver).unwrap_err();
        assert!(matches!(&error, Error::NotAStore { .. }), "{}: {error}", path.display());
        assert_eq!(error.fault().exit_code(), 2);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(tree(folder.path()) == before, "{}", path.display());
    }
    // An empty folder can become a store.
    let empty = folder.join("empty");
    fs::create_dir(&empty).unwrap();
    ingest(&manifest, &empty, &small(), &NoopObserver).unwrap();
    assert_eq!(open(&empty).subjects(), ["a"]);
}

#[test]
fn voxels_that_are_damaged_leave_no_trace() {
    let folder = Folder::new();
    let good = folder.write("good.nii", &Nifti::new(1, false, 4, &[20, 20, 60]).single());
    let mut bytes = gzip(&Nifti::new(1, false, 4, &[20, 20, 60]).single());
    let flipped = bytes.len() - 6;
    bytes[flipped] ^= 1;
    let bad = folder.write("bad.nii.gz", &bytes);
    let store = folder.join("s.zarr");
    let manifest = images(&[("a", "ct", &good), ("b", "ct", &bad), ("c", "ct", &good)]);
    for _ in 0..2 {
        let error = ingest(&manifest, &store, &small(), &NoopObserver).unwrap_err();
        assert!(matches!(&error, Error::Data { path, .. } if *path == bad), "{error}");
        assert_eq!(open(&store).subjects(), ["a"], "the subject before it stays");
        assert!(!store.join(".voxquarry-partial").exists());
        assert_sound(&store);
    }
}

/// Stops the process in the middle of the second subject, as a power cut would.
struct Abort;

impl Observer for Abort {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Volume { subject: "b", .. }) {
            std::process::abort();
        }
    }

    fn interrupted(&self) -> bool {
        false
    }
}

#[test]
fn the_next_run_cleans_up_after_a_killed_one() {
    let prepare = |folder: &Path| {
        images(&[("a", "ct", &folder.join("ct.nii")), ("b", "ct", &folder.join("ct.nii"))])
    };
    if let Some(folder) = child::folder() {
        let _ = ingest(&prepare(&folder), &folder.join("s.zarr"), &small(), &Abort);
        unreachable!("the observer aborts");
    }
    let (folder, file) = (Folder::new(), noise());
    folder.write("ct.nii", &file.single());
    let store = folder.join("s.zarr");
    let test = "failures::the_next_run_cleans_up_after_a_killed_one";
    let output = child::run(test, folder.path(), "ulimit -c 0");
    assert!(!output.status.success());
    let partial = store.join(".voxquarry-partial");
    assert_eq!(
        fs::read_dir(&partial).unwrap().count(),
        1,
        "the killed run left its staging folder"
    );
    assert_eq!(open(&store).subjects(), ["a"], "which readers do not see");
    assert_sound(&store);
    let report = ingest(&prepare(folder.path()), &store, &small(), &NoopObserver).unwrap();
    assert_eq!((report.skipped, report.written), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert!(!partial.exists());
    assert_eq!(voxels(&volume(&store, "b", "ct")), file.voxels);
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    if let Some(folder) = child::folder() {
        // A write beyond the limit of the shell fails as on a full disk.
        let manifest = images(&[("a", "ct", &folder.join("ct.nii"))]);
        let store = folder.join("s.zarr");
        let error = ingest(&manifest, &store, &small(), &NoopObserver).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(&store)), "{error}");
        assert_eq!(error.fault().exit_code(), 4);
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert!(!store.exists());
        return;
    }
    let (folder, file) = (Folder::new(), noise());
    folder.write("ct.nii", &file.single());
    let test = "failures::a_full_disk_leaves_nothing_half_written";
    child::run_ok(test, folder.path(), "trap '' XFSZ; ulimit -f 128");
    let store = folder.join("s.zarr");
    assert!(!store.exists());
    let path = folder.join("ct.nii");
    ingest(&images(&[("a", "ct", &path)]), &store, &small(), &NoopObserver).unwrap();
    assert_eq!(voxels(&volume(&store, "a", "ct")), file.voxels);
}

/// Whether permissions bind this user; the superuser can write anywhere.
fn permissions_bind(folder: &Path) -> bool {
    fs::write(folder.join("probe"), b"").is_err()
}

#[test]
fn a_target_without_permission_fails_before_the_work() {
    let folder = Folder::new();
    let ct = folder.write("ct.nii", &Nifti::new(1, false, 4, &[8, 9, 10]).single());
    let manifest = images(&[("a", "ct", &ct)]);
    let locked = folder.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Paths where not even root can write: below a file, and in the kernel's tables.
    let mut targets = vec![ct.join("s.zarr"), "/proc/voxquarry.zarr".into()];
    if permissions_bind(&locked) {
        targets.push(locked.join("s.zarr"));
    }
    for target in targets {
        struct Nothing;
        impl Observer for Nothing {
            fn event(&self, event: Event<'_>) {
                let is_plan = matches!(event, Event::Planning { .. });
                assert!(is_plan, "{event:?}: the target was not tried first");
            }
            fn interrupted(&self) -> bool {
                false
            }
        }
        let error = ingest(&manifest, &target, &small(), &Nothing).unwrap_err();
        assert!(matches!(&error, Error::Io { .. }), "{error}");
        assert_eq!(error.fault().exit_code(), 4, "{error}");
        assert!(error.to_string().contains(&target.display().to_string()), "{error}");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn opening_a_store_whose_first_ingest_was_killed_is_explained() {
    let folder = Folder::new();
    let store = folder.join("s.zarr");
    let work = store.join(".voxquarry-partial").join("1-0");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("lock"), b"").unwrap();
    let error = Dataset::open(&store, &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("interrupted") && error.contains("run it again"), "{error}");
    let ct = folder.write("ct.nii", &Nifti::new(1, false, 4, &[8, 9, 10]).single());
    ingest(&images(&[("a", "ct", &ct)]), &store, &small(), &NoopObserver).unwrap();
    assert!(!work.exists());
    assert_eq!(open(&store).subjects(), ["a"]);
}
