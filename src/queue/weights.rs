//! Weights of subjects and chunks that training changes, each from a stated position on.
//!
//! # Invariants
//! - Which patch comes at a position is a pure function of the queue's options and of the weights
//!   that apply there: not of the time of an update, nor of threads or ranks.
//!
//! Not here: how chunks are drawn by their weights (`sample`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::epoch_plan::{EpochOrder, EpochPlan, PlannedSample};
use super::sampler::Sampler;
use super::subject_cache::{OpenSubject, in_subject};
use crate::sample::{ChunkWeights, RandomStream, Reweighting, StreamKey};
use crate::{Error, RandomSampler, Result};

/// Takes the place of the subject's name in the key; no subject can have this name.
const STREAMS: &str = "/weights";

/// How likely the subjects of a queue, and the chunks of a subject, are.
///
/// ```
/// use voxquarry::{ChunkWeights, QueueWeights};
///
/// let chunks = ChunkWeights::new([1, 1, 2], vec![1.0, 3.0])?;
/// let weights = QueueWeights::default().subjects([("hard", 4.0)]).chunks([("hard", chunks)]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use]
pub struct QueueWeights {
    subjects: Option<Vec<(String, f64)>>,
    chunks: Vec<(String, ChunkWeights)>,
}

impl QueueWeights {
    /// Whether there are weights of chunks.
    pub(super) fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Draws the subject of each patch, with replacement, by its number of patches times its
    /// weight; a subject that is not named weighs 1. Without it each patch of the epoch comes once.
    pub fn subjects<S: Into<String>>(
        mut self,
        weights: impl IntoIterator<Item = (S, f64)>,
    ) -> Self {
        self.subjects = Some(weights.into_iter().map(|(name, w)| (name.into(), w)).collect());
        self
    }

    /// Draws the centres of the patches of these subjects by the weights of the chunks that they
    /// lie in: the chunks of the label map or of the weights that the sampler draws by, otherwise
    /// those of the queue's first volume.
    pub fn chunks<S: Into<String>>(
        mut self,
        weights: impl IntoIterator<Item = (S, ChunkWeights)>,
    ) -> Self {
        self.chunks = weights.into_iter().map(|(name, w)| (name.into(), w)).collect();
        self
    }

    /// The weights of subjects, if subjects are drawn.
    pub fn get_subjects(&self) -> Option<&[(String, f64)]> {
        self.subjects.as_deref()
    }

    /// The subjects whose chunks have weights.
    pub fn get_chunks(&self) -> &[(String, ChunkWeights)] {
        &self.chunks
    }
}

/// Weights, and where they begin to apply; in [`QueueState`](crate::QueueState).
#[derive(Clone, Debug, PartialEq)]
pub struct WeightUpdate {
    /// The first epoch.
    pub epoch: u64,
    /// The first position in it, over all ranks.
    pub position: u64,
    /// The weights.
    pub weights: Arc<QueueWeights>,
}

impl WeightUpdate {
    fn point(&self) -> (u64, u64) {
        (self.epoch, self.position)
    }
}

/// Weights that were checked against the queue.
#[derive(Debug)]
pub(super) struct PlanWeights {
    /// For each entry of the plan, the sum of patches times weights up to its end.
    cumulative: Option<Vec<f64>>,
    /// The patches of each subject in an epoch without weights.
    patches: HashMap<Arc<str>, u64>,
    is_grid: bool,
    chunks: HashMap<Arc<str>, ChunkWeights>,
}

impl PlanWeights {
    /// Checks `weights` against a plan; `open` opens a subject.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] for a subject that the queue does not read, a weight that is
    ///   negative or not finite, weights that are all zero, or of another chunk grid.
    /// - [`Error::Unsupported`] for weights of chunks with a grid, or a sampler that keeps a
    ///   distance; errors of opening a subject.
    pub(super) fn new(
        weights: &QueueWeights,
        plan: &EpochPlan,
        sampler: &Sampler,
        open: impl Fn(&Arc<str>) -> Result<Arc<OpenSubject>>,
    ) -> Result<Self> {
        let mut patches: HashMap<Arc<str>, u64> = HashMap::new();
        for entry in plan.entries() {
            *patches.entry(entry.subject.clone()).or_default() += entry.count;
        }
        let known = |name: &str| -> Result<Arc<str>> {
            let found = patches.get_key_value(name).map(|(name, _)| name.clone());
            let expected = "a subject that the queue reads";
            found.ok_or_else(|| Error::invalid("subject", format!("{name:?}"), expected))
        };
        let cumulative = match &weights.subjects {
            Some(named) => Some(cumulative(named, plan, known)?),
            None => None,
        };
        let is_grid = matches!(sampler, Sampler::Grid(_));
        let mut chunks = HashMap::new();
        for (name, weights) in &weights.chunks {
            let name = known(name)?;
            let Sampler::Random(sampler) = sampler else {
                return Err(Error::unsupported(
                    "a grid sampler has no weights of chunks",
                    "weigh the subjects, or take a random sampler",
                ));
            };
            let open = open(&name).map_err(|error| in_subject(&name, error))?;
            let reweighting = open.reweighting(Some(weights));
            let epoch = crate::Epoch { seed: plan.seed(), epoch: 0 };
            let is_background = sampler.lack(&open.subject)?.is_some();
            let background = is_background.then(|| RandomSampler::from(sampler.background()));
            let drawn = background.as_ref().unwrap_or(sampler);
            let drawn = drawn.location(&open.subject, reweighting, epoch, 0);
            drawn.map_err(|error| in_subject(&name, error))?;
            chunks.insert(name, weights.clone());
        }
        Self { cumulative, patches, is_grid, chunks }.checked(plan, sampler)
    }

