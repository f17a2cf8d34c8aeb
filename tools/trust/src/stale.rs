//! Readers that hold what others replace, remove and add: random schedules.
//!
//! Oracle: whatever was opened at a generation gives voxels and metadata of that generation, or an
//! error that names the subject; a blended result is of one generation.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use voxquarry::{
    Batches, Dataset, Epoch, Error, LabelSampler, OpenOptions, Padding, Queue, QueueOptions,
    Subject, UniformSampler, Volume, WeightedSampler,
};

use crate::Args;
use crate::campaign::{Campaign, Verdict};
use crate::random::Random;
use crate::resumed;
use crate::stores::{CHUNK, CODECS, SIZE, write_subject};
use crate::truth::{Place, Truth};

const NAMES: [&str; 3] = ["anna", "berta", "carla"];
const VOLUMES: [&str; 3] = ["ct", "seg", "weights"];
/// Steps of a schedule.
const STEPS: usize = 60;

pub(crate) struct Stale {
    folder: TempDir,
    truth: Truth,
}

/// A volume and the generation at which it was opened.
struct Open {
    subject: &'static str,
    volume: Volume,
    generation: u64,
}

/// What a schedule has made so far.
struct World<'a> {
    store: PathBuf,
    truth: &'a mut Truth,
    /// The generation of each subject that is there.
    published: BTreeMap<&'static str, u64>,
    generation: u64,
    datasets: Vec<Dataset>,
    subjects: Vec<(&'static str, Subject, u64)>,
    volumes: Vec<Open>,
    batches: Vec<Batches>,
    /// The subject and generation over which a prediction was begun.
    begun: Option<(&'static str, u64)>,
    log: Vec<String>,
}

impl Stale {
    pub(crate) fn begin(args: &Args) -> Result<Self, String> {
        let folder = tempfile::tempdir_in(args.folder()).map_err(|e| e.to_string())?;
        Ok(Self { folder, truth: Truth::default() })
    }
}

impl Campaign for Stale {
    fn case(&mut self, number: u64, random: &mut Random) -> Verdict {
        let store = self.folder.path().join(format!("{number}.zarr"));
        let mut world = World {
            store: store.clone(),
            truth: &mut self.truth,
            published: BTreeMap::new(),
            generation: 0,
            datasets: Vec::new(),
            subjects: Vec::new(),
            volumes: Vec::new(),
            batches: Vec::new(),
            begun: None,
            log: Vec::new(),
        };
        let mut result = NAMES[..2].iter().try_for_each(|name| world.replace(name, random));
        for _ in 0..STEPS {
            result = result.and_then(|()| world.step(random));
        }
        let log = std::mem::take(&mut world.log).join("; ");
        resumed::give_up(&store);
        drop(world);
        let removed = fs::remove_dir_all(&store);
        result.map_err(|message| format!("{message}, after: {log}"))?;
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("cannot clean: {e}")),
            _ => Ok("a schedule"),
        }
    }
}

