//! Broken subjects among good ones: all are named, the good ones are ingested, and the next run
//! takes the rest.

use voxquarry::{Error, Fault};
use voxquarry_ingest::{
    Event, IngestReport, Manifest, NoopObserver, Observer, ingest, ingest_planned, plan,
};

use crate::build::{Folder, Nifti, gzip};
use crate::{assert_sound, images, open, small, tree, volume, voxels};

fn good(seed: u8) -> Nifti {
    let mut file = Nifti::new(1, false, 2, &[9, 8, 7]);
    file.voxels.iter_mut().enumerate().for_each(|(i, v)| *v = (i as u8).wrapping_mul(seed));
    file
}

/// Writes 12 subjects, of which 2, 5, 8 and 9 are broken, each in its way.
fn dataset(folder: &Folder) -> Manifest {
    let mut manifest = Manifest::new();
    for i in 0..12u8 {
        let whole = gzip(&good(i + 1).single());
        let bytes = match i {
            2 => b"no image".to_vec(),
            // Its header is whole, its voxels are not.
            5 => whole[..whole.len() - 30].to_vec(),
            8 => gzip(&good(1).with("datatype", 0, 32.0).single()),
            _ => whole,
        };
        let path = folder.join(&format!("{i:02}.nii.gz"));
        if i != 9 {
            folder.write(&format!("{i:02}.nii.gz"), &bytes);
        }
        manifest.push_file(&path).unwrap();
    }
    manifest
}

fn failed(report: &IngestReport) -> Vec<&str> {
    report.failed.iter().map(|failure| failure.subject.as_str()).collect()
}

#[test]
fn all_problems_of_headers_are_told_before_anything_is_written() {
    let folder = Folder::new();
    let manifest = dataset(&folder);
    let store = folder.join("s.zarr");
    let error = ingest(&manifest, &store, &small(), &NoopObserver).unwrap_err();
    let Error::Several { errors } = &error else { panic!("{error}") };
    assert_eq!(errors.len(), 3);
    assert_eq!(error.fault(), Fault::Data);
    let text = error.to_string();
    for word in ["3 errors", "02.nii.gz", "08.nii.gz", "complex", "no file", "09.nii.gz"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!store.exists());
}

#[test]
fn the_good_subjects_are_ingested_and_the_next_run_takes_the_mended_ones() {
    let folder = Folder::new();
    let manifest = dataset(&folder);
    let store = folder.join("s.zarr");
    let going = small().keep_going(true);
    let report = ingest(&manifest, &store, &going, &NoopObserver).unwrap();
    assert_eq!(failed(&report), ["02", "08", "09", "05"]);
    assert_eq!(report.written.len(), 8);
    assert!(report.stored_bytes > 0 && report.voxel_bytes == 8 * 9 * 8 * 7);
    assert!(!store.join(".voxquarry-partial").exists());
    assert_sound(&store);
    // Nothing is done twice, and nothing new is right.
    let before = tree(&store);
    let report = ingest(&manifest, &store, &going, &NoopObserver).unwrap();
    assert_eq!((report.skipped.len(), report.written.len(), report.failed.len()), (8, 0, 4));
    assert!(tree(&store) == before);
    for i in [5u8, 8] {
        folder.write(&format!("{i:02}.nii.gz"), &gzip(&good(i + 1).single()));
    }
    let report = ingest(&manifest, &store, &going, &NoopObserver).unwrap();
    assert_eq!(report.written, ["05", "08"]);
    assert_eq!(failed(&report), ["02", "09"]);
    assert_eq!(open(&store).subjects().len(), 10);
    assert_eq!(voxels(&volume(&store, "08", "image")), good(9).voxels);
}

/// Panics when the voxels of subject `01` are encoded, as a codec might.
struct Panics;

impl Observer for Panics {
    fn event(&self, event: Event<'_>) {
        assert!(!matches!(event, Event::Volume { subject: "01", .. }), "this codec is broken");
    }

    fn interrupted(&self) -> bool {
        false
    }
}

#[test]
fn a_panic_is_the_failure_of_its_subject() {
    let folder = Folder::new();
    let paths: Vec<_> =
        (0..3u8).map(|i| folder.write(&format!("{i:02}.nii"), &good(i + 1).single())).collect();
    let manifest =
        images(&[("00", "ct", &paths[0]), ("01", "ct", &paths[1]), ("02", "ct", &paths[2])]);
    let store = folder.join("s.zarr");
    let report = ingest(&manifest, &store, &small().keep_going(true), &Panics).unwrap();
    assert_eq!(report.written, ["00", "02"]);
    let failure = &report.failed[0];
    assert_eq!((failure.subject.as_str(), failure.volume.as_str()), ("01", "ct"));
    assert_eq!(failure.path, paths[1]);
    let text = failure.error.to_string();
    assert!(text.contains("panicked (this codec is broken)"), "{text}");
    assert!(!store.join(".voxquarry-partial").exists());
    assert_sound(&store);
}

/// Stops the run at subject `b`.
struct StopsAtB(std::sync::atomic::AtomicBool);

impl Observer for StopsAtB {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Volume { subject: "b", .. }) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn interrupted(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn a_report_tells_what_was_done_before_an_error() {
    let folder = Folder::new();
    let paths = [1, 2].map(|i| folder.write(&format!("{i}.nii"), &good(i).single()));
    let manifest = images(&[("a", "ct", &paths[0]), ("b", "ct", &paths[1])]);
    let options = small().keep_going(true);
    let planned = plan(&manifest, &options, &NoopObserver).unwrap();
    let stops = StopsAtB(false.into());
    let (report, result) = ingest_planned(planned, &folder.join("s.zarr"), &options, &stops);
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert_eq!((report.written, report.failed.len()), (vec!["a".to_owned()], 0));
}
