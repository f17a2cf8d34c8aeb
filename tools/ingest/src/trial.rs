//! Measures what candidate layouts cost on a file's own voxels: encodes a sample in each, and reads
//! patches from it.
//!
//! # Invariants
//! - Memory is one z step of the file and the sample. At most `SKIP_BYTES` are read before the
//!   sample begins.
//! - The candidates take turns, so that a machine that slows down slows all of them.
//!
//! Not here: the choice of a layout (`voxquarry::format::layout`), printing results (the command).

use std::path::Path;
use std::time::Duration;

use voxquarry::format::array::{ArrayLayout, ChunkCodec};
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, Codec, VolumeShape};
use voxquarry::{
    Dataset, Epoch, Error, IfExists, OpenOptions, Region, Result, Size3, StoreWriter, Subject,
    UniformSampler, VolumeSpec,
};

use crate::formats::Stated;
use crate::input::VolumeInput;
use crate::manifest::{Manifest, Source};
use crate::measure::{Patch, Until, read_patches};
use crate::observer::NoopObserver;
use crate::options::IngestOptions;
use crate::plan::plan;
use crate::planned::PlannedVolume;
use crate::source::SourceVolume;

/// Bytes of the sample: more than a processor's caches hold, and encoded in a moment.
const SAMPLE_BYTES: usize = 24 << 20;
/// Bytes before the sample, which lies in the middle of the volume if that is no further in: a gzip
/// file has to be decoded up to it.
const SKIP_BYTES: u64 = 256 << 20;
/// The sample's extents are multiples of this where the volume is large enough, because partial
/// chunks would distort the ratio. It also is the number of positions of a patch along an axis,
/// because positions within a chunk differ in cost.
const STEP: usize = 64;
/// The largest chunk that is tried.
const CHUNK_BYTES: usize = 1 << 20;
const PATCHES: u64 = 64;
/// The fastest of that many rounds counts: other work on the machine can only slow a round down.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(20);
const SUBJECT: &str = "trial";

/// The layouts that were tried, and the sample.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The contents of the file's header.
    pub header: SourceVolume,
    /// The part of its first channel that was encoded.
    pub sample: Region,
    /// The layout that ingest would choose, then its neighbours, then the other codecs.
    pub candidates: Vec<Candidate>,
}

/// A layout and its cost.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The whole volume's layout.
    pub layout: ArrayLayout,
    /// Its codec.
    pub codec: Codec,
    /// Whether ingest would choose it.
    pub is_chosen: bool,
    /// Compression ratio: bytes of the sample's voxels / bytes of its shards.
    pub ratio: f64,
    /// The cost of each requested patch size.
    pub patches: Vec<PatchCost>,
}

/// The cost of patches of one size in a layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatchCost {
    /// The size, clipped to the volume.
    pub size: Size3,
    /// Mean number of chunks that a random patch intersects, over all channels.
    pub chunks: f64,
    /// Voxels that are decoded for a patch / voxels of the patch.
    pub over_read: f64,
    /// Bytes of voxels that one thread read from the sample per second, with a warm page cache.
    pub bytes_per_second: f64,
    /// The same as patches of all channels per second.
    pub patches_per_second: f64,
}

/// Tries the layout that [`crate::ingest()`] would choose for the file with these options, and its
/// neighbours.
///
/// The sample is written to the system's folder for temporary files, and removed afterwards.
/// Patches larger than the sample are clipped to it.
///
/// # Errors
/// As [`plan`], [`Error::Data`] if the file is damaged before the end of the sample, and
/// [`Error::Io`].
pub fn trial(path: &Path, options: &IngestOptions) -> Result<Trial> {
    let planned = plan_one(path, options)?;
    let shape = planned.header.shape();
    let patches: Vec<Size3> =
        options.patch_sizes.iter().map(|p| [0, 1, 2].map(|a| p[a].min(shape.size[a]))).collect();
    let mut candidates = candidates(&planned, &shape, &patches, options)?;
    let sample = sample_region(&shape, &patches);
    let voxels = read_sample(path, &sample)?;

    let temporary = std::env::temp_dir();
    let folder = tempfile::Builder::new().prefix("voxquarry-trial-").tempdir();
    let folder = folder.map_err(Error::io(&temporary, "cannot create a folder for the trial"))?;
    let store = folder.path().join("trial.zarr");
    write_candidates(&store, &candidates, &sample, &voxels, options)?;
    measure(&store, &mut candidates, &sample)?;
    Ok(Trial { header: planned.header, sample, candidates })
}

