//! The aggregator's other ways: merges, masks and voxels that were blended elsewhere, each against
//! all patches of every voxel.

use std::sync::Arc;

use ndarray::Array4;
use proptest::prelude::*;
use voxquarry::{
    Affine, AggregateOptions, Aggregator, ArraySink, Dtype, Duplicates, Error, Finish, Grid,
    GridSampler, Merge, Padding, Region, Size3, StoreWriter, VoxelMask, Window,
};

fn grid(size: Size3, patch: Size3, overlap: Size3) -> Grid {
    GridSampler::new(patch, overlap).unwrap().padding(Padding::Edge).grid(size).unwrap()
}

/// Small whole numbers, so that votes are classes and maxima have ties.
fn value(number: usize, i: usize) -> f32 {
    ((number * 31 + i * 17) % 23 % 5) as f32
}

fn patch(grid: &Grid, number: usize) -> Vec<f32> {
    (0..grid.patch_size().iter().product()).map(|i| value(number, i)).collect()
}

/// The values and weights of all patches that count for each voxel, one voxel at a time.
fn candidates(
    grid: &Grid,
    weights: &[Vec<f64>; 3],
    came: impl Fn(usize) -> bool,
) -> Vec<Vec<(f64, f64)>> {
    let (size, p) = (grid.size(), grid.patch_size());
    let mut all = vec![Vec::new(); size.iter().product()];
    for (number, start) in grid.starts().enumerate().filter(|one| came(one.0)) {
        for i in 0..p.iter().product::<usize>() {
            let local = [i / (p[1] * p[2]), i / p[2] % p[1], i % p[2]];
            let at = [0, 1, 2].map(|a| start[a] + local[a] as i64);
            if (0..3).all(|a| at[a] >= 0 && at[a] < size[a] as i64) {
                let [z, y, x] = at.map(|v| v as usize);
                let weight = (0..3).map(|a| weights[a][local[a]]).product();
                all[(z * size[1] + y) * size[2] + x].push((f64::from(value(number, i)), weight));
            }
        }
    }
    all
}

fn merged(merge: Merge, candidates: &[(f64, f64)]) -> f64 {
    match merge {
        Merge::Max => candidates.iter().map(|c| c.0).fold(f64::NEG_INFINITY, f64::max),
        Merge::Min => candidates.iter().map(|c| c.0).fold(f64::INFINITY, f64::min),
        Merge::Vote => {
            let votes = |class: usize| -> f64 {
                candidates.iter().filter(|c| c.0 as usize == class).map(|c| c.1).sum()
            };
            // Equal sums may be rounded apart.
            let most = (0..5).map(votes).fold(0.0, f64::max);
            (0..5).find(|&class| votes(class) >= most * (1.0 - 1e-12)).unwrap() as f64
        }
        _ => {
            let total: f64 = candidates.iter().map(|c| c.1).sum();
            candidates.iter().map(|c| c.0 * c.1).sum::<f64>() / total
        }
    }
}

fn geometry() -> impl Strategy<Value = (Size3, Size3, Size3)> {
    prop::array::uniform3((1usize..20, 1usize..9)).prop_flat_map(|axes| {
        let patch = axes.map(|(s, p)| p.min(s));
        (Just(axes.map(|(s, _)| s)), Just(patch), patch.map(|p| 0..p.div_ceil(2)))
    })
}

