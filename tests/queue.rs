//! Compares a queue's batches with plain reads, on any number of threads; tests its errors and
//! memory.

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::Plain;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{
    Balance, Batch, BatchPoll, Border, ConstrainedSampler, Dataset, Dtype, Epoch, Error, Eviction,
    Fault, GridSampler, LabelSampler, OnFailure, OpenOptions, Overlap, Padding, Queue,
    QueueOptions, Sampler, ShuffleMode, Size3, UniformSampler, WeightedSampler,
};

const PATCH: Size3 = [9, 16, 11];

fn store(codec: Codec) -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.zarr");
    for (seed, name) in ["a", "b", "c"].into_iter().enumerate() {
        let plain = Plain::new(None, [40 + seed, 48, 44], Dtype::Int16, seed as u64);
        common::write(&path, name, "ct", &plain, Kind::Image, codec, PATCH);
    }
    let dataset = Dataset::open(path, &OpenOptions::default()).unwrap();
    (folder, dataset)
}

fn options() -> QueueOptions {
    QueueOptions::default().volumes(["ct"]).patches_per_subject(30)
}

fn uniform() -> UniformSampler {
    UniformSampler::new(PATCH).unwrap()
}

fn all(queue: &Queue) -> Vec<Batch> {
    queue.batches().unwrap().map(Result::unwrap).collect()
}

/// Names, starts and voxels, one patch after the other.
fn stream(queue: &Queue) -> Vec<(String, [i64; 3], Vec<u8>)> {
    let mut patches = Vec::new();
    for batch in queue.batches().unwrap().map(Result::unwrap) {
        let bytes = batch.bytes(0).chunks_exact(batch.bytes(0).len() / batch.len());
        for (location, voxels) in batch.locations().iter().zip(bytes) {
            patches.push((location.subject.to_string(), location.region.start, voxels.to_vec()));
        }
    }
    patches
}

#[test]
fn batches_hold_what_a_read_gives() {
    for codec in [Codec::Fast, Codec::Compact, Codec::None] {
        let (_folder, dataset) = store(codec);
        let queue = Queue::new(&dataset, uniform(), options()).unwrap();
        let batches = all(&queue);
        assert_eq!(batches.len() as u64, queue.len());
        assert_eq!(batches.last().unwrap().shape(0), [2, 1, 9, 16, 11]);
        let mut seen = HashSet::new();
        for batch in &batches {
            let array = batch.array::<i16>("ct").unwrap();
            assert!(batch.array::<u16>("ct").is_err() && batch.array::<i16>("seg").is_err());
            for (location, patch) in batch.locations().iter().zip(array.outer_iter()) {
                let volume = dataset.subject(&location.subject).unwrap().volume("ct").unwrap();
                assert_eq!(volume.read::<i16>(location.region).unwrap(), patch);
                seen.insert(location.clone());
            }
        }
        let subjects = ["a", "b", "c"].map(|name| dataset.subject(name).unwrap());
        let drawn = subjects
            .iter()
            .flat_map(|subject| uniform().locations(subject, 30, Epoch::default(), 0).unwrap());
        assert_eq!(seen, drawn.collect());
    }
}

#[test]
fn threads_caches_and_buffers_do_not_change_the_stream() {
    let (_folder, dataset) = store(Codec::Compact);
    let batch_bytes = 4 * 2 * PATCH.iter().product::<usize>() as u64;
    for shuffle in [ShuffleMode::Global, ShuffleMode::Window, ShuffleMode::None] {
        let with = |change: &dyn Fn(QueueOptions) -> QueueOptions| {
            let options = options().shuffle(shuffle).window_bytes(400_000).seed(9);
            stream(&Queue::new(&dataset, uniform(), change(options)).unwrap())
        };
        let expected = with(&|options| options.threads(1));
        assert_eq!(expected.len(), 90);
        for threads in [2, 8] {
            for cache_bytes in [0, 40_000, 1 << 30] {
                for eviction in [Eviction::Farthest, Eviction::Oldest] {
                    let buffer_bytes = batch_bytes.next_multiple_of(64) * threads as u64;
                    let found = with(&|options| {
                        let options = options.threads(threads).cache_bytes(cache_bytes);
                        options.eviction(eviction).buffer_bytes(buffer_bytes)
                    });
                    assert!(found == expected, "{shuffle:?} {threads} {cache_bytes} {eviction:?}");
                }
            }
        }
        assert!(with(&|options| options.seed(8)) != expected);
    }
}

