//! Builds a queue: checks its options, opens subjects and plans the epoch.

use std::sync::Arc;
use std::thread::available_parallelism;

use rayon::prelude::*;

use super::batch_layout::BatchLayout;
use super::epoch_plan::{EpochPlan, ShuffleMode};
use super::options::{QueueOptions, QueueVolume};
use super::sampler::Sampler;
use super::share::RankShare;
use super::shared::{QueueProgress, QueueSession, QueueShared};
use super::stats::QueueCounters;
use super::subject_cache::{OpenSubject, in_subject};
use crate::sys::executor::Executor;
use crate::sys::fork::PerProcess;
use crate::{Dataset, Error, Result, Volume};

/// Subjects whose mean size converts a window of bytes into one of subjects.
const SIZED_SUBJECTS: usize = 16;

/// Builds everything that a queue shares with its iterations.
pub(super) fn build(
    dataset: &Dataset,
    sampler: Sampler,
    options: QueueOptions,
) -> Result<QueueShared> {
    check(&options)?;
    let threads = threads(dataset, &options)?;
    let listed = listed_subjects(dataset, &options)?;
    let subjects = Subjects { dataset, listed, volumes: &options.volumes, sampler: &sampler };
    let first = subjects.listed.first().map(|(name, _)| subjects.open(name)).transpose()?;
    let volumes = first.as_ref().map_or(&[][..], |first| &first.volumes);
    let share_of = |total| {
        let batch_size = options.batch_size as u64;
        RankShare::new(total, options.rank, options.world_size, batch_size, options.drop_last)
    };
    share_of(0)?;
    let layout = batch_layout(&sampler, &options, volumes)?;
    let counts = subjects.patch_counts(threads)?;
    let window_entries = match options.shuffle {
        ShuffleMode::Window => subjects.window_entries(options.window_bytes)?,
        ShuffleMode::Global | ShuffleMode::None => 0,
    };
    let counted = subjects.listed.iter().zip(counts);
    let counted = counted.map(|((name, _), count)| (Arc::from(name.as_str()), count));
    let plan = EpochPlan::new(counted, options.shuffle, window_entries, options.seed)?;
    let share = share_of(plan.total())?;
    let cache_bytes = options.cache_bytes.unwrap_or(dataset.options().get_cache_bytes());
    let uses_cache = cache_bytes > 0 && volumes.iter().any(Volume::is_worth_caching);
    let padding = |volume: &QueueVolume| volume.padding.unwrap_or(sampler.padding());
    Ok(QueueShared {
        dataset: dataset.clone(),
        paddings: options.volumes.iter().map(padding).collect(),
        sampler,
        plan: Arc::new(plan),
        share,
        layout: Arc::new(layout),
        volumes: options.volumes,
        buffer_bytes: options.buffer_bytes,
        cache_bytes,
        eviction: options.eviction,
        uses_cache,
        threads,
        session: PerProcess::new(QueueSession::new()),
        counters: QueueCounters::default(),
        progress: QueueProgress::default(),
    })
}

fn check(options: &QueueOptions) -> Result<()> {
    let volumes = &options.volumes;
    if volumes.is_empty() {
        return Err(Error::invalid("volumes", "[]", "at least one"));
    }
    let repeated =
        (1..volumes.len()).find(|&i| volumes[..i].iter().any(|v| v.name == volumes[i].name));
    if let Some(i) = repeated {
        let names: Vec<_> = volumes.iter().map(|volume| &volume.name).collect();
        let expected = format!("each name once, but {:?} is repeated", volumes[i].name);
        return Err(Error::invalid("volumes", format!("{names:?}"), expected));
    }
    if options.subjects.is_none() && options.patches_per_subject == 0 {
        return Err(Error::invalid("patches_per_subject", 0, "at least 1"));
    }
    Ok(())
}

fn threads(dataset: &Dataset, options: &QueueOptions) -> Result<usize> {
    let threads = options.threads.or(dataset.options().get_threads());
    let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    if threads == 0 {
        return Err(Error::invalid("threads", 0, "at least 1"));
    }
    Ok(threads)
}

/// The names of subjects and the random patches of each; all of them exist.
fn listed_subjects(dataset: &Dataset, options: &QueueOptions) -> Result<Vec<(String, u64)>> {
    let listed = options.subjects.clone().unwrap_or_else(|| {
        let all = dataset.subjects().iter();
        all.map(|name| (name.clone(), options.patches_per_subject)).collect()
    });
    for (name, _) in &listed {
        if dataset.subjects().binary_search(name).is_err() {
            dataset.subject(name)?;
        }
    }
    Ok(listed)
}

/// The layout of a batch, which fits into the buffer.
fn batch_layout(
    sampler: &Sampler,
    options: &QueueOptions,
    volumes: &[Volume],
) -> Result<BatchLayout> {
    let QueueOptions { batch_size, buffer_bytes, .. } = *options;
    let layout = BatchLayout::new(sampler.patch_size(), batch_size, volumes)?;
    if layout.batch_bytes as u64 > buffer_bytes {
        let expected = format!(
            "at least the {} bytes of one batch of {batch_size} patches: allow more, or make \
             smaller batches",
            layout.batch_bytes
        );
        return Err(Error::invalid("buffer_bytes", buffer_bytes, expected));
    }
    Ok(layout)
}

/// The subjects of a queue, to be opened while it is built.
struct Subjects<'a> {
    dataset: &'a Dataset,
    /// Names, and random patches of each.
    listed: Vec<(String, u64)>,
    volumes: &'a [QueueVolume],
    sampler: &'a Sampler,
}

impl Subjects<'_> {
    fn open(&self, name: &str) -> Result<OpenSubject> {
        let opened = OpenSubject::new(self.dataset, name, self.volumes, self.sampler);
        opened.map_err(|source| in_subject(name, source))
    }

    /// Patches of each subject in an epoch; a grid is laid over every subject to count them.
    fn patch_counts(&self, threads: usize) -> Result<Vec<u64>> {
        match self.sampler {
            Sampler::Random(_) => Ok(self.listed.iter().map(|(_, count)| *count).collect()),
            Sampler::Grid(_) => Executor::new(Some(threads)).install(|| {
                let count =
                    |(name, _): &(String, u64)| Ok(self.open(name)?.grid_patches().unwrap_or(0));
                self.listed.par_iter().map(count).collect()
            })?,
        }
    }

    /// Subjects whose voxels take `window_bytes`, estimated from a few of them.
    fn window_entries(&self, window_bytes: u64) -> Result<usize> {
        let step = self.listed.len().div_ceil(SIZED_SUBJECTS).max(1);
        let bytes = |(name, _): &(String, u64)| -> Result<u64> {
            let volumes = self.open(name)?.volumes;
            let bytes = |v: &Volume| v.statistics().voxels * v.dtype().size() as u64;
            Ok(volumes.iter().map(bytes).sum())
        };
        let sizes = self.listed.iter().step_by(step).map(bytes).collect::<Result<Vec<u64>>>()?;
        let mean = sizes.iter().sum::<u64>() / (sizes.len() as u64).max(1);
        Ok(usize::try_from(window_bytes / mean.max(1)).unwrap_or(usize::MAX))
    }
}
