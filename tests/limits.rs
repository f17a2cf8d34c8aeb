//! Limits of the system: few file descriptors and little memory are errors, or do not matter.
//!
//! Each test runs again in a child process of its own, which takes the limit for itself.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use voxquarry::format::array::{ArrayLayout, BloscParameters, ChunkCodec, Compressor, Shuffle};
use voxquarry::format::attributes::Kind;
use voxquarry::{
    Affine, AggregateOptions, Aggregator, Border, Dataset, Dtype, Epoch, Error, GridSampler,
    IfExists, LabelSampler, OpenOptions, Padding, Queue, QueueOptions, Region, StoreWriter,
    UniformSampler, VolumeSpec, WeightedSampler, verify,
};

const CHILD: &str = "VOXQUARRY_LIMITED_TEST";
const SIZE: usize = 48;
const SHARDS: usize = 216;

/// Runs `work` in a child process with at most `limit` of `resource`.
fn limited(test: &str, resource: Resource, limit: u64, work: impl FnOnce()) {
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
        return work();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        // The GNU allocator reserves nothing in advance, and asks the system for larger blocks.
        .envs([("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{}: {text}", child.status);
}

fn voxel(z: usize, y: usize, x: usize) -> u8 {
    (z / 7 * 31 + y / 5 * 17 + x / 3 * 5) as u8 % 5
}

/// A store with an image and a label map of [`SHARDS`] shards.
fn store(folder: &Path, codec: ChunkCodec) {
    let layout = ArrayLayout {
        channels: None,
        size: [SIZE; 3],
        dtype: Dtype::UInt8,
        chunk: [8; 3],
        shard: [8; 3],
        codec,
    };
    assert_eq!(layout.shards().count(), SHARDS);
    let mut subject = StoreWriter::open(folder, Some(2)).unwrap().subject("s").unwrap();
    let mut finished = Vec::new();
    for (name, kind) in [("ct", Kind::Image), ("seg", Kind::Labels)] {
        let mut volume = subject.volume(VolumeSpec::new(name, kind, layout.clone())).unwrap();
        for z0 in (0..SIZE).step_by(8) {
            let layer = (0..8 * SIZE * SIZE)
                .map(|i| voxel(z0 + i / (SIZE * SIZE), i / SIZE % SIZE, i % SIZE));
            volume.write_layer(&layer.collect::<Vec<u8>>()).unwrap();
        }
        finished.push(volume.finish().unwrap());
    }
    subject.publish(finished, IfExists::Error).unwrap();
}

fn check_region(start: [i64; 3], size: [usize; 3], found: &[u8]) {
    let [z0, y0, x0] = start.map(|v| v as usize);
    for (i, &found) in found.iter().enumerate() {
        let (z, y, x) = (i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]);
        assert_eq!(found, voxel(z0 + z, y0 + y, x0 + x), "{start:?} + {:?}", [z, y, x]);
    }
}

fn check_whole(dataset: &Dataset, name: &str) {
    let volume = dataset.subject("s").unwrap().volume(name).unwrap();
    let mut out = vec![9; SIZE * SIZE * SIZE];
    volume.read_into(Region::whole([SIZE; 3]), &mut out).unwrap();
    check_region([0; 3], [SIZE; 3], &out);
}

#[test]
fn few_descriptors_are_enough_for_many_shards() {
    limited("few_descriptors_are_enough_for_many_shards", Resource::Nofile, 64, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        store(&path, ChunkCodec::Raw);
        let dataset = Dataset::open(&path, &OpenOptions::default().threads(4)).unwrap();
        for name in ["ct", "seg"] {
            check_whole(&dataset, name);
            check_whole(&dataset, name);
        }
        let subject = dataset.subject("s").unwrap();
        let epoch = Epoch::default();
        let uniform = UniformSampler::new([20; 3]).unwrap();
        let weighted = WeightedSampler::new([20; 3], "ct").unwrap().border(Border::Clamp);
        let labels = LabelSampler::new([20; 3], "seg").unwrap().border(Border::Clamp);
        assert_eq!(weighted.locations(&subject, 300, epoch, 0).unwrap().len(), 300);
        assert_eq!(labels.locations(&subject, 300, epoch, 0).unwrap().len(), 300);
        let options = QueueOptions::default()
            .volumes(["ct", "seg"])
            .patches_per_subject(100)
            .batch_size(4)
            .threads(8);
        let queue = Queue::new(&dataset, uniform, options).unwrap();
        let mut patches = 0;
        for batch in queue.batches().unwrap() {
            let batch = batch.unwrap();
            for volume in 0..2 {
                let voxels = batch.bytes(volume).chunks_exact(20 * 20 * 20);
                for (location, voxels) in batch.locations().iter().zip(voxels) {
                    check_region(location.region.start, [20; 3], voxels);
                }
            }
            patches += batch.len();
        }
        assert_eq!(patches, 100);
        assert_eq!(verify(&path, &mut |_| Ok(())).unwrap().error_count, 0);
        let grid = GridSampler::new([16; 3], 0).unwrap().grid([SIZE; 3]).unwrap();
        let writer = StoreWriter::open(&path, Some(4)).unwrap();
        let options = AggregateOptions::default();
        let place = ("s", "blended");
        let affine = Affine::IDENTITY;
        let blended =
            Aggregator::to_store(grid.clone(), &options, Dtype::UInt8, &writer, place, affine)
                .unwrap();
        let volume = subject.volume("ct").unwrap();
        for start in grid.starts() {
            let mut patch = vec![0u8; 16 * 16 * 16];
            volume.read_into(Region::new(start, [16; 3]), &mut patch).unwrap();
            blended.add(&patch, &[start]).unwrap();
        }
        blended.finish().unwrap();
        check_whole(&Dataset::open(&path, &OpenOptions::default()).unwrap(), "blended");
    });
}

