//! Draws the samples of a label sampler that is bound to one subject: first a set of classes, then
//! one of its voxels.

use std::sync::Arc;

use super::balance::Balance;
use super::class_index::ClassIndexes;
use super::classes::Class;
use super::encoding::LabelEncoding;
use crate::sample::border::Centres;
use crate::sample::boxes::{ProbabilityMap, random_voxel};
use crate::sample::chunk_weights::{ChunkWeights, WeightedBox};
use crate::sample::draw::Draw;
use crate::sample::random::{RandomStream, StreamKey};
use crate::{Result, Size3, Volume};

/// Forced fractions are counted in units of one over this.
const WHOLE: u64 = 1 << 32;

/// A label sampler bound to one subject.
pub(super) struct LabelDraw {
    pub(super) centres: Centres,
    pub(super) volume: Volume,
    pub(super) indexes: Arc<ClassIndexes>,
    pub(super) choice: Arc<ClassChoice>,
    /// The choice under weights of the chunks, if these have some.
    pub(super) reweighted: Option<Arc<ReweightedChoice>>,
}

impl LabelDraw {
    fn centre(&self, key: &StreamKey<'_>) -> Result<[i64; 3]> {
        let (mut random, region) = (RandomStream::new(key), self.centres.region());
        let choice = self.reweighted.as_deref().map_or(&*self.choice, |found| &found.choice);
        let number = match choice {
            ClassChoice::Set(_) => 0,
            ClassChoice::Weighted { cumulative, .. } => random.pick(cumulative),
            ClassChoice::Forced { fraction, sets }
                if !sets.is_empty() && is_forced(key, *fraction) =>
            {
                random.below(sets.len() as u64) as usize
            }
            ClassChoice::Forced { .. } => {
                let anywhere = self.reweighted.as_ref().and_then(|found| found.anywhere.as_ref());
                return Ok(match anywhere {
                    Some(anywhere) => anywhere.voxel(&mut random),
                    None => random_voxel(&region, &mut random),
                });
            }
        };
        let index = self.indexes.get(&self.volume, &choice.sets()[number])?;
        let voxel = match &self.reweighted {
            None => random.below(index.len()),
            Some(found) => {
                let voxels = index.voxels_of_chunk(random.pick(&found.chunks[number]));
                voxels.start + random.below(voxels.end - voxels.start)
            }
        };
        index.select(&self.volume, &region, voxel)
    }
}

impl Draw for LabelDraw {
    fn patch_size(&self) -> Size3 {
        self.centres.patch_size()
    }

    fn start(&self, key: &StreamKey<'_>) -> Result<[i64; 3]> {
        self.centre(key).map(|centre| self.centres.start_of(centre))
    }

    fn add_probabilities(&self, map: &mut ProbabilityMap<'_>) -> Result<()> {
        let region = self.centres.region();
        let (sets, parts): (&[Vec<Class>], Vec<f64>) = match &*self.choice {
            ClassChoice::Set(set) => (std::slice::from_ref(set), vec![1.0]),
            ClassChoice::Weighted { sets, cumulative, .. } => {
                let total = cumulative.last().copied().unwrap_or(1.0);
                let ranges = cumulative.iter().zip(std::iter::once(&0.0).chain(cumulative));
                (sets, ranges.map(|(end, begin)| (end - begin) / total).collect())
            }
            ClassChoice::Forced { fraction, sets } => {
                let forced = if sets.is_empty() { 0.0 } else { *fraction as f64 / WHOLE as f64 };
                map.add_evenly(&region, 1.0 - forced);
                (sets, vec![forced / sets.len().max(1) as f64; sets.len()])
            }
        };
        for (set, part) in sets.iter().zip(parts) {
            let index = self.indexes.get(&self.volume, set)?;
            let each = part / index.len() as f64;
            index.for_each_chunk(&self.volume, &region, |chunk, is_member| {
                let values = is_member.iter().map(|&m| if m { each } else { 0.0 });
                map.add(chunk, values);
            })?;
        }
        Ok(())
    }
}

