//! Everything that a reader can say about a store, as a value to compare.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::{
    Access, Dataset, Epoch, LabelSampler, OpenOptions, Padding, PatchLocation, Result, Subject,
    UniformSampler, Volume, WeightedSampler,
};

use crate::stores::CHUNK;

/// What was said, by what was asked: a description of the answer, or the message of an error.
pub(crate) type Observation = BTreeMap<String, std::result::Result<String, String>>;

/// Opens the store, and reads all metadata, all voxels, and what samplers draw.
pub(crate) fn observe(store: &Path, access: Access) -> Observation {
    let mut seen = Observation::new();
    let options = OpenOptions::default().cache_bytes(1 << 20).threads(1).access(access);
    let dataset = Dataset::open(store, &options);
    note(&mut seen, String::new(), dataset.as_ref().map(|dataset| dataset.subjects().to_vec()));
    let Ok(dataset) = dataset else { return seen };
    for name in dataset.subjects() {
        let subject = dataset.subject(name);
        note(&mut seen, name.clone(), subject.as_ref().map(|subject| subject.volumes().to_vec()));
        if let Ok(subject) = subject {
            observe_subject(&mut seen, &subject);
        }
    }
    seen
}

fn observe_subject(seen: &mut Observation, subject: &Subject) {
    for name in subject.volumes() {
        let place = format!("{}/{name}", subject.name());
        let volume = subject.volume(name);
        let metadata = |volume: &Volume| format!("{:?} {:?}", volume.attributes(), volume.layout());
        note(seen, place.clone(), volume.as_ref().map(metadata));
        if let Ok(volume) = volume {
            for (n, factors) in volume.levels().into_iter().enumerate() {
                let read = volume.level(n).and_then(|level| whole(&level));
                let voxels = read.map(|bytes| digest(&bytes));
                note(seen, format!("{place} voxels {n} {factors:?}"), voxels);
            }
            if volume.kind() == Kind::Labels {
                let totals = volume.label_counts().map(|counts| counts.totals());
                note(seen, format!("{place} counts"), totals);
            }
        }
    }
    let epoch = Epoch { seed: 5, epoch: 1 };
    let starts = |locations: Vec<PatchLocation>| -> Vec<_> {
        locations.into_iter().map(|location| location.region.start).collect()
    };
    let uniform = UniformSampler::new(CHUNK).and_then(|s| s.locations(subject, 4, epoch, 0));
    let label = LabelSampler::new(CHUNK, "seg").and_then(|s| s.locations(subject, 4, epoch, 0));
    let weighted =
        WeightedSampler::new(CHUNK, "weights").and_then(|s| s.locations(subject, 4, epoch, 0));
    for (sampler, drawn) in [("uniform", uniform), ("label", label), ("weighted", weighted)] {
        note(seen, format!("{} {sampler}", subject.name()), drawn.map(starts));
    }
}

/// All voxels of a volume, `(c, z, y, x)`.
pub(crate) fn whole(volume: &Volume) -> Result<Vec<u8>> {
    let (channels, size) = (volume.layout().channel_count(), volume.size());
    let mut bytes = vec![0xaa; volume.voxels_in(size, 1)? * volume.dtype().size()];
    volume.read_bytes(&[[0; 3]], size, Padding::None, 0..channels, &mut bytes)?;
    Ok(bytes)
}

fn digest(bytes: &[u8]) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{} bytes, {state:016x}", bytes.len())
}

fn note<T: Debug, E: ToString>(
    seen: &mut Observation,
    question: String,
    answer: std::result::Result<T, E>,
) {
    seen.insert(
        question,
        answer.map(|value| format!("{value:?}")).map_err(|error| error.to_string()),
    );
}

/// The first answer that is neither the expected one nor an error.
///
/// A question that was not asked is no wrong answer if what leads to it is an error.
pub(crate) fn wrong_answer(found: &Observation, expected: &Observation) -> Option<String> {
    for (question, answer) in found {
        match (answer, expected.get(question)) {
            (Ok(found), Some(Ok(expected))) if found != expected => {
                return Some(format!("{question:?} is {found:.200}, expected {expected:.200}"));
            }
            (Ok(found), None) => return Some(format!("{question:?} is new: {found:.200}")),
            _ => {}
        }
    }
    None
}

/// Whether any answer is an error.
pub(crate) fn has_errors(found: &Observation) -> bool {
    found.values().any(std::result::Result::is_err)
}
