//! The aggregator against sums computed voxel by voxel, in every order, with and without memory.

mod common;

use std::f64::consts::PI;

use ndarray::Array4;
use proptest::prelude::*;
use voxquarry::{
    Affine, AggregateOptions, Aggregator, ArraySink, Dtype, Grid, GridSampler, Padding, Placement,
    Region, Size3, StoreWriter, Window, f16,
};

fn grid(size: Size3, patch: Size3, overlap: Size3, padding: bool, placement: Placement) -> Grid {
    let padding = if padding { Padding::Edge } else { Padding::None };
    let sampler = GridSampler::new(patch, overlap).unwrap().padding(padding).placement(placement);
    sampler.grid(size).unwrap()
}

/// No voxel of [`patch`] is farther from 0.
const LARGEST: f64 = 186.0;

/// The rounding errors of an `f32` mean of such voxels and of its shares, over a few patches.
const ROUNDING: f64 = 4e-7 * LARGEST;

/// A patch whose voxels depend on their position and on the patch's number.
fn patch(grid: &Grid, channels: usize, number: usize) -> Vec<f32> {
    let voxels = channels * grid.patch_size().iter().product::<usize>();
    (0..voxels).map(|i| ((number * 7919 + i * 104_729) % 2003) as f32 / 7.0 - 100.0).collect()
}

/// The definition, one voxel at a time: all patches, three-dimensional weights, no separability.
fn naive(grid: &Grid, channels: usize, window: &Window) -> Vec<f64> {
    let (size, p) = (grid.size(), grid.patch_size());
    let voxels: usize = size.iter().product();
    let (mut sums, mut totals) = (vec![0.0; channels * voxels], vec![0.0; voxels]);
    let weight = |n: usize, p: usize| {
        let (n, p) = (n as f64, p as f64);
        match window {
            Window::Hann => 0.5 * (1.0 - (2.0 * PI * (n + 1.0) / (p + 1.0)).cos()),
            Window::Gaussian => {
                (-(n - (p - 1.0) / 2.0).powi(2) / (2.0 * (0.125 * p).powi(2))).exp()
            }
            Window::GaussianNnunet => {
                (-(n - (p / 2.0).floor()).powi(2) / (2.0 * (p / 8.0).powi(2))).exp()
            }
            _ => 1.0,
        }
    };
    let least: f64 = p.iter().map(|&p| (0..p).map(|n| weight(n, p)).fold(1.0, f64::min)).product();
    for (number, start) in grid.starts().enumerate() {
        let values = patch(grid, channels, number);
        for i in 0..p.iter().product::<usize>() {
            let local = [i / (p[1] * p[2]), i / p[2] % p[1], i % p[2]];
            let at = [0, 1, 2].map(|a| start[a] + local[a] as i64);
            if (0..3).any(|a| at[a] < 0 || at[a] >= size[a] as i64) {
                continue;
            }
            // Crop: h voxels of a face are cut unless it is the volume's border.
            let cut = (0..3).any(|a| {
                let h = grid.overlap()[a] / 2;
                let inner = [start[a] > 0, start[a] + (p[a] as i64) < size[a] as i64];
                let lone = grid.axis_starts(a).len() == 1;
                !lone
                    && ((local[a] < h && (inner[0] || grid.margins()[a] > 0))
                        || (local[a] >= p[a] - h && (inner[1] || grid.margins()[a] > 0)))
            });
            let to = ((at[0] as usize * size[1]) + at[1] as usize) * size[2] + at[2] as usize;
            if *window == Window::Crop {
                if !cut {
                    for c in 0..channels {
                        sums[c * voxels + to] =
                            f64::from(values[c * p.iter().product::<usize>() + i]);
                    }
                    totals[to] = 1.0;
                }
                continue;
            }
            let mut w: f64 = (0..3).map(|a| weight(local[a], p[a])).product();
            if *window == Window::Gaussian {
                w = w.max(least.max(1e-3));
            }
            for c in 0..channels {
                sums[c * voxels + to] += w * f64::from(values[c * p.iter().product::<usize>() + i]);
            }
            totals[to] += w;
        }
    }
    sums.iter().enumerate().map(|(i, sum)| sum / totals[i % voxels]).collect()
}

const WINDOWS: [Window; 5] =
    [Window::Crop, Window::Average, Window::Hann, Window::Gaussian, Window::GaussianNnunet];