    fn checked(self, plan: &EpochPlan, sampler: &Sampler) -> Result<Self> {
        if let Sampler::Random(sampler) = sampler
            && sampler.keeps_distance()
        {
            return Err(Error::unsupported(
                "patches that keep a distance cannot be drawn by weights",
                "leave out min_distance",
            ));
        }
        let most = self.patches.values().max().copied().unwrap_or(0);
        if self.cumulative.is_some() && !self.is_grid && most + plan.total() > 1 << 32 {
            return Err(Error::unsupported(
                "the epoch has too many patches to draw their subjects",
                "take fewer patches of a subject, and more epochs",
            ));
        }
        Ok(self)
    }

    /// The sample at `position` of an epoch.
    pub(super) fn sample(&self, order: &EpochOrder, position: u64) -> PlannedSample {
        let Some(cumulative) = &self.cumulative else { return order.sample(position) };
        let epoch = order.epoch();
        let key = StreamKey { epoch, subject: STREAMS, n: position, attempt: 0 };
        let mut random = RandomStream::new(&key);
        let entry = random.pick(cumulative);
        let planned = &order.plan().entries()[entry];
        let number = if self.is_grid {
            random.below(planned.count)
        } else {
            // Behind the samples of the subject that come without weights.
            self.patches[&planned.subject] + position
        };
        PlannedSample { entry, number }
    }

    /// The weights of a subject's chunks.
    pub(super) fn chunks(&self, subject: &str) -> Option<&ChunkWeights> {
        self.chunks.get(subject)
    }
}

/// For each entry of the plan, the sum of patches times weights up to its end.
fn cumulative(
    named: &[(String, f64)],
    plan: &EpochPlan,
    known: impl Fn(&str) -> Result<Arc<str>>,
) -> Result<Vec<f64>> {
    let mut weights = HashMap::new();
    for (name, weight) in named {
        if !(0.0..f64::INFINITY).contains(weight) {
            let argument = format!("weight of subject {name:?}");
            return Err(Error::invalid(argument, weight, "a finite number, 0 or more"));
        }
        if weights.insert(known(name)?, *weight).is_some() {
            return Err(Error::invalid("subject", format!("{name:?}"), "each name once"));
        }
    }
    let mut sum = 0.0;
    let end = |entry: &super::epoch_plan::PlanEntry| {
        sum += entry.count as f64 * weights.get(&entry.subject).unwrap_or(&1.0);
        sum
    };
    let sums: Vec<f64> = plan.entries().iter().map(end).collect();
    if sum == 0.0 || !f64::is_finite(sum) {
        let expected = "a finite number above 0";
        return Err(Error::invalid("sum of the weights of all patches", sum, expected));
    }
    Ok(sums)
}

/// The weights that apply in one epoch, each from a position on.
#[derive(Clone, Debug, Default)]
pub(super) struct EpochWeights(Vec<(u64, Arc<PlanWeights>)>);

impl EpochWeights {
    /// Those at a position, if there are some.
    pub(super) fn at(&self, position: u64) -> Option<&PlanWeights> {
        let after = self.0.partition_point(|&(from, _)| from <= position);
        after.checked_sub(1).map(|last| &*self.0[last].1)
    }

    /// Whether both are the same weights at the same positions.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |((a, one), (b, two)): (&(u64, Arc<_>), &(u64, Arc<_>))| {
            a == b && Arc::ptr_eq(one, two)
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

/// The updates of a queue, by where they begin to apply.
#[derive(Debug, Default)]
pub(super) struct WeightSchedule {
    updates: Mutex<Vec<(WeightUpdate, Arc<PlanWeights>)>>,
    version: AtomicU64,
}

impl WeightSchedule {
    fn lock(&self) -> MutexGuard<'_, Vec<(WeightUpdate, Arc<PlanWeights>)>> {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the changes.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The weights that apply in an epoch.
    pub(super) fn of_epoch(&self, epoch: u64) -> EpochWeights {
        let mut found: Vec<(u64, Arc<PlanWeights>)> = Vec::new();
        for (update, plan) in &*self.lock() {
            if update.epoch < epoch {
                found = vec![(0, plan.clone())];
            } else if update.epoch == epoch {
                found.push((update.position, plan.clone()));
            }
        }
        EpochWeights(found)
    }

