//! Export: byte for byte where the header of the source applies, otherwise as nibabel writes.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use voxquarry::{Affine, Dtype, Error, Fault, IfExists, Result};
use voxquarry_ingest::nifti::{self, ExportSpec, NiftiWriter};
use voxquarry_ingest::source::SourceVolume;

use crate::build::{Folder, Nifti, PLAIN, Read, gzip, pattern, read_ok};

const THREADS: usize = 2;

fn spec(volume: &SourceVolume) -> ExportSpec {
    ExportSpec {
        size: volume.size,
        channels: volume.channels,
        dtype: volume.dtype,
        affine: volume.affine,
        unit: volume.unit,
        slope: volume.slope,
        intercept: volume.intercept,
        origin: Some(volume.origin.clone()),
    }
}

fn bare(size: [usize; 3], channels: Option<usize>, dtype: Dtype) -> ExportSpec {
    let affine =
        Affine([[-0.5, 0., 0., 10.], [0., 2., 0., -20.], [0., 0., 3., 4.], [0., 0., 0., 1.]]);
    ExportSpec {
        size,
        channels,
        dtype,
        affine,
        unit: None,
        slope: 1.0,
        intercept: 0.0,
        origin: None,
    }
}

/// Writes voxels `(c, z, y, x)`, `steps` at a time.
fn write(out: &Path, spec: &ExportSpec, voxels: &[u8], steps: usize) -> Result<()> {
    let mut writer = NiftiWriter::create(out, spec, IfExists::Replace, THREADS)?;
    let (together, depth) = (writer.interleaved(), spec.size[0]);
    let plane = spec.size[1] * spec.size[2] * spec.dtype.size();
    for first in (0..spec.channels.unwrap_or(1)).step_by(together) {
        for z in (0..depth).step_by(steps) {
            let n = steps.min(depth - z);
            let planes: Vec<u8> = (first..first + together)
                .flat_map(|c| voxels[(c * depth + z) * plane..][..n * plane].to_vec())
                .collect();
            writer.write_steps(&planes, n)?;
        }
    }
    writer.finish()
}

fn write_back(read: &Read, out: &Path) {
    write(out, &spec(&read.0), &read.1, 3).unwrap();
}

#[test]
fn single_files_and_pairs_are_restored_byte_for_byte() {
    let folder = Folder::new();
    let codes = PLAIN.iter().map(|p| p.0).chain([128, 2304]);
    for (i, code) in codes.enumerate() {
        for (version, big) in [(1, false), (1, true), (2, false), (2, true)] {
            let file =
                Nifti::new(version, big, code, [&[3i64, 4, 5][..], &[3, 4, 5, 2], &[7]][i % 3]);
            let file = if i % 2 == 0 { file.extended() } else { file };
            // Scaling, and text that we do not interpret.
            let mut file = file.with("scl_slope", 0, 0.3).with("scl_inter", 0, -7.0).with(
                "qform_code",
                0,
                3.0,
            );
            file.set("quatern_c", 0, 0.3);
            let descrip = if version == 1 { 148 } else { 240 };
            file.header[descrip..descrip + 4].copy_from_slice(b"text");
            let single = file.single();
            let of_single = read_ok(&folder.write("a.nii", &single));
            let (header, image) = file.write_pair(folder.path(), "p");
            let of_pair = read_ok(&header);
            assert_eq!(of_single.1, of_pair.1);

            write_back(&of_single, &folder.join("b.nii"));
            assert_eq!(fs::read(folder.join("b.nii")).unwrap(), single, "{code} {version} {big}");
            write_back(&of_pair, &folder.join("q.img"));
            assert_eq!(fs::read(folder.join("q.hdr")).unwrap(), fs::read(&header).unwrap());
            assert_eq!(fs::read(folder.join("q.img")).unwrap(), fs::read(&image).unwrap());
            // Exports in the other form equal the source in that form.
            write_back(&of_pair, &folder.join("c.nii"));
            assert_eq!(fs::read(folder.join("c.nii")).unwrap(), single, "{code} {version} {big}");
            write_back(&of_single, &folder.join("r.hdr"));
            assert_eq!(fs::read(folder.join("r.hdr")).unwrap(), fs::read(&header).unwrap());
            assert_eq!(fs::read(folder.join("r.img")).unwrap(), fs::read(&image).unwrap());
        }
    }
}

