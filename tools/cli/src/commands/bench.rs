//! `voxquarry bench`: measures patches per second on the volumes of a store.

use std::collections::BTreeMap;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use voxquarry::format::grid::iter_box;
use voxquarry::{
    BatchPoll, Dataset, Epoch, Error, OpenOptions, PatchLocation, Queue, QueueOptions, QueueStats,
    Result, Size3, Subject, UniformSampler, Volume,
};
use voxquarry_ingest::measure::{Pass, Patch, Until, read_patches};

use super::{StoreItem, ingested_for};
use crate::SUCCESS;
use crate::args::BenchArgs;
use crate::output::{bytes, extents, json, line, megabytes_per_second};

/// Patches of a volume name; the first pass ends when each was read.
const PATCHES: usize = 4096;
/// Maximum number of subjects, chosen evenly where there are more.
const SUBJECTS: usize = 256;

/// The volumes of one name, each with its subject.
type Group = Vec<(Subject, Volume)>;

/// The results for a group.
struct Measurement {
    name: String,
    subjects: usize,
    dtype: String,
    patch_size: Size3,
    patch_bytes: f64,
    chunks: f64,
    stored_patch_bytes: f64,
    ratio: f64,
    passes: Vec<PassRun>,
    queue: QueueRun,
}

/// The results of a queue.
struct QueueRun {
    threads: usize,
    stats: QueueStats,
}

/// The results of a pass.
struct PassRun {
    name: &'static str,
    threads: usize,
    pass: Pass,
    /// Bytes that the system fetched from disk meanwhile, where it counts them.
    disk_bytes: Option<u64>,
}

pub(crate) fn run(args: &BenchArgs) -> Result<u8> {
    let groups = groups(args)?;
    let cores = || available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or_else(cores, usize::from);
    let mut measured = Vec::new();
    for (name, group) in groups {
        let measurement = measure(name, &group, threads, args)?;
        if !args.json {
            print(&measurement);
        }
        measured.push(measurement);
    }
    if args.json {
        let volumes: Vec<Value> = measured.iter().map(document).collect();
        json(&json!({ "path": args.path.to_string_lossy(), "volumes": volumes }));
    } else {
        line(
            "first touch: each patch once, with checksums compared and the page cache as found; \
             decoded chunks are not cached",
        );
    }
    Ok(SUCCESS)
}

/// Groups the volumes that the path names.
fn groups(args: &BenchArgs) -> Result<BTreeMap<String, Group>> {
    let (subject, volume, store) = match StoreItem::open(&args.path)? {
        StoreItem::Dataset(dataset) => (None, None, dataset.path().to_owned()),
        StoreItem::Subject(subject) => (Some(subject.name().to_owned()), None, parent(&subject)),
        StoreItem::Volume(subject, volume) => {
            let store = parent(&subject);
            (Some(subject.name().to_owned()), Some(volume.name().to_owned()), store)
        }
    };
    // Each thread of the bench reads whole patches by itself, so a pool would only add cost.
    let options = OpenOptions::default().cache_bytes(0).threads(1);
    let dataset = Dataset::open(&store, &options)?;
    let all = dataset.subjects();
    let picked = all.len().min(SUBJECTS);
    let names = match &subject {
        Some(name) => vec![name],
        None => (0..picked).map(|i| &all[i * all.len() / picked]).collect(),
    };
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for name in names {
        let subject = dataset.subject(name)?;
        for name in subject.volumes().iter().filter(|&n| volume.as_ref().is_none_or(|v| v == n)) {
            let volume = subject.volume(name)?;
            groups.entry(name.clone()).or_default().push((subject.clone(), volume));
        }
    }
    if groups.is_empty() {
        let reason = format!("{} has no volume", args.path.display());
        return Err(Error::unsupported(reason, "ingest an image first"));
    }
    Ok(groups)
}

fn parent(subject: &Subject) -> std::path::PathBuf {
    subject.path().parent().expect("a subject lies in a store").to_owned()
}

