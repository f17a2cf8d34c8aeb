//! Exact percentiles of values that pass by twice, in bounded memory.
//!
//! The first time, values are counted by the upper half of their bits; that tells in which bin each
//! percentile lies. The second time, only the values of these bins are counted by the lower half.
//!
//! # Invariants
//! - Counts do not depend on the order of values.
//! - Percentiles are those of the values as float32, as numpy computes them (linear).

use std::collections::BTreeMap;

/// Bins of each of the two halves.
const BINS: usize = 1 << 16;

/// The bits of a value as float32, in the order of values.
fn key(value: f64) -> u32 {
    let bits = (value as f32).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The value of a key.
fn value(key: u32) -> f64 {
    let bits = if key >> 31 == 1 { key & !(1 << 31) } else { !key };
    f64::from(f32::from_bits(bits))
}

/// Counts of values by the upper half of their bits.
#[derive(Clone, Debug)]
pub(super) struct Coarse(Vec<u64>);

impl Default for Coarse {
    fn default() -> Self {
        Self(vec![0; BINS])
    }
}

impl Coarse {
    pub(super) fn take(&mut self, value: f64) {
        self.0[(key(value) >> 16) as usize] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }

    fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The bin of the value of that rank, and the rank in the bin.
    fn bin(&self, mut rank: u64) -> (usize, u64) {
        for (bin, &count) in self.0.iter().enumerate() {
            if rank < count {
                return (bin, rank);
            }
            rank -= count;
        }
        unreachable!("ranks lie below the number of values")
    }

    /// What has to be counted to know percentiles (0 to 100); `None` if there is no value.
    pub(super) fn fine(&self, percentiles: &[f64]) -> Option<Fine> {
        let last = self.count().checked_sub(1)?;
        let ranks: Vec<Ranks> = percentiles.iter().map(|&p| Ranks::new(p, last)).collect();
        let bins = ranks.iter().flat_map(|ranks| [ranks.below, ranks.above]);
        let bins = bins.map(|rank| (self.bin(rank).0, vec![0; BINS])).collect();
        Some(Fine { bins })
    }

    /// The percentiles, from the counts of [`Coarse::fine`] that are complete.
    pub(super) fn percentiles(&self, percentiles: &[f64], fine: &Fine) -> Vec<f64> {
        let last = self.count().saturating_sub(1);
        let ranked = |rank: u64| {
            let (bin, mut rank) = self.bin(rank);
            for (low, &count) in fine.bins[&bin].iter().enumerate() {
                if rank < count {
                    return value((bin << 16 | low) as u32);
                }
                rank -= count;
            }
            unreachable!("the same values passed by twice")
        };
        let percentile = |&p: &f64| {
            let ranks = Ranks::new(p, last);
            let (below, above) = (ranked(ranks.below), ranked(ranks.above));
            below + (above - below) * ranks.fraction
        };
        percentiles.iter().map(percentile).collect()
    }
}

/// The ranks that a percentile lies between.
struct Ranks {
    below: u64,
    above: u64,
    fraction: f64,
}

impl Ranks {
    fn new(percentile: f64, last: u64) -> Self {
        let rank = last as f64 * (percentile / 100.0);
        let below = (rank.floor() as u64).min(last);
        let fraction = rank - below as f64;
        Self { below, above: (below + u64::from(fraction > 0.0)).min(last), fraction }
    }
}

/// Counts of the values of some bins by the lower half of their bits.
#[derive(Clone, Debug)]
pub(super) struct Fine {
    bins: BTreeMap<usize, Vec<u64>>,
}

impl Fine {
    pub(super) fn take(&mut self, value: f64) {
        let key = key(value);
        if let Some(counts) = self.bins.get_mut(&((key >> 16) as usize)) {
            counts[(key & 0xffff) as usize] += 1;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.bins.values_mut().zip(other.bins.values()) {
            mine.iter_mut().zip(theirs).for_each(|(sum, count)| *sum += count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentiles(values: &[f64], wanted: &[f64]) -> Option<Vec<f64>> {
        let mut coarse = [Coarse::default(), Coarse::default()];
        for (i, &value) in values.iter().enumerate() {
            coarse[i % 2].take(value);
        }
        let [mut first, second] = coarse;
        first.merge(&second);
        let mut fine = first.fine(wanted)?;
        let mut other = fine.clone();
        for (i, &value) in values.iter().enumerate() {
            if i % 3 == 0 { fine.take(value) } else { other.take(value) }
        }
        fine.merge(&other);
        Some(first.percentiles(wanted, &fine))
    }

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        let wanted = [0.0, 0.5, 50.0, 99.5, 100.0];
        let lists: [Vec<f64>; 4] = [
            (0..10_007u32).map(|i| f64::from(i * 7919 % 10_007) - 5000.0).collect(),
            (0..999u32).map(|i| f64::from((f64::from(i * 31 % 999) * 0.37).sin() as f32)).collect(),
            vec![3.0],
            vec![-0.0, 0.0, f64::from(1e30f32), f64::from(-1e30f32), f64::from(f32::MIN_POSITIVE)],
        ];
        for list in lists {
            let mut sorted = list.clone();
            sorted.sort_by(f64::total_cmp);
            let expected = wanted.map(|p| {
                let rank = (sorted.len() - 1) as f64 * p / 100.0;
                let below = sorted[rank.floor() as usize];
                below + (sorted[rank.ceil() as usize] - below) * rank.fract()
            });
            let found = percentiles(&list, &wanted).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                let tolerance = 1e-9 * expected.abs().max(1.0);
                assert!((found - expected).abs() <= tolerance, "{found} {expected}");
            }
        }
        assert!(percentiles(&[], &wanted).is_none());
    }
}