#[test]
fn gzip_exports_are_reproducible() {
    let folder = Folder::new();
    let file = Nifti::new(2, true, 8, &[30, 20, 10]);
    let read = read_ok(&folder.write("a.nii.gz", &gzip(&file.single())));
    for out in ["b.nii.gz", "c.NII.GZ", "p.hdr.gz"] {
        write_back(&read, &folder.join(out));
        let first = fs::read(folder.join(out)).unwrap();
        assert_eq!(
            (&first[..4], &first[4..8]),
            (&[0x1f, 0x8b, 8, 0][..], &[0; 4][..]),
            "no name, no time"
        );
        write_back(&read, &folder.join(out));
        assert_eq!(fs::read(folder.join(out)).unwrap(), first);
        assert_eq!(read_ok(&folder.join(out)).1, read.1);
    }
    write_back(&read, &folder.join("d.nii"));
    assert_eq!(fs::read(folder.join("d.nii")).unwrap(), file.single());
    assert!(folder.join("p.img.gz").exists());
}

#[test]
fn a_header_is_adapted_to_the_other_form_of_file() {
    let folder = Folder::new();
    // Pairs with an offset in the image, and a pair with the magic of a single file.
    for (version, magic_of_pair, offset) in [(1, true, 16), (2, true, 64), (1, false, 352)] {
        let mut file = Nifti::new(version, true, 4, &[3, 2, 2]);
        file.magic(magic_of_pair);
        file.set("vox_offset", 0, f64::from(offset));
        folder.write("o.hdr", &[&file.header[..], &file.tail].concat());
        folder.write("o.img", &[&vec![9; offset as usize][..], &file.voxels].concat());
        let read = read_ok(&folder.join("o.hdr"));
        for out in ["p.hdr", "s.nii"] {
            write_back(&read, &folder.join(out));
            let back = read_ok(&folder.join(out));
            assert_eq!((&back.1, back.0.affine), (&read.1, read.0.affine));
        }
        assert_eq!(fs::read(folder.join("p.img")).unwrap(), file.voxels);
    }
    // A gap after the header is not an extension, and a pair does not need it.
    let mut gap = Nifti::new(1, false, 4, &[3, 2, 2]).with("vox_offset", 0, 361.0);
    gap.tail = vec![0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
    let read = read_ok(&folder.write("g.nii", &gap.single()));
    write_back(&read, &folder.join("h.nii"));
    assert_eq!(fs::read(folder.join("h.nii")).unwrap(), gap.single());
    write_back(&read, &folder.join("g.hdr"));
    assert_eq!(fs::metadata(folder.join("g.hdr")).unwrap().len(), 352);
    assert_eq!(read_ok(&folder.join("g.hdr")).1, gap.voxels);
    // Extensions that were too long to keep are gone, and their flag is cleared.
    for pair in [false, true] {
        let mut long = Nifti::new(1, false, 4, &[3, 2, 2]).extended();
        long.tail.extend(pattern(1 << 20));
        let offset = long.header.len() + long.tail.len();
        long.set("vox_offset", 0, offset as f64);
        let (header, _) = long.write_pair(folder.path(), "l");
        let single = folder.write("l.nii", &long.single());
        let read = read_ok(if pair { &header } else { &single });
        write_back(&read, &folder.join("m.nii"));
        let short = fs::read(folder.join("m.nii")).unwrap();
        assert_eq!((short.len(), &short[348..352]), (352 + 24, &[0; 4][..]));
        assert_eq!(read_ok(&folder.join("m.nii")).1, long.voxels);
        write_back(&read, &folder.join("m.hdr"));
        assert_eq!(read_ok(&folder.join("m.hdr")).1, long.voxels);
    }
}

#[test]
fn bytes_after_the_voxels_are_restored() {
    let folder = Folder::new();
    let file = Nifti::new(1, true, 4, &[3, 2, 2]).extended();
    for (extra, is_kept) in [(1, true), (1000, true), (1 << 20, true), ((1 << 20) + 1, false)] {
        let trailer = pattern(extra);
        let single = [file.single(), trailer.clone()].concat();
        let (header, image) = file.write_pair(folder.path(), "p");
        let longer = [file.voxels.clone(), trailer.clone()].concat();
        fs::write(&image, &longer).unwrap();
        let sources = [
            (folder.write("a.nii", &single), "b.nii", single.clone()),
            (folder.write("a.nii.gz", &gzip(&single)), "b.nii", single.clone()),
            (header, "q.img", longer),
        ];
        for (source, out, expected) in sources {
            let read = read_ok(&source);
            assert_eq!(read.0.origin.contains_key("trailer"), is_kept, "{extra}");
            assert_eq!(read.0.origin.contains_key("trailer_dropped"), !is_kept, "{extra}");
            write_back(&read, &folder.join(out));
            let end = if is_kept { 0 } else { extra };
            assert!(fs::read(folder.join(out)).unwrap() == expected[..expected.len() - end]);
        }
    }
}

#[test]
fn a_changed_volume_gets_a_new_header() {
    let folder = Folder::new();
    let file =
        Nifti::new(1, true, 4, &[3, 2, 2, 2]).with("scl_slope", 0, 2.0).with("intent_code", 0, 5.0);
    let (volume, voxels, _) = read_ok(&folder.write("a.nii", &file.single()));
    let same = spec(&volume);
    let mut moved = same.clone();
    moved.affine.0[0][3] += 0.001;
    let changes = [
        moved,
        ExportSpec { slope: 3.0, ..same.clone() },
        ExportSpec { intercept: 3.0, ..same.clone() },
        ExportSpec { dtype: Dtype::UInt16, ..same.clone() },
        ExportSpec { size: [2, 3, 2], ..same.clone() },
        ExportSpec { size: [4, 2, 3], channels: None, ..same.clone() },
        ExportSpec {
            origin: Some(json!({"format": "dicom"}).as_object().unwrap().clone()),
            ..same.clone()
        },
    ];
    for changed in changes {
        write(&folder.join("b.nii"), &changed, &voxels, 1).unwrap();
        let back = read_ok(&folder.join("b.nii"));
        assert_eq!(back.0.origin["byte_order"], "little");
        assert_eq!(back.0.origin["intent"]["code"], 0);
        assert_eq!(
            (back.0.size, back.0.channels, back.0.dtype),
            (changed.size, changed.channels, changed.dtype)
        );
        assert_eq!((back.0.slope, back.0.intercept), (changed.slope, changed.intercept));
        assert!(
            back.0
                .affine
                .0
                .iter()
                .flatten()
                .zip(changed.affine.0.iter().flatten())
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        assert_eq!(back.1, voxels);
    }
    // A difference in the last bits of an affine is not a change.
    let mut rounded = same;
    rounded.affine.0[0][3] *= 1.0 + 1e-15;
    write(&folder.join("c.nii"), &rounded, &voxels, 1).unwrap();
    assert_eq!(fs::read(folder.join("c.nii")).unwrap(), file.single());
}

#[test]
fn damaged_metadata_of_the_source_does_no_harm() {
    let folder = Folder::new();
    let file = Nifti::new(1, false, 4, &[3, 2, 2]).extended();
    let (volume, voxels, _) = read_ok(&folder.write("a.nii", &file.single()));
    let good = BASE64_STANDARD.decode(volume.origin["preamble"].as_str().unwrap()).unwrap();
    let preambles = [
        json!(7),
        json!("not base64!"),
        json!(""),
        json!(BASE64_STANDARD.encode(&good[..200])),
        json!(BASE64_STANDARD.encode(&good[..348])),
        json!(BASE64_STANDARD.encode(&good[..360])),
        json!(BASE64_STANDARD.encode([&good[..], &[1; 999]].concat())),
        json!(BASE64_STANDARD.encode(vec![0xff; 400])),
    ];
    for preamble in preambles {
        let mut origin = volume.origin.clone();
        origin.insert("preamble".into(), preamble.clone());
        let spec = ExportSpec { origin: Some(origin), ..spec(&volume) };
        for out in ["b.nii", "b.hdr"] {
            write(&folder.join(out), &spec, &voxels, 1).unwrap();
            assert_eq!(read_ok(&folder.join(out)).1, voxels, "{preamble}");
        }
    }
}

#[test]
fn a_new_header_is_what_nibabel_writes() {
    let folder = Folder::new();
    let out = folder.join("f.nii");
    for (code, name, width) in PLAIN {
        for channels in [None, Some(1), Some(3)] {
            let dtype = Dtype::from_name(name).unwrap();
            let spec =
                ExportSpec { slope: 0.5, intercept: -3.0, ..bare([4, 3, 2], channels, dtype) };
            let voxels = pattern(24 * width * channels.unwrap_or(1));
            write(&out, &spec, &voxels, 2).unwrap();
            let bytes = fs::read(&out).unwrap();
            let int = |at: usize| i16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
            let real = |at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(
                (bytes[..4].to_vec(), &bytes[344..352]),
                (348i32.to_le_bytes().to_vec(), &b"n+1\0\0\0\0\0"[..])
            );
            let axes = 3 + i16::from(channels.is_some());
            let dims: Vec<i16> = (0..8).map(|i| int(40 + 2 * i)).collect();
            assert_eq!(dims, [axes, 2, 3, 4, channels.unwrap_or(1) as i16, 1, 1, 1]);
            assert_eq!((int(70), int(72)), (code, 8 * width as i16));
            let steps: Vec<f32> = (0..8).map(|i| real(76 + 4 * i)).collect();
            // One axis is mirrored, so qfac is −1, as in nibabel.
            assert_eq!(steps, [-1.0, 0.5, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0]);
            assert_eq!((real(108), real(112), real(116)), (352.0, 0.5, -3.0));
            assert_eq!(
                (int(252), int(254), bytes[123]),
                (0, 2, 2),
                "qform unknown, sform aligned, mm"
            );
            let rows: Vec<f32> = (0..12).map(|i| real(280 + 4 * i)).collect();
            assert_eq!(rows, [-0.5, 0., 0., 10., 0., 2., 0., -20., 0., 0., 3., 4.]);
            assert_eq!(bytes[352..], voxels);
        }
    }
}

#[test]
fn version_two_is_written_where_version_one_cannot_represent_the_volume() {
    let folder = Folder::new();
    let version = |spec: &ExportSpec| {
        let voxels = pattern(
            spec.size.iter().product::<usize>() * spec.channels.unwrap_or(1) * spec.dtype.size(),
        );
        write(&folder.join("v.nii"), spec, &voxels, 1).unwrap();
        let back = read_ok(&folder.join("v.nii"));
        assert_eq!((back.0.size, back.0.channels, &back.1), (spec.size, spec.channels, &voxels));
        assert_eq!((back.0.slope, back.0.intercept), (spec.slope, spec.intercept));
        write(&folder.join("v.hdr"), spec, &voxels, 1).unwrap();
        assert_eq!(read_ok(&folder.join("v.img")).1, voxels);
        back.0.origin["version"].as_u64().unwrap()
    };
    let small = || bare([1, 1, 2], None, Dtype::UInt8);
    assert_eq!(version(&bare([1, 1, 32_767], None, Dtype::UInt8)), 1);
    assert_eq!(version(&bare([1, 1, 32_768], None, Dtype::UInt8)), 2);
    assert_eq!(version(&bare([1, 40_000, 1], None, Dtype::UInt8)), 2);
    assert_eq!(version(&bare([1, 1, 1], Some(40_000), Dtype::UInt8)), 2);
    // Numbers that become 0 or infinity as 32-bit reals.
    assert_eq!(version(&ExportSpec { slope: 1e-50, ..small() }), 2);
    assert_eq!(version(&ExportSpec { slope: -1e60, ..small() }), 2);
    assert_eq!(version(&ExportSpec { intercept: 1e60, ..small() }), 2);
    assert_eq!(version(&ExportSpec { affine: Affine::diagonal([1.0, 1e-60, 1.0]), ..small() }), 2);
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let folder = Folder::new();
    let spec = bare([2, 2, 3], None, Dtype::Int16);
    for out in ["a.nii", "a.nii.gz", "a.hdr"] {
        let path = folder.join(out);
        let mut writer = NiftiWriter::create(&path, &spec, IfExists::Error, THREADS).unwrap();
        writer.write_steps(&[7; 12], 1).unwrap();
        assert!(!path.exists());
        drop(writer);
        // Too few voxels, too many, or half a step: no file appears.
        let mut writer = NiftiWriter::create(&path, &spec, IfExists::Error, THREADS).unwrap();
        writer.write_steps(&[7; 12], 1).unwrap();
        let message = writer.finish().unwrap_err().to_string();
        assert!(message.contains("12 bytes") && message.contains("24"), "{message}");
        let mut writer = NiftiWriter::create(&path, &spec, IfExists::Error, THREADS).unwrap();
        assert_eq!(writer.write_steps(&[7; 11], 1).unwrap_err().fault(), Fault::Caller);
        assert_eq!(writer.write_steps(&[7; 36], 3).unwrap_err().fault(), Fault::Caller);
        drop(writer);
        assert_eq!(folder.names(), [""; 0], "{out}");
    }
    // Two concurrent writers of the same name do not interfere.
    let path = folder.join("a.nii");
    let mut writers =
        [(); 2].map(|()| NiftiWriter::create(&path, &spec, IfExists::Replace, THREADS).unwrap());
    writers[0].write_steps(&[1; 24], 2).unwrap();
    writers[1].write_steps(&[2; 24], 2).unwrap();
    let [first, second] = writers;
    first.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap()[352..], [1; 24]);
    second.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap()[352..], [2; 24]);
    assert_eq!(folder.names(), ["a.nii"]);
}

