//! What a queue is made with, and making it.

use std::sync::Arc;
use std::thread::available_parallelism;

use rayon::prelude::*;

use super::layout::Layout;
use super::plan::{Plan, Share};
use super::readers::{Session, in_subject};
use super::shelf::Open;
use super::stats::Counters;
use super::{Eviction, Inner, Progress, Shuffle};
use crate::process::PerProcess;
use crate::sample::Border;
use crate::store::Pool;
use crate::{
    Dataset, Error, GridSampler, Padding, RandomSampler, Result, Size3, UniformSampler, Volume,
};

/// Subjects whose size stands for the others' where a window of bytes becomes one of subjects.
const SIZED_SUBJECTS: usize = 16;

/// Where a queue's patches lie.
#[derive(Clone, Debug)]
pub enum Sampler {
    /// So many random patches of each subject, other ones in each epoch.
    Random(RandomSampler),
    /// Every patch of a grid over each subject.
    Grid(GridSampler),
}

impl Sampler {
    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        match self {
            Self::Random(sampler) => sampler.patch_size(),
            Self::Grid(sampler) => sampler.patch_size(),
        }
    }

    /// How patches are read that leave the volume, if nobody says.
    pub fn padding(&self) -> Padding {
        match self {
            Self::Random(sampler) if sampler.border() == Border::Pad => Padding::Constant(0.0),
            Self::Random(_) => Padding::Refuse,
            Self::Grid(sampler) => sampler.padding().unwrap_or(Padding::Refuse),
        }
    }
}

impl From<RandomSampler> for Sampler {
    fn from(sampler: RandomSampler) -> Self {
        Self::Random(sampler)
    }
}

impl From<UniformSampler> for Sampler {
    fn from(sampler: UniformSampler) -> Self {
        Self::Random(sampler.into())
    }
}

impl From<GridSampler> for Sampler {
    fn from(sampler: GridSampler) -> Self {
        Self::Grid(sampler)
    }
}

/// A volume that is read of every patch.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueVolume {
    /// Its name in the subjects.
    pub name: String,
    /// What lies outside of it.
    pub padding: Padding,
}

/// How a queue is made.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// What is read of every patch; of the same dtype and number of channels in all subjects.
    pub volumes: Vec<QueueVolume>,
    /// Names of subjects and how many patches of each an epoch has, in the order of [`Shuffle::None`]; one may be named again.
    /// `None`: all subjects of the data set, each with `patches_per_subject`. A grid has its own number of patches.
    pub subjects: Option<Vec<(String, u64)>>,
    /// Random patches of a subject in an epoch.
    pub patches_per_subject: u64,
    /// Patches in a batch; the last of an epoch may have fewer.
    pub batch_size: usize,
    /// Memory of batches that the consumer does not have yet.
    pub buffer_bytes: u64,
    /// Memory of decoded chunks; `None`: as the data set was opened with.
    pub cache_bytes: Option<usize>,
    /// Which decoded chunk has to go.
    pub eviction: Eviction,
    /// In which order patches come.
    pub shuffle: Shuffle,
    /// Voxels, in bytes, of the subjects that [`Shuffle::Window`] has in use at a time.
    pub window_bytes: u64,
    /// The user's seed, for samples and order.
    pub seed: u64,
    /// Which of the ranks this is.
    pub rank: u64,
    /// Processes that share each epoch.
    pub world_size: u64,
    /// Whether patches that do not fill a batch on every rank are left out.
    pub drop_last: bool,
    /// Threads that read; `None`: as the data set was opened with.
    pub threads: Option<usize>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            volumes: Vec::new(),
            subjects: None,
            patches_per_subject: 8,
            batch_size: 4,
            buffer_bytes: 512 << 20,
            cache_bytes: None,
            eviction: Eviction::Farthest,
            shuffle: Shuffle::Global,
            window_bytes: 1 << 30,
            seed: 0,
            rank: 0,
            world_size: 1,
            drop_last: false,
            threads: None,
        }
    }
}

