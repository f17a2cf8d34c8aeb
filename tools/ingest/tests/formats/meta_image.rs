//! MetaImage, by the documents of MetaIO and by what ITK reads.

use voxquarry::{Dtype, LengthUnit};

use crate::{Folder, gzip, pattern, planes, read, refusal, rows, swapped, zlib};

/// A header of 4 × 3 × 2 voxels; `lines` come before the last.
pub fn header(element: &str, lines: &str, data: &str) -> String {
    format!(
        "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = {element}\n\
         ElementSpacing = 0.5 2 3\n{lines}ElementDataFile = {data}\n"
    )
}

fn local(element: &str, lines: &str, voxels: &[u8]) -> Vec<u8> {
    [header(element, lines, "LOCAL").as_bytes(), voxels].concat()
}

#[test]
fn every_type_and_byte_order_is_read() {
    let folder = Folder::new();
    for (name, dtype) in [
        ("MET_CHAR", Dtype::Int8),
        ("MET_UCHAR", Dtype::UInt8),
        ("MET_SHORT", Dtype::Int16),
        ("MET_USHORT", Dtype::UInt16),
        ("MET_INT", Dtype::Int32),
        ("MET_UINT", Dtype::UInt32),
        ("MET_LONG", Dtype::Int32),
        ("MET_ULONG", Dtype::UInt32),
        ("MET_LONG_LONG", Dtype::Int64),
        ("MET_ULONG_LONG", Dtype::UInt64),
        ("MET_FLOAT", Dtype::Float32),
        ("MET_DOUBLE", Dtype::Float64),
    ] {
        let voxels = pattern(24 * dtype.size());
        for key in ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"] {
            let little = local(name, &format!("{key} = False\n"), &voxels);
            let found = read(&folder.write("a.mha", little));
            assert_eq!((found.volume.dtype, found.volume.size), (dtype, [2, 3, 4]));
            assert_eq!(found.voxels, voxels, "{name}");
            let big = local(name, &format!("{key}=True\n"), &voxels);
            let found = read(&folder.write("a.mha", big));
            assert_eq!(found.voxels, swapped(&voxels, dtype.size()), "{name}");
        }
    }
}

#[test]
fn zlib_needs_no_size_and_may_be_gzip() {
    let folder = Folder::new();
    let voxels = pattern(48);
    for (packed, size) in [
        (zlib(&voxels), ""),
        (zlib(&voxels), "CompressedDataSize = 0\n"),
        (zlib(&voxels), "CompressedDataSize = 999999\n"),
        (gzip(&voxels), "CompressedDataSize = 7\n"),
    ] {
        let lines = format!("CompressedData = True\n{size}");
        let found = read(&folder.write("a.mha", local("MET_SHORT", &lines, &packed)));
        assert_eq!(found.voxels, voxels);
        folder.write("a.zraw", &packed);
        let detached = header("MET_SHORT", &lines, "a.zraw");
        let found = read(&folder.write("a.mhd", &detached));
        assert_eq!(found.voxels, voxels);
        assert_eq!(found.digest.bytes, (detached.len() + packed.len()) as u64);
    }
}

#[test]
fn voxels_lie_in_one_file_or_in_several() {
    let folder = Folder::new();
    let voxels = pattern(48);
    folder.write("all.raw", [&b"12345"[..], &voxels].concat());
    folder.write("p07.raw", &voxels[..24]);
    folder.write("p09.raw", &voxels[24..]);
    for (lines, data) in [
        ("HeaderSize = 5\n", "all.raw"),
        ("HeaderSize = -1\n", "all.raw"),
        ("", "LIST\np07.raw\np09.raw"),
        ("", "LIST 2\n\np07.raw\n./p09.raw"),
        ("", "LIST 2D\np07.raw\np09.raw"),
        ("", "p%02d.raw 7 9 2"),
    ] {
        let found = read(&folder.write("a.mhd", header("MET_SHORT", lines, data)));
        assert_eq!(found.voxels, voxels, "{data}");
    }
    let tail = local("MET_SHORT", "HeaderSize = -1\n", &[&b"xyz"[..], &voxels].concat());
    assert_eq!(read(&folder.write("a.mha", tail)).voxels, voxels);
}

