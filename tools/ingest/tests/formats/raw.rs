//! Files of voxels and nothing else.

use voxquarry::format::attributes::Kind;
use voxquarry::{Affine, Dtype};
use voxquarry_ingest::{
    ByteOrder, IngestOptions, Manifest, NoopObserver, RawVoxels, Source, Stated, VolumeInput,
    ingest, subject_of,
};

use crate::{Folder, pattern, read_with, refusal, swapped};

fn stated(voxels: RawVoxels) -> Stated {
    let mut stated = Stated::default();
    stated.raw = Some(voxels);
    stated
}

#[test]
fn what_is_stated_is_read() {
    let folder = Folder::new();
    let voxels = pattern(240);
    let mut raw = RawVoxels::of_shape(&[2, 3, 4, 5], Dtype::Int16).unwrap();
    let path = folder.write("a.raw", &voxels);
    let found = read_with(&path, &stated(raw), 2).unwrap();
    assert_eq!((found.volume.size, found.volume.channels), ([3, 4, 5], Some(2)));
    assert_eq!(found.voxels, voxels);
    assert!(found.notes[0].contains("1 mm is assumed"), "{:?}", found.notes);
    (raw.offset, raw.order) = (7, ByteOrder::Big);
    let path = folder.write("b.dat", [&b"\x1f\x8b45678"[..], &voxels].concat());
    let mut with_affine = stated(raw);
    with_affine.affine = Some(Affine::diagonal([3.0, 2.0, 1.0]));
    let found = read_with(&path, &with_affine, 1).unwrap();
    assert_eq!(found.voxels, swapped(&voxels, 2));
    assert_eq!(found.volume.affine.spacing_mm(), [3.0, 2.0, 1.0]);
    assert!(found.notes.is_empty());
    for (bytes, word) in [(239, "246 bytes"), (241, "248 bytes"), (0, "7 bytes")] {
        let path = folder.write("b.dat", pattern(bytes + 7));
        let message = read_with(&path, &stated(raw), 1).err().unwrap().to_string();
        assert!(message.contains(word) && message.contains("need 247"), "{message}");
    }
    assert!(refusal(&folder.join("a.raw")).contains("neither its content"));
    for shape in [&[1, 2][..], &[1, 2, 0], &[1, 2, 3, 4, 5], &[0, 1, 1, 1]] {
        assert!(RawVoxels::of_shape(shape, Dtype::Int16).is_err());
    }
    let huge = RawVoxels::of_shape(&[usize::MAX, usize::MAX, 2], Dtype::Int16).unwrap();
    assert!(read_with(&folder.join("a.raw"), &stated(huge), 1).is_err());
}

#[test]
fn a_second_run_knows_what_was_stated() {
    let folder = Folder::new();
    let path = folder.write("a.raw", pattern(240));
    assert_eq!(subject_of(&path), "a");
    let store = folder.join("s.zarr");
    let run = |raw| {
        let mut manifest = Manifest::new();
        manifest.push(Source::new("a", "ct", Kind::Image, VolumeInput::from(&*path))).unwrap();
        let options = IngestOptions::default().patch_sizes([[4; 3]]).raw(raw);
        ingest(&manifest, &store, &options, &NoopObserver)
    };
    let raw = RawVoxels::new([6, 5, 4], Dtype::Int16);
    assert_eq!(run(raw).unwrap().written, ["a"]);
    assert_eq!(run(raw).unwrap().skipped, ["a"]);
    let mut big = raw;
    big.order = ByteOrder::Big;
    assert!(run(big).is_err(), "other voxels of the same bytes");
}
