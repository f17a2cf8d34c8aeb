//! Which patch comes when: the plan of an epoch, a pure function that is computed a position at a time.
//!
//! # Invariants
//! - Every patch of every subject has exactly one position in an epoch.
//! - A position can be asked for alone, in any order. Memory is a few words for each subject, none for a patch.
//!
//! Not here: where a patch lies (`sample`), when it is read (`readers`).

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use super::Sampler;
use super::shuffle::Permutation;
use crate::sample::Epoch;
use crate::{Error, Result};

/// In which order the patches of an epoch come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shuffle {
    /// Any patch anywhere.
    #[default]
    Global,
    /// Subjects in random order, and patches mixed over a window that slides over them: few subjects are in use at a time.
    Window,
    /// Subject after subject, as they are listed, each with its patches in their own order.
    None,
}

/// Streams of random numbers, beside the ones of blocks.
const STREAM_GLOBAL: u64 = 0;
const STREAM_SUBJECTS: u64 = 1;

/// Some consecutive samples of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) subject: Arc<str>,
    /// Number of the first sample.
    pub(super) first: u64,
    pub(super) count: u64,
}

/// One sample: which entry's, and its number in the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub(super) entry: usize,
    pub(super) number: u64,
}

/// The patches of an epoch, all ranks' together.
#[derive(Debug)]
pub(super) struct Plan {
    entries: Vec<Entry>,
    /// For each entry, how many patches it and those before it have.
    ends: Vec<u64>,
    shuffle: Shuffle,
    /// Entries in a block; two neighbouring blocks are in use at a time.
    block_entries: usize,
    seed: u64,
}

impl Plan {
    /// A plan over some subjects with so many patches each; one that is named again goes on where it stopped.
    ///
    /// # Errors
    /// [`Error::Usage`] for more patches than can be counted.
    pub(super) fn new(
        subjects: impl IntoIterator<Item = (Arc<str>, u64)>,
        shuffle: Shuffle,
        window_entries: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut seen = HashMap::new();
        let (mut entries, mut ends, mut total) = (Vec::new(), Vec::new(), 0u64);
        for (subject, count) in subjects {
            let first = seen.entry(subject.clone()).or_insert(0u64);
            // Positions of all ranks, each of which may go round once more, have to be countable.
            total = total.checked_add(count).filter(|&n| n < 1 << 62).ok_or_else(|| {
                Error::usage("the epoch has more than 2⁶² patches: ask for fewer of a subject")
            })?;
            entries.push(Entry { subject, first: *first, count });
            *first += count;
            ends.push(total);
        }
        Ok(Self { entries, ends, shuffle, block_entries: (window_entries / 2).max(1), seed })
    }

    /// Patches of an epoch.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Names the plan with the sampler of its patches: two that have the same digest and seed are the same (FNV-1a, 64 bits, of what
    /// defines them).
    pub(super) fn digest(&self, sampler: &Sampler) -> u64 {
        // Every number of a sampler is written so that it could be read back: others give another text.
        let mut text = format!("{:?} {} {sampler:?}", self.shuffle, self.block_entries);
        for Entry { subject, count, .. } in &self.entries {
            write!(text, "/{subject} {count}").expect("a string takes all");
        }
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// The order of an epoch's patches.
    pub(super) fn order(self: &Arc<Self>, epoch: u64) -> Order {
        let epoch = Epoch { seed: self.seed, epoch };
        let rule = match self.shuffle {
            Shuffle::Global => Rule::Global(Permutation::new(self.total(), epoch, STREAM_GLOBAL)),
            Shuffle::None => Rule::None,
            Shuffle::Window => {
                let n = self.entries.len();
                let permutation = Permutation::new(n as u64, epoch, STREAM_SUBJECTS);
                let entries: Vec<u32> = (0..n).map(|i| permutation.at(i as u64) as u32).collect();
                let mut total = 0;
                let end = |&entry: &u32| {
                    total += self.entries[entry as usize].count;
                    total
                };
                let ends = entries.iter().map(end).collect();
                Rule::Window(Window { entries, ends, block_entries: self.block_entries, epoch })
            }
        };
        Order { plan: self.clone(), epoch, rule }
    }
}

/// The order of the patches of one epoch.
#[derive(Debug)]
pub(super) struct Order {
    plan: Arc<Plan>,
    epoch: Epoch,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Global(Permutation),
    Window(Window),
    None,
}

impl Order {
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The sample at `position`, which is below the plan's total.
    pub(super) fn item(&self, position: u64) -> Item {
        let plan = &self.plan;
        let sample =
            |entry: usize, nth: u64| Item { entry, number: plan.entries[entry].first + nth };
        match &self.rule {
            Rule::None | Rule::Global(_) => {
                let place = match &self.rule {
                    Rule::Global(permutation) => permutation.at(position),
                    _ => position,
                };
                let (entry, nth) = find(&plan.ends, place);
                sample(entry, nth)
            }
            Rule::Window(window) => {
                let (turn, nth) = find(&window.ends, window.place(position));
                sample(window.entries[turn] as usize, nth)
            }
        }
    }
}

/// Patches of shuffled subjects, permuted within blocks, and again within blocks that begin half a block earlier.
#[derive(Debug)]
struct Window {
    /// Entries in their shuffled order.
    entries: Vec<u32>,
    /// Patches of those and the ones before.
    ends: Vec<u64>,
    block_entries: usize,
    epoch: Epoch,
}

impl Window {
    /// Which of the patches in the subjects' shuffled order comes at `position`.
    fn place(&self, position: u64) -> u64 {
        let shifted = self.permute(position, self.block_entries / 2, 3);
        self.permute(shifted, 0, 2)
    }