#[test]
fn rows_of_the_matrix_are_directions_of_axes() {
    let folder = Folder::new();
    for (matrix, offset) in
        [("TransformMatrix", "Offset"), ("Rotation", "Position"), ("Orientation", "Origin")]
    {
        let lines = format!("{matrix} = 0 1 0 0 0 -1 1 0 0\n{offset} = 7 8 -9\n");
        let found = read(&folder.write("a.mha", local("MET_UCHAR", &lines, &pattern(24))));
        // Columns x, y, z in LPS: (0, 0.5, 0), (0, 0, -2), (3, 0, 0); in RAS+ x and y change signs.
        let expected = [[0.0, 0.0, -3.0, -7.0], [-0.5, 0.0, 0.0, -8.0], [0.0, -2.0, 0.0, -9.0]];
        assert_eq!(rows(&found.volume.affine), expected);
        assert!(found.notes.is_empty(), "{:?}", found.notes);
    }
}

#[test]
fn what_headers_leave_out_is_told() {
    let folder = Folder::new();
    let lines = "NDims=2\nDimSize=4 6\nElementType=MET_UCHAR\n";
    let text = format!("{lines}ElementDataFile=LOCAL\n");
    let found = read(&folder.write("a.mha", [text.as_bytes(), &pattern(24)].concat()));
    assert_eq!(found.volume.size, [1, 6, 4]);
    assert!(found.notes[0].contains("1 mm is assumed"), "{:?}", found.notes);
    let text = format!("{lines}ElementSize=2 3\nDistanceUnits=um\nElementDataFile=LOCAL\n");
    let found = read(&folder.write("a.mha", [text.as_bytes(), &pattern(24)].concat()));
    assert_eq!(found.volume.affine.spacing_mm(), [1.0, 3.0, 2.0]);
    assert_eq!(found.volume.unit, Some(LengthUnit::Micrometer));
    let text = format!("{lines}ElementSpacing=2 3\nDistanceUnits=feet\nElementDataFile=LOCAL\n");
    let found = read(&folder.write("a.mha", [text.as_bytes(), &pattern(24)].concat()));
    assert!(found.notes[0].contains("feet"), "{:?}", found.notes);
}

#[test]
fn channels_are_interleaved_or_the_fourth_axis() {
    let folder = Folder::new();
    let voxels = pattern(24 * 2 * 5);
    let lines = "ElementNumberOfChannels = 5\n";
    let found = read(&folder.write("a.mha", local("MET_SHORT", lines, &voxels)));
    assert_eq!((found.volume.channels, found.volume.interleaved), (Some(5), 5));
    assert_eq!(found.voxels, planes(&voxels, 5, 2));
    let text = "NDims = 4\nDimSize = 4 3 2 5\nElementSpacing = 1 1 1 9\nElementType = MET_SHORT\n\
                ElementDataFile = LOCAL\n";
    let found = read(&folder.write("a.mha", [text.as_bytes(), &voxels].concat()));
    assert_eq!((found.volume.channels, found.volume.interleaved), (Some(5), 1));
    assert_eq!(found.voxels, voxels);
}