#[test]
fn lookahead_decodes_less_than_lru() {
    let (_folder, dataset) = store(Codec::Compact);
    let decoded = |eviction, cache_bytes| {
        let options = options().eviction(eviction).cache_bytes(cache_bytes);
        let options = options.patches_per_subject(100).threads(1);
        let queue = Queue::new(&dataset, uniform(), options).unwrap();
        let batches = queue.batches().unwrap().map(|batch| batch.unwrap().len()).sum::<usize>();
        assert_eq!(batches, 300);
        queue.stats()
    };
    let volume = dataset.subject("a").unwrap().volume("ct").unwrap();
    let chunks = 3 * volume.layout().chunk_count() as usize;
    let set = chunks * volume.layout().chunk_bytes();
    let every = decoded(Eviction::Farthest, 0);
    assert_eq!(every.cache_hits, 0);
    for part in [4, 8] {
        let [ours, lru] = [Eviction::Farthest, Eviction::Oldest].map(|e| decoded(e, set / part));
        assert_eq!(ours.cache_hits + ours.chunks_decoded, every.chunks_decoded);
        assert_eq!(lru.cache_hits + lru.chunks_decoded, every.chunks_decoded);
        assert!(ours.chunks_decoded * 10 < lru.chunks_decoded * 9, "{part}: {ours:?} {lru:?}");
        assert!(ours.encoded_bytes < lru.encoded_bytes, "{part}: {ours:?} {lru:?}");
    }
    // A cache that holds everything decodes each chunk once. Absent chunks count as neither.
    assert!(decoded(Eviction::Farthest, 2 * set).chunks_decoded <= chunks as u64);
}

#[test]
fn the_stream_resumes_at_a_state() {
    let (_folder, dataset) = store(Codec::Fast);
    let queue = || Queue::new(&dataset, uniform(), options()).unwrap();
    let expected = stream(&queue());
    let first = queue();
    let mut batches = first.batches().unwrap();
    for taken in 0..=first.len() {
        let resumed = queue();
        resumed.load_state(&first.state()).unwrap();
        assert!(stream(&resumed) == expected[expected.len().min(4 * taken as usize)..]);
        assert_eq!(batches.next().is_some(), taken < first.len());
    }
    let other = Queue::new(&dataset, uniform(), options().seed(1)).unwrap();
    assert!(matches!(other.load_state(&first.state()), Err(Error::Unsupported { .. })));
}

#[test]
fn every_iteration_is_another_epoch() {
    let (_folder, dataset) = store(Codec::Fast);
    let queue = || Queue::new(&dataset, uniform(), options()).unwrap();
    let epoch = |epoch| {
        let queue = queue();
        queue.set_epoch(epoch);
        stream(&queue)
    };
    let expected: Vec<_> = (0..4).map(epoch).collect();
    assert!((1..4).all(|i| expected[i] != expected[0]));
    let queue = queue();
    assert!(stream(&queue) == expected[0] && stream(&queue) == expected[1]);
    assert_eq!((queue.state().epoch, queue.state().position), (2, 0));
    // An iteration that was left counts; the chosen epoch is read again.
    queue.batches().unwrap().next().unwrap().unwrap();
    assert_eq!((queue.state().epoch, queue.state().position), (2, 4));
    assert!(stream(&queue) == expected[3]);
    queue.set_epoch(3);
    assert!(stream(&queue) == expected[3]);
    // Shards stay in the epoch that they read.
    queue.set_epoch(1);
    let patches = |index| {
        let batches = queue.shard(2, index).unwrap();
        batches.map(|batch| batch.unwrap().len()).sum::<usize>()
    };
    assert_eq!(patches(0) + patches(1), expected[1].len());
    assert!(stream(&queue) == expected[1]);
}

#[test]
fn a_state_fits_only_its_own_sampler() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(Some(3), [20, 20, 20], Dtype::UInt8, 1);
    let path = folder.path().join("s.zarr");
    common::write(&path, "a", "ct", &plain, Kind::Image, Codec::Fast, PATCH);
    let dataset = Dataset::open(path, &OpenOptions::default()).unwrap();
    let label = |balance| {
        let sampler = LabelSampler::new(PATCH, "ct").unwrap().border(Border::Pad);
        sampler.balance(balance).unwrap()
    };
    let classes = |part| label(Balance::Classes(vec![(1, 1.0), (2, part)]));
    let distant = |min_distance| {
        let sampler = ConstrainedSampler::new(uniform()).unwrap().on_failure(OnFailure::Best);
        sampler.min_distance(min_distance).unwrap().attempts(9).unwrap()
    };
    let weighted =
        |channel| WeightedSampler::new(PATCH, "ct").unwrap().border(Border::Pad).channel(channel);
    let grid = |overlap, padding| {
        GridSampler::new(PATCH, Overlap::Fraction(overlap)).unwrap().padding(padding)
    };
    // All give as many patches of the same size.
    let samplers: [Sampler; 15] = [
        uniform().into(),
        uniform().border(Border::Pad).into(),
        label(Balance::Foreground).into(),
        label(Balance::PosNeg { pos: 1.0, neg: 1.0 }).into(),
        label(Balance::PosNeg { pos: 1.0, neg: 2.0 }).into(),
        label(Balance::Forced { fraction: 0.3 }).into(),
        classes(0.3).into(),
        classes(0.3_f64.next_up()).into(),
        classes(0.3).channel(0).into(),
        weighted(0).into(),
        weighted(1).into(),
        distant(3.0).into(),
        distant(4.0).into(),
        grid(0.5, Padding::None).into(),
        grid(0.5, Padding::Edge).into(),
    ];
    let queues = samplers.map(|sampler| Queue::new(&dataset, sampler, options()).unwrap());
    for (i, a) in queues.iter().enumerate() {
        for (k, b) in queues.iter().enumerate() {
            assert_eq!(a.load_state(&b.state()).is_ok(), i == k, "{i} {k}");
        }
    }
}

