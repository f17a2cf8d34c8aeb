//! Label maps: their counts, and voxels that are not labels.

use std::collections::BTreeMap;

use voxquarry::Error;
use voxquarry::format::attributes::Kind;
use voxquarry_ingest::{Manifest, NoopObserver, ingest};

use crate::build::{Folder, Nifti, gzip};
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
