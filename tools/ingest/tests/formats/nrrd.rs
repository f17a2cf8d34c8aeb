//! NRRD, by Teem's definition of the format and by what Teem, pynrrd and 3D Slicer write.

use std::fmt::Write as _;
use std::io::Write as _;

use bzip2::Compression;
use bzip2::write::BzEncoder;
use voxquarry::{Dtype, LengthUnit};

use crate::{Folder, gzip, pattern, planes, read, refusal, rows, swapped};

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A header of 4 × 3 × 2 voxels of a type, and `lines`.
pub fn header(element: &str, lines: &str) -> String {
    format!("NRRD0004\ntype: {element}\ndimension: 3\nsizes: 4 3 2\n{lines}")
}

const SPACE: &str = "space: left-posterior-superior\nspace directions: (0.5,0,0) (0,2,0) (0,0,3)\n\
                     space origin: (7,8,9)\n";

fn attached(element: &str, lines: &str, voxels: &[u8]) -> Vec<u8> {
    let lines = format!("{SPACE}{lines}");
    [header(element, &lines).as_bytes(), b"\n", voxels].concat()
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02X}\n ").unwrap();
            text
        })
        .into_bytes()
}

#[test]
fn every_type_encoding_and_byte_order_is_read() {
    let folder = Folder::new();
    for (names, dtype) in [
        ("signed char|int8|int8_t", Dtype::Int8),
        ("uchar|unsigned char|uint8|uint8_t", Dtype::UInt8),
        ("short|signed short int|int16_t", Dtype::Int16),
        ("ushort|unsigned  short|uint16", Dtype::UInt16),
        ("int|signed int|int32", Dtype::Int32),
        ("uint|unsigned int|uint32_t", Dtype::UInt32),
        ("longlong|long long int|int64", Dtype::Int64),
        ("ulonglong|unsigned long long|uint64_t", Dtype::UInt64),
        ("float", Dtype::Float32),
        ("double", Dtype::Float64),
    ] {
        let voxels = pattern(24 * dtype.size());
        for name in names.split('|') {
            for order in ["little", "big"] {
                for (encoding, bytes) in [
                    ("raw", voxels.clone()),
                    ("gzip", gzip(&voxels)),
                    ("gz", [gzip(&voxels[..10]), gzip(&voxels[10..])].concat()),
                    ("bz2", bzip2(&voxels)),
                    ("bzip2", [bzip2(&voxels[..10]), bzip2(&voxels[10..])].concat()),
                    ("hex", hexadecimal(&voxels)),
                ] {
                    let lines = format!("endian: {order}\nencoding: {encoding}\n");
                    let found = read(&folder.write("a.nrrd", attached(name, &lines, &bytes)));
                    assert_eq!((found.volume.dtype, found.volume.size), (dtype, [2, 3, 4]));
                    let is_big = order == "big";
                    let expected =
                        if is_big { swapped(&voxels, dtype.size()) } else { voxels.clone() };
                    assert_eq!(found.voxels, expected, "{name} {order} {encoding}");
                }
            }
        }
    }
}

#[test]
fn numbers_are_also_text() {
    let folder = Folder::new();
    let text = "-1.5, 0.1 nan\n1e300 inf -inf 3\t".to_owned() + &"7 ".repeat(17);
    let found =
        read(&folder.write("a.nrrd", attached("double", "encoding: ascii\n", text.as_bytes())));
    let numbers: Vec<f64> =
        found.voxels.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(numbers[..2], [-1.5, 0.1]);
    assert!(numbers[2].is_nan() && numbers[4] == f64::INFINITY && numbers[23] == 7.0);
    let text = "9223372036854775807 -9223372036854775808 ".to_owned() + &"0 ".repeat(22);
    let found =
        read(&folder.write("a.nrrd", attached("int64", "encoding: txt\n", text.as_bytes())));
    assert_eq!(found.voxels[..8], i64::MAX.to_le_bytes());
    for (element, first) in [("uint8", "256"), ("uint8", "-1"), ("int8", "1.5"), ("short", "12x")] {
        let text = format!("{first} {}", "1 ".repeat(23));
        let lines = "encoding: text\n";
        let message = refusal(&folder.write("a.nrrd", attached(element, lines, text.as_bytes())));
        assert!(message.contains("number 1") && message.contains(first), "{message}");
    }
    let bytes = attached("uint8", "encoding: hex\n", &[b"7z".repeat(24)].concat());
    assert!(refusal(&folder.write("a.nrrd", bytes)).contains("two digits"));
}

