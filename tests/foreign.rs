//! Volumes whose chunks something else decodes: how often it is asked, and what is read of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use voxquarry::format::attributes::Kind;
use voxquarry::format::grid::ChunkId;
use voxquarry::{
    Affine, ChunkSource, Dataset, Dtype, Epoch, Error, LabelSampler, OpenOptions, Order, Padding,
    Queue, QueueOptions, Region, Result, SourceSpec, UniformSampler, Volume, Warp, WeightedSampler,
};

const SIZE: [usize; 3] = [20, 30, 40];
const CHUNK: [usize; 3] = [8, 9, 16];

/// Three channels, two of them in a chunk; chunks of the first row are not there.
#[derive(Debug)]
struct Counting {
    decoded: Arc<AtomicUsize>,
    bytes: usize,
}

fn voxel(c: usize, [z, y, x]: [usize; 3]) -> u16 {
    if z < CHUNK[0] && y < CHUNK[1] { 9 } else { (c * 20_000 + z * 601 + y * 31 + x) as u16 }
}

impl ChunkSource for Counting {
    fn path(&self) -> &Path {
        Path::new("counting")
    }

    fn decode(&self, chunk: ChunkId) -> Result<Option<Vec<u8>>> {
        assert_eq!(chunk.channel % 2, 0, "the first of those that are stored together");
        if chunk.at[..2] == [0, 0] {
            return Ok(None);
        }
        self.decoded.fetch_add(1, Ordering::Relaxed);
        let mut voxels = Vec::new();
        for c in 0..2 {
            for z in 0..CHUNK[0] {
                for y in 0..CHUNK[1] {
                    for x in 0..CHUNK[2] {
                        let at = [z, y, x];
                        let at = [0, 1, 2].map(|a| chunk.at[a] * CHUNK[a] + at[a]);
                        voxels.extend(voxel(chunk.channel + c, at).to_ne_bytes());
                    }
                }
            }
        }
        voxels.truncate(self.bytes);
        Ok(Some(voxels))
    }
}

fn volume(kind: Kind, options: &OpenOptions) -> (Volume, Arc<AtomicUsize>) {
    let decoded = Arc::new(AtomicUsize::new(0));
    let source = Counting { decoded: decoded.clone(), bytes: usize::MAX };
    let spec = SourceSpec {
        kind,
        channels: Some(3),
        chunk_channels: 2,
        fill_value: 9u16.to_ne_bytes().to_vec(),
        affine: Affine::diagonal([3.0, 2.0, 1.0]),
        content_id: 7,
        ..SourceSpec::new("v", SIZE, Dtype::UInt16, CHUNK)
    };
    (Volume::from_source(Arc::new(source), spec, options).unwrap(), decoded)
}

fn expected(region: Region, channels: &[usize]) -> Vec<u16> {
    let mut voxels = Vec::new();
    for &c in channels {
        for z in region.start[0]..region.end(0) {
            for y in region.start[1]..region.end(1) {
                for x in region.start[2]..region.end(2) {
                    voxels.push(voxel(c, [z as usize, y as usize, x as usize]));
                }
            }
        }
    }
    voxels
}

