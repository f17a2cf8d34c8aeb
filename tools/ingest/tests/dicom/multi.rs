//! Files with several frames: functional groups, doses, segmentations, encapsulated frames.

use voxquarry::Dtype;
use voxquarry::format::attributes::Kind;

use crate::build::{
    COLUMNS, DEFLATED, DicomFile, EXPLICIT, Elements, RLE, ROWS, Study, Value, decimals, item,
    name, pattern, slice, slices, text, us, voxels,
};

const PER_FRAME: u32 = 0x5200_9230;
const SHARED: u32 = 0x5200_9229;

fn ul(tag: u32, numbers: &[u32]) -> (u32, &'static [u8; 2], Value) {
    (tag, b"UL", Value::Ul(numbers.to_vec()))
}

/// An enhanced file with frames `(z, dimension indices)`, whose voxels are those of slices.
fn enhanced(frames: &[(f64, [u32; 2])]) -> DicomFile {
    let mut file = slice(0);
    for tag in [0x0020_0032, 0x0020_0037, 0x0028_0030, 0x0028_1052, 0x0028_1053] {
        file.remove(tag);
    }
    let pointer =
        |tag: [u16; 2]| -> Elements { vec![(0x0020_9165, b"AT", Value::Us(tag.to_vec()))] };
    let groups: Vec<Elements> = frames
        .iter()
        .map(|(z, indices)| {
            vec![
                item(0x0020_9111, vec![ul(0x0020_9157, indices)]),
                item(0x0020_9113, vec![decimals(0x0020_0032, &[-10.0, 20.0, *z])]),
            ]
        })
        .collect();
    let shared = vec![
        item(0x0020_9116, vec![decimals(0x0020_0037, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])]),
        item(0x0028_9110, vec![decimals(0x0028_0030, &[0.5, 0.25])]),
        item(0x0028_9145, vec![text(0x0028_1052, b"DS", "-7"), text(0x0028_1053, b"DS", "2")]),
    ];
    file.set((
        0x0020_9222,
        b"SQ",
        Value::Items(vec![pointer([0x0020, 0x9128]), pointer([0x0020, 0x0032])], false),
    ));
    file.set(item(SHARED, shared)).set((PER_FRAME, b"SQ", Value::Items(groups, false)));
    file.set(text(0x0028_0008, b"IS", &frames.len().to_string()));
    file.set((0x7fe0_0010, b"OW", Value::Bytes(slices(0..frames.len()))));
    file
}

#[test]
fn frames_are_ordered_by_place_and_dimension() {
    let study = Study::new();
    let frames = [(4.0, [2, 1]), (2.0, [1, 2]), (4.0, [1, 1]), (2.0, [2, 2])];
    study.add("a.dcm", &enhanced(&frames));
    let report = study.ingest().unwrap();
    assert!(report.notes[0].contains("by dimension indices"), "{:?}", report.notes);
    let volume = study.volume("ct");
    assert_eq!((volume.size(), volume.layout().channel_count()), ([2, ROWS, COLUMNS], 2));
    assert_eq!(volume.slope_intercept(), (2.0, -7.0));
    assert_eq!((volume.affine().0[2][2], volume.affine().0[2][3]), (2.0, 2.0));
    assert_eq!(voxels::<i16>(&volume), slices([1, 2, 3, 0]));
}

#[test]
fn groups_that_do_not_match_the_frames_are_refused() {
    let study = Study::new();
    let mut file = enhanced(&[(1.0, [1, 1]), (2.0, [1, 2])]);
    file.set(text(0x0028_0008, b"IS", "3"));
    file.set((0x7fe0_0010, b"OW", Value::Bytes(slices(0..3))));
    study.add("a", &file);
    assert!(study.refusal().contains("describes 2 frames, and has 3"), "{}", study.refusal());
}

