//! Subjects that are open: each at the first patch that wants it, the least recently used closed first.
//!
//! # Invariants
//! - At most [`OPEN_SUBJECTS`] are open.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::layout::Layout;
use super::{QueueVolume, Sampler};
use crate::sample::{Epoch, Grid};
use crate::{Dataset, Error, PatchLocation, Region, Result, Subject, Volume};

/// An open subject is a few kilobytes of metadata.
const OPEN_SUBJECTS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A subject, and those of its volumes that patches are read from.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) subject: Subject,
    pub(super) volumes: Vec<Volume>,
    /// Its grid, if patches lie on one.
    grid: Option<Grid>,
}

impl Open {
    /// Opens a subject of a data set.
    ///
    /// # Errors
    /// Those of opening it; [`Error::Usage`] if the grid does not fit it.
    pub(super) fn new(
        dataset: &Dataset,
        name: &str,
        volumes: &[QueueVolume],
        sampler: &Sampler,
    ) -> Result<Self> {
        let subject = dataset.subject(name)?;
        let open = |volume: &QueueVolume| subject.volume(&volume.name);
        let volumes = volumes.iter().map(open).collect::<Result<Vec<_>>>()?;
        let grid = match sampler {
            Sampler::Grid(sampler) => Some(sampler.grid(subject.size()?)?),
            Sampler::Random(_) => None,
        };
        Ok(Self { subject, volumes, grid })
    }

    /// Patches of its grid.
    pub(super) fn grid_patches(&self) -> Option<u64> {
        self.grid.as_ref().map(|grid| grid.len() as u64)
    }

    /// Where patch `number` of an epoch lies.
    pub(super) fn locate(
        &self,
        name: &Arc<str>,
        sampler: &Sampler,
        epoch: Epoch,
        number: u64,
    ) -> Result<PatchLocation> {
        match (sampler, &self.grid) {
            (Sampler::Random(sampler), _) => {
                let mut locations = sampler.locations(&self.subject, epoch, number, 1)?;
                Ok(locations.pop().expect("one was asked for"))
            }
            (Sampler::Grid(sampler), grid) => {
                let grid = grid.as_ref().expect("laid when the subject was opened");
                // A subject that is listed again begins again: its grid is all there is of it.
                let start = grid.start((number % grid.len() as u64) as usize);
                let region = Region::new(start, sampler.patch_size());
                Ok(PatchLocation { subject: name.clone(), region })
            }
        }
    }

    /// Refuses volumes that do not fit into the batch.
    fn check(&self, layout: &Layout) -> Result<()> {
        for (volume, array) in self.volumes.iter().zip(&layout.arrays) {
            let (dtype, channels) = (volume.dtype(), volume.layout().channel_count());
            if (dtype, channels) != (array.dtype, array.channels) {
                return Err(Error::usage(format!(
                    "volume {:?} is {dtype} with {channels} channels, the queue's first subject has {} with {}: one batch \
                     cannot hold both, leave it out of `subjects` or make a queue for each",
                    volume.name(),
                    array.dtype,
                    array.channels,
                )));
            }
        }
        Ok(())
    }
}

/// The open subjects of a queue.
#[derive(Debug)]
pub(super) struct Shelf(Mutex<LruCache<Arc<str>, Arc<Open>>>);

impl Shelf {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(OPEN_SUBJECTS)))
    }

    /// The subject of that name, whose volumes fit the layout.
    ///
    /// # Errors
    /// Those of opening it; [`Error::Usage`] for another dtype or number of channels than the layout has.
    pub(super) fn get(
        &self,
        name: &Arc<str>,
        layout: &Layout,
        open: impl FnOnce() -> Result<Open>,
    ) -> Result<Arc<Open>> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject) = lock().get(name) {
            return Ok(subject.clone());
        }
        // Opened outside the lock, so that others are opened meanwhile; two threads may both do it, one result is kept.
        let opened = open()?;
        opened.check(layout)?;
        Ok(lock().get_or_insert(name.clone(), || Arc::new(opened)).clone())
    }
}