#[test]
fn lines_and_bytes_before_the_voxels_are_skipped() {
    let folder = Folder::new();
    let voxels = pattern(24);
    for (lines, bytes) in [
        ("byte skip: 5\nencoding: raw\n", [&b"12345"[..], &voxels].concat()),
        ("byte skip: -1\nencoding: raw\n", [&b"\n123"[..], &voxels].concat()),
        ("line skip: 2\nbyteskip: 1\nencoding: raw\n", [&b"ab\nc\nd"[..], &voxels].concat()),
        ("lineskip: 1\nencoding: gzip\n", [&b"text\n"[..], &gzip(&voxels)].concat()),
        ("byte skip: 3\nencoding: gzip\n", gzip(&[&b"123"[..], &voxels].concat())),
    ] {
        let found = read(&folder.write("a.nrrd", attached("uchar", lines, &bytes)));
        assert_eq!(found.voxels, voxels, "{lines}");
        let rest = lines.to_owned() + "data file: v.bin\n";
        folder.write("v.bin", &bytes);
        let found = read(&folder.write("a.nhdr", header("uchar", &rest)));
        assert_eq!(found.voxels, voxels, "{lines}");
    }
}

#[test]
fn voxels_lie_in_several_files() {
    let folder = Folder::new();
    let voxels = pattern(48);
    folder.write("p1.gz", gzip(&voxels[..24]));
    folder.write("p2.gz", gzip(&voxels[24..]));
    for (i, row) in voxels.chunks_exact(8).enumerate() {
        folder.write(&format!("row{i:03}"), [b"head\n", row].concat());
    }
    let lines = "endian: little\nencoding: gzip\n";
    let rows = "line skip: 1\nendian: little\nencoding: raw\n";
    for text in [
        format!("{lines}data file: LIST\np1.gz\np2.gz\n"),
        format!("{lines}datafile: LIST 2\n./p1.gz\np2.gz"),
        format!("{lines}data file: LIST 3\np1.gz\np2.gz\n"),
        format!("{lines}data file: p%d.gz 1 2 1\n"),
        format!("{lines}data file: p%d.gz 1 2 1 3\n"),
        format!("{rows}data file: row%03d 0 5 1 1\n"),
    ] {
        let found = read(&folder.write("a.nhdr", header("short", &text)));
        assert_eq!(found.voxels, voxels, "{text}");
    }
    for (data, word) in [
        ("LIST\np1.gz", "1 data files"),
        ("p%d.gz 1 3 1", "3 data files"),
        ("p%x.gz 1 3 1", "pattern"),
        ("SKIPLIST 2", "SKIPLIST"),
        ("LIST 9\na", "dimension"),
        ("../p1.gz", "folder"),
        ("/etc/hostname", "folder"),
        ("gone.gz", "missing beside"),
    ] {
        let text = format!("{lines}data file: {data}\n");
        let message = refusal(&folder.write("a.nhdr", header("short", &text)));
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn headers_come_in_every_notation() {
    let folder = Folder::new();
    let voxels = pattern(24);
    let header = "NRRD0005\r\n# a comment: of a person\r\nType: uchar\r\nDIMENSION:3\r\n\
                  Sizes: 4 3 2\r\nEncoding: RAW\r\nSpace:RAS\r\n\
                  Space Directions: (1, 0, 0) ( 0,1,0 )(0,0,1)\r\nkey:=value: with colon\r\n\r\n";
    let found = read(&folder.write("a.nrrd", [header.as_bytes(), &voxels].concat()));
    assert_eq!(found.voxels, voxels);
    assert_eq!(found.volume.affine.spacing_mm(), [1.0; 3]);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
}

#[test]
fn spaces_are_turned_to_ras() {
    let folder = Folder::new();
    let file = |lines: &str| {
        let text = header("uchar", &format!("encoding: raw\n{lines}\n"));
        folder.write("a.nrrd", [text.as_bytes(), &pattern(24)].concat())
    };
    let directions = "space directions: (0,2,0) (0.5,0,1) (0,0,3)\nspace origin: (7,8,9)\n";
    for (space, [x, y], note) in [
        ("right-anterior-superior", [1.0, 1.0], ""),
        ("RAS", [1.0, 1.0], ""),
        ("left-anterior-superior", [-1.0, 1.0], ""),
        ("LPS", [-1.0, -1.0], ""),
        ("scanner-xyz", [-1.0, -1.0], "scanner-xyz"),
        ("3D-right-handed", [-1.0, -1.0], "as ITK does"),
    ] {
        let found = read(&file(&format!("space: {space}\n{directions}")));
        let expected =
            [[0.0, 0.5 * x, 0.0, 7.0 * x], [2.0 * y, 0.0, 0.0, 8.0 * y], [0.0, 1.0, 3.0, 9.0]];
        assert_eq!(rows(&found.volume.affine), expected, "{space}");
        assert_eq!(found.notes.len(), usize::from(!note.is_empty()), "{:?}", found.notes);
        assert!(found.notes.iter().all(|found| found.contains(note)));
    }
    let found = read(&file(&format!("space dimension: 3\n{directions}")));
    assert!(found.notes[0].contains("states no space"), "{:?}", found.notes);
    let units = "space units: \"um\" \"um\" \"um\"\n";
    let found = read(&file(&format!("space: RAS\n{units}{directions}")));
    assert_eq!(found.volume.unit, Some(LengthUnit::Micrometer));
    for (lines, word) in [
        ("space: RAS\nspacings: 1 1 1\n".into(), "in place of space directions"),
        (format!("space: right-up\n{directions}"), "right-up"),
        (format!("space: RAST\n{directions}"), "RAST"),
        ("space: RAS\nspace directions: (1,0,0) (0,1,0)\n".into(), "expected 3 vectors"),
        ("space: RAS\nspace directions: (1,0,0) (0,1,0) (0,1,0)\n".into(), "singular"),
        ("space: RAS\nspace directions: (1,0,0,0) (0,1,0,0) (0,1,0,0)\n".into(), "4 numbers"),
        (format!("space: RAS\n{directions}space origin: 1 2 3\n"), "twice"),
    ] {
        let message = refusal(&file(&lines));
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn spacings_and_ends_of_axes_place_centres_of_cells_or_nodes() {
    let folder = Folder::new();
    for (lines, expected) in [
        ("spacings: 1 2 3\naxis mins: 5 6 7\n", [[1.0, 5.5], [2.0, 7.0], [3.0, 8.5]]),
        (
            "spacings: 1 2 3\naxis mins: 5 6 7\ncenters: cell node ???\n",
            [[1.0, 5.5], [2.0, 6.0], [3.0, 8.5]],
        ),
        (
            "axis mins: 0 0 0\naxis maxs: 8 6 5\ncenterings: cell node node\n",
            [[2.0, 1.0], [3.0, 0.0], [5.0, 0.0]],
        ),
        ("spacings: 1 nan 3\n", [[1.0, 0.0], [1.0, 0.0], [3.0, 0.0]]),
    ] {
        let text = header("uchar", &format!("encoding: raw\n{lines}\n"));
        let found = read(&folder.write("a.nrrd", [text.as_bytes(), &pattern(24)].concat()));
        let affine = rows(&found.volume.affine);
        for (axis, [step, origin]) in expected.into_iter().enumerate() {
            let sign = if axis < 2 { -1.0 } else { 1.0 };
            assert_eq!(
                [affine[axis][axis], affine[axis][3]],
                [sign * step, sign * origin],
                "{lines}"
            );
        }
    }
    let text = header("uchar", "encoding: raw\n\n");
    let found = read(&folder.write("a.nrrd", [text.as_bytes(), &pattern(24)].concat()));
    assert!(found.notes.iter().any(|note| note.contains("1 mm is assumed")), "{:?}", found.notes);
}

#[test]
fn channels_lie_on_any_axis() {
    let folder = Folder::new();
    let voxels = pattern(24 * 5 * 2);
    // (z, y, x, c), (z, y, c, x), (z, c, y, x), (c, z, y, x)
    for (place, sizes, unit) in
        [(0, "5 4 3 2", 2), (1, "4 5 3 2", 8), (2, "4 3 5 2", 24), (3, "4 3 2 5", 48)]
    {
        let mut directions = vec!["(1,0,0)", "(0,1,0)", "(0,0,1)"];
        directions.insert(place, "none");
        let mut kinds = vec!["domain", "space", "domain"];
        kinds.insert(place, "vector");
        for lines in [
            format!("space: RAS\nspace directions: {}\n", directions.join(" ")),
            format!("kinds: {}\n", kinds.join(" ")),
        ] {
            let text = format!(
                "NRRD0004\ntype: short\nendian: little\nencoding: raw\ndimension: 4\nsizes: \
                 {sizes}\n{lines}\n"
            );
            let found = read(&folder.write("a.nrrd", [text.as_bytes(), &voxels].concat()));
            assert_eq!((found.volume.size, found.volume.channels), ([2, 3, 4], Some(5)), "{lines}");
            assert_eq!(found.voxels, planes(&voxels, 5, unit), "{lines}");
        }
    }
    let text = "NRRD0001\ntype: short\nendian: little\nencoding: raw\ndimension: 4\nsizes: 4 3 2 \
                5\n\n";
    let found = read(&folder.write("a.nrrd", [text.as_bytes(), &voxels].concat()));
    assert_eq!((found.volume.channels, &found.voxels), (Some(5), &voxels));
    assert!(found.notes.iter().any(|note| note.contains("slowest")), "{:?}", found.notes);
    let text = "NRRD0004\ntype: short\nendian: little\nencoding: raw\ndimension: 5\nsizes: 2 4 3 2 \
                5\nkinds: list domain domain domain list\n\n";
    let message = refusal(&folder.write("a.nrrd", [text.as_bytes(), &voxels].concat()));
    assert!(message.contains("unu slice"), "{message}");
    let text = "NRRD0004\ntype: short\nendian: little\nencoding: raw\ndimension: 2\nsizes: 4 30\n\
                space dimension: 2\nspace directions: (2,0) (0,3)\n\n";
    let found = read(&folder.write("a.nrrd", [text.as_bytes(), &voxels].concat()));
    assert_eq!(found.volume.size, [1, 30, 4]);
    assert_eq!(found.volume.affine.spacing_mm(), [1.0, 3.0, 2.0]);
}

#[test]
fn segments_name_labels() {
    let folder = Folder::new();
    let segments = "Segment0_ID:=Segment_1\nSegment0_Name:=liver left\nSegment0_Color:=1 0.5 0\n\
                    Segment0_LabelValue:=1\nSegment0_Layer:=0\nSegment1_ID:=a\nSegment1_Name:=b\n\
                    Segment1_LabelValue:=3\nSegment1_Color:=0 2 x\n";
    let lines = format!("encoding: raw\n{segments}");
    let found = read(&folder.write("a.seg.nrrd", attached("uchar", &lines, &pattern(24))));
    let names: Vec<_> =
        found.label_names.iter().map(|l| (&l.ids[..], &*l.name, l.color.as_deref())).collect();
    assert_eq!(names, [(&[1][..], "liver left", Some("#ff8000")), (&[3][..], "b", None)]);
    let overlapping = segments.replace("LabelValue:=3", "LabelValue:=1");
    let lines = format!("encoding: raw\n{overlapping}");
    let found = read(&folder.write("a.seg.nrrd", attached("uchar", &lines, &pattern(24))));
    assert!(found.label_names.is_empty());
    assert!(found.notes[0].contains("overlap"), "{:?}", found.notes);
}

#[test]
fn of_pairs_only_numbers_of_diffusion_are_kept() {
    let folder = Folder::new();
    let lines = "encoding: raw\ncontent: Jane Doe\nmeasurement frame: (1,0,0) (0,1,0) (0,0,1)\n\
                 PatientName:=Jane Doe\nDWMRI_b-value:=1000\nDWMRI_gradient_0001:= 0 0.5 1\n\
                 DWMRI_gradient_Doe:=1\nDWMRI_NEX_0:=Doe\nmodality:=DWMRI Doe\n";
    let found = read(&folder.write("a.nrrd", attached("uchar", lines, &pattern(24))));
    let text = serde_json::to_string(&found.volume.origin).unwrap();
    assert!(!text.contains("Doe"), "{text}");
    assert_eq!(found.volume.origin["key_values"]["DWMRI_gradient_0001"], "0 0.5 1");
    assert_eq!(found.volume.origin["measurement_frame"][0][0], -1.0);
}

#[test]
fn other_headers_are_refused() {
    let folder = Folder::new();
    let base = "type: short\ndimension: 3\nsizes: 4 3 2\nendian: little\nencoding: raw\n";
    for (from, to, word) in [
        ("dimension: 3\n", "", "dimension"),
        ("dimension: 3", "dimension: 1", "2 to 4"),
        ("dimension: 3", "dimension: 99", "2 to 4"),
        ("sizes: 4 3 2", "sizes: 4 3", "3 extents"),
        ("sizes: 4 3 2", "sizes: 4 0 2", "from 1 on"),
        ("sizes: 4 3 2", "sizes: 99999999999 99999999999 2", "more than any"),
        ("sizes: 4 3 2", "sizes: 4000 4000 2000", "promises"),
        ("type: short\n", "", "\"type\""),
        ("type: short", "type: block", "block"),
        ("endian: little\n", "", "endian is missing"),
        ("endian: little", "endian: middle", "middle"),
        ("encoding: raw\n", "", "\"encoding\""),
        ("encoding: raw", "encoding: zrl", "zrl"),
        ("encoding: raw", "encoding: gzip\nbyte skip: -1", "byte skip"),
        ("encoding: raw", "encoding: raw\nbyte skip: -2", "byte skip"),
        ("encoding: raw", "encoding: raw\nbyte skip: 99", "promises"),
        ("encoding: raw", "encoding: raw\nline skip: 99", "fewer than 99 lines"),
        ("encoding: raw", "encoding: raw\nkinds: domain domain", "2 values"),
        ("encoding: raw", "encoding: raw\nencoding: raw", "twice"),
        ("encoding: raw", "encoding: raw\nnonsense", "nonsense"),
    ] {
        assert!(base.contains(from));
        let text = format!("NRRD0004\n{}\n", base.replace(from, to));
        let message = refusal(&folder.write("a.nrrd", [text.as_bytes(), &pattern(48)].concat()));
        assert!(message.contains(word) && message.contains("a.nrrd"), "{message}");
    }
    let message = refusal(&folder.write("a.nrrd", "NRRD0009\n\n"));
    assert!(message.contains("NRRD0009"), "{message}");
}
