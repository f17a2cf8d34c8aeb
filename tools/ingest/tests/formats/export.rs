//! Volumes that are written and read again, through a store.

use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::{Affine, Dtype, IfExists, Volume};
use voxquarry_ingest::{
    IngestOptions, Manifest, NoopObserver, RawVoxels, Source, VolumeInput, export, ingest,
};

use crate::{Folder, pattern, read};

const AFFINE: Affine = Affine([
    [0.1, -2.0, 0.0, 7.0],
    [1.5, 0.3, 0.0, -8.0],
    [0.0, 0.25, 3.0, 9.0],
    [0.0, 0.0, 0.0, 1.0],
]);

/// A volume of the bytes `voxels` in a store.
fn stored(folder: &Folder, raw: RawVoxels, voxels: &[u8]) -> Volume {
    let path = folder.write("v.raw", voxels);
    let options = IngestOptions::default().patch_sizes([[4; 3]]).raw(raw).affine(AFFINE);
    store_of(folder, &path, &options)
}

fn store_of(folder: &Folder, path: &Path, options: &IngestOptions) -> Volume {
    let store = folder.join("s.zarr");
    let options = options.clone().if_exists(IfExists::Replace);
    let mut manifest = Manifest::new();
    manifest.push(Source::new("a", "v", Kind::Image, VolumeInput::from(path))).unwrap();
    ingest(&manifest, &store, &options, &NoopObserver).unwrap();
    voxquarry::open(&store).unwrap().subject("a").unwrap().volume("v").unwrap()
}

#[test]
fn every_dtype_comes_back() {
    let folder = Folder::new();
    for dtype in Dtype::ALL {
        for shape in [&[5, 7, 9][..], &[3, 5, 7, 9]] {
            let raw = RawVoxels::of_shape(shape, dtype).unwrap();
            let voxels = pattern(shape.iter().product::<usize>() * dtype.size());
            let volume = stored(&folder, raw, &voxels);
            for name in
                ["o.nrrd", "o.nhdr", "o.mha", "o.mhd", "o.npy", "o.mgh", "o.mgz", "o.nii.gz"]
            {
                let out = folder.join(name);
                let mut expected = dtype;
                if dtype == Dtype::Float16 && name != "o.npy" {
                    expected = Dtype::Float32;
                }
                if name.starts_with("o.mg") {
                    let lacks = [Dtype::UInt32, Dtype::UInt64, Dtype::Int64, Dtype::Float64];
                    if lacks.contains(&dtype) {
                        let error = export(&volume, &out, IfExists::Replace).unwrap_err();
                        assert!(error.to_string().contains("MGH cannot hold"), "{error}");
                        continue;
                    }
                    if dtype == Dtype::Int8 {
                        expected = Dtype::Int16;
                    }
                }
                export(&volume, &out, IfExists::Replace).unwrap();
                let found = read(&out);
                assert_eq!(
                    (found.volume.size, found.volume.dtype),
                    ([5, 7, 9], expected),
                    "{name}"
                );
                assert_eq!(found.volume.channels, volume.channels(), "{name}");
                if expected == dtype {
                    assert!(found.voxels == voxels, "{name} {dtype}");
                }
                if name != "o.npy" {
                    let pairs =
                        found.volume.affine.0.iter().flatten().zip(AFFINE.0.iter().flatten());
                    for (a, b) in pairs {
                        assert!((a - b).abs() < 1e-5, "{name}: {:?}", found.volume.affine);
                    }
                }
            }
        }
    }
    let names = folder.names();
    assert!(names.iter().all(|name| !name.contains("partial")), "{names:?}");
    assert!(names.contains(&"o.raw".to_owned()) && names.contains(&"o.raw.gz".to_owned()));
}

#[test]
fn narrow_types_are_widened_exactly() {
    let folder = Folder::new();
    let value = |i: i32| if i == 0 { -0.0 } else { i as f32 / 8.0 };
    let halves: Vec<u8> =
        (0..60).flat_map(|i| voxquarry::f16::from_f32(value(i)).to_le_bytes()).collect();
    let volume = stored(&folder, RawVoxels::new([5, 4, 3], Dtype::Float16), &halves);
    export(&volume, &folder.join("o.nrrd"), IfExists::Error).unwrap();
    let expected: Vec<u8> = (0..60).flat_map(|i| value(i).to_le_bytes()).collect();
    assert_eq!(read(&folder.join("o.nrrd")).voxels, expected);
    let bytes: Vec<u8> = (0..60).map(|i| (i as i8 - 30).to_le_bytes()[0]).collect();
    let volume = stored(&folder, RawVoxels::new([5, 4, 3], Dtype::Int8), &bytes);
    export(&volume, &folder.join("o.mgz"), IfExists::Error).unwrap();
    let expected: Vec<u8> = (0..60).flat_map(|i| (i - 30i16).to_le_bytes()).collect();
    assert_eq!(read(&folder.join("o.mgz")).voxels, expected);
}