fn measure(name: String, group: &Group, threads: usize, args: &BenchArgs) -> Result<Measurement> {
    let patch_size = args.patch_size.unwrap_or_else(|| common_patch(group));
    let patches = draw(group, patch_size)?;
    let first = timed("first touch", 1, &patches, Until::Last(args.seconds))?;
    // Patches that the first pass did not read are not warm.
    let touched = &patches[..first.pass.patches as usize];
    let warm = |threads| timed("warm", threads, touched, Until::Time(args.seconds));
    let mut passes = vec![first, warm(1)?];
    if threads > 1 {
        passes.push(warm(threads)?);
    }

    let queue =
        QueueRun { threads, stats: queued(&name, group, patch_size, threads, args.seconds)? };

    let stored = group.iter().map(|(_, v)| v.stored_bytes()).collect::<Result<Vec<u64>>>()?;
    let chunk_bytes = |i: usize| stored[i] as f64 / group[i].1.layout().chunk_count() as f64;
    let (mut chunks, mut stored_patch_bytes) = (0.0, 0.0);
    for (i, Patch { volume, region }) in touched.iter().enumerate() {
        let layout = volume.layout();
        let met = iter_box(layout.chunks_meeting(region)).count() * layout.channel_count();
        chunks += met as f64;
        stored_patch_bytes += met as f64 * chunk_bytes(i % group.len());
    }
    let n = touched.len() as f64;
    let raw: u64 = group.iter().map(|(_, volume)| volume.voxel_bytes()).sum();
    Ok(Measurement {
        name,
        subjects: group.len(),
        dtype: dtypes(group),
        patch_size,
        patch_bytes: passes[0].pass.bytes as f64 / n,
        chunks: chunks / n,
        stored_patch_bytes: stored_patch_bytes / n,
        ratio: raw as f64 / stored.iter().sum::<u64>() as f64,
        passes,
        queue,
    })
}

/// Takes batches from a queue as fast as it delivers them, from the subjects whose volume has the
/// dtype and channels of the first.
fn queued(
    name: &str,
    group: &Group,
    patch_size: Size3,
    threads: usize,
    time: Duration,
) -> Result<QueueStats> {
    const BATCH_PATCHES: usize = 4;
    const BUFFER_BYTES: u64 = 512 << 20;
    let kind = |volume: &Volume| (volume.dtype(), volume.channels());
    let (dataset, first) = (group[0].0.dataset(), kind(&group[0].1));
    let alike = group.iter().filter(|(_, volume)| kind(volume) == first);
    let each = PATCHES.div_ceil(group.len()) as u64;
    let batch_voxels = group[0].1.voxels_in(patch_size, BATCH_PATCHES)?;
    let batch_bytes = batch_voxels as u64 * first.0.size() as u64;
    let options = QueueOptions::default()
        .volumes([name])
        .subjects(alike.map(|(subject, _)| (subject.name(), each)))
        .batch_size(BATCH_PATCHES)
        .buffer_bytes(BUFFER_BYTES.max(2 * batch_bytes))
        .cache_bytes(OpenOptions::default().get_cache_bytes())
        .threads(threads);
    let queue = Queue::new(dataset, UniformSampler::new(patch_size)?, options)?;
    let end = Instant::now() + time;
    for epoch in 0.. {
        queue.set_epoch(epoch);
        let mut batches = queue.batches()?;
        loop {
            match batches.poll(Duration::from_secs(1))? {
                BatchPoll::End => break,
                BatchPoll::Ready(_) if Instant::now() >= end => return Ok(queue.stats()),
                BatchPoll::Ready(_) | BatchPoll::Pending => {}
            }
        }
    }
    Ok(queue.stats())
}

/// The patch size that the first volume was ingested for, clipped to all volumes.
fn common_patch(group: &Group) -> Size3 {
    let sizes = group.iter().map(|(_, volume)| volume.size());
    sizes.fold(ingested_for(&group[0].1), |patch, size| [0, 1, 2].map(|a| patch[a].min(size[a])))
}

/// Draws patches, from each subject in turn.
fn draw(group: &Group, patch_size: Size3) -> Result<Vec<Patch>> {
    let sampler = UniformSampler::new(patch_size)?;
    let each = PATCHES.div_ceil(group.len());
    let mut drawn = Vec::with_capacity(group.len());
    for (subject, _) in group {
        let in_subject = |source| Error::InSubject {
            subject: subject.name().to_owned(),
            source: Box::new(source),
        };
        let locations = sampler.locations(subject, each as u64, Epoch::default(), 0);
        drawn.push(locations.map_err(in_subject)?);
    }
    let turns =
        (0..each).flat_map(|turn| group.iter().zip(&drawn).map(move |(g, d)| (g, &d[turn])));
    let patch = |((_, volume), location): (&(Subject, Volume), &PatchLocation)| Patch {
        volume: volume.clone(),
        region: location.region,
    };
    Ok(turns.map(patch).collect())
}