#[test]
fn a_chunk_is_decoded_once_a_batch_and_never_while_it_is_cached() {
    for threads in [1, 3] {
        let options = OpenOptions::default().threads(threads).cache_bytes(0);
        let (volume, decoded) = volume(Kind::Image, &options);
        assert!(volume.is_foreign() && volume.content_id() == 7);
        assert_eq!((volume.shape(), volume.spacing()), (vec![3, 20, 30, 40], [3.0, 2.0, 1.0]));
        let starts = [[0, 0, 0], [1, 2, 3], [12, 22, 30], [0, 22, 0], [5, 5, 5], [1, 2, 3]];
        let mut out = vec![0u16; starts.len() * 3 * 8 * 8 * 8];
        volume.read_batch_into(&starts, [8; 3], Padding::None, &mut out).unwrap();
        for (start, patch) in starts.iter().zip(out.chunks_exact(3 * 512)) {
            assert_eq!(patch, expected(Region::new(*start, [8; 3]), &[0, 1, 2]), "{start:?}");
        }
        let mut chunks = std::collections::BTreeSet::new();
        for start in starts {
            let cells = volume.layout().chunks_meeting(&Region::new(start, [8; 3]));
            chunks.extend(voxquarry::format::grid::iter_box(cells));
        }
        let there = chunks.iter().filter(|at| at[..2] != [0, 0]).count();
        // Two chunks of channels in each cell.
        assert_eq!(decoded.load(Ordering::Relaxed), 2 * there);

        // Only the channels that are wanted, in their order.
        let before = decoded.load(Ordering::Relaxed);
        let mut one = vec![0u16; 2 * 512];
        let channels = voxquarry::Channels::new([1, 0]).unwrap();
        let bytes = bytemuck::cast_slice_mut(&mut one);
        volume.read_bytes(&[[8, 9, 0]], [8; 3], Padding::None, channels, bytes).unwrap();
        assert_eq!(one, expected(Region::new([8, 9, 0], [8; 3]), &[1, 0]));
        assert_eq!(decoded.load(Ordering::Relaxed), before + 1);
    }
    let (volume, decoded) = volume(Kind::Image, &OpenOptions::default());
    let whole = Region::whole(SIZE);
    let mut out = vec![0u16; 3 * whole.len()];
    for _ in 0..3 {
        volume.read_into(whole, &mut out).unwrap();
        assert_eq!(out, expected(whole, &[0, 1, 2]));
    }
    assert_eq!(decoded.load(Ordering::Relaxed), 2 * (3 * 4 * 3 - 3));
}

#[test]
fn the_cache_keeps_to_its_budget() {
    let chunk_bytes = 2 * 2 * CHUNK.iter().product::<usize>();
    for chunks in [0, 1, 3] {
        let options = OpenOptions::default().cache_bytes(chunks * chunk_bytes + 5);
        let (volume, _) = volume(Kind::Image, &options);
        let dataset = Dataset::of_volumes([("s", "v", volume.clone())], &options).unwrap();
        for start in (0..40).map(|i| [i % 13, i * 7 % 23, i * 5 % 33]) {
            let region = Region::new(start, [7; 3]);
            let mut out = vec![0u16; 3 * 343];
            volume.read_into(region, &mut out).unwrap();
            assert_eq!(out, expected(region, &[0, 1, 2]));
            assert!(dataset.cached_bytes() <= chunks * chunk_bytes);
        }
        assert_eq!(dataset.cached_bytes(), chunks * chunk_bytes);
    }
}

#[test]
fn paddings_warps_and_statistics_are_those_of_the_voxels() {
    let (volume, _) = volume(Kind::Image, &OpenOptions::default());
    let whole = expected(Region::whole(SIZE), &[0, 1, 2]);
    let statistics = volume.known_statistics().unwrap();
    let mean = whole.iter().map(|&v| f64::from(v)).sum::<f64>() / whole.len() as f64;
    let most = u64::from(*whole.iter().max().unwrap());
    assert_eq!(statistics.voxels, whole.len() as u64);
    assert_eq!(statistics.max.unwrap().as_u64(), Some(most));
    assert!((statistics.mean.unwrap() - mean).abs() < 1e-6);
    assert!(volume.statistics().mean.is_none());

    let mut edge = vec![0u16; 3 * 4 * 5 * 6];
    let region = Region::new([-2, 28, 38], [4, 5, 6]);
    volume.read_padded_into(region, Padding::Edge, &mut edge).unwrap();
    let at = |c: usize, z: usize, y: usize, x: usize| edge[((c * 4 + z) * 5 + y) * 6 + x];
    assert_eq!(at(2, 0, 4, 5), voxel(2, [0, 29, 39]));
    assert_eq!(at(0, 3, 1, 1), voxel(0, [1, 29, 39]));

    let row = |a: usize| {
        let mut row = [0.0, 0.0, 0.0, 3.0];
        row[a] = 1.0;
        row
    };
    let warp = Warp::new([row(0), row(1), row(2)]).unwrap();
    let mut moved = vec![0f32; 3 * 125];
    let order = Order::Linear;
    volume.read_affine_into(&[warp], [5; 3], order, Padding::None, &mut moved).unwrap();
    let stored = expected(Region::new([3; 3], [5; 3]), &[0, 1, 2]);
    assert!(moved.iter().zip(&stored).all(|(&a, &b)| a == f32::from(b)));
}

