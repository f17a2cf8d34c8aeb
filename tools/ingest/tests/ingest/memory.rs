//! The planned memory is an upper bound of the resident memory that the system reports.

use std::fs::{self, File};
use std::io::Read;

use flate2::read::GzDecoder;
use voxquarry::format::layout::Codec;
use voxquarry::{Access, Dataset, IfExists, OpenOptions};
use voxquarry_ingest::{IngestOptions, NoopObserver, export, ingest, plan};

use crate::build::{Folder, Nifti};
use crate::{child, images};

/// The peak of this process's resident memory, mapped program code included.
fn peak_resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Writes planes of 256 × 256 incompressible bytes, whose encoded chunks are as large as raw ones.
fn write_noise(folder: &Folder, depth: usize) {
    let file = Nifti::new(1, false, 2, &[256, 256, 1]).with("dim", 3, depth as f64);
    let mut bytes = [&file.header[..], &file.tail].concat();
    let mut state = 1u64;
    for _ in 0..256 * 256 * depth / 4 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes()[4..]);
    }
    folder.write("ct.nii", &bytes);
}

#[test]
fn a_run_stays_within_the_planned_memory() {
    let test = "memory::a_run_stays_within_the_planned_memory";
    // One budget fits a single layer, the other two layers, and shards of many.
    let budgets = [40u64 << 20, 400 << 20];
    if let Some(folder) = child::folder() {
        let budget = fs::read_to_string(folder.join("budget")).unwrap().parse().unwrap();
        let options = IngestOptions::default().memory_bytes(budget).threads(2);
        let manifest = images(&[("a", "ct", &folder.join("ct.nii"))]);
        let bound = plan(&manifest, &options, &NoopObserver).unwrap().peak_memory_bytes();
        let report = ingest(&manifest, &folder.join("s.zarr"), &options, &NoopObserver).unwrap();
        let peak = peak_resident_bytes();
        println!("{} bytes of voxels, bound {bound}, peak {peak}", report.voxel_bytes);
        assert!(bound <= budget, "bound {bound}, budget {budget}");
        assert!(peak <= bound, "peak {peak}, bound {bound}");
        assert!(report.voxel_bytes > bound, "the volume must be larger than the bound");
        return;
    }
    let folder = Folder::new();
    write_noise(&folder, 2048);
    for budget in budgets {
        folder.write("budget", budget.to_string().as_bytes());
        print!("{}", child::run_ok(test, folder.path(), "true"));
        fs::remove_dir_all(folder.join("s.zarr")).unwrap();
    }
}

#[test]
fn an_export_holds_a_slab_and_its_blocks() {
    // A slab of 2 MiB, two threads of 5 MiB, and the program itself.
    const BOUND: u64 = 32 << 20;
    if let Some(folder) = child::folder() {
        // Mapped pages of the store would count as resident memory.
        let options = OpenOptions::default().threads(2).access(Access::Read);
        let dataset = Dataset::open(folder.join("s.zarr"), &options).unwrap();
        let volume = dataset.subject("a").unwrap().volume("ct").unwrap();
        export(&volume, &folder.join("out.nii.gz"), IfExists::Error).unwrap();
        let peak = peak_resident_bytes();
        println!("{} bytes of voxels, bound {BOUND}, peak {peak}", volume.voxel_bytes());
        assert!(peak <= BOUND && volume.voxel_bytes() > BOUND);
        return;
    }
    let folder = Folder::new();
    write_noise(&folder, 640);
    let options = IngestOptions::default().codec(Codec::None);
    let manifest = images(&[("a", "ct", &folder.join("ct.nii"))]);
    ingest(&manifest, &folder.join("s.zarr"), &options, &NoopObserver).unwrap();
    let test = "memory::an_export_holds_a_slab_and_its_blocks";
    print!("{}", child::run_ok(test, folder.path(), "true"));
    let mut bytes = Vec::new();
    let out = File::open(folder.join("out.nii.gz")).unwrap();
    GzDecoder::new(out).read_to_end(&mut bytes).unwrap();
    assert!(bytes == fs::read(folder.join("ct.nii")).unwrap());
}
