//! The planned memory is an upper bound of the resident memory that the system reports, whatever
//! the format.

use std::fs;
use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry_ingest::{IngestOptions, Manifest, NoopObserver, Source, VolumeInput, ingest, plan};

use crate::nrrd::bzip2;
use crate::numpy::{npy, npz};
use crate::{Folder, child, meta_image, zlib};

const TEST: &str = "memory::every_format_stays_within_the_planned_memory";
const BUDGET: u64 = 44 << 20;

/// Bytes that hardly compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    };
    (0..bytes / 4).flat_map(|_| next().to_le_bytes()).collect()
}

/// Ingests the file in the folder, and compares what the system reports with the plan.
fn measure(folder: &Path) {
    let name = fs::read_to_string(folder.join("name")).unwrap();
    let input = VolumeInput::from(&*folder.join(&name));
    let mut manifest = Manifest::new();
    manifest.push(Source::new("a", "v", Kind::Image, input)).unwrap();
    let options = IngestOptions::default().memory_bytes(BUDGET).threads(1).jobs(1);
    let bound = plan(&manifest, &options, &NoopObserver).unwrap().peak_memory_bytes();
    let report = ingest(&manifest, &folder.join("s.zarr"), &options, &NoopObserver).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10;
    println!("{name}: {} bytes of voxels, bound {bound}, peak {peak}", report.voxel_bytes);
    assert!(bound <= BUDGET, "bound {bound}");
    assert!(peak <= bound, "peak {peak}, bound {bound}");
    assert!(report.voxel_bytes > bound, "the volume must be larger than the bound");
}

#[test]
fn every_format_stays_within_the_planned_memory() {
    if let Some(folder) = child::folder() {
        return measure(&folder);
    }
    // Planes of 256 × 256.
    let voxels = noise(64 << 20);
    let head = |lines: &str| {
        format!("NRRD0004\ntype: uchar\ndimension: 4\nsizes: {lines}\n\n").into_bytes()
    };
    let vector = "2 256 256 512\nkinds: vector domain domain domain\nencoding: bzip2";
    let packed = meta_image::header("MET_UCHAR", "CompressedData = True\n", "LOCAL");
    let packed = packed.replace("4 3 2", "256 256 1024");
    let files = [
        ("a.npy", npy("'|u1'", true, "(1024, 256, 256)", &voxels)),
        ("b.npz", npz(&[("v.npy", npy("'<u2'", true, "(512, 256, 256)", &voxels), true)], true)),
        ("c.nrrd", [head(vector), bzip2(&voxels)].concat()),
        ("d.mha", [packed.as_bytes(), &zlib(&voxels)].concat()),
    ];
    for (name, bytes) in files {
        let folder = Folder::new();
        folder.write(name, &bytes);
        folder.write("name", name);
        print!("{}", child::run_ok(TEST, &folder.join(""), "true"));
    }
}