/// Checks the options and opens what has to be known.
pub(super) fn build(dataset: &Dataset, sampler: Sampler, options: QueueOptions) -> Result<Inner> {
    let QueueOptions { volumes, batch_size, buffer_bytes, .. } = options;
    if volumes.is_empty() {
        return Err(Error::usage("volumes: a queue reads at least one"));
    }
    if let Some(i) =
        (1..volumes.len()).find(|&i| volumes[..i].iter().any(|v| v.name == volumes[i].name))
    {
        return Err(Error::usage(format!("volumes: {:?} is named twice", volumes[i].name)));
    }
    if options.subjects.is_none() && options.patches_per_subject == 0 {
        return Err(Error::usage("patches_per_subject 0: expected at least 1"));
    }
    let threads = options.threads.or(dataset.options().threads);
    let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    if threads == 0 {
        return Err(Error::usage("threads 0: expected at least 1"));
    }
    let named = options.subjects.unwrap_or_else(|| {
        let each = |name: &String| (name.clone(), options.patches_per_subject);
        dataset.subjects().iter().map(each).collect()
    });
    for (name, _) in &named {
        if dataset.subjects().binary_search(name).is_err() {
            dataset.subject(name)?;
        }
    }
    let open = |name: &str| {
        let opened = Open::new(dataset, name, &volumes, &sampler);
        opened.map_err(|source| in_subject(name, source))
    };
    let first = named.first().map(|(name, _)| open(name)).transpose()?;
    let batch_volumes = first.as_ref().map_or(&[][..], |first| &first.volumes);
    let share_of = |total| {
        let batch = batch_size as u64;
        Share::new(total, options.rank, options.world_size, batch, options.drop_last)
    };
    share_of(0)?;
    let layout = Layout::new(sampler.patch_size(), batch_size, batch_volumes)?;
    if layout.batch_bytes as u64 > buffer_bytes {
        return Err(Error::usage(format!(
            "buffer_bytes {buffer_bytes}: one batch of {batch_size} patches takes {} bytes: give it at least that, or make \
             smaller batches",
            layout.batch_bytes
        )));
    }
    let counts = match &sampler {
        Sampler::Random(_) => named.iter().map(|(_, count)| *count).collect(),
        Sampler::Grid(_) => Pool::new(Some(threads)).install(|| {
            let patches = |(name, _): &(String, u64)| Ok(open(name)?.grid_patches().unwrap_or(0));
            named.par_iter().map(patches).collect::<Result<Vec<u64>>>()
        })??,
    };
    let window_entries = match options.shuffle {
        Shuffle::Window => {
            let step = named.len().div_ceil(SIZED_SUBJECTS).max(1);
            let bytes = |(name, _): &(String, u64)| -> Result<u64> {
                let volumes = open(name)?.volumes;
                let bytes = |v: &Volume| v.statistics().voxels * v.dtype().size() as u64;
                Ok(volumes.iter().map(bytes).sum())
            };
            let sizes = named.iter().step_by(step).map(bytes).collect::<Result<Vec<u64>>>()?;
            let mean = sizes.iter().sum::<u64>() / (sizes.len() as u64).max(1);
            usize::try_from(options.window_bytes / mean.max(1)).unwrap_or(usize::MAX)
        }
        Shuffle::Global | Shuffle::None => 0,
    };
    let subjects = named.iter().zip(counts).map(|((name, _), n)| (Arc::from(name.as_str()), n));
    let plan = Plan::new(subjects, options.shuffle, window_entries, options.seed)?;
    let share = share_of(plan.total())?;
    let cache_bytes = options.cache_bytes.unwrap_or(dataset.options().cache_bytes);
    let caches = cache_bytes > 0 && batch_volumes.iter().any(Volume::is_worth_caching);
    Ok(Inner {
        dataset: dataset.clone(),
        sampler,
        plan: Arc::new(plan),
        share,
        layout: Arc::new(layout),
        volumes,
        buffer_bytes,
        cache_bytes,
        eviction: options.eviction,
        caches,
        threads,
        session: PerProcess::new(Session::new()),
        counters: Counters::default(),
        progress: Progress::default(),
    })
}
