//! Label maps: their counts, and voxels that are not labels.

use std::collections::BTreeMap;

use voxquarry::format::attributes::Kind;
use voxquarry::{Error, IfExists};
use voxquarry_ingest::{Manifest, NoopObserver, export, ingest};

use crate::build::{Folder, Nifti, gzip, read_ok};
use crate::{assert_sound, images, small, source, volume};

fn labels(subject: &str, path: &std::path::Path) -> Manifest {
    let mut manifest = Manifest::new();
    manifest.push(source(subject, "seg", Kind::Labels, path)).unwrap();
    manifest
}

/// Objects of all sizes in a background of 0, with negative ids and ids beyond 32 bits.
fn label_at(z: usize, y: usize, x: usize, wide: bool) -> i64 {
    match (z / 5 * 31 + y / 3 * 17 + x / 7 * 13) % 11 {
        0 => -3,
        1 if wide => (1 << 40) + (z % 3) as i64,
        2 | 3 => (z + y + x) as i64 % 100 + 1,
        4 => 5,
        _ => 0,
    }
}

#[test]
fn counts_equal_a_naive_count() {
    let folder = Folder::new();
    let [nx, ny, nz] = [37usize, 33, 41];
    for (code, wide) in [(4, false), (8, false), (1024, true), (16, false), (64, true)] {
        let mut file = Nifti::new(1, false, code, &[nx as i64, ny as i64, nz as i64]);
        let mut voxels = Vec::new();
        for (z, y, x) in
            (0..nz).flat_map(|z| (0..ny).flat_map(move |y| (0..nx).map(move |x| (z, y, x))))
        {
            let label = label_at(z, y, x, wide);
            match code {
                4 => voxels.extend((label as i16).to_le_bytes()),
                8 => voxels.extend((label as i32).to_le_bytes()),
                1024 => voxels.extend(label.to_le_bytes()),
                16 => voxels.extend((label as f32).to_le_bytes()),
                _ => voxels.extend((label as f64).to_le_bytes()),
            }
        }
        file.voxels = voxels;
        let path = folder.write("seg.nii.gz", &gzip(&file.single()));
        let store = folder.join(&format!("{code}.zarr"));
        ingest(&labels("a", &path), &store, &small(), &NoopObserver).unwrap();

        let volume = volume(&store, "a", "seg");
        let counts = volume.label_counts().unwrap();
        let chunk = volume.layout().chunk;
        let grid = [nz.div_ceil(chunk[0]), ny.div_ceil(chunk[1]), nx.div_ceil(chunk[2])];
        assert!(
            grid.iter().all(|&n| n > 1),
            "the test needs several chunks along each axis: {chunk:?}"
        );
        assert_eq!(counts.chunks(), grid.iter().product::<usize>());
        let mut naive = vec![BTreeMap::new(); counts.chunks()];
        let mut totals = BTreeMap::new();
        for (z, y, x) in
            (0..nz).flat_map(|z| (0..ny).flat_map(move |y| (0..nx).map(move |x| (z, y, x))))
        {
            let label = label_at(z, y, x, wide);
            if label != 0 {
                let at = (z / chunk[0] * grid[1] + y / chunk[1]) * grid[2] + x / chunk[2];
                *naive[at].entry(label).or_insert(0u32) += 1;
                *totals.entry(label).or_insert(0u64) += 1;
            }
        }
        for (i, expected) in naive.iter().enumerate() {
            let expected: Vec<_> = expected.iter().map(|(&l, &n)| (l, n)).collect();
            assert_eq!(counts.chunk(i).collect::<Vec<_>>(), expected, "chunk {i} of type {code}");
        }
        assert_eq!(counts.totals(), totals.into_iter().collect::<Vec<_>>());
        assert_sound(&store);
    }
}

