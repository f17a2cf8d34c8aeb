//! The planned memory is an upper bound of the resident memory that the system reports.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{Access, Dataset, IfExists, Normalization, OpenOptions};
use voxquarry_ingest::{IngestOptions, Manifest, NoopObserver, export, ingest, plan};

use crate::build::{Folder, Nifti, gzip};
use crate::{child, images, source};

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
    // One budget fits a single layer, the other two layers, and shards of many; with coarser levels
    // and without.
    let budgets = [40u64 << 20, 400 << 20].into_iter().flat_map(|n| [(n, "0"), (n, "auto")]);
    if let Some(folder) = child::folder() {
        let budget = fs::read_to_string(folder.join("budget")).unwrap().parse().unwrap();
        let levels = fs::read_to_string(folder.join("levels")).unwrap().parse().unwrap();
        let options = IngestOptions::default().memory_bytes(budget).threads(2).levels(levels);
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
    for (budget, levels) in budgets {
        folder.write("budget", budget.to_string().as_bytes());
        folder.write("levels", levels.as_bytes());
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

/// The cases that [`random_sources_stay_within_the_promise`] tries, unless this variable says more.
const CASES: (&str, u64) = ("VOXQUARRY_MEMORY_CASES", 10);

/// Pseudorandom numbers below a bound.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Writes a volume, or a label map of up to a million labels, as voxels of noise or in blobs.
fn write_random(random: &mut Random, folder: &Folder, kind: Kind) {
    let (code, bytes) = if kind == Kind::Labels {
        random.one_of(&[(2, 1), (512, 2), (8, 4), (1024, 8), (16, 4)])
    } else {
        random.one_of(&[(2, 1), (4, 2), (8, 4), (16, 4), (64, 8)])
    };
    let [x, y, z] = [160, 200, 120].map(|most| 1 + random.below(most) as i64);
    let ids = random.one_of(&[2, 30, 5000, 1_000_000]).min(1u64 << (8 * bytes).min(24)) - 1;
    let blob = random.one_of(&[1, 1, 3, 20]);
    let mut file = Nifti::new(1, false, code, &[1, 1, 1]);
    if random.below(2) == 0 {
        // x of the file ascends along the world's z, y along x, and z against y.
        file.set("sform_code", 0, 1.0);
        let rows = [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0]];
        for (field, row) in ["srow_x", "srow_y", "srow_z"].into_iter().zip(rows) {
            row.into_iter().enumerate().for_each(|(i, value)| file.set(field, i, value));
        }
    }
    for (axis, n) in [x, y, z].into_iter().enumerate() {
        file = file.with("dim", axis + 1, n as f64);
    }
    file.voxels = Vec::with_capacity((x * y * z) as usize * bytes);
    let seed = random.below(1 << 31);
    for at in 0..x * y * z {
        let place = [at % x / blob, at / x % y / blob, at / x / y / blob];
        let place =
            place.into_iter().fold(seed, |h, n| (h ^ n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let value = (place >> 20) % ids.max(1);
        match code {
            16 => file.voxels.extend((value as f32).to_le_bytes()),
            64 => file.voxels.extend((value as f64).to_le_bytes()),
            _ => file.voxels.extend(&value.to_le_bytes()[..bytes]),
        }
    }
    let single = file.single();
    let bytes = if random.below(2) == 0 { gzip(&single) } else { single };
    folder.write("v.nii.gz", &bytes);
}

/// Several subjects of one file, with options that the folder describes.
fn random_case(folder: &Path) -> (Manifest, IngestOptions) {
    let text = fs::read_to_string(folder.join("case")).unwrap();
    let words: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
    let [is_labels, codec, threads, jobs, subjects, memory_bytes, changes] = words[..] else {
        panic!("{text}")
    };
    let kind = if is_labels == 1 { Kind::Labels } else { Kind::Image };
    let mut manifest = Manifest::new();
    for subject in 0..subjects {
        let path = folder.join("v.nii.gz");
        manifest.push(source(&format!("s{subject}"), "v", kind, &path)).unwrap();
    }
    let codec = [Codec::Fast, Codec::Compact, Codec::None][codec as usize];
    let options = IngestOptions::default().codec(codec).memory_bytes(memory_bytes);
    let spacing = [[0.8, 1.7, 1.1], [1.9, 0.7, 0.9]][(changes & 1) as usize];
    let options = options
        .target_spacing((changes & 2 != 0).then_some(spacing))
        .crop_foreground(changes & 4 != 0)
        .canonical(changes & 8 != 0)
        .normalize((changes & 16 != 0).then_some(Normalization::ZScore));
    (manifest, options.threads(threads as usize).jobs(jobs as usize))
}

#[test]
fn random_sources_stay_within_the_promise() {
    let test = "memory::random_sources_stay_within_the_promise";
    if let Some(folder) = child::folder() {
        let (manifest, options) = random_case(&folder);
        let promise = plan(&manifest, &options, &NoopObserver).unwrap().peak_memory_bytes();
        ingest(&manifest, &folder.join("s.zarr"), &options, &NoopObserver).unwrap();
        let peak = peak_resident_bytes();
        println!("promise {promise}, peak {peak}");
        assert!(peak <= promise, "{options:?}");
        return;
    }
    let cases = env::var(CASES.0).map_or(CASES.1, |text| text.parse().unwrap());
    for case in 0..cases {
        let (folder, mut random) = (Folder::new(), Random(case));
        let is_labels = random.below(3) > 0;
        write_random(&mut random, &folder, if is_labels { Kind::Labels } else { Kind::Image });
        let (codec, threads, jobs) = (random.below(3), 1 + random.below(4), 1 + random.below(4));
        let (subjects, memory) = (1 + random.below(4), random.one_of(&[64u64, 300, 1024]) << 20);
        let changes = if case % 2 == 0 { 0 } else { random.below(32) };
        let is_labels = u64::from(is_labels);
        let described =
            format!("{is_labels} {codec} {threads} {jobs} {subjects} {memory} {changes}");
        folder.write("case", described.as_bytes());
        println!("case {case}: {described}: {}", child::run_ok(test, folder.path(), "true"));
    }
}
