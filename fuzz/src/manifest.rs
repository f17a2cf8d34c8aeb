//! The CSV table of an ingest.

use std::cell::LazyCell;

use tempfile::TempDir;
use voxquarry::format::check_name;
use voxquarry_ingest::Manifest;

use crate::scratch;

/// The bytes as a table, in a folder that holds the file `a`.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static FOLDER: LazyCell<TempDir> = LazyCell::new(|| {
            let folder = scratch::folder();
            scratch::write(&folder.path().join("a"), b"");
            folder
        });
    }
    let table = FOLDER.with(|folder| folder.path().join("table.csv"));
    scratch::write(&table, data);
    let Ok(manifest) = Manifest::from_csv(&table) else { return };
    assert!(!manifest.subjects().is_empty());
    for (subject, sources) in manifest.subjects() {
        assert!(check_name("subject", subject).is_ok());
        for (i, source) in sources.iter().enumerate() {
            assert!(check_name("volume", &source.volume).is_ok());
            assert!(sources[..i].iter().all(|other| other.volume != source.volume));
        }
    }
}