#[test]
fn a_voxel_that_is_not_a_label_is_refused_with_its_index() {
    let folder = Folder::new();
    for (value, words) in
        [(0.5f32, "0.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-2e30, "-2")]
    {
        let mut file = Nifti::new(1, false, 16, &[40, 35, 30]);
        file.voxels = vec![0; 40 * 35 * 30 * 4];
        let (z, y, x) = (17, 33, 38);
        file.voxels[((z * 35 + y) * 40 + x) * 4..][..4].copy_from_slice(&value.to_le_bytes());
        let path = folder.write("seg.nii", &file.single());
        let store = folder.join("s.zarr");
        let error = ingest(&labels("a", &path), &store, &small(), &NoopObserver).unwrap_err();
        assert!(matches!(&error, Error::Data { path: place, .. } if *place == path), "{error}");
        let message = error.to_string();
        assert!(message.contains("[17, 33, 38]") && message.contains(words), "{message}");
        assert!(!store.exists(), "nothing was published");
        // The same file is a valid image.
        ingest(&images(&[("a", "seg", &path)]), &store, &small(), &NoopObserver).unwrap();
        assert_eq!(crate::voxels(&volume(&store, "a", "seg")), file.voxels);
        std::fs::remove_dir_all(&store).unwrap();
    }
}

/// Bytes of integers of `width` bytes, little endian.
fn integers(values: &[i64], width: usize) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()[..width].to_vec()).collect()
}

/// Data type, bytes, slope, intercept, and the stored values of labels.
type Scaled = (i16, usize, f64, f64, &'static [(i64, i64)], &'static str);

