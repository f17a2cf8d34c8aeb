//! Subjects that are ingested side by side make the store that they make one after the other, also
//! if the run is killed and repeated.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::abort;
use std::sync::atomic::{AtomicUsize, Ordering};

use voxquarry_ingest::{Event, IngestOptions, Manifest, NoopObserver, Observer, ingest};

use crate::build::{Folder, Nifti, gzip};
use crate::{assert_sound, child, images, small, tree};

const SUBJECTS: usize = 12;

/// Writes the sources of as many subjects, of several sizes.
fn write_sources(folder: &Folder) {
    for i in 0..SUBJECTS {
        let file = Nifti::new(1, false, 4, &[20 + i as i64 % 3, 17, 40]).single();
        let file = if i % 2 == 0 { gzip(&file) } else { file };
        folder.write(&format!("{i}.nii.gz"), &file);
    }
}

fn manifest(folder: &Path) -> Manifest {
    let paths: Vec<PathBuf> = (0..SUBJECTS).map(|i| folder.join(format!("{i}.nii.gz"))).collect();
    let names: Vec<String> = (0..SUBJECTS).map(|i| format!("s{i}")).collect();
    let sources: Vec<_> =
        names.iter().zip(&paths).map(|(name, path)| (&name[..], "ct", path.as_path())).collect();
    images(&sources)
}

fn options(jobs: usize) -> IngestOptions {
    small().jobs(jobs)
}

/// The files of a store by their paths in it.
fn files_of(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let inside = |path: PathBuf| path.strip_prefix(store).unwrap().to_owned();
    tree(store).into_iter().map(|(path, bytes)| (inside(path), bytes)).collect()
}

#[test]
fn the_store_does_not_depend_on_how_many_subjects_run() {
    let folder = Folder::new();
    write_sources(&folder);
    let manifest = manifest(folder.path());
    let run = |jobs: usize, memory_bytes: u64| {
        let store = folder.join(&format!("{jobs}-{memory_bytes}.zarr"));
        let options = options(jobs).memory_bytes(memory_bytes);
        let report = ingest(&manifest, &store, &options, &NoopObserver).unwrap();
        let names: Vec<String> = (0..SUBJECTS).map(|i| format!("s{i}")).collect();
        assert_eq!(report.written, names, "in the manifest's order");
        assert_sound(&store);
        files_of(&store)
    };
    let one = run(1, 1 << 30);
    assert!(run(5, 1 << 30) == one && run(100, 1 << 30) == one);
    // Here few fit at a time, and the layout is another.
    assert!(run(5, 40 << 20) == run(1, 40 << 20));
}

/// Ends the process without any clean-up at the call with that number.
struct Killer(AtomicUsize, usize);

impl Killer {
    fn count(&self) {
        if self.0.fetch_add(1, Ordering::SeqCst) + 1 == self.1 {
            abort();
        }
    }
}

impl Observer for Killer {
    fn event(&self, _: Event<'_>) {
        self.count();
    }

    fn interrupted(&self) -> bool {
        self.count();
        false
    }
}

#[test]
fn a_run_that_is_killed_and_repeated_makes_the_same_store() {
    if let Some(folder) = child::folder() {
        let moment = fs::read_to_string(folder.join("moment")).unwrap().parse().unwrap();
        let killer = Killer(AtomicUsize::new(0), moment);
        ingest(&manifest(&folder), &folder.join("s.zarr"), &options(4), &killer).unwrap();
        return;
    }
    let folder = Folder::new();
    write_sources(&folder);
    let (expected, store) = (folder.join("expected.zarr"), folder.join("s.zarr"));
    ingest(&manifest(folder.path()), &expected, &options(4), &NoopObserver).unwrap();
    let test = "side_by_side::a_run_that_is_killed_and_repeated_makes_the_same_store";
    let (mut state, mut killed) = (1u64, 0);
    for _ in 0..6 {
        // Each run goes on where the one before was killed, until one is not.
        for attempt in 0.. {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let moment = if attempt < 5 { 1 + (state >> 33) % 60 } else { 0 };
            folder.write("moment", moment.to_string().as_bytes());
            if child::run(test, folder.path(), "true").status.success() {
                break;
            }
            killed += 1;
            assert!(attempt < 5, "it fails when it is not killed");
        }
        assert!(files_of(&store) == files_of(&expected), "state {state}");
        fs::remove_dir_all(&store).unwrap();
    }
    assert!(killed >= 6, "{killed} runs were killed");
}