#[test]
fn a_dose_has_its_slices_and_its_scale() {
    for (offsets, expected) in [([0.0, 3.0, 6.0], [0, 1, 2]), ([0.0, -3.0, -6.0], [2, 1, 0])] {
        let study = Study::new();
        let mut file = slice(0);
        file.set(text(0x0008_0060, b"CS", "RTDOSE")).set(text(0x0028_0008, b"IS", "3"));
        file.set(decimals(0x3004_000c, &offsets)).set(decimals(0x3004_000e, &[0.001]));
        file.set((0x7fe0_0010, b"OW", Value::Bytes(slices(0..3))));
        study.add("a", &file);
        study.ingest().unwrap();
        let volume = study.volume("rtdose");
        assert_eq!(volume.slope_intercept(), (0.001, 0.0));
        assert_eq!(volume.affine().0[2][2], 3.0);
        assert_eq!(voxels::<i16>(&volume), slices(expected), "{offsets:?}");
    }
}

/// A binary segmentation of frames `(segment, z, pixels)`.
fn segmentation(frames: &[(u16, f64, &[usize])]) -> DicomFile {
    let mut file = enhanced(&vec![(0.0, [1, 1]); frames.len()]);
    let groups = frames.iter().map(|(segment, z, _)| {
        vec![
            item(0x0020_9113, vec![decimals(0x0020_0032, &[-10.0, 20.0, *z])]),
            item(0x0062_000a, vec![us(0x0062_000b, *segment)]),
        ]
    });
    file.set((PER_FRAME, b"SQ", Value::Items(groups.collect(), true)));
    let segments = [(1, "liver"), (7, "Knoten")]
        .map(|(number, name)| vec![us(0x0062_0004, number), text(0x0062_0005, b"LO", name)]);
    file.set((0x0062_0002, b"SQ", Value::Items(segments.to_vec(), true)));
    file.set(text(0x0062_0001, b"CS", "BINARY")).set(text(0x0008_0060, b"CS", "SEG"));
    file.set(text(0x0020_000e, b"UI", "1.2.3.9"));
    file.set(item(0x0008_1115, vec![text(0x0020_000e, b"UI", "1.2.3.4")]));
    for (tag, number) in [(0x0028_0100, 1), (0x0028_0101, 1), (0x0028_0102, 0), (0x0028_0103, 0)] {
        file.set(us(tag, number));
    }
    let mut bits = vec![0; (frames.len() * ROWS * COLUMNS).div_ceil(8)];
    for (number, (_, _, pixels)) in frames.iter().enumerate() {
        for pixel in *pixels {
            let bit = number * ROWS * COLUMNS + pixel;
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    file.set((0x7fe0_0010, b"OB", Value::Bytes(bits)));
    file
}

fn labels(slices: usize, set: &[(usize, usize, u8)]) -> Vec<u8> {
    let mut labels = vec![0; slices * ROWS * COLUMNS];
    for (slice, pixel, label) in set {
        labels[slice * ROWS * COLUMNS + pixel] = *label;
    }
    labels
}

#[test]
fn segments_are_labels_with_names_and_gaps_are_empty() {
    // 30 pixels a frame: the second begins within a byte.
    let study = Study::new();
    study.add("seg", &segmentation(&[(7, 6.0, &[0, 29]), (1, 0.0, &[3]), (1, 2.0, &[4, 5])]));
    let report = study.ingest().unwrap();
    let volume = study.volume("seg");
    assert_eq!((volume.kind(), volume.dtype()), (Kind::Labels, Dtype::UInt8));
    assert_eq!(volume.size(), [4, ROWS, COLUMNS], "{:?}", report.notes);
    assert_eq!(
        voxels::<u8>(&volume),
        labels(4, &[(0, 3, 1), (1, 4, 1), (1, 5, 1), (3, 0, 7), (3, 29, 7)])
    );
    let names: Vec<_> = volume.labels().iter().map(|l| (l.ids[0], l.name.as_str())).collect();
    assert_eq!(names, [(1, "liver"), (7, "Knoten")]);
}

#[test]
fn segments_lie_on_the_grid_of_their_series() {
    let study = Study::of(5);
    study.add("seg", &segmentation(&[(1, -95.0, &[8]), (7, -92.5, &[9])]));
    let report = study.ingest().unwrap();
    assert_eq!(report.written, ["study"], "one subject: {:?}", report.notes);
    assert_eq!(voxels::<u8>(&study.volume("seg")), labels(5, &[(2, 8, 1), (3, 9, 7)]));
    assert_eq!(study.volume("seg").affine(), study.volume("ct").affine());
}

#[test]
fn segments_that_overlap_are_channels() {
    let study = Study::new();
    study.add("seg", &segmentation(&[(1, 0.0, &[3, 4]), (7, 0.0, &[4]), (7, 1.0, &[5])]));
    let report = study.ingest().unwrap();
    assert!(report.notes.iter().any(|note| note.contains("overlap")), "{:?}", report.notes);
    let volume = study.volume("seg");
    assert_eq!(volume.layout().channel_count(), 2);
    let expected = [labels(2, &[(0, 3, 1), (0, 4, 1)]), labels(2, &[(0, 4, 7), (1, 5, 7)])];
    assert_eq!(voxels::<u8>(&volume), expected.concat());
    let twice = Study::new();
    twice.add("seg", &segmentation(&[(1, 0.0, &[3]), (1, 0.0, &[4])]));
    assert!(twice.refusal().contains("frames 1 and 2 are of one segment and slice"));
}

#[test]
fn a_deflated_file_of_frames_is_read() {
    let study = Study::new();
    let mut file = segmentation(&[(1, 0.0, &[3]), (1, 1.0, &[4])]);
    file.syntax = DEFLATED;
    study.add("seg", &file);
    study.ingest().unwrap();
    assert_eq!(voxels::<u8>(&study.volume("seg")), labels(2, &[(0, 3, 1), (1, 4, 1)]));
}

/// A frame in run lengths that are all literal.
fn rle(frame: &[u8]) -> Vec<u8> {
    let mut segments = Vec::new();
    for byte in [1, 0] {
        let plane: Vec<u8> = frame.iter().skip(byte).step_by(2).copied().collect();
        let mut segment = vec![plane.len() as u8 - 1];
        segment.extend(plane);
        segment.resize(segment.len().next_multiple_of(2), 0x80);
        segments.push(segment);
    }
    let starts = [2, 64, 64 + segments[0].len() as u32];
    let mut out: Vec<u8> = starts.iter().flat_map(|n| n.to_le_bytes()).collect();
    out.resize(64, 0);
    out.extend(segments.concat());
    out
}

#[test]
fn encapsulated_frames_are_found_by_table_or_number() {
    for has_table in [true, false] {
        let study = Study::new();
        let mut file = enhanced(&[(0.0, [1, 1]), (1.0, [1, 2]), (2.0, [1, 3])]);
        let frames: Vec<_> = (0..3).map(|number| rle(&pattern(60, number))).collect();
        let each = frames[0].len() as u32 + 8;
        let table = if has_table { vec![0, each, 2 * each] } else { Vec::new() };
        file.set((0x7fe0_0010, b"OB", Value::Fragments(table, frames)));
        file.syntax = RLE;
        study.add("a", &file);
        study.ingest().unwrap();
        assert_eq!(voxels::<i16>(&study.volume("ct")), slices(0..3));
    }
}

#[test]
fn colours_are_channels_in_either_order() {
    for planar in [0, 1] {
        let study = Study::new();
        let mut file = slice(0);
        for (tag, number) in [
            (0x0028_0002, 3),
            (0x0028_0006, planar),
            (0x0028_0100, 8),
            (0x0028_0101, 8),
            (0x0028_0102, 7),
            (0x0028_0103, 0),
        ] {
            file.set(us(tag, number));
        }
        file.set(text(0x0028_0004, b"CS", "RGB"));
        let pixels = pattern(ROWS * COLUMNS * 3, 4);
        file.set((0x7fe0_0010, b"OB", Value::Bytes(pixels.clone())));
        file.syntax = EXPLICIT;
        study.add(&name(0), &file);
        study.ingest().unwrap();
        let found = voxels::<u8>(&study.volume("ct"));
        if planar == 1 {
            assert_eq!(found, pixels);
        } else {
            let plane = |i: usize| pixels.iter().skip(i).step_by(3).copied();
            assert_eq!(found, (0..3).flat_map(plane).collect::<Vec<u8>>());
        }
    }
}