#[test]
fn scaled_voxels_become_the_labels_that_they_stand_for() {
    let folder = Folder::new();
    let ingest_seg = |file: &Nifti| {
        let path = folder.write("seg.nii.gz", &gzip(&file.single()));
        let store = folder.join("s.zarr");
        let _ = std::fs::remove_dir_all(&store);
        ingest(&labels("a", &path), &store, &small(), &NoopObserver).unwrap();
        assert_sound(&store);
        volume(&store, "a", "seg")
    };
    let dims = [37usize, 19, 23];
    let voxels = dims.iter().product::<usize>();
    let slope = f64::from((1.0f64 / 65535.0) as f32);
    let cases: [Scaled; 7] = [
        // A mask of 0 and 1 as nibabel writes it.
        (4, 2, slope, 32768.0 * slope, &[(-32768, 0), (32767, 1)], "int16"),
        (2, 1, 1.0 / 255.0, 0.0, &[(0, 0), (255, 1)], "uint8"),
        (2, 1, 1.0, -1.0, &[(0, -1), (1, 0), (255, 254)], "int16"),
        (512, 2, 2.0, 0.0, &[(0, 0), (3, 6), (65535, 131_070)], "int32"),
        (8, 4, 0.5, 0.0, &[(0, 0), (-6, -3), (2_000_000_000, 1_000_000_000)], "int32"),
        (768, 4, -1.0, 0.0, &[(0, 0), (4_294_967_295, -4_294_967_295)], "int64"),
        (1024, 8, 3.0, 1.0, &[(0, 1), (1 << 40, 3 * (1 << 40) + 1)], "int64"),
    ];
    for (code, width, slope, intercept, values, dtype) in cases {
        let mut file = Nifti::new(2, false, code, &dims.map(|n| n as i64));
        let pick = |i: usize| values[i * i / 7 % values.len()];
        let stored: Vec<i64> = (0..voxels).map(|i| pick(i).0).collect();
        file.voxels = integers(&stored, width);
        let file = file.with("scl_slope", 0, slope).with("scl_inter", 0, intercept);
        let volume = ingest_seg(&file);
        assert_eq!(volume.dtype().name(), dtype, "{code} {slope}");
        assert_eq!(volume.slope_intercept(), (1.0, 0.0));
        let expected: Vec<i64> = (0..voxels).map(|i| pick(i).1).collect();
        assert!(crate::voxels(&volume) == integers(&expected, volume.dtype().size()), "{code}");
        let mut counts = BTreeMap::new();
        expected.iter().filter(|&&l| l != 0).for_each(|&l| *counts.entry(l).or_insert(0u64) += 1);
        assert_eq!(volume.label_counts().unwrap().totals(), counts.into_iter().collect::<Vec<_>>());
        // The exported file states the labels, not the stored values of the source.
        let out = folder.join("out.nii");
        export(&volume, &out, IfExists::Replace).unwrap();
        assert_eq!(read_ok(&out).1, integers(&expected, volume.dtype().size()));
        assert_eq!(read_ok(&out).0.slope.to_bits(), 1f64.to_bits());
    }
    let mut file = Nifti::new(1, false, 16, &[2, 1, 1]).with("scl_slope", 0, 2.0);
    file.voxels = [1.5f32, -4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!(ingest_seg(&file).label_counts().unwrap().totals(), [(-8, 1), (3, 1)]);
}

#[test]
fn a_scaled_voxel_that_is_not_a_label_is_refused_with_index_and_value() {
    let folder = Folder::new();
    let (z, y, x) = (17, 33, 38);
    // 16 bits that stand for probabilities, and values beyond the widest integer.
    for (stored, slope, words) in
        [(-32767i16, 1.0 / 65535.0, "0.0000152"), (3, 0.5, "1.5"), (3, 1e30, "3000000")]
    {
        let mut file = Nifti::new(2, false, 4, &[40, 35, 30]).with("scl_slope", 0, slope);
        let base = if slope < 0.1 { -32768i16 } else { 0 };
        file.set("scl_inter", 0, f64::from(base) * -slope);
        file.voxels = std::iter::repeat_n(base.to_le_bytes(), 40 * 35 * 30).flatten().collect();
        file.voxels[((z * 35 + y) * 40 + x) * 2..][..2].copy_from_slice(&stored.to_le_bytes());
        let path = folder.write("seg.nii", &file.single());
        let store = folder.join("s.zarr");
        let error = ingest(&labels("a", &path), &store, &small(), &NoopObserver).unwrap_err();
        assert!(matches!(&error, Error::Data { path: place, .. } if *place == path), "{error}");
        let message = error.to_string();
        assert!(message.contains("[17, 33, 38]") && message.contains(words), "{message}");
        assert!(!store.exists(), "nothing was published");
        // The same file is a valid image, whose stored values and scaling stay.
        ingest(&images(&[("a", "seg", &path)]), &store, &small(), &NoopObserver).unwrap();
        assert_eq!(crate::voxels(&volume(&store, "a", "seg")), file.voxels);
        assert_eq!(volume(&store, "a", "seg").slope_intercept().0.to_bits(), slope.to_bits());
        std::fs::remove_dir_all(&store).unwrap();
    }
}

/// Their counts would take three times the bytes of the voxels.
#[test]
fn label_maps_of_random_numbers_have_no_counts_and_are_counted_when_asked() {
    let folder = Folder::new();
    let mut file = Nifti::new(1, false, 8, &[40, 40, 40]);
    let mut state = 1u32;
    let mut expected = BTreeMap::new();
    file.voxels = (0..40 * 40 * 40)
        .flat_map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let label = (state >> 8) as i32 - (1 << 23);
            if label != 0 {
                *expected.entry(i64::from(label)).or_insert(0u64) += 1;
            }
            label.to_le_bytes()
        })
        .collect();
    let path = folder.write("seg.nii", &file.single());
    let store = folder.join("s.zarr");
    ingest(&labels("a", &path), &store, &small(), &NoopObserver).unwrap();
    let volume = volume(&store, "a", "seg");
    assert_eq!(volume.attributes().summary_crc32c, None);
    assert!(!volume.path().join("summary").exists());
    assert!(volume.stored_bytes().unwrap() < volume.voxel_bytes() * 5 / 4);
    let counts = volume.label_counts().unwrap();
    assert_eq!(counts.totals(), expected.into_iter().collect::<Vec<_>>());
    assert_sound(&store);
}