/// How the classes of a centre are chosen, in one subject.
pub(super) enum ClassChoice {
    /// Always this set.
    Set(Vec<Class>),
    /// A set by its weight; `cumulative` are the sums of these.
    Weighted { sets: Vec<Vec<Class>>, weights: Vec<f64>, cumulative: Vec<f64> },
    /// If the sample is forced, a set, each equally likely; otherwise any voxel. `fraction` is in
    /// units of 2⁻³².
    Forced { fraction: u64, sets: Vec<Vec<Class>> },
}

impl ClassChoice {
    /// The choice that gives `balance` over the centres in `volume`.
    ///
    /// # Errors
    /// [`crate::Error::NothingToSample`] if no centre has one of the classes,
    /// [`crate::Error::InvalidArgument`] for labels that the encoding does not have; errors of
    /// reading the volume.
    pub(super) fn new(
        balance: &Balance,
        encoding: LabelEncoding,
        volume: &Volume,
        indexes: &ClassIndexes,
        centres: &Centres,
    ) -> Result<Self> {
        let nothing = |sets: &[Vec<Class>]| {
            let is_elsewhere = indexes.is_any_in_volume(volume, sets);
            centres.nothing_to_sample(volume.path(), &balance.wanted(), is_elsewhere)
        };
        match balance {
            Balance::Foreground => {
                let set = encoding.foreground();
                if indexes.get(volume, &set)?.len() == 0 {
                    return Err(nothing(&[set]));
                }
                Ok(Self::Set(set))
            }
            Balance::Classes(classes) => {
                let set = |&(label, weight): &(i64, f64)| Ok((encoding.class(label)?, weight));
                let sets = classes.iter().map(set).collect::<Result<_>>()?;
                let choice = Self::weighted(sets, volume, indexes)?;
                choice.map_or_else(|| Err(nothing(&balance.sought(encoding)?)), Ok)
            }
            Balance::PosNeg { pos, neg } => {
                let (foreground, background) = (encoding.foreground(), encoding.background());
                // If no voxel has the only side with a part above 0, all voxels are of the other.
                let other = if *pos > 0.0 { &background } else { &foreground }.clone();
                let sets = vec![(foreground, *pos), (background, *neg)];
                if let Some(choice) = Self::weighted(sets, volume, indexes)? {
                    return Ok(choice);
                }
                let choice = Self::weighted(vec![(other, 1.0)], volume, indexes)?;
                choice.map_or_else(|| Err(nothing(&balance.sought(encoding)?)), Ok)
            }
            Balance::Forced { fraction } => {
                let sets = encoding.foreground_classes(volume, indexes);
                let is_present = indexes.are_present(volume, &sets)?;
                let present = sets.into_iter().zip(is_present).filter(|set| set.1);
                let fraction = (fraction * WHOLE as f64).round_ties_even() as u64;
                Ok(Self::Forced { fraction, sets: present.map(|set| set.0).collect() })
            }
        }
    }

    /// A choice among the sets that have a voxel and a weight above 0; `None` without any.
    fn weighted(
        sets: Vec<(Vec<Class>, f64)>,
        volume: &Volume,
        indexes: &ClassIndexes,
    ) -> Result<Option<Self>> {
        let (sets, weights): (Vec<_>, Vec<_>) = sets.into_iter().filter(|set| set.1 > 0.0).unzip();
        let is_present = indexes.are_present(volume, &sets)?;
        let present = sets.into_iter().zip(weights).zip(is_present).filter(|set| set.1);
        Ok(Self::of_weights(present.map(|(set, _)| set)))
    }

    /// A choice among sets by their weights; `None` without any.
    fn of_weights(sets: impl Iterator<Item = (Vec<Class>, f64)>) -> Option<Self> {
        let (sets, weights): (Vec<_>, Vec<f64>) = sets.unzip();
        let mut sum = 0.0;
        let accumulate = |weight: &f64| {
            sum += weight;
            sum
        };
        let cumulative = weights.iter().map(accumulate).collect();
        (!sets.is_empty()).then_some(Self::Weighted { sets, weights, cumulative })
    }