    /// The updates that matter from a point on.
    pub(super) fn from(&self, epoch: u64, position: u64) -> Vec<WeightUpdate> {
        let updates = self.lock();
        let behind = updates.partition_point(|(u, _)| u.point() <= (epoch, position));
        updates[behind.saturating_sub(1)..].iter().map(|(update, _)| update.clone()).collect()
    }

    /// Adds an update, in place of those that begin at its point or later; forgets those that
    /// another one follows up to the point `reached`.
    pub(super) fn add(&self, update: WeightUpdate, plan: PlanWeights, reached: (u64, u64)) {
        let mut updates = self.lock();
        updates.retain(|(earlier, _)| earlier.point() < update.point());
        updates.push((update, Arc::new(plan)));
        let behind = updates.partition_point(|(u, _)| u.point() <= reached);
        updates.drain(..behind.saturating_sub(1));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Takes these updates in place of all.
    pub(super) fn replace(&self, updates: Vec<(WeightUpdate, PlanWeights)>) {
        let updates = updates.into_iter().map(|(update, plan)| (update, Arc::new(plan)));
        *self.lock() = updates.collect();
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl OpenSubject {
    /// The weights of chunks as a sampler takes them.
    pub(super) fn reweighting<'a>(
        &'a self,
        weights: Option<&'a ChunkWeights>,
    ) -> Option<Reweighting<'a>> {
        Some(Reweighting { weights: weights?, volume: self.volumes.first()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::epoch_plan::ShuffleMode;

    fn update(epoch: u64, position: u64) -> WeightUpdate {
        WeightUpdate { epoch, position, weights: Arc::default() }
    }

    fn plan() -> PlanWeights {
        let none = HashMap::new();
        PlanWeights { cumulative: None, patches: none, is_grid: false, chunks: HashMap::new() }
    }

    /// Beside a list in which the last update at or before a point is looked for.
    #[test]
    fn the_last_update_that_has_begun_applies() {
        let schedule = WeightSchedule::default();
        let mut begun: Vec<(u64, u64)> = Vec::new();
        let mut reached = (0, 0);
        for (i, point) in [(0, 4), (1, 0), (1, 7), (1, 5), (4, 2), (3, 0)].into_iter().enumerate() {
            schedule.add(update(point.0, point.1), plan(), reached);
            begun.retain(|earlier| *earlier < point);
            begun.push(point);
            for epoch in 0..6 {
                let weights = schedule.of_epoch(epoch);
                assert!(weights.is_same(&schedule.of_epoch(epoch)));
                for position in (0..9).filter(|&p| (epoch, p) >= reached) {
                    let here = (epoch, position);
                    let expected = begun.iter().rev().find(|earlier| **earlier <= here);
                    assert_eq!(weights.at(position).is_some(), expected.is_some(), "{i} {here:?}");
                    let kept = schedule.from(epoch, position);
                    assert_eq!(kept.first().map(WeightUpdate::point), {
                        expected.or_else(|| begun.iter().find(|b| **b > here)).copied()
                    });
                    let expected = begun.iter().filter(|b| **b > here).count();
                    assert_eq!(kept.iter().filter(|u| u.point() > here).count(), expected);
                }
            }
            reached = (i as u64 / 2, 3);
        }
        assert_eq!(schedule.version(), 6);
        schedule.replace(vec![(update(2, 2), plan())]);
        assert!(schedule.of_epoch(1).at(9).is_none() && schedule.of_epoch(3).at(0).is_some());
    }

    #[test]
    fn an_entry_comes_as_often_as_its_patches_times_its_weight() {
        let counts = [("a", 3), ("b", 0), ("c", 5)].map(|(name, n)| (name.into(), n));
        let plan = EpochPlan::new(counts, ShuffleMode::None, 1, 9).unwrap();
        let known = |name: &str| Ok(Arc::from(name));
        let sums = cumulative(&[("a".into(), 2.0)], &plan, known).unwrap();
        assert_eq!(sums, [6.0, 6.0, 11.0]);
        for named in [("a", -1.0), ("a", f64::INFINITY), ("a", f64::NAN)] {
            assert!(cumulative(&[(named.0.into(), named.1)], &plan, known).is_err(), "{named:?}");
        }
        let zeros = [("a".into(), 0.0), ("c".into(), 0.0)];
        assert!(cumulative(&zeros, &plan, known).is_err());
    }
}
