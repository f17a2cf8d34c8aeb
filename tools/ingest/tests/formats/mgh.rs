//! MGH and MGZ, by the layout of FreeSurfer's MRI structures.

use voxquarry::Dtype;

use crate::{Folder, gzip, pattern, read, refusal, rows, swapped};

/// A file of 4 × 3 × 2 voxels, big endian; type code and frames as stated.
pub fn mgh(code: i32, width: usize, frames: i32, is_directed: bool) -> Vec<u8> {
    let words = [1, 4, 3, 2, frames, code, 0];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend([0, u8::from(is_directed)]);
    // Steps, the directions of x, y and z, the centre.
    let numbers =
        [2.0, 0.5, 3.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0, 10.0, 20.0, 30.0f32];
    bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    bytes.resize(284, 0);
    bytes.extend(pattern(24 * width * frames as usize));
    bytes
}

#[test]
fn every_type_is_read() {
    let folder = Folder::new();
    for (code, dtype) in [
        (0, Dtype::UInt8),
        (1, Dtype::Int32),
        (3, Dtype::Float32),
        (4, Dtype::Int16),
        (10, Dtype::UInt16),
    ] {
        for frames in [1, 3] {
            let bytes = mgh(code, dtype.size(), frames, true);
            for (name, bytes) in [("a.mgh", bytes.clone()), ("a.mgz", gzip(&bytes))] {
                let found = read(&folder.write(name, &bytes));
                assert_eq!(found.volume.dtype, dtype);
                assert_eq!(found.volume.size, [2, 3, 4]);
                assert_eq!(found.volume.channels, (frames > 1).then_some(frames as usize));
                let voxels = pattern(24 * dtype.size() * frames as usize);
                assert_eq!(found.voxels, swapped(&voxels, dtype.size()), "{dtype} {name}");
                assert_eq!(found.digest.bytes, bytes.len() as u64);
            }
        }
    }
}

#[test]
fn the_centre_is_half_of_the_extents() {
    let folder = Folder::new();
    let found = read(&folder.write("a.mgh", mgh(0, 1, 1, true)));
    // The centre (2, 1.5, 1) lies at (10, 20, 30).
    let expected = [[-2.0, 0.0, 0.0, 14.0], [0.0, 0.0, 3.0, 17.0], [0.0, -0.5, 0.0, 30.75]];
    assert_eq!(rows(&found.volume.affine), expected);
    assert!(found.notes.is_empty());
}

#[test]
fn a_file_without_directions_is_coronal() {
    let folder = Folder::new();
    let found = read(&folder.write("a.mgh", mgh(0, 1, 1, false)));
    let expected = [[-1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, -1.0], [0.0, -1.0, 0.0, 1.5]];
    assert_eq!(rows(&found.volume.affine), expected);
    assert!(found.notes[0].contains("coronal"), "{:?}", found.notes);
}

#[test]
fn of_the_footer_only_numbers_are_kept() {
    let folder = Folder::new();
    let mut bytes = mgh(4, 2, 1, true);
    bytes.extend([2000.0f32, 0.5, 3.0, f32::NAN, 256.0].iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(b"\0\0\0\x03\0\0\0\0\0\0\0\x10mri_convert /data/doe/jane.mgz");
    for bytes in [bytes.clone(), gzip(&bytes)] {
        let found = read(&folder.write("a.mgz", bytes));
        let origin = &found.digest.origin;
        assert_eq!((origin["tr_ms"].as_f64(), origin["fov_mm"].as_f64()), (Some(2e3), Some(256.0)));
        let text = format!("{:?} {origin:?}", found.volume.origin);
        assert!(!text.contains("doe") && !text.contains("NaN"), "{text}");
    }
}

#[test]
fn other_headers_are_refused() {
    let folder = Folder::new();
    for (at, bytes, word) in [
        (0, [0, 0, 0, 2], "version"),
        (4, [0, 0, 0, 0], "extent 0 is 0"),
        (8, [0xff; 4], "extent 1 is -1"),
        (4, [0x7f, 0, 0, 0], "promises"),
        (20, [0, 0, 0, 2], "type 2"),
        (20, [0, 0, 0, 6], "mri_convert"),
        (30, [0, 0, 0, 0], "singular"),
        (42, [0x7f, 0xc0, 0, 0], "finite"),
    ] {
        let mut file = mgh(4, 2, 1, true);
        file[at..at + 4].copy_from_slice(&bytes);
        let message = refusal(&folder.write("a.mgh", file));
        assert!(message.contains(word) && message.contains("a.mgh"), "{message}");
    }
}
