//! Decides which patch comes at which position of an epoch.
//!
//! The plan is a pure function of the queue's options and is computed one position at a time.
//!
//! # Invariants
//! - Every patch of every subject has exactly one position in an epoch.
//! - Positions can be computed alone and in any order. Memory is a few words a subject, none a
//!   patch.
//!
//! Not here: the locations of patches (`sample`), the times at which they are read (`workers`).

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use super::permutation::Permutation;
use super::sampler::Sampler;
use crate::sample::Epoch;
use crate::{Error, Result};

/// The order of the patches of an epoch.
///
/// ```
/// use voxquarry::{QueueOptions, ShuffleMode};
///
/// let options = QueueOptions::default().volumes(["ct"]).shuffle(ShuffleMode::Window);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ShuffleMode {
    /// A random permutation of all patches.
    #[default]
    Global,
    /// Subjects in random order, with patches mixed over a window that slides over them, so that
    /// few subjects are in use at a time.
    Window,
    /// Subject after subject, as they are listed, each with its patches in their own order.
    None,
}

/// Streams of random numbers; blocks of a window use the streams from 2 on.
const STREAM_GLOBAL: u64 = 0;
const STREAM_SUBJECTS: u64 = 1;

/// Consecutive samples of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanEntry {
    pub(super) subject: Arc<str>,
    /// Number of the first sample.
    pub(super) first: u64,
    pub(super) count: u64,
}

/// One sample: the index of its entry, and its number in the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PlannedSample {
    pub(super) entry: usize,
    pub(super) number: u64,
}

/// The patches of every epoch, over all ranks.
#[derive(Debug)]
pub(super) struct EpochPlan {
    entries: Vec<PlanEntry>,
    /// For each entry, the number of patches up to its end.
    ends: Vec<u64>,
    shuffle: ShuffleMode,
    /// Entries in a block; two neighbouring blocks are in use at a time.
    block_entries: usize,
    seed: u64,
}

impl EpochPlan {
    /// A plan over `subjects`, each with a number of patches; a repeated subject continues with its
    /// next samples.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for more patches than can be counted.
    pub(super) fn new(
        subjects: impl IntoIterator<Item = (Arc<str>, u64)>,
        shuffle: ShuffleMode,
        window_entries: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut seen = HashMap::new();
        let (mut entries, mut ends, mut total) = (Vec::new(), Vec::new(), 0u64);
        for (subject, count) in subjects {
            let first = seen.entry(subject.clone()).or_insert(0u64);
            // The positions of all ranks have to be countable, with the patches that they repeat.
            total = total.checked_add(count).filter(|&n| n < 1 << 62).ok_or_else(|| {
                Error::unsupported(
                    "the epoch has more than 2⁶² patches",
                    "take fewer patches of a subject",
                )
            })?;
            entries.push(PlanEntry { subject, first: *first, count });
            *first += count;
            ends.push(total);
        }
        Ok(Self { entries, ends, shuffle, block_entries: (window_entries / 2).max(1), seed })
    }

    /// Patches of an epoch.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(super) fn entries(&self) -> &[PlanEntry] {
        &self.entries
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Identifies the plan, the sampler and the changes of patches: two queues with the same
    /// digest and seed deliver the same patches (64-bit FNV-1a of a text of all).
    pub(super) fn digest(
        &self,
        sampler: &Sampler,
        background: &HashSet<Arc<str>>,
        changes: &str,
    ) -> u64 {
        // `Debug` writes every number of a sampler exactly, so different samplers give different
        // texts.
        let mut text = format!("{:?} {} {sampler:?}", self.shuffle, self.block_entries);
        for PlanEntry { subject, count, .. } in &self.entries {
            let mark = if background.contains(subject) { " anywhere" } else { "" };
            write!(text, "/{subject} {count}{mark}").expect("writing to a string cannot fail");
        }
        text.push_str(changes);
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// The order of an epoch's patches.
    pub(super) fn order(self: &Arc<Self>, epoch: u64) -> EpochOrder {
        let epoch = Epoch { seed: self.seed, epoch };
        let rule = match self.shuffle {
            ShuffleMode::Global => {
                OrderRule::Global(Permutation::new(self.total(), epoch, STREAM_GLOBAL))
            }
            ShuffleMode::None => OrderRule::None,
            ShuffleMode::Window => {
                let n = self.entries.len();
                let permutation = Permutation::new(n as u64, epoch, STREAM_SUBJECTS);
                let entries: Vec<u32> = (0..n).map(|i| permutation.at(i as u64) as u32).collect();
                let mut total = 0;
                let end = |&entry: &u32| {
                    total += self.entries[entry as usize].count;
                    total
                };
                let ends = entries.iter().map(end).collect();
                OrderRule::Window(WindowOrder {
                    entries,
                    ends,
                    block_entries: self.block_entries,
                    epoch,
                })
            }
        };
        EpochOrder { plan: self.clone(), epoch, rule }
    }
}

/// The order of the patches of one epoch.
#[derive(Debug)]
pub(super) struct EpochOrder {
    plan: Arc<EpochPlan>,
    epoch: Epoch,
    rule: OrderRule,
}

#[derive(Debug)]
enum OrderRule {
    Global(Permutation),
    Window(WindowOrder),
    None,
}

impl EpochOrder {
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn plan(&self) -> &EpochPlan {
        &self.plan
    }