    /// The sets that are chosen among.
    fn sets(&self) -> &[Vec<Class>] {
        match self {
            Self::Set(set) => std::slice::from_ref(set),
            Self::Weighted { sets, .. } | Self::Forced { sets, .. } => sets,
        }
    }

    /// Memory that the choice takes.
    pub(super) fn bytes(&self) -> usize {
        self.sets().iter().map(|set| 64 + set.len() * size_of::<Class>()).sum()
    }
}

/// A choice under weights of chunks: sets that have no voxel in a chunk of a weight above 0 are
/// left out, as if they had no voxel.
pub(super) struct ReweightedChoice {
    choice: ClassChoice,
    /// For each set, the sums of its voxels in each chunk of its index times the chunk's weight.
    chunks: Vec<Vec<f64>>,
    /// The centres of samples that are not forced.
    anywhere: Option<WeightedBox>,
}

impl ReweightedChoice {
    /// # Errors
    /// Those of [`ChunkWeights::cumulative`]; [`crate::Error::Unsupported`] if nothing is left.
    pub(super) fn new(
        choice: &ClassChoice,
        weights: &ChunkWeights,
        volume: &Volume,
        indexes: &ClassIndexes,
        centres: &Centres,
    ) -> Result<Self> {
        let (mut kept, mut chunks) = (Vec::new(), Vec::new());
        for (number, set) in choice.sets().iter().enumerate() {
            let index = indexes.get(volume, set)?;
            if let Some(sums) = weights.cumulative(volume, index.chunk_voxels())? {
                kept.push((number, set.clone()));
                chunks.push(sums);
            }
        }
        let mut anywhere = None;
        let choice = match choice {
            ClassChoice::Set(_) => kept.pop().map(|(_, set)| ClassChoice::Set(set)),
            ClassChoice::Weighted { weights, .. } => {
                let kept = kept.into_iter().map(|(number, set)| (set, weights[number]));
                ClassChoice::of_weights(kept)
            }
            ClassChoice::Forced { fraction, .. } => {
                anywhere = Some(WeightedBox::new(weights, volume, &centres.region())?);
                let sets = kept.into_iter().map(|(_, set)| set).collect();
                Some(ClassChoice::Forced { fraction: *fraction, sets })
            }
        };
        let choice = choice.ok_or_else(|| ChunkWeights::nothing_left(volume))?;
        Ok(Self { choice, chunks, anywhere })
    }

    /// Memory that the choice takes.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().map(|sums| sums.len() * 8).sum::<usize>();
        self.choice.bytes() + chunks + self.anywhere.as_ref().map_or(0, WeightedBox::bytes)
    }
}

/// Whether a sample is forced: whether the multiples of `fraction`, counted from a random phase,
/// pass a whole number at it.
fn is_forced(key: &StreamKey<'_>, fraction: u64) -> bool {
    let phase = RandomStream::new(&key.shared()).below(WHOLE);
    (phase + key.n * fraction) % WHOLE + fraction >= WHOLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::random::Epoch;

    #[test]
    fn forced_samples_are_spread_evenly() {
        let fractions = [0.0, 0.1, 0.33, 0.5, 0.77, 1.0];
        for (seed, fraction) in (0..20).zip(fractions.into_iter().cycle()) {
            let (epoch, subject, attempt) = (Epoch { seed, epoch: 0 }, "a", 0);
            let units = (fraction * WHOLE as f64).round_ties_even() as u64;
            let forced: Vec<bool> = (0..2000)
                .map(|n| is_forced(&StreamKey { epoch, subject, n, attempt }, units))
                .collect();
            for k in [1, 3, 10, 100] {
                for run in forced.windows(k) {
                    let found = run.iter().filter(|&&f| f).count() as f64;
                    let difference = (found - fraction * k as f64).abs();
                    assert!(difference < 1.0, "{fraction}: {found} of {k}");
                }
            }
        }
    }
}
