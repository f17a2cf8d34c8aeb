//! Patches that replace earlier ones: the result is that of a new aggregator with the last patches,
//! bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;
use voxquarry::{
    Affine, AggregateOptions, Aggregator, ArraySink, Dtype, Duplicates, Error, Finish, Grid,
    GridSampler, NonFinite, PatchValue, Region, Result, Sink, Size3, StoreSink, StoreWriter,
    Window, bf16, f16,
};

const CHANNELS: usize = 3;
const WINDOWS: [Window; 5] =
    [Window::Crop, Window::Average, Window::Hann, Window::Gaussian, Window::GaussianNnunet];
const FINISHES: [Finish; 4] =
    [Finish::None, Finish::Argmax, Finish::SoftmaxArgmax, Finish::Threshold(2.0)];
/// Bytes of an `f32` patch of [`blended`].
const PATCH_BYTES: u64 = (CHANNELS * 4 * 6 * 5 * 4) as u64;

fn grid(size: Size3, patch: Size3, overlap: Size3) -> Grid {
    GridSampler::new(patch, overlap).unwrap().grid(size).unwrap()
}

fn blended() -> Grid {
    grid([9, 13, 11], [4, 6, 5], [2, 2, 4])
}

fn options(duplicates: Duplicates) -> AggregateOptions {
    AggregateOptions::default().channels(CHANNELS).duplicates(duplicates).threads(2)
}

fn array(grid: &Grid, options: &AggregateOptions) -> Aggregator<ArraySink<f32>> {
    Aggregator::to_array(grid.clone(), options).unwrap()
}

fn stored(grid: &Grid, options: &AggregateOptions, at: &Path) -> Result<Aggregator<StoreSink>> {
    let store = StoreWriter::open(at, Some(2)).unwrap();
    let (dtype, name) = (Dtype::Float32, ("case", "pred"));
    Aggregator::to_store(grid.clone(), options, dtype, &store, name, Affine::IDENTITY)
}

/// Adds patches `(location, seed)` whose voxels depend on the seed, in one of several dtypes.
fn add<S: Sink>(to: &Aggregator<S>, dtype: usize, patches: &[(usize, u32)]) -> Result<()> {
    fn typed<T: PatchValue>(
        to: &Aggregator<impl Sink>,
        patches: &[(usize, u32)],
        from: fn(f32) -> T,
    ) -> Result<()> {
        let len = CHANNELS * to.grid().patch_size().iter().product::<usize>();
        let value = |seed: u32, i: usize| (seed as usize * 7919 + i * 104_729) % 2003;
        let patch = |&(_, seed)| (0..len).map(move |i| value(seed, i) as f32 / 7.0 - 100.0);
        let values: Vec<T> = patches.iter().flat_map(patch).map(from).collect();
        let starts: Vec<_> = patches.iter().map(|&(number, _)| to.grid().start(number)).collect();
        to.add(&values, &starts)
    }
    match dtype {
        0 => typed(to, patches, |value| value as i16),
        1 => typed(to, patches, f16::from_f32),
        2 => typed(to, patches, bf16::from_f32),
        3 => typed(to, patches, f64::from),
        _ => typed(to, patches, |value| value),
    }
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Patches of one call, each a location and a seed.
fn patches() -> impl Strategy<Value = Vec<(usize, u32)>> {
    prop::collection::vec((0usize..1000, any::<u32>()), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_last_patches_count(
        window in 0usize..WINDOWS.len(),
        finish in 0usize..FINISHES.len(),
        patches_in_memory in prop::sample::select(vec![0, 3, 1 << 20]),
        calls in prop::collection::vec((0usize..5, patches()), 0..40),
        first_missing in 0usize..1000,
    ) {
        let grid = blended();
        let count = grid.len();
        let mut calls = calls;
        for (_, patches) in &mut calls {
            for (number, _) in patches {
                *number %= count;
            }
        }
        let added = |number| calls.iter().any(|(_, patches)| patches.iter().any(|p| p.0 == number));
        // Patches that were not added yet, from some location on.
        let missing = (0..count).map(|i| (first_missing + i) % count).filter(|&n| !added(n));
        let missing: Vec<_> = missing.map(|number| (4, vec![(number, number as u32)])).collect();
        calls.extend(missing);
        let mut last = BTreeMap::new();
        for (dtype, patches) in &calls {
            last.extend(patches.iter().map(|&(number, seed)| (number, (*dtype, seed))));
        }

        let refusing =
            options(Duplicates::Error).window(WINDOWS[window].clone()).finish(FINISHES[finish]);
        let replacing = refusing
            .clone()
            .duplicates(Duplicates::Replace)
            .memory_bytes(patches_in_memory * PATCH_BYTES);
        let fresh = array(&grid, &refusing);
        for (&number, &(dtype, seed)) in &last {
            add(&fresh, dtype, &[(number, seed)]).unwrap();
        }
        let expected = bits(fresh.finish().unwrap());

        let folder = tempfile::tempdir().unwrap();
        let in_memory = array(&grid, &replacing);
        let in_store = stored(&grid, &replacing, &folder.path().join("p.zarr")).unwrap();
        let mut seen = BTreeSet::new();
        for (dtype, patches) in &calls {
            add(&in_memory, *dtype, patches).unwrap();
            add(&in_store, *dtype, patches).unwrap();
            seen.extend(patches.iter().map(|p| p.0));
            prop_assert_eq!(in_memory.missing(), count - seen.len());
        }
        prop_assert!(bits(in_memory.finish().unwrap()) == expected, "an array has other bits");
        let volume = in_store.finish().unwrap();
        let found = volume.read::<f32>(Region::whole(grid.size())).unwrap();
        prop_assert!(bits(found) == expected, "a store has other bits");
    }
}

#[test]
fn concurrent_replacements_are_atomic() {
    const THREADS: usize = 4;
    let grid = grid([8, 12, 8], [4; 3], [0; 3]);
    for memory_bytes in [0, 1000, 1 << 20] {
        let options = options(Duplicates::Replace)
            .window(Window::Crop)
            .memory_bytes(memory_bytes)
            .channels(None);
        let aggregator = array(&grid, &options);
        let begin = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (aggregator, grid, begin) = (&aggregator, &grid, &begin);
                scope.spawn(move || {
                    begin.wait();
                    for round in 0..50 {
                        let value = (round * THREADS + thread) as f32;
                        // Two patches in one call.
                        let first = 2 * (round % (grid.len() / 2));
                        let starts = [grid.start(first), grid.start(first + 1)];
                        aggregator.add(&[value; 128], &starts).unwrap();
                    }
                });
            }
        });
        assert_eq!(aggregator.missing(), 0);
        let found = aggregator.finish().unwrap();
        for (number, start) in grid.starts().enumerate() {
            let [z, y, x] = start.map(|v| v as usize);
            let patch = found.slice(ndarray::s![0, z..z + 4, y..y + 4, x..x + 4]);
            let value = found[[0, z, y, x]];
            assert!(patch.iter().all(|&v| v == value), "patch {number} is mixed: {patch}");
            // The last thread's last call for this pair of patches counts, for both of them.
            let pair = number / 2;
            let last = (0..50).rev().find(|round| round % (grid.len() / 2) == pair).unwrap();
            assert_eq!(value as usize / THREADS, last, "patch {number} is not of the last round");
            let [z, y, x] = grid.start(2 * pair).map(|v| v as usize);
            assert_eq!(found[[0, z, y, x]], value, "the batch of patch {number} is mixed");
        }
    }
}