fn dtypes(group: &Group) -> String {
    let mut names: Vec<_> = group.iter().map(|(_, volume)| volume.dtype().name()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn timed(name: &'static str, threads: usize, patches: &[Patch], until: Until) -> Result<PassRun> {
    let before = fetched_bytes();
    let pass = read_patches(patches, threads, until)?;
    let disk_bytes = fetched_bytes().zip(before).map(|(after, before)| after - before);
    Ok(PassRun { name, threads, pass, disk_bytes })
}

/// Bytes that the system has fetched from disks for this process, mapped pages included; Linux
/// only.
fn fetched_bytes() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/self/io").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("read_bytes: "))?.parse().ok()
}

fn document(measurement: &Measurement) -> Value {
    let pass = |m: &PassRun| {
        json!({
            "pass": m.name,
            "threads": m.threads,
            "patches": m.pass.patches,
            "seconds": m.pass.seconds,
            "patches_per_second": m.pass.patches_per_second(),
            "voxel_bytes_per_second": m.pass.bytes_per_second(),
            "disk_bytes": m.disk_bytes,
        })
    };
    json!({
        "volume": measurement.name,
        "subjects": measurement.subjects,
        "dtype": measurement.dtype,
        "patch_size": measurement.patch_size,
        "patch_bytes": measurement.patch_bytes,
        "chunks_per_patch": measurement.chunks,
        "stored_bytes_per_patch": measurement.stored_patch_bytes,
        "ratio": measurement.ratio,
        "passes": measurement.passes.iter().map(pass).collect::<Vec<_>>(),
        "queue": queue_document(&measurement.queue),
    })
}

fn queue_document(QueueRun { threads, stats }: &QueueRun) -> Value {
    json!({
        "threads": threads,
        "patches": stats.patches,
        "batches": stats.batches,
        "seconds": stats.elapsed.as_secs_f64(),
        "patches_per_second": stats.patches_per_second(),
        "stall_seconds": stats.stall.as_secs_f64(),
        "decode_seconds": stats.read.as_secs_f64(),
        "cache_hits": stats.cache_hits,
        "chunks_decoded": stats.chunks_decoded,
        "bytes_read": stats.encoded_bytes,
    })
}

fn print(measurement: &Measurement) {
    let subjects = if measurement.subjects == 1 { "subject" } else { "subjects" };
    line(&format!(
        "{}: patches of {} {}, {}, from {} {subjects}",
        measurement.name,
        extents(&measurement.patch_size),
        measurement.dtype,
        bytes(measurement.patch_bytes as u64),
        measurement.subjects,
    ));
    line(&format!(
        "  on disk     {} for each patch, in {:.1} whole chunks; ratio {:.2}",
        bytes(measurement.stored_patch_bytes as u64),
        measurement.chunks,
        measurement.ratio,
    ));
    for m in &measurement.passes {
        let threads = if m.threads == 1 { "thread" } else { "threads" };
        let disk = match m.disk_bytes {
            Some(0) | None => String::new(),
            Some(n) => format!(", {} from disk", bytes(n)),
        };
        line(&format!(
            "  {:<11} {:>8.0} patches/s  {:>12}  {} {threads}, {} patches in {:.1} s{disk}",
            m.name,
            m.pass.patches_per_second(),
            megabytes_per_second(m.pass.bytes_per_second()),
            m.threads,
            m.pass.patches,
            m.pass.seconds,
        ));
    }
    let QueueRun { threads, stats } = &measurement.queue;
    let visits = stats.cache_hits + stats.chunks_decoded;
    line(&format!(
        "  {:<11} {:>8.0} patches/s  {:>12}  {threads} threads busy {:.0} % of the time, \
         {} read, {:.0} % of the chunks from the cache",
        "queue",
        stats.patches_per_second(),
        megabytes_per_second(stats.voxel_bytes as f64 / stats.elapsed.as_secs_f64()),
        100.0 * stats.read.as_secs_f64() / (stats.elapsed.as_secs_f64() * *threads as f64),
        bytes(stats.encoded_bytes),
        100.0 * stats.cache_hits as f64 / visits.max(1) as f64,
    ));
}
