//! Keeps open subjects: each is opened for its first patch, the least recently used is closed
//! first.
//!
//! # Invariants
//! - At most [`MAX_SUBJECTS`] are open.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::batch_layout::{BatchLayout, VolumeFacts};
use super::changes::{PatchChanges, VolumeReading};
use super::options::QueueVolume;
use super::sampler::Sampler;
use super::view::SubjectView;
use crate::sample::{ChunkWeights, Epoch, Grid};
use crate::{
    Channels, Dataset, Error, PatchLocation, RandomSampler, Region, Result, Subject, Volume,
};

/// An open subject takes a few kilobytes of metadata.
pub(super) const MAX_SUBJECTS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A subject and those of its volumes that the queue reads.
#[derive(Debug)]
pub(super) struct OpenSubject {
    pub(super) subject: Subject,
    pub(super) volumes: Vec<Volume>,
    /// The channels that are read of each.
    pub(super) channels: Vec<Channels>,
    /// How each is read.
    pub(super) readings: Vec<VolumeReading>,
    /// Whether the values of each are changed.
    pub(super) is_float: Vec<bool>,
    /// The grid that it is read at, if not its own.
    pub(super) view: Option<SubjectView>,
    /// Its grid, if the sampler is one.
    grid: Option<Grid>,
}

impl OpenSubject {
    /// Opens a subject of a dataset.
    ///
    /// # Errors
    /// The errors of opening it, and those of laying the grid over it.
    pub(super) fn new(
        dataset: &Dataset,
        name: &str,
        volumes: &[QueueVolume],
        sampler: &Sampler,
        changes: &PatchChanges,
    ) -> Result<Self> {
        Self::of(dataset.subject(name)?, volumes, sampler, changes)
    }

    /// As [`OpenSubject::new`], of an open subject.
    pub(super) fn of(
        subject: Subject,
        wanted: &[QueueVolume],
        sampler: &Sampler,
        changes: &PatchChanges,
    ) -> Result<Self> {
        let open = |volume: &QueueVolume| subject.volume(&volume.name);
        let volumes = wanted.iter().map(open).collect::<Result<Vec<_>>>()?;
        let reading = |(wanted, volume)| changes.reading(wanted, volume, sampler.padding());
        let readings = wanted.iter().zip(&volumes).map(reading).collect::<Result<Vec<_>>>()?;
        let is_float = |(wanted, volume): (&QueueVolume, &Volume)| {
            changes.float_dtype(wanted, volume.kind()).is_some()
        };
        let is_float = wanted.iter().zip(&volumes).map(is_float).collect();
        let random = match sampler {
            Sampler::Grid(_) => None,
            Sampler::Random(sampler) => Some(sampler),
        };
        let view = match (&changes.view, volumes.first()) {
            (Some(grid), Some(first)) => Some(SubjectView::new(grid, first, random)?),
            _ => None,
        };
        let size = view.as_ref().map_or_else(|| subject.size(), |view| Ok(view.size()))?;
        let grid = match sampler {
            Sampler::Grid(sampler) => Some(sampler.grid(size)?),
            Sampler::Random(_) => None,
        };
        let all = |volume: &Volume| Channels::from(0..volume.layout().channel_count());
        let channels = wanted.iter().zip(&volumes);
        let channels = channels.map(|(own, v)| own.channels.clone().unwrap_or_else(|| all(v)));
        let channels = channels.collect();
        Ok(Self { subject, volumes, channels, readings, is_float, view, grid })
    }

    /// Patches of its grid.
    pub(super) fn grid_patches(&self) -> Option<u64> {
        self.grid.as_ref().map(|grid| grid.len() as u64)
    }

    /// The location of patch `number` of an epoch, under weights of chunks if there are some.
    pub(super) fn locate(
        &self,
        name: &Arc<str>,
        sampler: &Sampler,
        is_background: bool,
        chunks: Option<&ChunkWeights>,
        epoch: Epoch,
        number: u64,
    ) -> Result<PatchLocation> {
        match (sampler, &self.grid) {
            (Sampler::Random(sampler), _) => {
                if let Some(view) = &self.view {
                    return view.locate(&self.subject, sampler, is_background, epoch, number);
                }
                let chunks = self.reweighting(chunks);
                if is_background {
                    RandomSampler::from(sampler.background()).location(
                        &self.subject,
                        chunks,
                        epoch,
                        number,
                    )
                } else {
                    sampler.location(&self.subject, chunks, epoch, number)
                }
            }
            (Sampler::Grid(sampler), grid) => {
                let grid = grid.as_ref().expect("made when the subject was opened");
                // A subject that is listed again repeats its grid.
                let start = grid.start((number % grid.len() as u64) as usize);
                let region = Region::new(start, sampler.patch_size());
                Ok(PatchLocation { subject: name.clone(), region })
            }
        }
    }

    /// What is known of its volumes.
    pub(super) fn facts(&self) -> Vec<VolumeFacts> {
        self.volumes.iter().map(VolumeFacts::of).collect()
    }
}

/// An error, with the subject in which it happened.
pub(super) fn in_subject(name: &str, source: Error) -> Error {
    Error::InSubject { subject: name.to_owned(), source: Box::new(source) }
}

/// The open subjects of a queue.
#[derive(Debug)]
pub(super) struct SubjectCache(Mutex<LruCache<Arc<str>, Arc<OpenSubject>>>);

impl SubjectCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MAX_SUBJECTS)))
    }

    /// Keeps subjects that are open, as many as there is room for.
    pub(super) fn extend(&self, opened: impl IntoIterator<Item = (Arc<str>, Arc<OpenSubject>)>) {
        let mut subjects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, open) in opened.into_iter().take(MAX_SUBJECTS.get()) {
            subjects.put(name, open);
        }
    }

    /// The subject of that name, opened by `open` unless it is open.
    ///
    /// # Errors
    /// The errors of `open`; [`Error::Unsupported`] if a volume's dtype or number of channels is
    /// not that of `layout`.
    pub(super) fn get_or_open(
        &self,
        name: &Arc<str>,
        layout: &BatchLayout,
        open: impl FnOnce() -> Result<OpenSubject>,
    ) -> Result<Arc<OpenSubject>> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject) = lock().get(name) {
            return Ok(subject.clone());
        }
        // Opened outside the lock, so that other subjects can be opened meanwhile. Two threads may
        // open the same one; the cache keeps the first.
        let opened = open()?;
        for (volume, array) in opened.volumes.iter().zip(&layout.arrays) {
            array.check(&VolumeFacts::of(volume))?;
        }
        Ok(lock().get_or_insert(name.clone(), || Arc::new(opened)).clone())
    }
}