#[test]
fn a_grid_over_no_subjects_is_empty() {
    let (_folder, dataset) = store(Codec::Fast);
    let grid = GridSampler::new(PATCH, 0).unwrap();
    let options = options().subjects::<String>([]);
    let queue = Queue::new(&dataset, grid, options).unwrap();
    assert!(queue.is_empty() && all(&queue).is_empty());
    assert!(matches!(queue.batches().unwrap().poll(Duration::ZERO), Ok(BatchPoll::End)));
}

#[test]
fn returned_buffers_are_reused() {
    let (_folder, dataset) = store(Codec::Fast);
    let options = options().patches_per_subject(2000).threads(2);
    let options = options.buffer_bytes(4 * 4 * 2 * 9 * 16 * 11);
    let queue = Queue::new(&dataset, uniform(), options).unwrap();
    let mut addresses = HashSet::new();
    let mut held = None;
    for batch in queue.batches().unwrap().map(Result::unwrap) {
        addresses.insert(batch.bytes(0).as_ptr() as usize);
        // Like a loop in Python, the consumer holds two batches when it takes the next.
        held = Some(batch);
    }
    drop(held);
    // Of 1500 batches, four are in the ring and two with the consumer.
    assert!(addresses.len() <= 6, "{} buffers", addresses.len());
}

#[test]
fn errors_name_the_patch_and_the_fault() {
    let (folder, dataset) = store(Codec::Fast);
    let shard = folder.path().join("s.zarr/b/ct/0/c/0/0/0");
    let length = std::fs::metadata(&shard).unwrap().len();
    std::fs::File::options().write(true).open(&shard).unwrap().set_len(length / 2).unwrap();
    let queue = Queue::new(&dataset, uniform(), options().batch_size(1)).unwrap();
    let (mut good, mut bad) = (0, 0);
    for batch in queue.batches().unwrap() {
        match batch {
            Ok(batch) => {
                assert_ne!(&*batch.locations()[0].subject, "b");
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.fault(), Fault::Data);
                let Error::InPatch { subject, volume, region, .. } = &error else {
                    panic!("{error:?}")
                };
                assert_eq!((subject.as_str(), volume.as_str(), region.size), ("b", "ct", PATCH));
                assert!(matches!(error.root(), Error::ShardIndex { .. }), "{error}");
                bad += 1;
            }
        }
    }
    assert_eq!((good, bad), (60, 30));
}

#[test]
fn threads_that_start_together_never_deadlock() {
    let (_folder, dataset) = store(Codec::Compact);
    let options = options().patches_per_subject(6).threads(16).batch_size(1);
    let queue = Queue::new(&dataset, uniform(), options).unwrap();
    for round in 0..400 {
        let mut batches = queue.batches().unwrap();
        for _ in 0..18 {
            // Thousands of times as long as a patch takes.
            let batch = batches.poll(Duration::from_secs(30)).unwrap();
            assert!(matches!(batch, BatchPoll::Ready(_)), "round {round}: {batch:?}");
        }
    }
}

#[test]
fn dropping_an_iteration_keeps_delivered_batches() {
    let (_folder, dataset) = store(Codec::Compact);
    let queue = Queue::new(&dataset, uniform(), options()).unwrap();
    let mut held = Vec::new();
    for taken in 0..5 {
        let mut batches = queue.batches().unwrap();
        held.extend(batches.by_ref().take(taken).map(Result::unwrap));
    }
    // The batches that the consumer holds do not change.
    for batch in &held {
        let location = &batch.locations()[0];
        let volume = dataset.subject(&location.subject).unwrap().volume("ct").unwrap();
        let patch = volume.read::<i16>(location.region).unwrap();
        assert_eq!(batch.array::<i16>("ct").unwrap().outer_iter().next().unwrap(), patch);
    }
    assert_eq!(held.len(), 10);
}