#[test]
fn samplers_and_queues_take_them() {
    let options = OpenOptions::default().threads(2);
    let (image, decoded) = volume(Kind::Image, &options);
    let (labels, _) = volume(Kind::Labels, &options);
    let volumes = [("b", "ct", image.clone()), ("b", "seg", labels.clone()), ("a", "ct", image)];
    let dataset = Dataset::of_volumes(volumes, &options).unwrap();
    assert_eq!(dataset.subjects(), ["a", "b"]);
    let subject = dataset.subject("b").unwrap();
    assert_eq!(
        (subject.volumes(), subject.volume("ct").unwrap().name()),
        (&["ct".into(), "seg".into()][..], "ct")
    );
    assert!(matches!(dataset.subject("c"), Err(Error::NotFound { .. })));
    assert!(matches!(subject.volume("mr"), Err(Error::NotFound { .. })));
    let epoch = Epoch { seed: 1, epoch: 0 };
    let sampler = LabelSampler::new([5; 3], "seg").unwrap();
    assert_eq!(sampler.locations(&subject, 9, epoch, 0).unwrap().len(), 9);
    let sampler = WeightedSampler::new([5; 3], "seg").unwrap();
    assert_eq!(sampler.locations(&subject, 9, epoch, 0).unwrap().len(), 9);

    decoded.store(0, Ordering::Relaxed);
    let reading = QueueOptions::default().volumes(["ct"]).patches_per_subject(40).seed(5);
    let queue = Queue::new(&dataset, UniformSampler::new([7; 3]).unwrap(), reading).unwrap();
    let mut patches = 0;
    for batch in queue.batches().unwrap() {
        let batch = batch.unwrap();
        let voxels = batch.array::<u16>("ct").unwrap();
        for (patch, location) in voxels.outer_iter().zip(batch.locations()) {
            let wanted = expected(location.region, &[0, 1, 2]);
            assert!(patch.iter().eq(wanted.iter()), "{location:?}");
            patches += 1;
        }
    }
    assert_eq!(patches, 80);
    // All chunks fit into the queue's cache: each is decoded once, or twice at the same time.
    assert!(decoded.load(Ordering::Relaxed) <= 2 * 2 * 33, "{decoded:?}");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let options = OpenOptions::default();
    let short = Counting { decoded: Arc::default(), bytes: 100 };
    let spec =
        || SourceSpec { chunk_channels: 2, ..SourceSpec::new("v", SIZE, Dtype::UInt16, CHUNK) };
    let read = Volume::from_source(Arc::new(short), spec(), &options).unwrap();
    let mut out = vec![0u16; 8];
    let error = read.read_into(Region::new([8, 9, 0], [2; 3]), &mut out).unwrap_err();
    assert!(matches!(error, Error::Data { .. }), "{error}");
    let refused = |spec: SourceSpec| {
        let source = Counting { decoded: Arc::default(), bytes: 0 };
        Volume::from_source(Arc::new(source), spec, &options).unwrap_err()
    };
    for size in [[0, 1, 1], [1 << 41, 1, 1], [1 << 30; 3]] {
        assert!(matches!(refused(SourceSpec { size, ..spec() }), Error::Data { .. }));
    }
    for chunk in [[0, 1, 1], [1 << 40; 3], [usize::MAX, 1, 1]] {
        assert!(matches!(refused(SourceSpec { chunk, ..spec() }), Error::Data { .. }));
    }
    assert!(matches!(refused(SourceSpec { chunk_channels: 0, ..spec() }), Error::Data { .. }));
    let floats = SourceSpec { kind: Kind::Labels, dtype: Dtype::Float32, ..spec() };
    assert!(matches!(refused(floats), Error::Unsupported { .. }));
    let named = SourceSpec { name: "a/b".into(), ..spec() };
    assert!(matches!(refused(named), Error::InvalidArgument { .. }));

    let (one, _) = volume(Kind::Image, &options);
    let dataset = |volumes: Vec<(&str, &str, Volume)>| Dataset::of_volumes(volumes, &options);
    let twice = dataset(vec![("s", "v", one.clone()), ("s", "v", one.clone())]).unwrap_err();
    assert!(matches!(twice, Error::InvalidArgument { .. }), "{twice}");
    let grids = dataset(vec![("s", "v", one.clone()), ("s", "w", read)]).unwrap_err();
    assert!(matches!(grids, Error::Unsupported { .. }), "{grids}");
    assert!(dataset(vec![("", "v", one)]).is_err());
}
