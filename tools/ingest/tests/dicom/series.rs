//! Series of single images: order, geometry, what is refused and what is told.

use std::fs;
use std::os::unix::fs::symlink;

use voxquarry::Dtype;
use voxquarry_ingest::{FindOptions, IngestOptions, Place, Stated, VolumeInput, find};

use crate::build::{
    BIG, COLUMNS, DEFLATED, EXPLICIT, IMPLICIT, ROWS, Study, Value, decimals, item, name, pattern,
    slice, slices, text, us, voxels,
};

#[test]
fn slices_are_ordered_by_their_places_whatever_their_names() {
    let study = Study::of(7);
    let report = study.ingest().unwrap();
    assert_eq!(report.written, ["study"]);
    let volume = study.volume("ct");
    assert_eq!((volume.size(), volume.dtype()), ([7, ROWS, COLUMNS], Dtype::Int16));
    assert_eq!(
        volume.affine().0,
        [
            [-0.25, 0.0, 0.0, 10.0],
            [0.0, -0.5, 0.0, -20.0],
            [0.0, 0.0, 2.5, -100.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    );
    assert_eq!(volume.slope_intercept(), (1.0, -1024.0));
    assert_eq!(voxels::<i16>(&volume), slices(0..7));
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    // The same again: compared by the digests of the files.
    let again = study.ingest().unwrap();
    assert_eq!((again.written.len(), again.skipped), (0, vec!["study".to_owned()]));
    // A byte of one file.
    study.add(&name(3), slice(3).set((0x7fe0_0010, b"OW", Value::Bytes(pattern(60, 99)))));
    assert!(study.refusal().contains("by SHA-256"));
}

#[test]
fn every_encoding_of_elements_reads_the_same() {
    for syntax in [IMPLICIT, EXPLICIT, DEFLATED, BIG] {
        let study = Study::new();
        for number in 0..3 {
            let mut file = slice(number);
            file.syntax = syntax;
            study.add(&name(number), &file);
        }
        study.ingest().unwrap();
        assert_eq!(voxels::<i16>(&study.volume("ct")), slices(0..3), "{syntax}");
    }
    for syntax in [IMPLICIT, EXPLICIT, BIG] {
        let study = Study::new();
        for number in 0..3 {
            let mut file = slice(number);
            (file.syntax, file.has_preamble) = (syntax, false);
            study.add(&name(number), &file);
        }
        study.ingest().unwrap();
        assert_eq!(voxels::<i16>(&study.volume("ct")), slices(0..3), "{syntax}, bare");
    }
}

#[test]
fn sequences_and_icons_before_the_pixels_are_passed_over() {
    let inner = vec![item(0x0040_a730, vec![text(0x0020_0032, b"DS", "9\\9\\9")])];
    let icon =
        vec![us(0x0028_0010, 64), (0x7fe0_0010, b"OB", Value::Fragments(vec![], vec![vec![1, 2]]))];
    for is_stated in [true, false] {
        let study = Study::new();
        for number in 0..2 {
            let mut file = slice(number);
            file.set((0x0008_1140, b"SQ", Value::Items(vec![inner.clone(); 2], is_stated)));
            file.set((0x0088_0200, b"SQ", Value::Items(vec![icon.clone()], is_stated)));
            file.set((0x0009_1001, b"UN", Value::Bytes(pattern(70_000, 1))));
            study.add(&name(number), &file);
        }
        study.ingest().unwrap();
        assert_eq!(voxels::<i16>(&study.volume("ct")), slices(0..2));
    }
}

#[test]
fn gaps_are_refused_with_two_names_and_a_number() {
    let study = Study::of(6);
    fs::remove_file(study.root.path().join("study").join(name(2))).unwrap();
    let refusal = study.refusal();
    for part in [&*name(1), &name(3), "5.0000 mm apart, others 2.5000 mm", "1 between them"] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    // Stated geometry stacks them as they are.
    let affine = voxquarry::Affine::diagonal([2.5, 0.5, 0.25]);
    let options = IngestOptions::default().affine(affine);
    study.ingest_as(&options).unwrap();
    assert_eq!(voxels::<i16>(&study.volume("ct")), slices([0, 1, 3, 4, 5]));
}

#[test]
fn a_tilt_is_kept_as_a_shear_and_told() {
    let study = Study::new();
    for number in 0..4 {
        let at = number as f64;
        let mut file = slice(number);
        file.set(decimals(0x0020_0032, &[-10.0, 20.0 + at, 2.5 * at]));
        study.add(&name(number), &file);
    }
    let report = study.ingest().unwrap();
    let affine = study.volume("ct").affine().0;
    assert_eq!(affine.map(|row| row[2]), [0.0, -1.0, 2.5, 0.0]);
    assert!(report.notes[0].contains("tilted by 21.80°"), "{:?}", report.notes);
}

#[test]
fn equal_copies_are_dropped_and_others_refused() {
    let study = Study::of(3);
    study.add("copy", &slice(1));
    symlink(study.root.path().join("study").join(name(2)), study.root.path().join("study/link"))
        .unwrap();
    let report = study.ingest().unwrap();
    assert!(report.notes[0].contains("2 copies of its images were left out"), "{:?}", report.notes);
    assert_eq!(voxels::<i16>(&study.volume("ct")), slices(0..3));
    let other = Study::of(3);
    other.add("other", slice(1).set((0x7fe0_0010, b"OW", Value::Bytes(pattern(60, 50)))));
    let refusal = other.refusal();
    assert!(refusal.contains("lie at one place and differ"), "{refusal}");
    assert!(refusal.contains("other") && refusal.contains(&name(1)), "{refusal}");
}

#[test]
fn slopes_of_their_own_make_real_values() {
    let study = Study::new();
    for number in 0..3 {
        let mut file = slice(number);
        file.set(decimals(0x0028_1053, &[0.5 + number as f64]));
        study.add(&name(number), &file);
    }
    let report = study.ingest().unwrap();
    assert!(report.notes[0].contains("real values"), "{:?}", report.notes);
    let volume = study.volume("ct");
    assert_eq!((volume.dtype(), volume.slope_intercept()), (Dtype::Float32, (1.0, 0.0)));
    let real = (0..3).flat_map(|number| {
        let stored = pattern(ROWS * COLUMNS * 2, number);
        let real = move |v: &[u8; 2]| {
            (f64::from(i16::from_le_bytes(*v)) * (0.5 + number as f64) - 1024.0) as f32
        };
        stored.as_chunks().0.iter().map(real).collect::<Vec<_>>()
    });
    let real: Vec<u8> = real.flat_map(f32::to_le_bytes).collect();
    assert_eq!(voxels::<f32>(&volume), real);
}

#[test]
fn signs_that_differ_are_widened() {
    let study = Study::new();
    for number in 0..2 {
        study.add(&name(number), slice(number).set(us(0x0028_0103, number as u16)));
    }
    study.ingest().unwrap();
    let volume = study.volume("ct");
    assert_eq!(volume.dtype(), Dtype::Int32);
    let bytes = voxels::<i32>(&volume);
    let found: Vec<i32> = bytes.as_chunks().0.iter().map(|v| i32::from_le_bytes(*v)).collect();
    let stored = slices(0..2);
    let stored: Vec<u16> = stored.as_chunks().0.iter().map(|v| u16::from_le_bytes(*v)).collect();
    let expected = stored.iter().enumerate();
    let expected: Vec<i32> =
        expected.map(|(i, &v)| if i < 30 { i32::from(v) } else { i32::from(v as i16) }).collect();
    assert_eq!(found, expected);
}

#[test]
fn bits_above_and_below_are_no_part_of_a_voxel() {
    for (high, shift) in [(11, 4), (15, 4), (13, 4)] {
        let study = Study::new();
        let mut file = slice(0);
        file.set(us(0x0028_0101, 12)).set(us(0x0028_0102, high));
        study.add("a", &file);
        study.ingest().unwrap();
        let found = voxels::<i16>(&study.volume("ct"));
        let stored = slices([0]);
        let settle = |v: &[u8; 2]| ((i16::from_le_bytes(*v) << (15 - high)) >> shift).to_le_bytes();
        let expected: Vec<u8> = stored.as_chunks().0.iter().flat_map(settle).collect();
        assert_eq!(found, expected, "{high}");
    }
}

#[test]
fn images_at_one_place_are_channels_or_volumes() {
    // By the temporal position, whatever the instance numbers say.
    let study = Study::new();
    for number in 0..6 {
        let (place, time) = (number / 2, number % 2);
        let mut file = slice(number);
        file.set(decimals(0x0020_0032, &[0.0, 0.0, place as f64]));
        file.set(text(0x0020_0100, b"IS", &(2 - time).to_string()));
        study.add(&name(number), &file);
    }
    let report = study.ingest().unwrap();
    assert!(report.notes[0].contains("channels, by temporal position"), "{:?}", report.notes);
    let volume = study.volume("ct");
    assert_eq!(volume.layout().channel_count(), 2);
    assert_eq!(voxels::<i16>(&volume), slices([1, 3, 5, 0, 2, 4]));
    // By the instance number, where nothing else tells, at places that are rounded.
    let study = Study::new();
    for number in 0..6 {
        let (place, time) = (number / 2, number % 2);
        let mut file = slice(number);
        let rounding = if time == 0 { 1e-6 } else { 0.0 };
        file.set(decimals(0x0020_0032, &[0.0, 0.0, place as f64 + rounding]));
        study.add(&name(number), &file);
    }
    let report = study.ingest().unwrap();
    assert!(report.notes[0].contains("channels, by instance numbers"), "{:?}", report.notes);
    assert_eq!(voxels::<i16>(&study.volume("ct")), slices([0, 2, 4, 1, 3, 5]));
    // Gradients in the order in which they were acquired.
    let study = Study::new();
    for number in 0..6 {
        let (place, gradient) = (number / 2, number % 2);
        let direction = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]][gradient];
        let fd = |numbers: &[f64]| {
            Value::Bytes(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
        };
        let mut file = slice(number);
        file.set(decimals(0x0020_0032, &[0.0, 0.0, place as f64]));
        file.set((0x0018_9087, b"FD", fd(&[700.0]))).set((0x0018_9089, b"FD", fd(&direction)));
        study.add(&name(number), &file);
    }
    let report = study.ingest().unwrap();
    assert!(report.notes[0].contains("by b-value and gradient"), "{:?}", report.notes);
    assert_eq!(voxels::<i16>(&study.volume("ct")), slices([0, 2, 4, 1, 3, 5]));
    // Magnitude and phase are volumes of their own.
    let study = Study::new();
    for number in 0..6 {
        let kind = if number % 2 == 0 { "M" } else { "P" };
        let mut file = slice(number);
        file.set(decimals(0x0020_0032, &[0.0, 0.0, (number / 2) as f64]));
        file.set(text(0x0008_0008, b"CS", &format!("ORIGINAL\\PRIMARY\\{kind}")));
        file.set(text(0x0008_0060, b"CS", "MR"));
        study.add(&name(number), &file);
    }
    study.ingest().unwrap();
    assert_eq!(voxels::<i16>(&study.volume("mr")), slices([0, 2, 4]));
    assert_eq!(voxels::<i16>(&study.volume("mr_2")), slices([1, 3, 5]));
}

#[test]
fn several_series_are_volumes_and_other_grids_subjects() {
    let study = Study::of(3);
    for number in 3..6 {
        let mut file = slice(number - 3);
        file.set(text(0x0020_000e, b"UI", "1.2.3.5")).set(text(0x0008_0060, b"CS", "PT"));
        file.set((0x7fe0_0010, b"OW", Value::Bytes(pattern(60, number))));
        study.add(&name(number), &file);
    }
    let mut localizer = slice(9);
    localizer.set(text(0x0008_0008, b"CS", "ORIGINAL\\PRIMARY\\LOCALIZER"));
    localizer.set(decimals(0x0020_0037, &[0.0, 1.0, 0.0, 0.0, 0.0, -1.0]));
    study.add("localizer", &localizer);
    fs::write(study.root.path().join("study/README"), "no image").unwrap();
    let report = study.ingest().unwrap();
    let notes = report.notes.join("\n");
    assert!(notes.contains("1 localizer images were left out"), "{notes}");
    assert!(notes.contains("README was left out: no DICOM file"), "{notes}");
    assert_eq!(study.store().subject("study").unwrap().volumes(), ["ct", "pt"]);
    assert_eq!(voxels::<i16>(&study.volume("pt")), slices(3..6));
    // Without a member the folder alone is ambiguous.
    let folder = study.root.path().join("study");
    let place = Place::File(folder.clone());
    let refusal = VolumeInput::from(place).open(&Stated::default()).err().unwrap().to_string();
    assert!(refusal.contains("several volumes: ct, pt"), "{refusal}");
    // Another grid.
    let mut coarse = slice(0);
    coarse.set(text(0x0020_000e, b"UI", "1.2.3.6")).set(decimals(0x0028_0030, &[1.0, 1.0]));
    coarse.set(text(0x0008_0060, b"CS", "MR"));
    study.add("coarse", &coarse);
    let found = find(&[folder], &FindOptions::default()).unwrap();
    let plan = voxquarry_ingest::plan(
        &found.manifest,
        &IngestOptions::default(),
        &voxquarry_ingest::NoopObserver,
    );
    let names: Vec<_> = plan.unwrap().subjects.into_iter().map(|subject| subject.name).collect();
    assert_eq!(names, ["study", "study_mr"]);
}

#[test]
fn folders_of_series_are_volumes_of_a_subject() {
    let root = tempfile::tempdir().unwrap();
    for (i, series) in ["a/st1/se1", "a/st1/se2", "b/se1"].iter().enumerate() {
        let folder = root.path().join("data").join(series);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..2 {
            let mut file = slice(number);
            file.set(text(0x0020_000e, b"UI", &format!("1.2.{i}")));
            file.write(&folder.join(name(number)));
        }
    }
    let found = find(&[root.path().join("data")], &FindOptions::default()).unwrap();
    let names = found.manifest.subjects().iter().flat_map(|(subject, sources)| {
        sources.iter().map(move |source| format!("{subject}/{}", source.volume))
    });
    assert_eq!(names.collect::<Vec<_>>(), ["a/ct", "a/ct_2", "b/ct"]);
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let study = Study::new();
    let mut contours = slice(0);
    contours.set(text(0x0008_0060, b"CS", "RTSTRUCT")).remove(0x7fe0_0010).remove(0x0028_0010);
    contours.set(text(0x0008_0016, b"UI", "1.2.840.10008.5.1.4.1.1.481.3"));
    study.add("contours", &contours);
    let refusal = study.refusal();
    assert!(refusal.contains("an RTSTRUCT, which holds contours: convert it"), "{refusal}");
    let study = Study::new();
    study.add("m", slice(0).set(text(0x0008_0008, b"CS", "ORIGINAL\\PRIMARY\\M\\MOSAIC")));
    assert!(study.refusal().contains("mosaic"), "{}", study.refusal());
    for (uid, word) in [
        ("1.2.840.10008.1.2.4.102", "MPEG-4 H.264, which is not read"),
        ("1.2.840.10008.1.2.4.112", "JPEG XL, which is not read"),
        ("1.2.3.99", "a transfer syntax that is not known, which is not read"),
    ] {
        let study = Study::new();
        let mut file = slice(0);
        file.syntax = uid;
        file.set((0x7fe0_0010, b"OB", Value::Fragments(vec![], vec![vec![0; 64]])));
        study.add("a", &file);
        assert!(study.refusal().contains(word), "{}", study.refusal());
    }
    let study = Study::of(2);
    for number in 0..2 {
        study.add(&name(number), slice(number).remove(0x0020_0032));
    }
    assert!(study.refusal().contains("without ImagePositionPatient"), "{}", study.refusal());
}