fn plan_one(path: &Path, options: &IngestOptions) -> Result<PlannedVolume> {
    let mut manifest = Manifest::new();
    manifest.push(Source::new(SUBJECT, "image", Kind::Image, path))?;
    let mut plan = plan(&manifest, options, &NoopObserver)?;
    match plan.failed.pop() {
        Some(failure) => Err(failure.error),
        None => Ok(plan.subjects.remove(0).volumes.remove(0)),
    }
}

/// The chosen layout, then its neighbours as far as memory allows, then the other codecs.
fn candidates(
    planned: &PlannedVolume,
    shape: &VolumeShape,
    patches: &[Size3],
    options: &IngestOptions,
) -> Result<Vec<Candidate>> {
    let new = |layout: ArrayLayout, codec| {
        let cost = |&size: &Size3| expected_cost(&layout, size);
        let patches = patches.iter().map(cost).collect();
        let is_chosen = layout == planned.layout;
        Candidate { layout, codec, is_chosen, ratio: 0.0, patches }
    };
    let mut found = vec![new(planned.layout.clone(), options.codec)];
    for chunk in neighbours(planned.layout.chunk, shape) {
        let layout = layout::with_chunk(shape, chunk, options.codec, options.memory_bytes);
        found.extend(layout.ok().map(|layout| new(layout, options.codec)));
    }
    let others = [Codec::Fast, Codec::Compact, Codec::None];
    for codec in others.into_iter().filter(|&codec| codec != options.codec) {
        let layout = layout::choose(shape, &options.patch_sizes, codec, options.memory_bytes)?;
        found.push(new(layout, codec));
    }
    Ok(found)
}

