//! Builds a queue: checks its options, opens subjects and plans the epoch.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::available_parallelism;

use super::batch_layout::{BatchArray, BatchLayout};
use super::changes::PatchChanges;
use super::epoch_plan::{EpochPlan, ShuffleMode};
use super::options::QueueOptions;
use super::sampler::Sampler;
use super::share::RankShare;
use super::shared::{QueueProgress, QueueSession, QueueShared};
use super::stats::QueueCounters;
use super::survey::{SubjectFacts, Survey, Surveyor};
use super::weights::WeightSchedule;
use crate::sample::OnMissing;
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
    let share_of = |total| {
        let batch_size = options.batch_size as u64;
        RankShare::new(total, options.rank, options.world_size, batch_size, options.drop_last)
    };
    share_of(0)?;
    let QueueOptions { volumes, on_missing, .. } = &options;
    let on_missing = *on_missing;
    let changes = PatchChanges::new(&options)?;
    let surveyor = Surveyor { dataset, volumes, sampler: &sampler, changes: &changes, on_missing };
    let survey = surveyor.survey(listed, threads)?;
    let arrays = survey.arrays(volumes, &changes)?;
    let layout = batch_layout(&sampler, &options, arrays)?;
    let window_entries = match options.shuffle {
        ShuffleMode::Window => window_entries(&survey, options.window_bytes),
        ShuffleMode::Global | ShuffleMode::None => 0,
    };
    let patches = |name| survey.facts.get(name).and_then(|facts| facts.grid_patches);
    let counted = survey.listed.iter();
    let counted = counted.map(|(name, count)| (name.clone(), patches(name).unwrap_or(*count)));
    let background: HashSet<Arc<str>> = match on_missing {
        OnMissing::Background => survey.missing.iter().map(|(name, _)| name.clone()).collect(),
        OnMissing::Error | OnMissing::Skip => HashSet::new(),
    };
    let plan = EpochPlan::new(counted, options.shuffle, window_entries, options.seed)?;
    let share = share_of(plan.total())?;
    let cache_bytes = options.cache_bytes.unwrap_or(dataset.options().get_cache_bytes());
    let mut opened = survey.opened.iter().flat_map(|(_, open)| &open.volumes);
    let uses_cache = cache_bytes > 0 && opened.any(Volume::is_worth_caching);
    let session = QueueSession::new();
    session.subjects.extend(survey.opened);
    Ok(QueueShared {
        dataset: dataset.clone(),
        changes,
        sampler,
        missing: survey.missing,
        background,
        plan: Arc::new(plan),
        share,
        layout: Arc::new(layout),
        volumes: options.volumes,
        buffer_bytes: options.buffer_bytes,
        cache_bytes,
        eviction: options.eviction,
        uses_cache,
        threads,
        session: PerProcess::new(session),
        counters: QueueCounters::default(),
        progress: QueueProgress::default(),
        weights: WeightSchedule::default(),
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
    arrays: Vec<BatchArray>,
) -> Result<BatchLayout> {
    let QueueOptions { batch_size, buffer_bytes, .. } = *options;
    let layout = BatchLayout::new(sampler.patch_size(), batch_size, arrays)?;
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

/// Subjects whose voxels take `window_bytes`, estimated from a few of them.
fn window_entries(survey: &Survey, window_bytes: u64) -> usize {
    let step = survey.listed.len().div_ceil(SIZED_SUBJECTS).max(1);
    let sized = survey.listed.iter().step_by(step);
    let sized = sized.filter_map(|(name, _)| survey.facts.get(name));
    let bytes = |facts: &SubjectFacts| facts.volumes.iter().map(|v| v.voxel_bytes).sum();
    let sizes: Vec<u64> = sized.map(bytes).collect();
    let mean = sizes.iter().sum::<u64>() / (sizes.len() as u64).max(1);
    usize::try_from(window_bytes / mean.max(1)).unwrap_or(usize::MAX)
}