    /// Permutes within blocks of entries, the first of which is `missing` entries short; they use every second stream from `stream`.
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

/// The entry that `place` lies in, and its place there.
fn find(ends: &[u64], place: u64) -> (usize, u64) {
    let entry = ends.partition_point(|&end| end <= place);
    let begin = entry.checked_sub(1).map_or(0, |last| ends[last]);
    (entry, place - begin)
}

/// What one of the ranks reads of each epoch: every `world_size`-th position, from its own number on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    rank: u64,
    world_size: u64,
    total: u64,
    /// Patches of this rank.
    patches: u64,
    batch_size: u64,
}

impl Share {
    /// All ranks have as many patches: those that are missing at the end are the plan's first again, or with `drop_last` no
    /// rank has more than what fills its batches.
    pub(super) fn new(
        total: u64,
        rank: u64,
        world_size: u64,
        batch_size: u64,
        drop_last: bool,
    ) -> Result<Self> {
        if rank >= world_size {
            return Err(Error::usage(format!(
                "rank {rank}, world_size {world_size}: ranks count from 0 to world_size - 1"
            )));
        }
        if batch_size == 0 {
            return Err(Error::usage("batch_size 0: expected at least 1"));
        }
        let patches = if drop_last {
            total / world_size / batch_size * batch_size
        } else {
            total.div_ceil(world_size)
        };
        Ok(Self { rank, world_size, total, patches, batch_size })
    }

    pub(super) fn patches(&self) -> u64 {
        self.patches
    }

    pub(super) fn world_size(&self) -> u64 {
        self.world_size
    }

    pub(super) fn batches(&self) -> u64 {
        self.patches.div_ceil(self.batch_size)
    }

    /// The plan's position of this rank's patch `n`.
    fn position(&self, n: u64) -> u64 {
        (n * self.world_size + self.rank) % self.total
    }
}

/// What one iteration reads of a share: of its batches behind patch `begin`, every `step`-th, from number `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stride {
    pub(super) share: Share,
    pub(super) begin: u64,
    pub(super) first: u64,
    pub(super) step: u64,
}

impl Stride {
    /// Patches in these batches.
    pub(super) fn patches(&self) -> u64 {
        let batch = self.share.batch_size;
        let rest = self.share.patches - self.begin;
        let batches = rest.div_ceil(batch).saturating_sub(self.first).div_ceil(self.step);
        let Some(full) = batches.checked_sub(1) else { return 0 };
        // The last of all batches may be short.
        full * batch + batch.min(rest - self.offset(full * batch))
    }

    /// How far behind `begin` its patch `n` is, or would be.
    fn offset(&self, n: u64) -> u64 {
        let batch = self.share.batch_size;
        (self.first + n / batch * self.step) * batch + n % batch
    }

    /// The share's patch that comes before its patch `n`, or the end of the share.
    pub(super) fn reached(&self, n: u64) -> u64 {
        (self.begin + self.offset(n)).min(self.share.patches)
    }