fn options(channels: Option<usize>, window: &Window) -> AggregateOptions {
    AggregateOptions::default().channels(channels).window(window.clone()).threads(2)
}

/// Adds every patch, in an order that `step` scrambles.
fn blend(
    grid: &Grid,
    channels: Option<usize>,
    options: &AggregateOptions,
    step: usize,
) -> Array4<f32> {
    let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), options).unwrap();
    let count = grid.len();
    let step = (step..=step + count).find(|s| gcd(*s, count) == 1).unwrap();
    for i in 0..count {
        let n = i * step % count;
        aggregator.add(&patch(grid, channels.unwrap_or(1), n), &[grid.start(n)]).unwrap();
    }
    aggregator.finish().unwrap()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn assert_close(found: &Array4<f32>, expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*found) - expected).abs() <= ROUNDING,
            "voxel {i}: {found}, expected {expected}"
        );
    }
}

/// Extents of a volume, of patches that fit, and half of their overlaps.
fn geometry() -> impl Strategy<Value = (Size3, Size3, Size3)> {
    prop::array::uniform3((1usize..40, 1usize..14)).prop_flat_map(|axes| {
        let patch = axes.map(|(s, p)| p.min(s));
        let half_overlap = patch.map(|p| 0..p.div_ceil(2));
        (Just(axes.map(|(s, _)| s)), Just(patch), half_overlap)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn blending_is_the_weighted_mean(
        (size, patch, overlap) in geometry(),
        padding: bool,
        even: bool,
        channels in prop::option::of(1usize..3),
        window in 0usize..5,
        step in 1usize..50,
    ) {
        // Crop requires even overlaps.
        let overlap = overlap.map(|o| 2 * o);
        let overlap = [0, 1, 2].map(|a| if overlap[a] < patch[a] { overlap[a] } else { 0 });
        let placement = if even { Placement::Even } else { Placement::Flush };
        let grid = grid(size, patch, overlap, padding, placement);
        let options = options(channels, &WINDOWS[window]);
        let found = blend(&grid, channels, &options, step);
        assert_close(&found, &naive(&grid, channels.unwrap_or(1), &WINDOWS[window]));
        // Without memory, scratch files give the same result to the last bit.
        let spilling = options.memory_bytes(0);
        prop_assert_eq!(blend(&grid, channels, &spilling, step), found);
    }
}

#[test]
fn constants_come_out_as_they_went_in() {
    fn check<T: voxquarry::Voxel>(
        value: f64,
        window: &Window,
        placement: Placement,
        padding: bool,
    ) {
        let grid = grid([37, 20, 23], [9, 8, 10], [4, 2, 6], padding, placement);
        let constant = T::from_f64_exact(value).unwrap();
        let aggregator =
            Aggregator::<ArraySink<T>>::to_array(grid.clone(), &options(None, window)).unwrap();
        for start in grid.starts() {
            aggregator.add(&[constant; 720], &[start]).unwrap();
        }
        let result = aggregator.finish().unwrap();
        let exact = result.iter().all(|v| bytemuck::bytes_of(v) == bytemuck::bytes_of(&constant));
        assert!(exact, "{window:?} {placement:?} of {value} as {:?}", T::DTYPE);
    }
    let custom = Window::Custom([9, 8, 10].map(|p| (1..=p).map(|i| f64::from(i) * 0.3).collect()));
    for window in WINDOWS.iter().chain([&custom]) {
        for placement in [Placement::Flush, Placement::Even] {
            for padding in [false, true] {
                check::<f32>(f64::from(0.1f32), window, placement, padding);
                check::<f32>(f64::from(-3.0e38f32), window, placement, padding);
                check::<f32>(-0.0, window, placement, padding);
                check::<f32>(f64::NEG_INFINITY, window, placement, padding);
                check::<f64>(-0.0, window, placement, padding);
                check::<f16>(f16::from_f32(0.333).to_f64(), window, placement, padding);
                check::<u8>(251.0, window, placement, padding);
                check::<i16>(-1024.0, window, placement, padding);
                check::<u32>(f64::from(u32::MAX), window, placement, padding);
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    // All patches count for voxel 2, with the weights 3, 2 and 1.
    let grid = grid([1, 1, 5], [1, 1, 3], [0, 0, 2], false, Placement::Flush);
    let window = Window::Custom([vec![1.0], vec![1.0], vec![1.0, 2.0, 3.0]]);
    let (inf, nan, far) = (f32::INFINITY, f32::NAN, 3e38);
    let cases = [
        ([1.0, 4.0, -2.0], 1.5),
        ([far, -far, -far], 0.0),
        ([-0.0, -0.0, -0.0], -0.0),
        ([inf, 1.0, 1.0], inf),
        ([1.0, 1.0, -inf], -inf),
        ([inf, far, inf], inf),
        ([1.0, inf, -inf], nan),
        ([nan, 1.0, inf], nan),
    ];
    for (values, expected) in cases {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let options = options(None, &window);
            let aggregator =
                Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options).unwrap();
            for i in order {
                aggregator.add(&[values[i]; 3], &[[0, 0, i as i64]]).unwrap();
            }
            let found = aggregator.finish().unwrap()[[0, 0, 0, 2]];
            let exact = found.to_bits() == f32::to_bits(expected);
            let close = (found - expected).abs() <= ROUNDING as f32 * values[0].abs();
            assert!(exact || close || found.is_nan() && expected.is_nan(), "{values:?}: {found}");
        }
    }
}

#[test]
fn batches_and_half_width_change_no_bit() {
    let grid = grid([40, 33, 50], [16, 12, 20], [8, 6, 10], true, Placement::Flush);
    let options = options(Some(2), &Window::Hann);
    let halves: Vec<Vec<f16>> = (0..grid.len())
        .map(|n| patch(&grid, 2, n).into_iter().map(f16::from_f32).collect())
        .collect();
    let blended = |batch: usize, widen: bool| {
        let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options).unwrap();
        for first in (0..grid.len()).step_by(batch) {
            let numbers = first..grid.len().min(first + batch);
            let starts: Vec<_> = numbers.clone().map(|n| grid.start(n)).collect();
            let patches = halves[numbers].concat();
            if widen {
                let wide: Vec<f32> = patches.iter().map(|v| v.to_f32()).collect();
                aggregator.add(&wide, &starts).unwrap();
            } else {
                aggregator.add(&patches, &starts).unwrap();
            }
        }
        aggregator.finish().unwrap()
    };
    let expected = blended(1, true);
    for (batch, widen) in [(1, false), (3, true), (7, false), (grid.len(), true)] {
        assert_eq!(blended(batch, widen), expected, "batches of {batch}");
    }
}

#[test]
fn integers_round_and_saturate() {
    let grid = grid([1, 1, 3], [1, 1, 2], [0, 0, 1], false, Placement::Flush);
    let to = |a: [f64; 2], b: [f64; 2]| {
        let options = options(None, &Window::Average);
        let aggregator = Aggregator::<ArraySink<u8>>::to_array(grid.clone(), &options).unwrap();
        aggregator.add(&[a, b].concat(), &[[0, 0, 0], [0, 0, 1]]).unwrap();
        aggregator.finish().unwrap().into_raw_vec_and_offset().0
    };
    assert_eq!(to([0.5, 1.0], [2.0, 300.0]), [0, 2, 255]);
    assert_eq!(to([1.5, 2.0], [3.0, -7.0]), [2, 2, 0]);
}

#[test]
fn labels_survive_a_crop_bit_by_bit() {
    let grid = grid([6, 1, 1], [4, 1, 1], [2, 0, 0], false, Placement::Flush);
    let aggregator =
        Aggregator::<ArraySink<u64>>::to_array(grid.clone(), &options(None, &Window::Crop))
            .unwrap();
    aggregator.add(&[u64::MAX; 4], &[[2, 0, 0]]).unwrap();
    aggregator.add(&[u64::MAX - 1; 4], &[[0, 0, 0]]).unwrap();
    let m = u64::MAX;
    assert_eq!(
        aggregator.finish().unwrap().into_raw_vec_and_offset().0,
        [m - 1, m - 1, m - 1, m, m, m]
    );
}

#[test]
fn threads_and_batches_change_nothing() {
    let grid = grid([60, 30, 30], [20, 16, 16], [10, 8, 8], false, Placement::Flush);
    let options = options(Some(2), &Window::Average);
    let expected = blend(&grid, Some(2), &options, 1);
    let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options).unwrap();
    let numbers: Vec<usize> = (0..grid.len()).collect();
    std::thread::scope(|scope| {
        for part in numbers.chunks(grid.len().div_ceil(3)) {
            let (aggregator, grid) = (&aggregator, &grid);
            scope.spawn(move || {
                for batch in part.chunks(3) {
                    let patches: Vec<f32> = batch.iter().flat_map(|&n| patch(grid, 2, n)).collect();
                    let starts: Vec<_> = batch.iter().map(|&n| grid.start(n)).collect();
                    aggregator.add(&patches, &starts).unwrap();
                }
            });
        }
    });
    for (found, expected) in aggregator.finish().unwrap().iter().zip(&expected) {
        let difference = f64::from(found - expected).abs();
        assert!(difference <= ROUNDING, "{found}, expected {expected}");
    }
}

#[test]
fn a_store_takes_the_same_result() {
    let folder = tempfile::tempdir().unwrap();
    let grid = grid([70, 40, 33], [24, 20, 16], [8, 10, 8], true, Placement::Flush);
    for (name, channels) in [("plain", None), ("channels", Some(3))] {
        let options = options(channels, &Window::Hann).memory_bytes(64 << 20);
        let expected = blend(&grid, channels, &options, 1);
        let store = StoreWriter::open(folder.path().join("pred.zarr"), Some(2)).unwrap();
        let affine = Affine::diagonal([3.0, 2.0, 1.0]);
        let new = || {
            Aggregator::to_store(
                grid.clone(),
                &options,
                Dtype::Float32,
                &store,
                ("case", name),
                affine,
            )
        };
        let aggregator = new().unwrap();
        // Backwards, so that every layer but the last stays unfinished for long.
        for n in (0..grid.len()).rev() {
            aggregator.add(&patch(&grid, channels.unwrap_or(1), n), &[grid.start(n)]).unwrap();
        }
        let volume = aggregator.finish().unwrap();
        assert_eq!((volume.channels(), volume.affine()), (channels, &affine));
        let found = volume.read::<f32>(Region::whole(grid.size())).unwrap();
        // Another order of additions rounds differently.
        for (found, expected) in found.iter().zip(&expected) {
            let difference = f64::from(found - expected).abs();
            assert!(difference <= ROUNDING, "{found}, expected {expected}");
        }
        assert!(new().unwrap_err().to_string().contains("exists already"));
    }
}

#[test]
fn wrong_patches_are_refused_and_change_nothing() {
    let grid = grid([8, 8, 8], [4; 3], [2; 3], false, Placement::Flush);
    let aggregator =
        Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options(None, &Window::Hann))
            .unwrap();
    let one = vec![1.0f32; 64];
    let two = vec![1.0f32; 128];
    let refused = |patches: &[f32], starts: &[[i64; 3]]| {
        aggregator.add(patches, starts).unwrap_err().to_string()
    };
    assert!(refused(&one[..63], &[[0; 3]]).contains("63 voxels"));
    assert!(refused(&one, &[[1, 0, 0]]).contains("no patch of the grid begins at [1, 0, 0]"));
    assert!(refused(&two, &[[0; 3], [0; 3]]).contains("added before"));
    assert!(refused(&two, &[[0; 3], [0, 0, 1]]).contains("no patch"));
    assert_eq!(aggregator.missing(), 27, "what was refused left no trace");
    aggregator.add(&two, &[[0; 3], [4, 4, 4]]).unwrap();
    assert!(refused(&one, &[[4, 4, 4]]).contains("added before"));
    assert!(aggregator.has([4, 4, 4]) && !aggregator.has([2, 4, 4]));
    let unfinished = aggregator.finish().unwrap_err().to_string();
    assert!(
        unfinished.contains("25 of 27 patches are missing, the first begins at [0, 0, 2]"),
        "{unfinished}"
    );
    let odd = self::grid([8, 8, 8], [4; 3], [2, 2, 1], false, Placement::Flush);
    let error =
        Aggregator::<ArraySink<f32>>::to_array(odd, &options(None, &Window::Crop)).unwrap_err();
    assert!(error.to_string().contains("is odd"));
    assert!(
        Aggregator::<ArraySink<f32>>::to_array(grid, &options(Some(0), &Window::Hann)).is_err()
    );
}