#[test]
fn many_datasets_leave_descriptors_to_others() {
    limited("many_datasets_leave_descriptors_to_others", Resource::Nofile, 1024, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        store(&path, ChunkCodec::Raw);
        let datasets: Vec<_> =
            (0..7).map(|_| Dataset::open(&path, &OpenOptions::default()).unwrap()).collect();
        for _ in 0..2 {
            for dataset in &datasets {
                check_whole(dataset, "ct");
            }
        }
        let others: Vec<_> = (0..480).map(|_| File::open(&path).unwrap()).collect();
        assert_eq!(others.len(), 480);
        for dataset in &datasets {
            check_whole(dataset, "seg");
        }
    });
}

/// Checks that there was no memory.
fn refused<T>(context: &str, result: Result<T, Error>) {
    match result {
        Err(Error::OutOfMemory { .. } | Error::TooLarge { .. }) => {}
        Err(other) => panic!("{context}: {other}"),
        Ok(_) => panic!("{context}: there was memory"),
    }
}

#[test]
fn what_memory_cannot_hold_is_an_error() {
    limited("what_memory_cannot_hold_is_an_error", Resource::As, 4 << 30, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        store(&path, ChunkCodec::Raw);
        let dataset = Dataset::open(&path, &OpenOptions::default().threads(2)).unwrap();
        let subject = dataset.subject("s").unwrap();
        let (epoch, many) = (Epoch::default(), 1 << 32);
        let uniform = UniformSampler::new([8; 3]).unwrap();
        let weighted = WeightedSampler::new([8; 3], "ct").unwrap();
        let labels = LabelSampler::new([8; 3], "seg").unwrap();
        refused("uniform", uniform.locations(&subject, many, epoch, 0));
        refused("weighted", weighted.locations(&subject, many, epoch, 0));
        refused("labels", labels.locations(&subject, many, epoch, 0));

        let dense = GridSampler::new([1; 3], 0).unwrap();
        refused("one long axis", dense.grid([1 << 40, 1, 1]));
        refused("too many patches to count", dense.grid([1 << 30; 3]).map(|grid| grid.len()));
        let large = GridSampler::new([512; 3], 0).unwrap().grid([1 << 15; 3]).unwrap();
        let options = AggregateOptions::default();
        refused("array", Aggregator::<voxquarry::ArraySink<f32>>::to_array(large, &options));
        let huge = GridSampler::new([1 << 14; 3], 0).unwrap().grid([1 << 20; 3]).unwrap();
        let writer = StoreWriter::open(&path, Some(2)).unwrap();
        let (place, affine) = (("huge", "blended"), Affine::IDENTITY);
        let blended = Aggregator::to_store(huge, &options, Dtype::UInt8, &writer, place, affine);
        refused("store", blended);

        let volume = subject.volume("ct").unwrap();
        let region = Region::new([0; 3], [1 << 13; 3]);
        refused("region", volume.read_padded::<u8>(region, Padding::Edge));
        let options = QueueOptions::default()
            .volumes(["ct"])
            .patches_per_subject(1 << 31)
            .batch_size(1 << 31)
            .buffer_bytes(u64::MAX);
        let queue = Queue::new(&dataset, uniform, options).unwrap();
        refused("batch", queue.batches().and_then(|mut batches| batches.next().unwrap()));
        check_whole(&dataset, "ct");
    });
}

/// The bytes of address space that this process has.
#[cfg(target_os = "linux")]
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 4096
}

/// Runs `work` on a new thread, which has no decompressor yet, with hardly any memory left.
#[cfg(target_os = "linux")]
fn without_memory<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // Less than a decompressor takes; small allocations come from what was freed before.
    const LEFT: u64 = 64 << 10;
    let all = rustix::process::getrlimit(Resource::As);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let small: Vec<Vec<u8>> = (0..1000).map(|_| vec![1; 100]).collect();
            drop(small);
            let current = Some(address_space() + LEFT);
            setrlimit(Resource::As, Rlimit { current, ..all }).unwrap();
            let result = work();
            setrlimit(Resource::As, all).unwrap();
            result
        });
        thread.join().expect("no panic")
    })
}

/// Issue 19: a Zstandard context that could not be made was a panic, in every thread that decodes.
/// Its siblings: the sidecars of label maps, buffers of blocks, and the encoder.
#[test]
#[cfg(target_os = "linux")]
fn a_decompressor_without_memory_is_an_error() {
    limited("a_decompressor_without_memory_is_an_error", Resource::As, 4 << 30, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let (compressor, shuffle) = (Compressor::Zstd, Shuffle::Byte);
        let parameters = BloscParameters { compressor, level: 5, shuffle, block_bytes: 1 << 12 };
        store(&path, ChunkCodec::Blosc(parameters));
        let options = OpenOptions::default().threads(1);
        let dataset = Dataset::open(&path, &options).unwrap();
        let subject = dataset.subject("s").unwrap();
        let (ct, seg) = (subject.volume("ct").unwrap(), subject.volume("seg").unwrap());
        let (region, mut out) = (Region::new([0; 3], [8; 3]), vec![9; 512]);
        for _ in 0..2 {
            refused("voxels", without_memory(|| ct.read_into(region, &mut out)));
            refused("label counts", without_memory(|| seg.label_counts()));
        }
        ct.read_into(region, &mut out).unwrap();
        check_region([0; 3], [8; 3], &out);
        check_whole(&dataset, "seg");
        assert_eq!(seg.label_counts().unwrap().totals().len(), 4);
    });
}