/// Halves and wholes: their products and sums are exact, so that votes have real ties.
fn window(patch: Size3) -> [Vec<f64>; 3] {
    patch.map(|p| (0..p).map(|i| if i % 2 == 0 { 1.0 } else { 0.5 }).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_merge_with_and_without_a_mask(
        (size, patch_size, overlap) in geometry(),
        merge in prop::sample::select(vec![Merge::Mean, Merge::Max, Merge::Min, Merge::Vote]),
        masked: bool,
        seed in 1usize..1000,
    ) {
        let grid = grid(size, patch_size, overlap);
        let weights = window(patch_size);
        let voxels: usize = size.iter().product();
        let mask: Vec<u8> = (0..voxels).map(|i| u8::from((i * seed) % 11 < 2)).collect();
        let mut options = AggregateOptions::default()
            .channels(None)
            .merge(merge)
            .window(Window::Custom(weights.clone()))
            .threads(2);
        if masked {
            options = options.mask(Some(Arc::new(VoxelMask::new(size, &mask).unwrap())));
            options = options.outside(9.0);
        }
        let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options).unwrap();
        let needed = aggregator.needed().unwrap();
        for (number, start) in grid.starts().enumerate().filter(|one| needed.contains(&one.1)) {
            aggregator.add(&patch(&grid, number), &[start]).unwrap();
        }
        let found = aggregator.finish().unwrap();
        let all = candidates(&grid, &weights, |_| true);
        for (i, found) in found.iter().enumerate() {
            let expected =
                if masked && mask[i] == 0 { 9.0 } else { merged(merge, &all[i]) };
            prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{i}: {found}, {expected}");
        }
    }

    #[test]
    fn patches_that_never_come(
        (size, patch_size, overlap) in geometry(), step in 2usize..5,
    ) {
        let grid = grid(size, patch_size, overlap);
        let comes = |number: usize| number % step != 1;
        let skipped: Vec<_> =
            grid.starts().enumerate().filter(|one| !comes(one.0)).map(|one| one.1).collect();
        let options = AggregateOptions::default()
            .channels(None)
            .window(Window::Custom(window(patch_size)))
            .skipped(skipped)
            .outside(9.0);
        let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options).unwrap();
        for (number, start) in grid.starts().enumerate().filter(|one| comes(one.0)) {
            aggregator.add(&patch(&grid, number), &[start]).unwrap();
        }
        let found = aggregator.finish().unwrap();
        let all = candidates(&grid, &window(patch_size), comes);
        for (i, found) in found.iter().enumerate() {
            let expected =
                if all[i].is_empty() { 9.0 } else { merged(Merge::Mean, &all[i]) };
            prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{i}: {found}, {expected}");
        }
    }
}

/// Voxels of a result, each with its own value.
fn result(channels: usize, size: Size3) -> Array4<f32> {
    let [z, y, x] = size;
    Array4::from_shape_fn((channels, z, y, x), |(c, z, y, x)| {
        (((c * 7 + z) * 11 + y) * 13 + x) as f32
    })
}

/// Hands layers of whole boxes along `axis` to an aggregator, last layer first.
fn put_layers(aggregator: &Aggregator<impl voxquarry::Sink>, voxels: &Array4<f32>, axis: usize) {
    let (size, step) = (aggregator.size(), aggregator.box_size()[axis]);
    for first in (0..size[axis]).step_by(step).rev() {
        let (mut start, mut extents) = ([0i64; 3], size);
        (start[axis], extents[axis]) = (first as i64, step.min(size[axis] - first));
        let mut layer = voxels.view();
        let span = ndarray::Slice::from(first..first + extents[axis]);
        layer.slice_axis_inplace(ndarray::Axis(axis + 1), span);
        let layer: Vec<f32> = layer.iter().copied().collect();
        aggregator.put(&Region::new(start, extents), bytemuck::cast_slice(&layer)).unwrap();
    }
}

#[test]
fn finished_voxels_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(folder.path().join("pred.zarr"), Some(2)).unwrap();
    let size = [37, 40, 150];
    let grid = grid(size, [16, 16, 16], [8; 3]);
    for channels in [1, 3] {
        for axis in 0..3 {
            let options = AggregateOptions::default().channels(Some(channels)).threads(2);
            let expected = result(channels, size);
            let array = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options).unwrap();
            put_layers(&array, &expected, axis);
            assert_eq!(array.missing(), 0);
            assert_eq!(array.finish().unwrap(), expected);
            let name = format!("p{channels}{axis}");
            let place = ("case", &*name);
            let stored = Aggregator::to_store(
                grid.clone(),
                &options,
                Dtype::Float32,
                &store,
                place,
                Affine::IDENTITY,
            )
            .unwrap();
            put_layers(&stored, &expected, axis);
            let found = stored.finish().unwrap().read::<f32>(Region::whole(size)).unwrap();
            assert!(found.iter().eq(expected.iter()));
        }
    }
}

