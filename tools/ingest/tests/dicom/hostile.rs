//! Files that were cut, changed, or made to mislead: a clear error, quickly and in little memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use voxquarry::Dtype;

use crate::build::{
    Elements, Study, UNDEFINED, Value, item, name, slice, slices, text, us, voxels,
};

/// The longest that a refusal may take; these files are small, and the machine may be busy.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Ingests a series whose second file has these bytes. Nothing may be published if it fails.
fn ingest_with(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let study = Study::of(3);
    fs::write(study.root.path().join("study").join(name(1)), bytes).unwrap();
    let started = Instant::now();
    let result = study.ingest();
    assert!(started.elapsed() < MAX_TIME);
    match result {
        Ok(_) => {
            let volume = study.volume("ct");
            let is_same = volume.dtype() == Dtype::Int16;
            Ok(if is_same { voxels::<i16>(&volume) } else { Vec::new() })
        }
        Err(error) => {
            let subject = study.root.path().join("store.zarr").join("study");
            assert!(!subject.exists(), "nothing is published: {error}");
            Err(error.to_string())
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = slice(1).bytes();
    assert_eq!(ingest_with(&whole).unwrap(), slices(0..3));
    for i in 0..50 {
        let cut = whole.len() * i / 50;
        let error = ingest_with(&whole[..cut]).unwrap_err();
        // Cut within the preamble it is no DICOM file, so that a slice is missing.
        let expected = [&*name(1), "apart, others", "steps"];
        assert!(expected.iter().any(|word| error.contains(word)), "{cut}: {error}");
    }
}

/// A folder of test files named one damaged file a run; whoever mends them has to know all.
#[test]
fn all_damaged_files_of_a_folder_are_named_at_once() {
    let study = Study::of(30);
    let folder = study.root.path().join("study");
    let damage = |i| fs::write(folder.join(name(i)), &slice(i).bytes()[..300]).unwrap();
    damage(2);
    let alone = study.ingest().unwrap_err().to_string();
    assert!(alone.contains(&name(2)) && !alone.contains("its files"), "{alone}");
    (3..24).for_each(damage);
    let all = study.ingest().unwrap_err().to_string();
    assert!(all.contains("22 of its files") && all.contains("and 2 more"), "{all}");
    let named = (2..24).filter(|&i| all.contains(&format!("/{}:", name(i))));
    assert_eq!(named.count(), 20, "{all}");
    assert!(!study.root.path().join("store.zarr/study").exists());
}

#[test]
fn flipped_bits_are_an_error_or_other_numbers() {
    let whole = slice(1).bytes();
    for at in 128..whole.len() - 60 {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        // Whichever it is, it does not panic.
        let _ = ingest_with(&changed);
    }
}

#[test]
fn sizes_beyond_the_file_are_refused() {
    for (element, word) in [
        (us(0x0028_0010, 65_535), "its header promises"),
        (text(0x0028_0008, b"IS", "100000"), "its header promises"),
        (text(0x0028_0008, b"IS", "-1"), "-1 frames"),
        (text(0x0028_0008, b"IS", "99999999999"), "frames"),
        (us(0x0028_0010, 0), "0 rows"),
        (us(0x0028_0100, 64), "64 bits"),
        (us(0x0028_0002, 2), "2 samples"),
        ((0x7fe0_0010, b"OW", Value::Bytes(vec![0; 10])), "10 bytes of pixels"),
        ((0x7fe0_0010, b"OB", Value::Fragments(vec![], vec![])), "0 fragments"),
    ] {
        let mut file = slice(1);
        file.set(element);
        let error = ingest_with(&file.bytes()).unwrap_err();
        assert!(error.contains(word) && error.contains(&name(1)), "{word}: {error}");
    }
}

#[test]
fn deep_and_endless_sequences_are_refused() {
    let mut nested: Elements = vec![us(0x0062_0004, 1)];
    for _ in 0..200 {
        nested = vec![item(0x0062_0002, nested)];
    }
    for is_stated in [true, false] {
        let mut file = slice(1);
        file.set((0x0062_0002, b"SQ", Value::Items(vec![nested.clone()], is_stated)));
        let error = ingest_with(&file.bytes()).unwrap_err();
        assert!(error.contains("sequences within sequences"), "{error}");
    }
    // Items without number, of nothing.
    let mut many = slice(1);
    let items = vec![Elements::new(); 700_000];
    many.set((0x0062_0002, b"SQ", Value::Items(items, true)));
    let error = ingest_with(&many.bytes()).unwrap_err();
    assert!(error.contains("elements"), "{error}");
    // Thousands of openings without an end.
    let mut bytes = slice(1).bytes();
    let at = bytes.len() - 72;
    let opening = [&[0x62, 0, 2, 0][..], b"SQ", &[0, 0], &UNDEFINED.to_le_bytes()].concat();
    let start = [&[0xfe, 0xff, 0, 0xe0][..], &UNDEFINED.to_le_bytes()].concat();
    bytes.splice(at.., [opening, start].concat().repeat(100_000));
    let error = ingest_with(&bytes).unwrap_err();
    assert!(error.contains("sequences within sequences"), "{error}");
}

#[test]
fn links_and_pipes_do_not_mislead() {
    let study = Study::of(3);
    let folder = study.root.path().join("study");
    symlink("loop", folder.join("loop")).unwrap();
    symlink("/nowhere", folder.join("nowhere")).unwrap();
    symlink("..", folder.join("up")).unwrap();
    let pipe = folder.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    study.ingest().unwrap();
    assert_eq!(voxels::<i16>(&study.volume("ct")), slices(0..3));
}

#[test]
fn encapsulated_damage_is_an_error_of_its_frame() {
    for syntax in [
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
    ] {
        for fragment in [vec![], vec![0; 10], vec![0xff, 0xd8, 0xff, 0xc3, 0, 11], vec![0xff; 200]]
        {
            let mut file = slice(1);
            file.syntax = syntax;
            file.set((0x7fe0_0010, b"OB", Value::Fragments(vec![], vec![fragment])));
            let error = ingest_with(&file.bytes()).unwrap_err();
            assert!(error.contains("frame 1") && error.contains(&name(1)), "{error}");
        }
    }
    // A table of frames that points nowhere.
    let mut file = slice(1);
    file.syntax = "1.2.840.10008.1.2.5";
    file.set(text(0x0028_0008, b"IS", "2"));
    file.set((0x7fe0_0010, b"OB", Value::Fragments(vec![0, 7], vec![vec![0; 64]; 2])));
    let error = ingest_with(&file.bytes()).unwrap_err();
    assert!(error.contains(&name(1)) || error.contains("apart"), "{error}");
}