/// Chunks of half and of twice the extent: in depth, in the plane, and in both.
fn neighbours(chunk: Size3, shape: &VolumeShape) -> Vec<Size3> {
    let halved = chunk.map(|n| (n / 2).max(1));
    let doubled = [0, 1, 2].map(|a| (chunk[a] * 2).min(shape.size[a].next_power_of_two()));
    let mut found: Vec<Size3> = Vec::new();
    for other in [halved, doubled] {
        let in_depth = [other[0], chunk[1], chunk[2]];
        for candidate in [in_depth, [chunk[0], other[1], other[2]], other] {
            let bytes = candidate.iter().product::<usize>() * shape.dtype.size();
            if candidate != chunk && bytes <= CHUNK_BYTES && !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    found
}

/// Counts chunks and decoded voxels over every position where the patch fits. Far from the borders
/// that is `Π (1 + (p − 1) / c)` and `Π ((p + c − 1) / p)`, where `c` of the slowest axis is the
/// depth of a block in the latter.
fn expected_cost(layout: &ArrayLayout, size: Size3) -> PatchCost {
    let decoded_together = match layout.codec {
        // Rows are copied from the map; nothing is decoded.
        ChunkCodec::Raw => [1; 3],
        ChunkCodec::Blosc(parameters) => {
            let plane_bytes = layout.chunk[1] * layout.chunk[2] * layout.dtype.size();
            let planes = (parameters.block_bytes / plane_bytes).clamp(1, layout.chunk[0]);
            [planes, layout.chunk[1], layout.chunk[2]]
        }
    };
    let mean_met = |a: usize, side: usize| {
        let starts = layout.size[a] - size[a] + 1;
        let met = |start: usize| (start + size[a] - 1) / side - start / side + 1;
        (0..starts).map(met).sum::<usize>() as f64 / starts as f64
    };
    let chunks = (0..3).map(|a| mean_met(a, layout.chunk[a])).product::<f64>();
    let decoded = (0..3).map(|a| {
        let side = decoded_together[a];
        mean_met(a, side) * side as f64 / size[a] as f64
    });
    PatchCost {
        size,
        chunks: chunks * layout.channel_count() as f64,
        over_read: decoded.product(),
        bytes_per_second: 0.0,
        patches_per_second: 0.0,
    }
}

/// A box in the middle of the volume that holds the largest patch at [`STEP`] positions where it
/// can, grown to the bytes of a sample.
fn sample_region(shape: &VolumeShape, patches: &[Size3]) -> Region {
    let largest =
        [0, 1, 2].map(|a| patches.iter().map(|p| p[a]).max().expect("at least one patch size"));
    let bytes = |size: Size3| size.iter().product::<usize>() * shape.dtype.size();
    let more = |n: usize, a: usize| ((n / STEP + 1) * STEP).min(shape.size[a]);
    let less = |n: usize| if n > STEP { (n - 1) / STEP * STEP } else { n.div_ceil(2) };
    let mut size = [0, 1, 2].map(|a| more(largest[a] + STEP - 1, a));
    // Terminates: no axis shrinks below 1, and none grows beyond the volume.
    while bytes(size) > SAMPLE_BYTES {
        let spare = (0..3)
            .filter(|&a| less(size[a]) >= largest[a] && less(size[a]) < size[a])
            .max_by_key(|&a| size[a] - largest[a]);
        let longest = || (0..3).max_by_key(|&a| size[a]).expect("three axes");
        let a = spare.unwrap_or_else(longest);
        size[a] = less(size[a]);
    }
    loop {
        let share = |a: usize| size[a] as f64 / largest[a] as f64;
        let growing = (0..3).filter(|&a| size[a] < shape.size[a]);
        let Some(a) = growing.min_by(|&a, &b| share(a).total_cmp(&share(b))) else { break };
        let mut grown = size;
        grown[a] = more(size[a], a);
        if bytes(grown) > SAMPLE_BYTES {
            break;
        }
        size = grown;
    }
    let reachable = SKIP_BYTES / shape.plane_bytes();
    let [z, y, x] = [0, 1, 2].map(|a| ((shape.size[a] - size[a]) / 2) as i64);
    Region::new([z.min(reachable as i64), y, x], size)
}

/// Reads the voxels of the sample from the first channel.
fn read_sample(path: &Path, sample: &Region) -> Result<Vec<u8>> {
    let opened = VolumeInput::from(path).open(&Stated::default())?;
    let header = opened.volume().clone();
    let mut stream = opened.stream()?;
    let (t, [_, ny, nx]) = (header.dtype.size(), header.size);
    let mut step = vec![0; header.interleaved * ny * nx * t];
    let mut voxels = Vec::with_capacity(sample.len() * t);
    let [z0, y0, x0] = sample.start.map(|v| v as usize);
    for z in 0..z0 + sample.size[0] {
        stream.next_steps(1, &mut step)?;
        if z >= z0 {
            for y in y0..y0 + sample.size[1] {
                voxels.extend_from_slice(&step[(y * nx + x0) * t..][..sample.size[2] * t]);
            }
        }
    }
    Ok(voxels)
}

/// Encodes the sample in each candidate's layout, as volumes of one subject that are named by
/// number.
fn write_candidates(
    store: &Path,
    candidates: &[Candidate],
    sample: &Region,
    voxels: &[u8],
    options: &IngestOptions,
) -> Result<()> {
    let writer = StoreWriter::open(store, options.threads)?;
    let mut subject = writer.subject(SUBJECT)?;
    let mut finished = Vec::new();
    for (number, candidate) in candidates.iter().enumerate() {
        let (dtype, chunk) = (candidate.layout.dtype, candidate.layout.chunk);
        let shape = VolumeShape { channels: None, size: sample.size, dtype, interleaved: 1 };
        let layout = layout::with_chunk(&shape, chunk, candidate.codec, options.memory_bytes)?;
        let spec = VolumeSpec::new(number.to_string(), Kind::Image, layout)
            .codec(candidate.codec)
            .patch_sizes(options.patch_sizes.clone());
        let mut volume = subject.volume(spec)?;
        for layer in voxels.chunks(volume.layer_bytes()) {
            volume.write_layer(layer)?;
        }
        finished.push(volume.finish()?);
    }
    subject.publish(finished, IfExists::Error)
}

/// Measures each candidate's ratio and speed.
fn measure(store: &Path, candidates: &mut [Candidate], sample: &Region) -> Result<()> {
    let options = OpenOptions::default().cache_bytes(0).threads(1);
    let subject = Dataset::open(store, &options)?.subject(SUBJECT)?;
    let mut runs = Vec::new();
    for (number, candidate) in candidates.iter_mut().enumerate() {
        let volume = subject.volume(&number.to_string())?;
        let sample_bytes = sample.len() * candidate.layout.dtype.size();
        candidate.ratio = sample_bytes as f64 / volume.stored_bytes()? as f64;
        for (i, cost) in candidate.patches.iter().enumerate() {
            let patches = patches_in(&subject, &number.to_string(), sample, cost.size)?;
            // Compares the checksums and maps the pages before the first round.
            read_patches(&patches, 1, Until::Last(Duration::MAX))?;
            runs.push((number, i, patches));
        }
    }
    for _ in 0..ROUNDS {
        for (number, i, patches) in &runs {
            let pass = read_patches(patches, 1, Until::Time(ROUND))?;
            let Candidate { layout, patches, .. } = &mut candidates[*number];
            let cost = &mut patches[*i];
            let voxels = cost.size.iter().product::<usize>() * layout.channel_count();
            cost.bytes_per_second = cost.bytes_per_second.max(pass.bytes_per_second());
            cost.patches_per_second = cost.bytes_per_second / (voxels * layout.dtype.size()) as f64;
        }
    }
    Ok(())
}

fn patches_in(
    subject: &Subject,
    volume: &str,
    sample: &Region,
    patch: Size3,
) -> Result<Vec<Patch>> {
    let volume = subject.volume(volume)?;
    let size = [0, 1, 2].map(|a| patch[a].min(sample.size[a]));
    let sampler = UniformSampler::new(size)?;
    let locations = sampler.locations(subject, PATCHES, Epoch::default(), 0)?;
    let patch = |region| Patch { volume: volume.clone(), region };
    Ok(locations.into_iter().map(|location| patch(location.region)).collect())
}

#[cfg(test)]
mod tests {
    use voxquarry::Dtype;

    use super::*;

    fn shape(size: Size3, dtype: Dtype) -> VolumeShape {
        VolumeShape { channels: None, size, dtype, interleaved: 1 }
    }

    fn cost(size: Size3, chunk: Size3, patch: Size3, codec: Codec) -> PatchCost {
        let layout = layout::with_chunk(&shape(size, Dtype::Int16), chunk, codec, 8 << 30).unwrap();
        expected_cost(&layout, patch)
    }

    #[test]
    fn costs_follow_the_formulas_and_are_exact_at_borders() {
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-9;
        // The positions are a multiple of the chunks.
        let size = [4096 + 127; 3];
        // A block of 32 KiB is a whole chunk of 16³, or half the planes of one of 32³.
        for (c, chunks, depth, over_read) in [(16, 714.0, 16, 1.394), (32, 123.0, 16, 1.724)] {
            for codec in [Codec::Fast, Codec::Compact] {
                let found = cost(size, [c; 3], [128; 3], codec);
                assert!(near(found.chunks, (1.0 + 127.0 / c as f64).powi(3)), "{found:?}");
                assert_eq!(found.chunks.round(), chunks);
                let vain = |side: usize| (127.0 + side as f64) / 128.0;
                assert!(near(found.over_read, vain(depth) * vain(c).powi(2)), "{found:?}");
                assert!((found.over_read - over_read).abs() < 1e-3);
            }
            assert_eq!(cost(size, [c; 3], [128; 3], Codec::None).over_read, 1.0);
        }
        // A patch with a single position.
        let found = cost([5, 64, 40], [4, 32, 32], [5, 64, 40], Codec::Compact);
        assert_eq!(found.chunks, 8.0);
        assert!(
            near(found.over_read, f64::from(8 * 64 * 64) / f64::from(5 * 64 * 40)),
            "{found:?}"
        );
    }

    #[test]
    fn samples_hold_the_patch_within_their_bound() {
        for (size, patch, dtype) in [
            ([1024, 512, 512], [96; 3], Dtype::Int16),
            ([1024, 512, 512], [1, 512, 512], Dtype::Int16),
            ([3, 700, 5], [3, 96, 5], Dtype::Float64),
            ([1, 1, 1], [1; 3], Dtype::UInt8),
            ([1 << 20, 2, 2], [96, 2, 2], Dtype::UInt8),
            ([2048, 2048, 2048], [1024; 3], Dtype::Float32),
        ] {
            let shape = shape(size, dtype);
            let sample = sample_region(&shape, &[patch]);
            assert!(sample.is_inside(size) && !sample.is_empty(), "{size:?}: {sample:?}");
            assert!(sample.len() * dtype.size() <= SAMPLE_BYTES, "{size:?}: {sample:?}");
            assert!(sample.start[0] as u64 * shape.plane_bytes() <= SKIP_BYTES);
            let fits = (0..3).all(|a| sample.size[a] >= patch[a]);
            assert_eq!(fits, patch != [1024; 3], "{size:?}: {sample:?}");
        }
        // The two do not fit together: the cube does, with positions to spare.
        let mixed = [[96; 3], [1, 512, 512]];
        let sample = sample_region(&shape([1024, 512, 512], Dtype::Int16), &mixed).size;
        assert!(sample[0] > 96 && sample[1] > 160 && sample[2] > 160, "{sample:?}");
    }

    #[test]
    fn neighbours_are_smaller_and_larger_chunks_within_the_volume() {
        let found = neighbours([32; 3], &shape([1024, 512, 512], Dtype::Int16));
        let expected = [[16, 32, 32], [32, 16, 16], [16; 3], [64, 32, 32], [32, 64, 64], [64; 3]];
        assert_eq!(found, expected);
        assert_eq!(
            neighbours([1, 8, 128], &shape([1, 7, 100], Dtype::Int16)),
            [[1, 4, 64]],
            "neither below one voxel nor beyond the volume"
        );
    }
}
