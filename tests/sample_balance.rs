//! Label and weighted locations: exact distributions, values that never change, and refusals.

#[allow(unreachable_pub)]
mod common;

use std::collections::BTreeSet;

use common::Plain;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{
    Balance, Border, Dataset, Dtype, Epoch, Error, LabelSampler, OnMissing, OpenOptions,
    RandomSampler, Size3, Subject, WeightedSampler,
};

/// A volume of small numbers in blocks; several chunks on each axis, cut off at the edges.
const SIZE: Size3 = [40, 36, 44];

fn number(i: usize) -> u8 {
    (i * 7919 / 640 % 5) as u8
}

fn thinned(i: usize) -> u8 {
    if i.is_multiple_of(3) { 0 } else { number(i) }
}

struct World {
    _folder: tempfile::TempDir,
    dataset: Dataset,
}

impl World {
    fn new(
        channels: Option<usize>,
        size: Size3,
        threads: usize,
        voxel: impl Fn(usize) -> u8,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.zarr");
        let count = channels.unwrap_or(1) * size.iter().product::<usize>();
        let bytes = (0..count).map(voxel).collect();
        let plain = Plain { channels, size, dtype: Dtype::UInt8, bytes };
        for (subject, kind) in [("case01", Kind::Labels), ("image", Kind::Image)] {
            common::write(&store, subject, "v", &plain, kind, Codec::Fast, [16; 3]);
        }
        let options = OpenOptions::default().threads(threads);
        let dataset = Dataset::open(store, &options).unwrap();
        Self { _folder: folder, dataset }
    }

    fn subject(&self, name: &str) -> Subject {
        self.dataset.subject(name).unwrap()
    }
}

fn label(patch: Size3, border: Border, balance: Balance) -> RandomSampler {
    let sampler = LabelSampler::new(patch, "v").unwrap().border(border);
    sampler.balance(balance).unwrap().into()
}

fn weighted(patch: Size3, border: Border) -> RandomSampler {
    WeightedSampler::new(patch, "v").unwrap().border(border).into()
}

fn every_sampler(patch: Size3) -> Vec<RandomSampler> {
    let classes = || Balance::Classes(vec![(2, 3.0), (0, 1.0), (9, 5.0)]);
    vec![
        label(patch, Border::Exclude, Balance::Foreground),
        label(patch, Border::Clamp, classes()),
        label(patch, Border::Pad, Balance::PosNeg { pos: 1.0, neg: 2.0 }),
        label(patch, Border::Exclude, Balance::Forced { fraction: 0.33 }),
        weighted(patch, Border::Exclude),
        weighted(patch, Border::Pad),
    ]
}

fn starts(
    sampler: &RandomSampler,
    subject: &Subject,
    epoch: Epoch,
    first: u64,
    n: u64,
) -> Vec<[i64; 3]> {
    let locations = sampler.locations(subject, n, epoch, first).unwrap();
    locations.iter().map(|l| l.region.start).collect()
}

/// `docs/determinism.md` lists these numbers; the Python tests compute them without this crate.
#[test]
fn locations_never_change() {
    let world = World::new(None, SIZE, 1, number);
    let subject = world.subject("case01");
    assert_eq!(subject.volume("v").unwrap().layout().chunk, [16; 3]);
    let page = include_str!("../docs/determinism.md");
    let (_, section) = page.split_once("## Weighted locations").unwrap();
    for sampler in every_sampler([10, 9, 8]) {
        let found = starts(&sampler, &subject, Epoch { seed: 42, epoch: 3 }, 0, 3);
        let triples = found.iter().map(|[z, y, x]| format!("({z}, {y}, {x})").replace('-', "−"));
        let row = format!(
            "| {} | {} |\n",
            sampler.get_border().name(),
            triples.collect::<Vec<_>>().join(", ")
        );
        assert!(section.contains(&row), "{sampler:?}: {row}");
    }
}

#[test]
fn any_sample_can_be_computed_alone_on_any_number_of_threads() {
    let epoch = Epoch { seed: 7, epoch: 0 };
    let all: Vec<Vec<_>> = [1, 8]
        .map(|threads| {
            let world = World::new(None, SIZE, threads, number);
            let subject = world.subject("case01");
            every_sampler([4; 3]).iter().map(|s| starts(s, &subject, epoch, 0, 60)).collect()
        })
        .into();
    assert_eq!(all[0], all[1]);
    let world = World::new(None, SIZE, 2, number);
    for (sampler, all) in every_sampler([4; 3]).iter().zip(&all[0]) {
        // Backwards, so that no earlier sample can help.
        for n in (0..60).rev() {
            assert_eq!(starts(sampler, &world.subject("case01"), epoch, n, 1), [all[n as usize]]);
        }
    }
}