impl World<'_> {
    fn step(&mut self, random: &mut Random) -> Result<(), String> {
        let name = *random.pick(&NAMES);
        match random.below(100) {
            0..8 => self.open_dataset(),
            8..20 => self.open_subject(name, random),
            20..34 => self.open_volume(random),
            34..62 => self.read(random),
            62..70 => self.sample(random),
            70..74 => self.begin_epoch(random),
            74..82 => self.next_batch(random),
            82..91 => self.replace(name, random),
            91..94 => self.remove(name),
            94..95 => self.remove_store(),
            95..98 => self.begin_blending(random),
            _ => self.finish_blending(),
        }
    }

    fn note(&mut self, text: String) {
        self.log.push(text);
    }

    fn replace(&mut self, name: &'static str, random: &mut Random) -> Result<(), String> {
        self.generation += 1;
        let codec = *random.pick(&CODECS);
        self.note(format!("{name} becomes {}", self.generation));
        write_subject(&self.store, name, codec, self.generation).map_err(|e| e.to_string())?;
        self.published.insert(name, self.generation);
        Ok(())
    }

    fn remove(&mut self, name: &'static str) -> Result<(), String> {
        if self.published.remove(name).is_some() {
            self.note(format!("{name} is removed"));
            fs::remove_dir_all(self.store.join(name)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn remove_store(&mut self) -> Result<(), String> {
        self.note("the store is removed".to_owned());
        self.published.clear();
        self.begun = None;
        resumed::give_up(&self.store);
        if self.store.exists() {
            fs::remove_dir_all(&self.store).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn open_dataset(&mut self) -> Result<(), String> {
        let cache_bytes = if self.generation.is_multiple_of(2) { 0 } else { 1 << 20 };
        let options = OpenOptions::default().threads(1).cache_bytes(cache_bytes);
        match Dataset::open(&self.store, &options) {
            Ok(dataset) => {
                let expected: Vec<_> = self.published.keys().copied().collect();
                if dataset.subjects() != expected {
                    return Err(format!("subjects {:?}, not {expected:?}", dataset.subjects()));
                }
                self.datasets.push(dataset);
                Ok(())
            }
            Err(_) if !self.store.exists() => Ok(()),
            Err(e) => Err(format!("the store cannot be opened: {e}")),
        }
    }

    fn open_subject(&mut self, name: &'static str, random: &mut Random) -> Result<(), String> {
        if self.datasets.is_empty() {
            return self.open_dataset();
        }
        let found = random.pick(&self.datasets).subject(name);
        match (found, self.published.get(name).copied()) {
            (Ok(subject), Some(generation)) => {
                self.note(format!("{name} {generation} is opened"));
                self.subjects.push((name, subject, generation));
                Ok(())
            }
            (Ok(_), None) => Err(format!("{name} was opened and does not exist")),
            (Err(error), _) => refused(&error, name),
        }
    }

    fn open_volume(&mut self, random: &mut Random) -> Result<(), String> {
        if self.subjects.is_empty() {
            return self.open_subject(NAMES[0], random);
        }
        let volume = *random.pick(&VOLUMES);
        let (name, subject, generation) = random.pick(&self.subjects);
        let (name, generation) = (*name, *generation);
        match subject.volume(volume) {
            Ok(open) => {
                // Generations differ in their metadata as well.
                if open.affine().0[0][3] != generation as f64 {
                    let found = open.affine().0[0][3];
                    return Err(format!("{name}/{volume} of {generation} has metadata of {found}"));
                }
                self.note(format!("{name}/{volume} {generation} is opened"));
                self.volumes.push(Open { subject: name, volume: open, generation });
                Ok(())
            }
            Err(error) => refused(&error, name),
        }
    }

    fn read(&mut self, random: &mut Random) -> Result<(), String> {
        if self.volumes.is_empty() {
            return self.open_volume(random);
        }
        let Open { subject, volume, generation } = random.pick(&self.volumes);
        let place = if random.percent(30) { ([0; 3], SIZE) } else { any_place(random) };
        let channels = volume.layout().channel_count();
        let count = channels * place.1.iter().product::<usize>();
        let mut found = vec![0xaa; count * volume.dtype().size()];
        let start = place.0.map(|n| n as i64);
        let read = volume.read_bytes(&[start], place.1, Padding::None, 0..channels, &mut found);
        let expected = self.truth.patch(subject, volume.name(), *generation, place);
        match read {
            Ok(()) if found == expected => Ok(()),
            Ok(()) => Err(format!(
                "{subject}/{} of {generation}: other voxels at {place:?}",
                volume.name()
            )),
            Err(error) => refused(&error, subject),
        }
    }

    fn sample(&mut self, random: &mut Random) -> Result<(), String> {
        if self.subjects.is_empty() {
            return Ok(());
        }
        let (name, subject, generation) = random.pick(&self.subjects);
        let epoch = Epoch { seed: random.next(), epoch: 0 };
        let sampler = random.below(3);
        let drawn = match sampler {
            0 => UniformSampler::new(CHUNK).and_then(|s| s.locations(subject, 4, epoch, 0)),
            1 => LabelSampler::new(CHUNK, "seg").and_then(|s| s.locations(subject, 4, epoch, 0)),
            _ => WeightedSampler::new(CHUNK, "weights")
                .and_then(|s| s.locations(subject, 4, epoch, 0)),
        };
        let locations = match drawn {
            Ok(locations) => locations,
            Err(error) => return refused(&error, name),
        };
        let volume = ["", "seg", "weights"][sampler];
        for location in locations.iter().filter(|_| sampler > 0) {
            let centre = [0, 1, 2].map(|a| location.region.start[a] as usize + CHUNK[a] / 2);
            let voxel = self.truth.patch(name, volume, *generation, (centre, [1; 3]));
            if voxel.iter().all(|&byte| byte == 0) {
                return Err(format!(
                    "{name}/{volume} of {generation}: drew {centre:?}, which has no weight"
                ));
            }
        }
        Ok(())
    }

    fn begin_epoch(&mut self, random: &mut Random) -> Result<(), String> {
        if self.datasets.is_empty() {
            return Ok(());
        }
        let dataset = random.pick(&self.datasets);
        let options = QueueOptions::default()
            .volumes(VOLUMES)
            .patches_per_subject(4)
            .batch_size(3)
            .threads(2)
            .seed(random.next());
        let sampler = UniformSampler::new(CHUNK).map_err(|e| e.to_string())?;
        match Queue::new(dataset, sampler, options).and_then(|queue| queue.batches()) {
            Ok(batches) => {
                self.batches.push(batches);
                self.note("an epoch begins".to_owned());
                Ok(())
            }
            Err(error) => refused_any(&error),
        }
    }

    fn next_batch(&mut self, random: &mut Random) -> Result<(), String> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let at = random.below(self.batches.len());
        let batch = match self.batches[at].next() {
            Some(Ok(batch)) => batch,
            Some(Err(error)) => {
                self.batches.remove(at);
                return refused_any(&error);
            }
            None => {
                self.batches.remove(at);
                return Ok(());
            }
        };
        for (i, location) in batch.locations().iter().enumerate() {
            let place = (location.region.start.map(|n| n as usize), CHUNK);
            let matches = |truth: &mut Truth, generation: u64| {
                VOLUMES.iter().enumerate().all(|(v, volume)| {
                    let bytes = batch.bytes(v);
                    let patch_bytes = bytes.len() / batch.locations().len();
                    let found = &bytes[i * patch_bytes..(i + 1) * patch_bytes];
                    found == truth.patch(&location.subject, volume, generation, place)
                })
            };
            let generations = 1..=self.generation;
            if !generations.rev().any(|generation| matches(self.truth, generation)) {
                return Err(format!(
                    "a batch has a patch of {} that is of no generation",
                    location.subject
                ));
            }
        }
        Ok(())
    }

    fn begin_blending(&mut self, random: &mut Random) -> Result<(), String> {
        let weights: Vec<&Open> =
            self.volumes.iter().filter(|open| open.volume.name() == "weights").collect();
        if weights.is_empty() {
            return Ok(());
        }
        let open = *random.pick(&weights);
        let text = format!("blending of {} {} begins", open.subject, open.generation);
        let begun = resumed::begin(&self.store, &open.volume, random.below(40));
        let (subject, generation) = (open.subject, open.generation);
        self.note(text);
        match begun {
            Ok(()) => {
                self.begun = Some((subject, generation));
                Ok(())
            }
            // Work over other voxels is not continued.
            Err(Error::ResumeMismatch { .. }) => Ok(()),
            Err(error) => refused(&error, subject),
        }
    }

    fn finish_blending(&mut self) -> Result<(), String> {
        let Some((subject, _)) = self.begun else { return Ok(()) };
        let now = self
            .volumes
            .iter()
            .rev()
            .find(|open| open.subject == subject && open.volume.name() == "weights");
        let Some(open) = now else { return Ok(()) };
        match resumed::finish(&self.store, &open.volume) {
            Ok(result) => {
                self.begun = None;
                let expected =
                    self.truth.patch(subject, "weights", open.generation, ([0; 3], SIZE));
                if result == expected {
                    return Ok(());
                }
                Err(format!("blended {subject} {}: other voxels", open.generation))
            }
            Err(Error::ResumeMismatch { .. }) => {
                resumed::give_up(&self.store);
                self.begun = None;
                Ok(())
            }
            Err(error) => refused(&error, subject),
        }
    }
}

fn any_place(random: &mut Random) -> Place {
    let size = SIZE.map(|extent| 1 + random.below(extent));
    let start = [0, 1, 2].map(|a| random.below(SIZE[a] - size[a] + 1));
    (start, size)
}

/// An error must name the subject.
fn refused(error: &Error, subject: &str) -> Result<(), String> {
    let message = error.to_string();
    if message.contains(subject) { Ok(()) } else { Err(format!("{subject} not named: {message}")) }
}

fn refused_any(error: &Error) -> Result<(), String> {
    let message = error.to_string();
    if NAMES.iter().any(|name| message.contains(name)) {
        return Ok(());
    }
    Err(format!("no subject named: {message}"))
}