#[test]
fn formats_without_a_slope_hold_real_values() {
    let folder = Folder::new();
    for (element, width, real) in [("MET_SHORT", 2, Dtype::Float32), ("MET_INT", 4, Dtype::Float64)]
    {
        let header = format!(
            "NDims = 3\nDimSize = 3 4 5\nElementType = {element}\nElementSpacing = 1 1 1\n\
             ElementToIntensityFunctionSlope = 0.5\nElementToIntensityFunctionOffset = -1024\n\
             ElementDataFile = LOCAL\n"
        );
        let stored: Vec<u8> = (0..60i32).flat_map(|i| i.to_le_bytes()[..width].to_vec()).collect();
        let path = folder.write("a.mha", [header.as_bytes(), &stored].concat());
        let options = IngestOptions::default().patch_sizes([[4; 3]]);
        let volume = store_of(&folder, &path, &options);
        assert_eq!(volume.slope_intercept(), (0.5, -1024.0));
        for name in ["o.mha", "o.nrrd", "o.npy"] {
            let out = folder.join(name);
            export(&volume, &out, IfExists::Replace).unwrap();
            let found = read(&out);
            assert_eq!((found.volume.dtype, found.volume.slope), (real, 1.0), "{name}");
            let values = (0..60).map(|i| f64::from(i) * 0.5 - 1024.0);
            let expected: Vec<u8> = if real == Dtype::Float32 {
                values.flat_map(|v| (v as f32).to_le_bytes()).collect()
            } else {
                values.flat_map(f64::to_le_bytes).collect()
            };
            assert_eq!(found.voxels, expected, "{name}");
        }
        export(&volume, &folder.join("o.nii"), IfExists::Replace).unwrap();
        let found = read(&folder.join("o.nii"));
        assert_eq!((found.volume.slope, found.voxels), (0.5, stored));
    }
}

#[test]
fn numbers_of_the_source_come_back() {
    let folder = Folder::new();
    let options = IngestOptions::default().patch_sizes([[4; 3]]);
    let mut mgh = crate::mgh::mgh(4, 2, 1, true);
    mgh.extend([2000.0f32, 0.5, 3.0, 4.0, 256.0].iter().flat_map(|n| n.to_be_bytes()));
    let volume = store_of(&folder, &folder.write("a.mgh", &mgh), &options);
    export(&volume, &folder.join("o.mgh"), IfExists::Error).unwrap();
    assert_eq!(std::fs::read(folder.join("o.mgh")).unwrap(), mgh);
    let lines = "space: RAS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace units: \"um\" \"um\" \
                 \"um\"\nmeasurement frame: (1,0,0) (0,0,1) (0,1,0)\nencoding: raw\n\
                 DWMRI_b-value:=1000\n\n";
    let text = crate::nrrd::header("uchar", lines);
    let path = folder.write("a.nrrd", [text.as_bytes(), &pattern(24)].concat());
    let volume = store_of(&folder, &path, &options);
    export(&volume, &folder.join("o.nrrd"), IfExists::Error).unwrap();
    let (first, again) = (read(&path).volume, read(&folder.join("o.nrrd")).volume);
    assert_eq!((first.affine, first.unit), (again.affine, again.unit));
    for key in ["measurement_frame", "key_values"] {
        assert_eq!(first.origin[key], again.origin[key]);
    }
    // MetaImage is in millimetres.
    export(&volume, &folder.join("o.mha"), IfExists::Error).unwrap();
    assert_eq!(read(&folder.join("o.mha")).volume.affine.spacing_mm(), [0.001; 3]);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = Folder::new();
    let volume = stored(&folder, RawVoxels::new([5, 4, 3], Dtype::UInt8), &pattern(60));
    for name in ["o.npz", "o.jpg", "o", "o.raw"] {
        let error = export(&volume, &folder.join(name), IfExists::Error).unwrap_err().to_string();
        assert!(error.contains(".nrrd") && !error.contains(".npz,"), "{error}");
    }
    let before = folder.names();
    folder.write("o.mhd", "old");
    assert!(export(&volume, &folder.join("o.mhd"), IfExists::Error).is_err());
    std::fs::remove_file(folder.join("o.mhd")).unwrap();
    folder.write("o.raw", "old");
    assert!(export(&volume, &folder.join("o.mhd"), IfExists::Error).is_err());
    std::fs::remove_file(folder.join("o.raw")).unwrap();
    assert_eq!(folder.names(), before);
}
