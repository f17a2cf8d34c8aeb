//! Voxels, extents and descriptions of valid files in all their forms.

use std::fs;

use serde_json::json;
use sha2::{Digest, Sha256};
use voxquarry::{Affine, Fault};
use voxquarry_ingest::nifti;

use crate::build::{Folder, Nifti, PLAIN, gzip, pattern, read, read_ok};

fn little(mut bytes: Vec<u8>, width: usize, big: bool) -> Vec<u8> {
    if big {
        bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    bytes
}

fn hex_sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits = digest.iter().flat_map(|b| [b >> 4, b & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

#[test]
fn every_dtype_byte_order_version_and_form_is_read() {
    let folder = Folder::new();
    for (code, name, width) in PLAIN {
        for (version, big) in [(1, false), (1, true), (2, false), (2, true)] {
            let file = Nifti::new(version, big, code, &[3, 5, 4, 2]);
            let expected = little(file.voxels.clone(), width, big);
            let (header, image) = file.write_pair(folder.path(), "pair");
            let plain = folder.write("a.nii", &file.single());
            let zipped = folder.write("a.nii.gz", &gzip(&file.single()));
            for path in [plain, zipped, header, image] {
                let (volume, voxels, _) = read_ok(&path);
                assert_eq!(voxels, expected, "{name} {version} {big} {}", path.display());
                assert_eq!((volume.size, volume.channels), ([4, 5, 3], Some(2)));
                assert_eq!((volume.dtype.name(), volume.interleaved), (name, 1));
                assert_eq!(volume.origin["version"], version);
                assert_eq!(volume.origin["byte_order"], if big { "big" } else { "little" });
                assert_eq!(volume.origin["datatype"], code);
                assert_eq!(volume.origin["dim"], json!([3, 5, 4, 2]));
                assert_eq!(volume.origin["format"], "nifti");
            }
        }
    }
}

#[test]
fn known_numbers_are_read_in_both_byte_orders() {
    let folder = Folder::new();
    for big in [false, true] {
        let mut file = Nifti::new(1, big, 16, &[2, 1, 2]);
        let values = [1.5f32, -2.25, f32::NAN, f32::INFINITY];
        let bytes = |v: f32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        file.voxels = values.into_iter().flat_map(bytes).collect();
        let (volume, voxels, _) = read_ok(&folder.write("f.nii", &file.single()));
        let found: Vec<u32> =
            voxels.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(found, values.map(f32::to_bits));
        assert_eq!(volume.size, [2, 1, 2]);
    }
}

#[test]
fn axes_beyond_the_third_are_channels() {
    let folder = Folder::new();
    let all = [2, 3, 4, 2, 1, 3, 2];
    let expected = [
        ([1, 1, 2], None),
        ([1, 3, 2], None),
        ([4, 3, 2], None),
        ([4, 3, 2], Some(2)),
        ([4, 3, 2], Some(2)),
        ([4, 3, 2], Some(6)),
        ([4, 3, 2], Some(12)),
    ];
    for version in [1, 2] {
        for (axes, (size, channels)) in (1..=7).zip(expected) {
            // Fields beyond the last axis are ignored.
            let file = Nifti::new(version, false, 4, &all[..axes]);
            let file = if axes < 7 { file.with("dim", axes + 1, 0.0) } else { file };
            let (volume, voxels, _) = read_ok(&folder.write("d.nii", &file.single()));
            assert_eq!((volume.size, volume.channels), (size, channels));
            assert_eq!(voxels, file.voxels);
        }
    }
    let (volume, ..) =
        read_ok(&folder.write("t.nii", &Nifti::new(1, true, 2, &[2, 2, 2, 1]).single()));
    assert_eq!(volume.channels, Some(1), "a fourth axis of extent 1 is still an axis");
}

#[test]
fn colours_become_interleaved_channels() {
    let folder = Folder::new();
    for (code, samples) in [(128, 3), (2304, 4)] {
        for frames in [None, Some(2)] {
            let dims: Vec<i64> = [5, 3, 4].into_iter().chain(frames).collect();
            let file = Nifti::new(1, true, code, &dims).with("scl_slope", 0, 7.0);
            let path = folder.write("c.nii.gz", &gzip(&file.single()));
            for steps in [1, 3, 4, 9] {
                let (volume, voxels, _) = read(&path, steps).unwrap();
                let frames = frames.unwrap_or(1) as usize;
                assert_eq!(volume.channels, Some(frames * samples));
                assert_eq!((volume.interleaved, volume.dtype.name()), (samples, "uint8"));
                assert_eq!((volume.slope, volume.intercept), (1.0, 0.0), "colours are not scaled");
                for c in 0..frames * samples {
                    for i in 0..60 {
                        let disk = (c / samples * 60 + i) * samples + c % samples;
                        assert_eq!(voxels[c * 60 + i], file.voxels[disk]);
                    }
                }
            }
        }
    }
}

#[test]
fn planes_of_colours_may_exceed_the_buffer() {
    let folder = Folder::new();
    let file = Nifti::new(1, false, 128, &[700, 600, 2]);
    let (_, voxels, _) = read_ok(&folder.write("c.nii", &file.single()));
    let expected: Vec<u8> =
        (0..3).flat_map(|c| file.voxels.iter().skip(c).step_by(3).copied()).collect();
    assert_eq!(voxels, expected);
}

#[test]
fn any_number_of_steps_gives_the_same_voxels() {
    let folder = Folder::new();
    let file = Nifti::new(2, true, 8, &[9, 7, 11, 3]);
    let expected = little(file.voxels.clone(), 4, true);
    for path in
        [folder.write("s.nii", &file.single()), folder.write("s.nii.gz", &gzip(&file.single()))]
    {
        for steps in [1, 2, 5, 10, 11, 12] {
            assert_eq!(read(&path, steps).unwrap().1, expected);
        }
        let (_, mut stream) = nifti::open(&path).unwrap();
        stream.next_steps(0, &mut []).unwrap();
    }
}

#[test]
fn the_digest_is_of_the_bytes_on_disk() {
    let folder = Folder::new();
    let mut bytes = Nifti::new(1, false, 4, &[40, 30, 20]).single();
    bytes.extend(b"bytes after the voxels count");
    for (name, bytes) in [("d.nii", bytes.clone()), ("d.nii.gz", gzip(&bytes))] {
        let (.., digest) = read_ok(&folder.write(name, &bytes));
        assert_eq!(digest.sha256, hex_sha256(&bytes));
        assert_eq!(digest.bytes, bytes.len() as u64);
    }
    let (header, image) = Nifti::new(1, false, 4, &[40, 30, 20]).write_pair(folder.path(), "p");
    assert_eq!(read_ok(&header).2.sha256, hex_sha256(&fs::read(image).unwrap()));
}

#[test]
fn gzip_is_recognised_by_its_bytes_and_may_have_many_members() {
    let folder = Folder::new();
    let file = Nifti::new(1, false, 4, &[6, 5, 4]);
    let single = file.single();
    let members = |cuts: &[usize]| -> Vec<u8> {
        let ends = cuts.iter().copied().chain([single.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        starts.zip(ends).flat_map(|(from, to)| gzip(&single[from..to])).collect()
    };
    let many = members(&[0, 1, 200, 348, 352, 353, 353, 500]);
    for (name, bytes) in [
        ("zipped.nii", gzip(&single)),
        ("plain.nii.gz", single.clone()),
        ("no-extension", gzip(&single)),
        ("members.nii.gz", many.clone()),
        ("padded.nii.gz", [&many[..], &[0; 5000]].concat()),
        ("followed.nii.gz", [&many[..], b"other bytes"].concat()),
        (
            "zeros-within.nii.gz",
            [&gzip(&single[..400])[..], &[0; 512], &gzip(&single[400..])].concat(),
        ),
    ] {
        let (volume, voxels, digest) = read_ok(&folder.write(name, &bytes));
        assert_eq!(voxels, file.voxels, "{name}");
        assert_eq!(volume.size, [4, 5, 6]);
        assert_eq!(digest.sha256, hex_sha256(&bytes), "{name}");
    }
}

#[test]
fn a_pair_is_found_from_either_file() {
    let folder = Folder::new();
    let file = Nifti::new(1, true, 512, &[3, 2, 2]);
    let expected = little(file.voxels.clone(), 2, true);
    let (header, image) = file.write_pair(folder.path(), "p.x");
    let (header, image) = (fs::read(header).unwrap(), fs::read(image).unwrap());
    for (h, i) in [
        ("p.x.hdr", "p.x.img"),
        ("Q.HDR", "Q.IMG"),
        ("both.hdr.gz", "both.img.gz"),
        ("image.hdr", "image.img.gz"),
        ("head.hdr.gz", "head.img"),
    ] {
        let stored = |name: &str, b: &[u8]| if name.ends_with("gz") { gzip(b) } else { b.to_vec() };
        folder.write(h, &stored(h, &header));
        folder.write(i, &stored(i, &image));
        for named in [h, i] {
            let (volume, voxels, _) = read_ok(&folder.join(named));
            assert_eq!(voxels, expected, "{named}");
            assert_eq!(volume.origin["pair"], true);
        }
    }
    folder.write("alone.hdr", &header);
    let error = nifti::probe(&folder.join("alone.hdr")).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("alone.img") && message.contains("pair"), "{message}");
    assert_eq!(error.fault(), Fault::Data, "the named half is there");
    let error = nifti::probe(&folder.join("alone.img")).unwrap_err();
    assert_eq!(error.fault(), Fault::Environment, "the named half is missing: {error}");
}

#[test]
fn voxels_begin_where_vox_offset_says() {
    let folder = Folder::new();
    for version in [1, 2] {
        let mut gap = Nifti::new(version, false, 4, &[3, 2, 2]);
        let start = gap.header.len() + 4;
        gap.tail = [&[0; 4][..], &[7; 13]].concat();
        gap.set("vox_offset", 0, (start + 13) as f64);
        assert_eq!(read_ok(&folder.write("g.nii", &gap.single())).1, gap.voxels);
        // 0 means the standard's default.
        let zero = Nifti::new(version, false, 4, &[3, 2, 2]).with("vox_offset", 0, 0.0);
        assert_eq!(read_ok(&folder.write("z.nii", &zero.single())).1, zero.voxels);
        // The image of a pair may begin with other bytes, whatever the magic.
        for (magic_of_pair, offset) in [(true, 16), (false, 352), (false, 0)] {
            let mut file = Nifti::new(version, false, 4, &[3, 2, 2]);
            file.magic(magic_of_pair);
            file.set("vox_offset", 0, f64::from(offset));
            folder.write("o.hdr", &[&file.header[..], &file.tail].concat());
            let image = [&vec![9; offset as usize][..], &file.voxels].concat();
            folder.write("o.img", &image);
            assert_eq!(read_ok(&folder.join("o.hdr")).1, file.voxels, "{magic_of_pair} {offset}");
        }
        // A single file with the magic of a pair, which nibabel reads too.
        let mut single = Nifti::new(version, false, 4, &[3, 2, 2]);
        single.magic(true);
        assert_eq!(read_ok(&folder.write("m.nii", &single.single())).1, single.voxels);
    }
}

#[test]
fn small_faults_are_repaired_as_nibabel_repairs_them() {
    let folder = Folder::new();
    for big in [false, true] {
        let good = Nifti::new(1, big, 4, &[3, 2, 2]);
        for (field, value) in
            [("bitpix", 99.0), ("sizeof_hdr", 0.0), ("sizeof_hdr", 1_543_569_408.0)]
        {
            let (volume, ..) =
                read_ok(&folder.write("r.nii", &good.clone().with(field, 0, value).single()));
            assert_eq!(volume.size, [2, 2, 3], "{field} {value}");
        }
        // Without the bytes that reveal line ends, which old writers omit.
        let mut bare = Nifti::new(2, big, 4, &[3, 2, 2]);
        bare.header[8..12].fill(0);
        assert_eq!(read_ok(&folder.write("e.nii", &bare.single())).1.len(), 24);
    }
    // The bytes of version 2's magic are free text in version 1.
    let mut both = Nifti::new(1, false, 4, &[3, 2, 2]);
    both.header[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
    assert_eq!(read_ok(&folder.write("b.nii", &both.single())).0.origin["version"], 1);
}

#[test]
fn surfaces_of_freesurfer_get_their_true_extents() {
    let folder = Folder::new();
    let long = Nifti::new(1, true, 2, &[60, 1, 1, 2]).with("dim", 1, -1.0).with("glmin", 0, 60.0);
    let (volume, voxels, _) = read_ok(&folder.write("l.nii", &long.single()));
    assert_eq!((volume.size, volume.channels), ([1, 1, 60], Some(2)));
    assert_eq!(voxels, long.voxels);
    for (version, size) in [(1, [1, 1, 163_842]), (2, [6, 1, 27_307])] {
        let ico7 = Nifti::new(version, false, 2, &[27_307, 1, 6]);
        assert_eq!(nifti::probe(&folder.write("i.nii", &ico7.single())).unwrap().size, size);
    }
}

#[test]
fn slope_and_intercept_equal_nibabels() {
    let folder = Folder::new();
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for (version, tenth) in [(1, f64::from(0.1f32)), (2, 0.1)] {
        for (slope, intercept, expected) in [
            (0.0, 5.0, (1.0, 0.0)),
            (nan, 5.0, (1.0, 0.0)),
            (inf, nan, (1.0, 0.0)),
            (-inf, 1.0, (1.0, 0.0)),
            (1.0, -1024.0, (1.0, -1024.0)),
            (-0.1, 0.1, (-tenth, tenth)),
        ] {
            let file = Nifti::new(version, true, 4, &[3, 2, 2]);
            let file = file.with("scl_slope", 0, slope).with("scl_inter", 0, intercept);
            let (volume, voxels, _) = read_ok(&folder.write("s.nii", &file.single()));
            assert_eq!((volume.slope, volume.intercept), expected);
            assert_eq!(voxels, little(file.voxels.clone(), 2, true), "voxels stay unscaled");
        }
    }
}

#[test]
fn units_and_intent_are_kept_as_json() {
    let folder = Folder::new();
    for (code, spatial, temporal) in [
        (0, "unknown", "unknown"),
        (10, "mm", "sec"),
        (3 + 16, "micron", "msec"),
        (1 + 24, "meter", "usec"),
        (2 + 32, "mm", "hz"),
        (40, "unknown", "ppm"),
        (48, "unknown", "rads"),
        (7, "unknown", "unknown"),
    ] {
        let mut one = Nifti::new(1, true, 4, &[2, 2, 2]);
        one.header[123] = code;
        let two = Nifti::new(2, true, 4, &[2, 2, 2]).with("xyzt_units_2", 0, f64::from(code));
        for file in [one, two] {
            let (volume, ..) = read_ok(&folder.write("u.nii", &file.single()));
            assert_eq!(volume.origin["units"], json!({"spatial": spatial, "temporal": temporal}));
        }
    }
    let mut file = Nifti::new(1, false, 4, &[2, 2, 2]).with("intent_code", 0, 3.0);
    file.set("intent_p", 0, f64::NAN);
    file.set("intent_p", 1, f64::INFINITY);
    file.set("intent_p", 2, -2.5);
    file.header[328..336].copy_from_slice(b"t-\xe9\x01\0xyz");
    let (volume, ..) = read_ok(&folder.write("i.nii", &file.single()));
    let intent = json!({"code": 3, "name": "t-é\u{1}", "params": [null, null, -2.5]});
    assert_eq!(volume.origin["intent"], intent);
    let text = serde_json::to_string(&volume.origin).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Map<_, _>>(&text).unwrap(), volume.origin);
    assert_eq!(
        volume.affine,
        Affine([[-1., 0., 0., 0.5], [0., 1., 0., -0.5], [0., 0., 1., -0.5], [0., 0., 0., 1.]])
    );
}

#[test]
fn long_extensions_are_dropped_and_marked() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let folder = Folder::new();
    for (extra, dropped) in
        [(0usize, false), (1 << 10, false), ((1 << 20) - 352, false), (1 << 20, true)]
    {
        let mut file = Nifti::new(1, false, 4, &[3, 2, 2]);
        file.tail = [&[0; 4][..], &pattern(extra)].concat();
        file.set("vox_offset", 0, (352 + extra) as f64);
        let (header, _) = file.write_pair(folder.path(), "p");
        for path in [folder.write("a.nii", &file.single()), header] {
            let (volume, voxels, _) = read_ok(&path);
            assert_eq!(voxels, file.voxels);
            let preamble =
                BASE64_STANDARD.decode(volume.origin["preamble"].as_str().unwrap()).unwrap();
            assert_eq!(preamble.len(), if dropped { 348 } else { 352 + extra });
            assert_eq!(
                volume.origin.get("extensions_dropped"),
                dropped.then_some(json!(true)).as_ref()
            );
        }
    }
}