#[test]
fn only_stale_files_of_killed_writers_are_removed() {
    let folder = Folder::new();
    let spec = bare([2, 2, 3], None, Dtype::Int16);
    let stale = [".a.nii.partial-1-0", ".a.nii.partial-77-12"];
    let others =
        [".a.nii.partial-1", ".a.nii.partial-1-x", ".b.nii.partial-1-0", "a.nii.partial-1-0"];
    for name in stale.iter().chain(&others) {
        folder.write(name, b"half a file");
    }
    let create = || NiftiWriter::create(&folder.join("a.nii"), &spec, IfExists::Error, THREADS);
    let mut alive = create().unwrap();
    let second = create().unwrap();
    let names = folder.names();
    assert!(stale.iter().all(|name| !names.iter().any(|n| n == name)), "{names:?}");
    assert!(others.iter().all(|name| names.iter().any(|n| n == name)), "{names:?}");
    assert_eq!(names.len(), others.len() + 2, "each writer has its own file: {names:?}");
    drop(second);
    alive.write_steps(&[7; 24], 2).unwrap();
    alive.finish().unwrap();
    assert_eq!(fs::read(folder.join("a.nii")).unwrap()[352..], [7; 24]);
    assert_eq!(folder.names().len(), others.len() + 1);
}

#[test]
fn existing_files_are_replaced_only_on_request() {
    let folder = Folder::new();
    let spec = bare([1, 2, 3], None, Dtype::UInt8);
    for name in ["a.nii", "p.img", "q.hdr"] {
        folder.write(name, b"precious");
    }
    for (out, if_exists) in
        [("a.nii", IfExists::Error), ("p.hdr", IfExists::Error), ("q.img", IfExists::Skip)]
    {
        let refused = NiftiWriter::create(&folder.join(out), &spec, if_exists, THREADS);
        assert!(
            refused.is_err_and(
                |e| matches!(e, Error::Exists { .. }) && e.to_string().contains("replace")
            )
        );
    }
    assert_eq!(folder.names(), ["a.nii", "p.img", "q.hdr"]);
    // A file that appears meanwhile is not replaced either.
    let mut writer =
        NiftiWriter::create(&folder.join("b.nii"), &spec, IfExists::Error, THREADS).unwrap();
    writer.write_steps(&[7; 6], 1).unwrap();
    folder.write("b.nii", b"precious");
    assert!(writer.finish().is_err_and(|e| matches!(e, Error::Exists { .. })));
    assert_eq!(fs::read(folder.join("b.nii")).unwrap(), b"precious");
    // A target that cannot be replaced leaves no temporary file.
    for out in ["d.nii", "d.hdr"] {
        fs::create_dir(folder.join(out)).unwrap();
        let mut writer =
            NiftiWriter::create(&folder.join(out), &spec, IfExists::Replace, THREADS).unwrap();
        writer.write_steps(&[7; 6], 1).unwrap();
        assert!(writer.finish().is_err_and(|e| matches!(e, Error::Io { .. })));
    }
    // Nor does a new image stay whose header cannot be put in place.
    assert!(!folder.join("d.img").exists());
    // An image that cannot be put in place leaves the old header where it was.
    fs::create_dir(folder.join("e.img")).unwrap();
    folder.write("e.hdr", b"precious");
    let mut writer =
        NiftiWriter::create(&folder.join("e.img"), &spec, IfExists::Replace, THREADS).unwrap();
    writer.write_steps(&[7; 6], 1).unwrap();
    assert!(writer.finish().is_err_and(|e| matches!(e, Error::Io { .. })));
    assert_eq!(fs::read(folder.join("e.hdr")).unwrap(), b"precious");
    assert!(folder.names().iter().all(|n| !n.contains("partial")), "{:?}", folder.names());
    write(&folder.join("a.nii"), &spec, &[7; 6], 1).unwrap();
    assert_eq!(fs::read(folder.join("a.nii")).unwrap()[352..], [7; 6]);
}

#[test]
fn unsupported_exports_are_refused_with_a_remedy() {
    let folder = Folder::new();
    let create = |name: &str, dtype| {
        NiftiWriter::create(
            &folder.join(name),
            &bare([1, 2, 3], None, dtype),
            IfExists::Error,
            THREADS,
        )
    };
    for (name, dtype, words) in [
        ("a.nii", Dtype::Float16, "float32"),
        ("a.mha", Dtype::UInt8, ".nii.gz"),
        ("a", Dtype::UInt8, ".nii.gz"),
        ("a.gz", Dtype::UInt8, ".nii.gz"),
    ] {
        let error = create(name, dtype).err().unwrap();
        assert!(error.to_string().contains(words) && error.fault() == Fault::Caller, "{error}");
    }
    let error = create("no/such/folder/a.nii", Dtype::UInt8).err().unwrap();
    assert_eq!(error.fault(), Fault::Environment);
    assert_eq!(folder.names(), [""; 0]);
    assert!(nifti::probe(&folder.join("a.nii")).is_err());
}
