//! Arrays of numpy, by its document of the format, and archives, by the document of ZIP.

use flate2::{Compression, Crc};
use std::io::Write;

use flate2::write::DeflateEncoder;
use voxquarry::Dtype;
use voxquarry_ingest::{Place, Stated, VolumeInput};

use crate::{Folder, pattern, read, read_with, refusal, swapped};

pub fn npy(descr: &str, is_fortran: bool, shape: &str, voxels: &[u8]) -> Vec<u8> {
    let order = if is_fortran { "True" } else { "False" };
    let mut text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}");
    text.extend(std::iter::repeat_n(' ', 63 - (10 + text.len()) % 64));
    text.push('\n');
    let length = (text.len() as u16).to_le_bytes();
    [&b"\x93NUMPY\x01\x00"[..], &length, text.as_bytes(), voxels].concat()
}

/// The members of an archive: name, bytes, whether they are deflated. With `wide` sizes are in
/// Zip64 fields, as numpy writes them locally, and in the directory.
pub fn npz(members: &[(&str, Vec<u8>, bool)], wide: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, is_deflated) in members {
        let mut packed = bytes.clone();
        if *is_deflated {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            packed = encoder.finish().unwrap();
        }
        let mut crc = Crc::new();
        crc.update(bytes);
        let offset = file.len() as u64;
        let sizes = [packed.len() as u64, bytes.len() as u64];
        let narrow = |n: u64| if wide { u32::MAX } else { n as u32 }.to_le_bytes();
        let mut common = vec![45, 0, 0, 0, if *is_deflated { 8 } else { 0 }, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend(sizes.iter().flat_map(|&n| narrow(n)));
        common.extend((name.len() as u16).to_le_bytes());
        let field = |numbers: &[u64]| {
            let mut field = vec![1, 0];
            field.extend((8 * numbers.len() as u16).to_le_bytes());
            field.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
            if wide { field } else { Vec::new() }
        };
        let local = field(&[sizes[1], sizes[0]]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend((local.len() as u16).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(&local);
        file.extend(&packed);
        let listed = field(&[sizes[1], sizes[0], offset]);
        directory.extend(b"PK\x01\x02\x2d\x00");
        directory.extend(&common);
        directory.extend((listed.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(narrow(offset));
        directory.extend(name.as_bytes());
        directory.extend(&listed);
    }
    let (at, bytes, count) = (file.len() as u64, directory.len() as u64, members.len() as u16);
    file.extend(&directory);
    if wide {
        let end = file.len() as u64;
        file.extend(b"PK\x06\x06");
        file.extend(44u64.to_le_bytes());
        file.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [u64::from(count), u64::from(count), bytes, at] {
            file.extend(number.to_le_bytes());
        }
        file.extend(b"PK\x06\x07\0\0\0\0");
        file.extend(end.to_le_bytes());
        file.extend([1, 0, 0, 0]);
    }
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].iter().flat_map(|n| n.to_le_bytes()));
    let narrow = |n: u64| if wide { u32::MAX } else { n as u32 }.to_le_bytes();
    file.extend([narrow(bytes), narrow(at)].concat());
    file.extend([0, 0]);
    file
}

/// Elements `(c, z, y, x)` of an array whose first axis is fastest.
fn of_fortran(voxels: &[u8], [c, z, y, x]: [usize; 4], width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (channel, k) in (0..c).flat_map(|channel| (0..z).map(move |k| (channel, k))) {
        for (j, i) in (0..y).flat_map(|j| (0..x).map(move |i| (j, i))) {
            let at = channel + c * (k + z * (j + y * i));
            out.extend(&voxels[at * width..][..width]);
        }
    }
    out
}

const TYPES: [(&str, Dtype); 11] = [
    ("u1", Dtype::UInt8),
    ("i1", Dtype::Int8),
    ("u2", Dtype::UInt16),
    ("i2", Dtype::Int16),
    ("u4", Dtype::UInt32),
    ("i4", Dtype::Int32),
    ("u8", Dtype::UInt64),
    ("i8", Dtype::Int64),
    ("f2", Dtype::Float16),
    ("f4", Dtype::Float32),
    ("f8", Dtype::Float64),
];

#[test]
fn every_type_and_order_is_read() {
    let folder = Folder::new();
    for (name, dtype) in TYPES {
        let width = dtype.size();
        let voxels = pattern(120 * width);
        for (mark, is_big) in [('<', false), ('=', false), ('>', true)] {
            let expected = if is_big { swapped(&voxels, width) } else { voxels.clone() };
            for (shape, size, channels) in [
                ("(6, 5, 4)", [6, 5, 4], None),
                ("(3, 2, 5, 4)", [2, 5, 4], Some(3)),
                ("(30, 4)", [1, 30, 4], None),
            ] {
                let descr = format!("'{mark}{name}'");
                let found = read(&folder.write("a.npy", npy(&descr, false, shape, &voxels)));
                assert_eq!((found.volume.size, found.volume.channels), (size, channels));
                assert_eq!(found.volume.dtype, dtype);
                assert_eq!(found.voxels, expected, "{descr} {shape}");
                let found = read(&folder.write("a.npy", npy(&descr, true, shape, &voxels)));
                let extents = [channels.unwrap_or(1), size[0], size[1], size[2]];
                assert_eq!(found.voxels, of_fortran(&expected, extents, width), "{descr} {shape}");
                let notes = found.notes.join(" ");
                assert!(notes.contains("Fortran") && notes.contains("1 mm is assumed"), "{notes}");
            }
        }
    }
    let found = read(&folder.write("a.npy", npy("'|b1'", false, "(1, 2, 2)", &[0, 1, 1, 0])));
    assert_eq!((found.volume.dtype, found.voxels), (Dtype::UInt8, vec![0, 1, 1, 0]));
}

#[test]
fn a_long_first_axis_is_gathered_in_pieces() {
    let folder = Folder::new();
    let voxels = pattern(1_200_000 * 2);
    let path = folder.write("a.npy", npy("'<u2'", true, "(600, 50, 40)", &voxels));
    let found = read_with(&path, &Stated::default(), 250).unwrap();
    assert!(found.voxels == of_fortran(&voxels, [1, 600, 50, 40], 2));
    let voxels = pattern(1_500_000);
    let path = folder.write("a.npy", npy("'|u1'", true, "(750000, 1, 2)", &voxels));
    let found = read_with(&path, &Stated::default(), 750_000).unwrap();
    assert!(found.voxels == of_fortran(&voxels, [1, 750_000, 1, 2], 1));
}

#[test]
fn members_of_an_archive_are_volumes() {
    let folder = Folder::new();
    let (ct, seg) = (pattern(240), pattern(120));
    let arrays = |is_deflated| {
        [
            ("ct.npy", npy("'>i2'", false, "(6, 5, 4)", &ct), is_deflated),
            ("seg.npy", npy("'|u1'", true, "(6, 5, 4)", &seg), is_deflated),
            ("spacing.npy", npy("'<f8'", false, "(3,)", &[0; 24]), is_deflated),
            ("notes.txt", b"text".to_vec(), is_deflated),
        ]
    };
    for is_deflated in [false, true] {
        for wide in [false, true] {
            let path = folder.write("a.npz", npz(&arrays(is_deflated), wide));
            let member = |name: &str| format!("{}::{name}", path.display());
            let found = read(member("ct").as_ref());
            assert_eq!(found.voxels, swapped(&ct, 2));
            // The digest is that of the voxels.
            assert_eq!(found.digest.bytes, 240);
            let found = read(member("seg").as_ref());
            assert_eq!(found.voxels, of_fortran(&seg, [1, 6, 5, 4], 1));
            let message = refusal(member("none").as_ref());
            assert!(message.contains("ct, seg, spacing"), "{message}");
            assert!(refusal(member("spacing").as_ref()).contains("no volume"));
            let error = read_with(&path, &Stated::default(), 1).err().unwrap().to_string();
            assert!(error.contains("holds 2 volumes") && error.contains("::seg"), "{error}");
            let alone = folder.write("b.npz", npz(&arrays(is_deflated)[..1], wide));
            assert_eq!(read(&alone).voxels, swapped(&ct, 2));
        }
    }
    let input = VolumeInput::from(folder.join("a.npz::ct"));
    let member = Place::Member { path: folder.join("a.npz"), member: "ct".into() };
    assert_eq!(input, VolumeInput::Place(member));
}

#[test]
fn other_arrays_are_refused() {
    let folder = Folder::new();
    for (descr, shape, word) in [
        ("'|O'", "(2, 2, 2)", "unpickled"),
        ("'<c8'", "(2, 2, 2)", "complex"),
        ("[('a', '<i2')]", "(2, 2, 2)", "structured"),
        ("'<U4'", "(2, 2, 2)", "convert"),
        ("'<M8[ns]'", "(2, 2, 2)", "convert"),
        ("'<f16'", "(2, 2, 2)", "float64"),
        ("'<i2'", "()", "no volume"),
        ("'<i2'", "(8,)", "no volume"),
        ("'<i2'", "(2, 0, 2)", "no volume"),
        ("'<i2'", "(1, 1, 2, 2, 2)", "no volume"),
        ("'<i2'", "(2, 2, -2)", "damaged"),
        ("'<i2'", "(2, 2, 3)", "promises"),
        ("'<i2'", "(99999999999, 99999999999, 2)", "more than any"),
    ] {
        let message = refusal(&folder.write("a.npy", npy(descr, false, shape, &pattern(16))));
        assert!(message.contains(word) && message.contains("a.npy"), "{message}");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let folder = Folder::new();
    let member = |bytes: Vec<u8>| npz(&[("a.npy", bytes, false)], false);
    let array = npy("'<u2'", false, "(2, 5, 6)", &pattern(120));
    let whole = member(array.clone());
    let mut crc = whole.clone();
    crc[14] ^= 1;
    let at = whole.len() - 22 - 51 + 16;
    crc[at] ^= 1;
    let mut method = whole.clone();
    let at = whole.len() - 22 - 51 + 10;
    method[at] = 99;
    let mut encrypted = whole.clone();
    encrypted[at - 2] = 1;
    let mut offset = whole.clone();
    offset[whole.len() - 22 - 51 + 42] = 7;
    for (bytes, word) in [
        (crc, "checksum"),
        (method, "deflate"),
        (encrypted, "encrypted"),
        (offset, "not where"),
        (member(npy("'<u2'", false, "(2, 5, 7)", &pattern(120))), "needs 140"),
        (member(array[..20].to_vec()), "ends early"),
        (b"PK\x03\x04".to_vec(), "directory"),
        (npz(&[], false), "no volume"),
    ] {
        let message = refusal(&folder.write("a.npz", bytes));
        assert!(message.contains(word), "{word}: {message}");
    }
}