/// In a volume of 10⁶ voxels, centres fall into each octant and label as often as the probability
/// map says.
#[test]
fn draws_are_distributed_as_the_probability_map_says() {
    const DRAWS: u64 = 40_000;
    let size = [100; 3];
    let world = World::new(None, size, 2, thinned);
    let subject = world.subject("case01");
    let half = |v: i64| usize::from(v >= 50);
    for sampler in every_sampler([17, 8, 33]) {
        let map = sampler.probability_map(&subject).unwrap();
        assert!((map.sum() - 1.0).abs() < 1e-9);
        let bin = |at: [usize; 3]| {
            let octant = at.iter().fold(0, |n, &v| n * 2 + half(v as i64));
            let i = (at[0] * 100 + at[1]) * 100 + at[2];
            octant * 5 + usize::from(thinned(i))
        };
        let (mut expected, mut found) = ([0.0; 40], [0.0; 40]);
        for ((z, y, x), p) in map.indexed_iter() {
            expected[bin([z, y, x])] += p * DRAWS as f64;
        }
        for start in starts(&sampler, &subject, Epoch { seed: 5, epoch: 1 }, 0, DRAWS) {
            // The start of a clamped patch does not tell its centre.
            let centre = [0, 1, 2].map(|a| start[a] + [8, 4, 16][a]);
            if sampler.get_border() != Border::Clamp {
                let at = centre.map(|v| v as usize);
                assert!(map[at] > 0.0, "{at:?} cannot be a centre");
                found[bin(at)] += 1.0;
            }
        }
        if sampler.get_border() == Border::Clamp {
            continue;
        }
        let bins = expected.iter().zip(found).filter(|bin| *bin.0 > 0.0);
        let chi: f64 = bins.map(|(e, f)| (f - e) * (f - e) / e).sum();
        // At most 39 degrees of freedom: one seed in a thousand exceeds 72.1.
        assert!(chi < 72.1, "{sampler:?}: chi-square {chi}");
    }
}

#[test]
fn a_probability_map_fills_a_buffer_of_its_size() {
    let world = World::new(None, SIZE, 2, number);
    let subject = world.subject("case01");
    for sampler in every_sampler([5, 6, 7]) {
        let map = sampler.probability_map(&subject).unwrap();
        let mut buffer = vec![7.0; map.len()];
        sampler.probability_map_into(&subject, &mut buffer).unwrap();
        assert_eq!(map.as_slice().unwrap(), buffer, "{sampler:?}");
        let error = sampler.probability_map_into(&subject, &mut buffer[1..]).unwrap_err();
        assert!(matches!(error, Error::BufferLength { .. }), "{error}");
    }
}

#[test]
fn volumes_without_counts_or_sums_work_and_keep_their_sums() {
    let world = World::new(None, SIZE, 2, number);
    let (labels, image) = (world.subject("case01"), world.subject("image"));
    let epoch = Epoch { seed: 1, epoch: 2 };
    // The name of a subject is part of its stream: probabilities are compared, not locations.
    for sampler in every_sampler([5, 6, 7]) {
        let maps = [&labels, &image].map(|subject| sampler.probability_map(subject).unwrap());
        assert!(maps[0] == maps[1], "{sampler:?}");
    }
    let sums = image.path().join("v/sums");
    assert!(sums.join("zarr.json").exists(), "sums are kept beside the volume");
    assert!(voxquarry::verify(world.dataset.path(), &mut |_| Ok(())).unwrap().errors.is_empty());
    let sampler = weighted([5, 6, 7], Border::Clamp);
    let before = starts(&sampler, &image, epoch, 0, 20);
    // Sums of other voxels, damaged sums and missing ones are computed again.
    let reopened = || Dataset::open(world.dataset.path(), &OpenOptions::default()).unwrap();
    for damage in ["zarr.json", "c/0", ""] {
        if damage.is_empty() {
            std::fs::remove_dir_all(&sums).unwrap();
        } else {
            let path = sums.join(damage);
            let mut bytes = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes).replace("crc32c\": ", "crc32c\": 1");
            if damage == "c/0" {
                bytes[9] ^= 1;
            } else {
                bytes = text.into_bytes();
            }
            std::fs::write(&path, bytes).unwrap();
            let report = voxquarry::verify(world.dataset.path(), &mut |_| Ok(())).unwrap();
            assert_eq!(report.error_count, 1, "{damage}: {:?}", report.errors);
        }
        let dataset = reopened();
        assert_eq!(starts(&sampler, &dataset.subject("image").unwrap(), epoch, 0, 20), before);
        assert!(voxquarry::verify(dataset.path(), &mut |_| Ok(())).unwrap().errors.is_empty());
    }
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let world = World::new(None, SIZE, 1, |i| u8::from(i == 0) * 3);
    let (subject, epoch) = (world.subject("case01"), Epoch::default());
    let refused =
        |sampler: &RandomSampler| sampler.locations(&subject, 1, epoch, 0).unwrap_err().to_string();
    // The only voxel is in a corner, where no patch has its centre.
    for sampler in [
        label([4; 3], Border::Exclude, Balance::Foreground),
        label([4; 3], Border::Exclude, Balance::Classes(vec![(3, 1.0)])),
        weighted([4; 3], Border::Exclude),
    ] {
        assert!(refused(&sampler).contains("pad the volume"), "{}", refused(&sampler));
    }
    assert_eq!(starts(&weighted([4; 3], Border::Pad), &subject, epoch, 0, 2), [[-2; 3]; 2]);
    assert_eq!(starts(&weighted([4; 3], Border::Clamp), &subject, epoch, 0, 2), [[0; 3]; 2]);
    let absent = label([4; 3], Border::Pad, Balance::Classes(vec![(8, 1.0), (7, 1.0)]));
    assert!(refused(&absent).contains("[7, 8]"));
    assert!(refused(&weighted([41, 1, 1], Border::Exclude)).contains("larger"));
    let channel = WeightedSampler::new([4; 3], "v").unwrap().border(Border::Pad).channel(1);
    assert!(
        channel.locations(&subject, 1, epoch, 0).unwrap_err().to_string().contains("channel 1")
    );
    let missing = WeightedSampler::new([4; 3], "w").unwrap().border(Border::Pad);
    assert!(missing.locations(&subject, 1, epoch, 0).unwrap_err().to_string().contains("\"w\""));
    // What is missing leaves all to the other side.
    let side = label([4; 3], Border::Exclude, Balance::PosNeg { pos: 1.0, neg: 0.0 });
    assert_eq!(starts(&side, &subject, epoch, 0, 10).len(), 10);
    let forced = label([4; 3], Border::Exclude, Balance::Forced { fraction: 1.0 });
    let distinct: BTreeSet<_> = starts(&forced, &subject, epoch, 0, 30).into_iter().collect();
    assert!(distinct.len() > 20, "without a foreground, samples lie anywhere");
}