#[test]
fn numbers_are_also_text() {
    let folder = Folder::new();
    let text: Vec<_> = (0..24).map(|i| (i * 1000 - 9000).to_string()).collect();
    let lines = "BinaryData = False\nBinaryDataByteOrderMSB = True\n";
    let found =
        read(&folder.write("a.mha", local("MET_SHORT", lines, text.join("\n ").as_bytes())));
    let expected: Vec<u8> =
        (0..24).flat_map(|i| ((i * 1000 - 9000) as i16).to_le_bytes()).collect();
    assert_eq!(found.voxels, expected);
    for (text, word) in [("1 2 3", "promises"), ("1 40000 3", "40000"), ("1 x 3", "\"x\"")] {
        let text =
            if word == "promises" { text.to_owned() } else { text.to_owned() + &" 7".repeat(30) };
        let message = refusal(&folder.write("a.mha", local("MET_SHORT", lines, text.as_bytes())));
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn slope_and_offset_are_kept_and_persons_are_not() {
    let folder = Folder::new();
    let lines = "Comment = Jane Doe, 1 May 1970\nName = Doe\nPatientName = Doe\nModality = \
                 MET_MOD_CT\nAnatomicalOrientation = RAI\nElementToIntensityFunctionSlope = 2.5\n\
                 ElementToIntensityFunctionOffset = -1024\n";
    let found = read(&folder.write("a.mha", local("MET_UCHAR", lines, &pattern(24))));
    assert_eq!((found.volume.slope, found.volume.intercept), (2.5, -1024.0));
    let text = serde_json::to_string(&found.volume.origin).unwrap();
    assert!(!text.contains("Doe") && text.contains("MET_MOD_CT"), "{text}");
    let lines = "Modality = MET_MOD_DOE\n";
    let found = read(&folder.write("a.mha", local("MET_UCHAR", lines, &pattern(24))));
    assert!(!serde_json::to_string(&found.volume.origin).unwrap().contains("DOE"));
}

#[test]
fn no_path_leaves_the_folder() {
    let folder = Folder::new();
    for name in ["/etc/hostname", "../a.raw", "x/../../a.raw", "", "LIST\n/etc/hostname\nb"] {
        let message = refusal(&folder.write("a.mhd", header("MET_SHORT", "", name)));
        assert!(message.contains("folder"), "{message}");
    }
    let message = refusal(&folder.write("a.mhd", header("MET_SHORT", "", "gone.raw")));
    assert!(message.contains("missing beside") && message.contains("gone.raw"), "{message}");
}

#[test]
fn other_headers_are_refused() {
    let folder = Folder::new();
    for (lines, word) in [
        ("NDims = 4\n", "NDims"),
        ("DimSize = 4 3\n", "NDims"),
        ("DimSize = 4 0 2\n", "from 1 on"),
        ("DimSize = 4 x 2\n", "DimSize"),
        ("DimSize = 9999999999 9999999999 9999999999\n", "more than any"),
        ("DimSize = 4000 4000 4000\n", "promises"),
        ("NDims = 5\nDimSize = 4 3 2 1 2\nElementSpacing = 1 1 1 1 1\n", "2 to 4 axes"),
        ("NDims = 1\nDimSize = 4\n", "2 to 4 axes"),
        ("ElementType = MET_OTHER\n", "MET_OTHER"),
        ("ObjectType = Tube\n", "Tube"),
        ("ElementNumberOfChannels = 0\n", "is 0"),
        ("ElementSpacing = 1 1\n", "expected 3"),
        ("ElementSpacing = 1 0 1\n", "singular"),
        ("ElementSpacing = 1 nan 1\n", "finite"),
        ("HeaderSize = -2\n", "HeaderSize"),
        ("HeaderSize = 3\n", "HeaderSize"),
        ("HeaderSizePerSlice = 3\n", "HeaderSizePerSlice"),
        ("CompressedData = True\nBinaryData = False\n", "BinaryData"),
        ("ElementToIntensityFunctionSlope = 0\n", "slope"),
        ("nonsense\n", "Key = value"),
    ] {
        let message = refusal(&folder.write("a.mha", local("MET_UCHAR", lines, &pattern(24))));
        assert!(message.contains(word) && message.contains("a.mha"), "{message}");
    }
    for (data, word) in [
        ("LIST 9\na", "LIST"),
        ("LIST\na.mhd", "lists 1"),
        ("p%s.raw 1 2", "pattern"),
        ("p%d.raw 1", "a pattern"),
        ("p%d.raw 1 3", "3 files"),
    ] {
        let message = refusal(&folder.write("a.mhd", header("MET_UCHAR", "", data)));
        assert!(message.contains(word), "{message}");
    }
    let message = refusal(&folder.write("a.mha", "ObjectType = Image\nNDims = 3\n"));
    assert!(message.contains("ElementDataFile"), "{message}");
}