#[test]
fn some_boxes_are_put_and_others_blended() {
    let grid = grid([24, 16, 16], [8; 3], [4; 3]);
    let options = AggregateOptions::default().channels(None);
    let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options).unwrap();
    let [step, ny, nx] = aggregator.box_size();
    assert_eq!((step, ny >= 16, nx >= 16), (8, true, true));
    // A patch that is added before the box is put counts where no box is.
    aggregator.add(&[2.0f32; 512], &[grid.start(0)]).unwrap();
    let ones = vec![1.0f32; 8 * 16 * 16];
    aggregator.put(&Region::new([0; 3], [8, 16, 16]), bytemuck::cast_slice(&ones)).unwrap();
    let needed = aggregator.needed().unwrap();
    assert!(!needed.is_empty() && needed.iter().all(|start| start[0] > 0), "{needed:?}");
    for start in needed {
        aggregator.add(&[2.0f32; 512], &[start]).unwrap();
    }
    let found = aggregator.finish().unwrap();
    assert!(found.indexed_iter().all(|((_, z, _, _), &v)| v == if z < 8 { 1.0 } else { 2.0 }));
}

#[test]
fn a_mask_applies_to_finished_voxels() {
    let size = [8, 8, 8];
    let inside: Vec<u8> = (0..512).map(|i| u8::from(i % 3 == 0)).collect();
    let options = AggregateOptions::default()
        .channels(Some(2))
        .finish(Finish::Argmax)
        .mask(Some(Arc::new(VoxelMask::new(size, &inside).unwrap())))
        .outside(5.0);
    let grid = grid(size, [4; 3], [2; 3]);
    let aggregator = Aggregator::<ArraySink<u8>>::to_array(grid, &options).unwrap();
    aggregator.put(&Region::whole(size), &[1; 512]).unwrap();
    let found = aggregator.finish().unwrap();
    assert!(
        found.iter().zip(&inside).all(|(&v, &is_inside)| v == if is_inside == 1 { 1 } else { 5 })
    );
}

#[test]
fn boxes_that_do_not_fit_are_refused() {
    let options = AggregateOptions::default().channels(None);
    let new = |options: &AggregateOptions| {
        Aggregator::<ArraySink<u8>>::to_array(grid([20, 16, 16], [8; 3], [4; 3]), options).unwrap()
    };
    let aggregator = new(&options);
    let refused = |start: [i64; 3], size: Size3, bytes: usize| {
        aggregator.put(&Region::new(start, size), &vec![0; bytes]).unwrap_err()
    };
    for (start, size) in [
        ([0, 0, 0], [4, 16, 16]),
        ([4, 0, 0], [8, 16, 16]),
        ([16, 0, 0], [8, 16, 16]),
        ([-8, 0, 0], [8, 16, 16]),
        ([0, 0, 0], [0, 16, 16]),
        ([i64::MAX, 0, 0], [8, 16, 16]),
    ] {
        let bytes = size.iter().product();
        let error = refused(start, size, bytes);
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
    assert!(matches!(refused([0; 3], [8, 16, 16], 7), Error::BufferLength { .. }));
    let replacing = new(&options.clone().duplicates(Duplicates::Replace));
    let error = replacing.put(&Region::whole([20, 16, 16]), &[0; 5120]).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    // What was refused left no trace.
    aggregator.put(&Region::whole([20, 16, 16]), &[3; 5120]).unwrap();
    assert!(aggregator.finish().unwrap().iter().all(|&v| v == 3));
}