/// Negative weights and others that are none are named by the first of them.
#[test]
fn bad_weights_are_named() {
    for (bad, words) in [(-1.0f32, "is -1"), (f32::NAN, "is NaN"), (f32::INFINITY, "is inf")] {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.zarr");
        let mut values = vec![1.0f32; SIZE.iter().product()];
        for [z, y, x] in [[39, 2, 3], [33, 7, 40], [33, 7, 39]] {
            values[(z * SIZE[1] + y) * SIZE[2] + x] = bad;
        }
        let plain = Plain {
            channels: None,
            size: SIZE,
            dtype: Dtype::Float32,
            bytes: bytemuck::cast_slice(&values).to_vec(),
        };
        common::write(&store, "a", "v", &plain, Kind::Image, Codec::Fast, [16; 3]);
        let dataset = Dataset::open(&store, &OpenOptions::default()).unwrap();
        let subject = dataset.subject("a").unwrap();
        let error = weighted([2; 3], Border::Pad).locations(&subject, 1, Epoch::default(), 0);
        let error = error.unwrap_err();
        assert_eq!(error.fault(), voxquarry::Fault::Data);
        let message = error.to_string();
        assert!(message.contains("[33, 7, 39]") && message.contains(words), "{message}");
    }
}

/// What a subject lacks is known before anything is drawn, and says no more than it has to: labels
/// of probability 0 are left out (MONAI#6576).
#[test]
fn what_a_subject_lacks_is_known() {
    let world = World::new(None, SIZE, 2, |i| if i == 0 { 9 } else { number(i) });
    let names = ["case01".to_owned()];
    let missing =
        |sampler: RandomSampler, on_missing| sampler.missing(&world.dataset, &names, on_missing);
    let classes = |classes: &[(i64, f64)]| Balance::Classes(classes.to_vec());
    let absent = label([4; 3], Border::Exclude, classes(&[(7, 1.0), (1, 0.0)]));
    let found = missing(absent.clone(), OnMissing::Background).unwrap();
    assert_eq!(found, [("case01".to_owned(), "no voxel of the labels [7]".to_owned())]);
    let error = absent.locations(&world.subject("case01"), 1, Epoch::default(), 0).unwrap_err();
    assert!(matches!(&error, Error::NothingToSample { is_elsewhere: false, .. }), "{error}");
    assert!(!error.to_string().contains("pad"), "{error}");
    for on_missing in [OnMissing::Error, OnMissing::Skip] {
        let error = missing(absent.clone(), on_missing).unwrap_err();
        assert!(matches!(&error, Error::CannotSample { is_every: true, .. }), "{error}");
    }
    let corner = label([4; 3], Border::Exclude, classes(&[(9, 1.0)]));
    let error = missing(corner.clone(), OnMissing::Error).unwrap_err();
    assert!(matches!(&error, Error::CannotSample { is_near_border: true, .. }), "{error}");
    let error = corner.locations(&world.subject("case01"), 1, Epoch::default(), 0).unwrap_err();
    assert!(matches!(&error, Error::NothingToSample { is_elsewhere: true, .. }), "{error}");
    for (border, balance) in [
        (Border::Clamp, classes(&[(9, 1.0)])),
        (Border::Exclude, classes(&[(9, 1.0), (1, 1.0)])),
        (Border::Exclude, Balance::Foreground),
        (Border::Pad, Balance::PosNeg { pos: 0.0, neg: 1.0 }),
        (Border::Exclude, Balance::Forced { fraction: 1.0 }),
    ] {
        let found = missing(label([4; 3], border, balance.clone()), OnMissing::Error);
        assert_eq!(found.unwrap(), [], "{border:?} {balance:?}");
    }
}