    /// The plan's position of its patch `n`.
    pub(super) fn position(&self, n: u64) -> u64 {
        self.share.position(self.begin + self.offset(n))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(counts: &[u64], shuffle: Shuffle, window: usize, seed: u64) -> Arc<Plan> {
        let subjects = counts.iter().enumerate().map(|(i, &n)| (format!("s{i}").into(), n));
        Arc::new(Plan::new(subjects, shuffle, window, seed).unwrap())
    }

    fn items(plan: &Arc<Plan>, epoch: u64) -> Vec<Item> {
        let order = plan.order(epoch);
        (0..plan.total()).map(|position| order.item(position)).collect()
    }

    #[test]
    fn every_sample_has_one_position() {
        for counts in [&[3, 0, 5, 1, 0, 8, 2][..], &[0, 0], &[], &[1], &[4; 40]] {
            for shuffle in [Shuffle::Global, Shuffle::Window, Shuffle::None] {
                for window in 1..9 {
                    let plan = plan(counts, shuffle, window, 5);
                    let found: HashSet<Item> = items(&plan, 2).into_iter().collect();
                    let every = counts
                        .iter()
                        .enumerate()
                        .flat_map(|(entry, &n)| (0..n).map(move |number| Item { entry, number }));
                    assert_eq!(found, every.collect(), "{counts:?} {shuffle:?} {window}");
                }
            }
        }
    }

    #[test]
    fn a_window_holds_few_subjects_and_mixes_them() {
        let (window, each) = (8, 20);
        let plan = plan(&[each; 100], Shuffle::Window, window, 1);
        let found = items(&plan, 0);
        let (mut last, mut first) = (vec![0; 100], vec![usize::MAX; 100]);
        for (position, item) in found.iter().enumerate() {
            last[item.entry] = position;
            first[item.entry] = first[item.entry].min(position);
        }
        for position in 0..found.len() {
            let open = (0..100).filter(|&e| first[e] <= position && position <= last[e]).count();
            assert!(open <= window, "{open} subjects at {position}");
        }
        let same = found.windows(2).filter(|pair| pair[0].entry == pair[1].entry).count();
        assert!(same < found.len() / 2, "{same} of {} follow their own subject", found.len());
        assert_ne!(found, items(&plan, 1));
    }

    #[test]
    fn a_subject_named_again_goes_on() {
        let subjects = [("a", 2), ("b", 1), ("a", 3)].map(|(name, n)| (name.into(), n));
        let plan = Arc::new(Plan::new(subjects, Shuffle::None, 1, 0).unwrap());
        let numbers: Vec<u64> = items(&plan, 0).iter().map(|item| item.number).collect();
        assert_eq!(numbers, [0, 1, 0, 2, 3, 4]);
    }

    #[test]
    fn ranks_share_every_epoch() {
        for (total, world) in [(0, 3), (1, 4), (10, 3), (12, 4), (7, 1)] {
            let share = |rank| Share::new(total, rank, world, 2, false).unwrap();
            let mut found = vec![0; total as usize];
            for rank in 0..world {
                let share = share(rank);
                assert_eq!(share.patches(), total.div_ceil(world));
                (0..share.patches()).for_each(|n| found[share.position(n) as usize] += 1);
            }
            let again = total.div_ceil(world) * world - total;
            let mut expected = vec![1; total as usize];
            (0..again).for_each(|n| expected[(n % total) as usize] += 1);
            assert_eq!(found, expected, "{total} patches, {world} ranks");
        }
        let share = |batch| Share::new(100, 1, 3, batch, true).unwrap();
        assert_eq!((share(7).patches(), share(7).batches()), (28, 4));
        assert_eq!(share(34).batches(), 0);
        assert!(Share::new(1, 2, 2, 1, false).is_err() && Share::new(1, 0, 0, 1, false).is_err());
    }

    #[test]
    fn strides_deal_a_share_out_by_batches() {
        let cases = [(0, 3, 0), (20, 4, 0), (23, 4, 0), (23, 4, 5), (7, 9, 2), (7, 9, 4)];
        for (total, batch, begin) in cases {
            let share = Share::new(total, 1, 2, batch, false).unwrap();
            let whole: Vec<u64> = (begin..share.patches()).map(|n| share.position(n)).collect();
            for step in 1..5 {
                let hand = |first| {
                    let stride = Stride { share, begin, first, step };
                    assert_eq!(stride.reached(0), (begin + first * batch).min(share.patches()));
                    (0..stride.patches()).map(|n| stride.position(n)).collect::<Vec<_>>()
                };
                let hands: Vec<_> = (0..step).map(hand).collect();
                let batches = (0..).map_while(|n: u64| {
                    let own = &hands[(n % step) as usize];
                    own.chunks(batch as usize).nth((n / step) as usize)
                });
                let dealt: Vec<u64> = batches.flatten().copied().collect();
                assert_eq!(dealt, whole, "{total} patches in {batch}, {begin}, step {step}");
                assert_eq!(hands.iter().map(Vec::len).sum::<usize>(), whole.len());
            }
        }
    }
}