    /// The sample at `position`, which is less than the plan's total.
    pub(super) fn sample(&self, position: u64) -> PlannedSample {
        let plan = &self.plan;
        let sample = |entry: usize, nth: u64| PlannedSample {
            entry,
            number: plan.entries[entry].first + nth,
        };
        match &self.rule {
            OrderRule::None | OrderRule::Global(_) => {
                let index = match &self.rule {
                    OrderRule::Global(permutation) => permutation.at(position),
                    _ => position,
                };
                let (entry, nth) = find(&plan.ends, index);
                sample(entry, nth)
            }
            OrderRule::Window(window) => {
                let (turn, nth) = find(&window.ends, window.index_at(position));
                sample(window.entries[turn] as usize, nth)
            }
        }
    }
}

/// Permutes the patches of shuffled subjects within blocks, and again within blocks that begin half
/// a block earlier.
#[derive(Debug)]
struct WindowOrder {
    /// Entries in their shuffled order.
    entries: Vec<u32>,
    /// For each of these, the number of patches up to its end.
    ends: Vec<u64>,
    block_entries: usize,
    epoch: Epoch,
}

impl WindowOrder {
    /// The patch at `position`, as its index in the shuffled order of subjects.
    fn index_at(&self, position: u64) -> u64 {
        let shifted = self.permute(position, self.block_entries / 2, 3);
        self.permute(shifted, 0, 2)
    }

    /// Permutes within blocks of entries, of which the first is `missing` entries shorter; block
    /// `i` uses random stream `stream + 2 i`.
    fn permute(&self, position: u64, missing: usize, stream: u64) -> u64 {
        let (turn, _) = find(&self.ends, position);
        let block = (turn + missing) / self.block_entries;
        let begin = (block * self.block_entries).saturating_sub(missing);
        let end = ((block + 1) * self.block_entries - missing).min(self.ends.len());
        let patches = self.patches(begin..end);
        let n = patches.end - patches.start;
        let permutation = Permutation::new(n, self.epoch, stream + 2 * block as u64);
        patches.start + permutation.at(position - patches.start)
    }

    fn patches(&self, entries: Range<usize>) -> Range<u64> {
        let begin = entries.start.checked_sub(1).map_or(0, |last| self.ends[last]);
        begin..self.ends[entries.end - 1]
    }
}

/// The entry that holds patch `index`, and the patch's index in that entry.
fn find(ends: &[u64], index: u64) -> (usize, u64) {
    let entry = ends.partition_point(|&end| end <= index);
    let begin = entry.checked_sub(1).map_or(0, |last| ends[last]);
    (entry, index - begin)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(counts: &[u64], shuffle: ShuffleMode, window: usize, seed: u64) -> Arc<EpochPlan> {
        let subjects = counts.iter().enumerate().map(|(i, &n)| (format!("s{i}").into(), n));
        Arc::new(EpochPlan::new(subjects, shuffle, window, seed).unwrap())
    }

    fn samples(plan: &Arc<EpochPlan>, epoch: u64) -> Vec<PlannedSample> {
        let order = plan.order(epoch);
        (0..plan.total()).map(|position| order.sample(position)).collect()
    }

    #[test]
    fn every_sample_has_one_position() {
        for counts in [&[3, 0, 5, 1, 0, 8, 2][..], &[0, 0], &[], &[1], &[4; 40]] {
            for shuffle in [ShuffleMode::Global, ShuffleMode::Window, ShuffleMode::None] {
                for window in 1..9 {
                    let plan = plan(counts, shuffle, window, 5);
                    let found: HashSet<PlannedSample> = samples(&plan, 2).into_iter().collect();
                    let every = counts.iter().enumerate().flat_map(|(entry, &n)| {
                        (0..n).map(move |number| PlannedSample { entry, number })
                    });
                    assert_eq!(found, every.collect(), "{counts:?} {shuffle:?} {window}");
                }
            }
        }
    }

    #[test]
    fn a_window_holds_few_subjects_and_mixes_them() {
        let (window, each) = (8, 20);
        let plan = plan(&[each; 100], ShuffleMode::Window, window, 1);
        let found = samples(&plan, 0);
        let (mut last, mut first) = (vec![0; 100], vec![usize::MAX; 100]);
        for (position, sample) in found.iter().enumerate() {
            last[sample.entry] = position;
            first[sample.entry] = first[sample.entry].min(position);
        }
        for position in 0..found.len() {
            let open = (0..100).filter(|&e| first[e] <= position && position <= last[e]).count();
            assert!(open <= window, "{open} subjects at {position}");
        }
        let same = found.windows(2).filter(|pair| pair[0].entry == pair[1].entry).count();
        assert!(same < found.len() / 2, "{same} of {} follow their own subject", found.len());
        assert_ne!(found, samples(&plan, 1));
    }

    #[test]
    fn a_repeated_subject_continues() {
        let subjects = [("a", 2), ("b", 1), ("a", 3)].map(|(name, n)| (name.into(), n));
        let plan = Arc::new(EpochPlan::new(subjects, ShuffleMode::None, 1, 0).unwrap());
        let numbers: Vec<u64> = samples(&plan, 0).iter().map(|sample| sample.number).collect();
        assert_eq!(numbers, [0, 1, 0, 2, 3, 4]);
    }
}
