//! Uniform locations: exact distribution, every border, and values that never change.

mod common;

use std::collections::BTreeMap;

use common::Plain;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{
    Border, Dataset, Dtype, Epoch, GridSampler, OpenOptions, Padding, Size3, UniformSampler,
};

fn dataset(size: Size3) -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let plain = Plain::new(None, size, Dtype::UInt8, 1);
    common::write(&store, "case01", "ct", &plain, Kind::Image, Codec::Fast, [4; 3]);
    let dataset = Dataset::open(store, &OpenOptions::default()).unwrap();
    (folder, dataset)
}

fn starts(
    dataset: &Dataset,
    patch: Size3,
    border: Border,
    epoch: Epoch,
    first: u64,
    n: u64,
) -> Vec<[i64; 3]> {
    let sampler = UniformSampler::new(patch).unwrap().border(border);
    let subject = dataset.subject("case01").unwrap();
    let locations = sampler.locations(&subject, n, epoch, first).unwrap();
    assert!(locations.iter().all(|l| &*l.subject == "case01" && l.region.size == patch));
    locations.iter().map(|l| l.region.start).collect()
}

/// `docs/determinism.md` lists these numbers; the Python tests compute them without this crate.
#[test]
fn locations_never_change() {
    let (_folder, dataset) = dataset([100, 200, 300]);
    let epoch = Epoch { seed: 42, epoch: 3 };
    let golden = |border| starts(&dataset, [10, 20, 30], border, epoch, 0, 3);
    assert_eq!(golden(Border::Exclude), GOLDEN_EXCLUDE);
    assert_eq!(golden(Border::Clamp), GOLDEN_CLAMP);
    assert_eq!(golden(Border::Pad), GOLDEN_PAD);
}

const GOLDEN_EXCLUDE: [[i64; 3]; 3] = [[62, 6, 75], [84, 97, 7], [59, 119, 100]];
const GOLDEN_CLAMP: [[i64; 3]; 3] = [[63, 0, 68], [87, 97, 0], [60, 121, 95]];
const GOLDEN_PAD: [[i64; 3]; 3] = [[63, -4, 68], [87, 97, -7], [60, 121, 95]];

#[test]
fn any_sample_can_be_computed_alone() {
    let (_folder, dataset) = dataset([30, 31, 32]);
    let epoch = Epoch { seed: 7, epoch: 0 };
    let all = starts(&dataset, [4; 3], Border::Exclude, epoch, 0, 50);
    for n in 0..50 {
        assert_eq!(starts(&dataset, [4; 3], Border::Exclude, epoch, n, 1), [all[n as usize]]);
    }
    let next = Epoch { epoch: 1, ..epoch };
    assert_ne!(starts(&dataset, [4; 3], Border::Exclude, next, 0, 50), all);
}

/// Every start of a small volume has the probability that enumeration gives.
#[test]
fn every_border_has_its_own_distribution() {
    const DRAWS: u64 = 200_000;
    let (_folder, dataset) = dataset([5, 1, 4]);
    let patch = [3, 1, 2];
    for border in [Border::Exclude, Border::Clamp, Border::Pad] {
        let axis = |s: i64, p: i64| -> BTreeMap<i64, f64> {
            let mut chances = BTreeMap::new();
            let each: Vec<i64> = match border {
                Border::Exclude => (0..=s - p).collect(),
                Border::Clamp => (0..s).map(|c| (c - p / 2).clamp(0, s - p)).collect(),
                Border::Pad => (0..s).map(|c| c - p / 2).collect(),
            };
            for &start in &each {
                *chances.entry(start).or_insert(0.0) += 1.0 / each.len() as f64;
            }
            chances
        };
        let (zs, xs) = (axis(5, 3), axis(4, 2));
        let mut counts = BTreeMap::new();
        for start in starts(&dataset, patch, border, Epoch { seed: 11, epoch: 0 }, 0, DRAWS) {
            *counts.entry(start).or_insert(0u64) += 1;
        }
        let mut chi = 0.0;
        for (&z, pz) in &zs {
            for (&x, px) in &xs {
                let expected = pz * px * DRAWS as f64;
                let found = counts.remove(&[z, 0, x]).unwrap_or(0) as f64;
                chi += (found - expected).powi(2) / expected;
            }
        }
        assert!(counts.is_empty(), "{border:?}: starts that cannot be: {counts:?}");
        // At most 19 degrees of freedom: one seed in a thousand exceeds 43.8.
        assert!(chi < 43.8, "{border:?}: chi-square {chi}");
    }
}

#[test]
fn patches_that_cannot_be_are_refused() {
    let (_folder, dataset) = dataset([8, 9, 10]);
    let subject = dataset.subject("case01").unwrap();
    let sampler = |patch, border| UniformSampler::new(patch).unwrap().border(border);
    let refused = |border| {
        sampler([8, 10, 8], border).locations(&subject, 1, Epoch::default(), 0).unwrap_err()
    };
    assert!(refused(Border::Exclude).to_string().contains("smaller patch"));
    assert!(refused(Border::Clamp).to_string().contains("larger than the volume"));
    assert!(sampler([20; 3], Border::Pad).locations(&subject, 1, Epoch::default(), 0).is_ok());
    assert!(UniformSampler::new([0, 1, 1]).is_err());
    let many = sampler([1; 3], Border::Pad).locations(&subject, 2, Epoch::default(), u64::MAX);
    assert!(many.unwrap_err().to_string().contains("2³²"));
    // The whole volume is one patch.
    let whole =
        sampler([8, 9, 10], Border::Exclude).locations(&subject, 3, Epoch::default(), 0).unwrap();
    assert!(whole.iter().all(|l| l.region.start == [0; 3]));
}

#[test]
fn a_padded_grid_can_be_read_as_it_is() {
    let (_folder, dataset) = dataset([8, 9, 10]);
    let subject = dataset.subject("case01").unwrap();
    let sampler = GridSampler::new([4; 3], 2).unwrap().padding(Padding::Reflect);
    let locations = sampler.locations(&subject).unwrap();
    assert_eq!(locations[0].region.start, [-1; 3]);
    assert_eq!(locations.last().unwrap().region.start, [5, 6, 7]);
    let starts: Vec<_> = locations.iter().map(|l| l.region.start).collect();
    assert!(starts.is_sorted());
    let mut patches = vec![0u8; 64 * starts.len()];
    let volume = subject.volume("ct").unwrap();
    volume.read_batch_into(&starts, [4; 3], Padding::Reflect, &mut patches).unwrap();
}