#[test]
fn other_refusals_stay_and_change_nothing() {
    let grid = grid([8; 3], [4; 3], [2; 3]);
    let options = options(Duplicates::Replace).channels(None).non_finite(NonFinite::Error);
    let aggregator = array(&grid, &options);
    let (ones, mut bad) = ([1.0f32; 128], [2.0f32; 128]);
    aggregator.add(&ones[..64], &[[0; 3]]).unwrap();
    bad[70] = f32::NAN;
    let refused = |patches: &[f32], starts: &[[i64; 3]]| {
        aggregator.add(patches, starts).unwrap_err().to_string()
    };
    assert!(refused(&bad[..63], &[[0; 3]]).contains("63 voxels"));
    assert!(refused(&bad[64..], &[[0; 3]]).contains("NaN at [0, 1, 2]"));
    assert!(refused(&bad, &[[0; 3], [0, 0, 2]]).contains("begins at [0, 0, 2]"));
    assert!(refused(&bad[..64], &[[0, 0, 1]]).contains("no patch of the grid begins at [0, 0, 1]"));
    assert_eq!((aggregator.missing(), aggregator.has([0; 3])), (26, true));
    let unfinished = aggregator.check_complete().unwrap_err().to_string();
    assert!(unfinished.contains("26 of 27 patches are missing, the first begins at [0, 0, 2]"));
    for start in grid.starts().skip(1) {
        assert!(!aggregator.has(start) && aggregator.needed().unwrap().contains(&start));
        aggregator.add(&ones, &[start, start]).unwrap();
        assert!(aggregator.has(start) && !aggregator.needed().unwrap().contains(&start));
    }
    assert!(aggregator.finish().unwrap().iter().all(|&v| v == 1.0));
}

#[test]
fn stored_patches_are_removed_with_the_aggregator() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("p.zarr");
    let grid = blended();
    let options = options(Duplicates::Replace).memory_bytes(0);
    let aggregator = stored(&grid, &options, &at).unwrap();
    add(&aggregator, 0, &[(0, 1), (3, 4)]).unwrap();
    assert!(at.exists());
    drop(aggregator);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // Patches end with their process, so they cannot be resumed.
    let resuming = options.resume(String::new());
    let error = stored(&grid, &resuming, &at).unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { .. })
            && error.to_string().contains("resume and replace")
    );
}
