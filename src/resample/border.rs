//! What stands for voxels outside of a volume.

use std::ops::RangeInclusive;

use crate::Padding;

/// A padding of resampled patches, without the value of the constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TapBorder {
    /// A constant for each tap outside: scipy's `grid-constant`.
    Constant,
    /// The nearest voxel: scipy's `nearest`.
    Edge,
    /// The volume mirrored about its border voxels: scipy's `mirror`.
    Reflect,
}

impl TapBorder {
    /// The index in `0..n` of the voxel that stands for `index`; `None` for the constant.
    pub(super) fn index(self, index: i64, n: usize) -> Option<usize> {
        match self {
            Self::Constant => usize::try_from(index).ok().filter(|&i| i < n),
            Self::Edge => Some(Padding::Edge.source_index(index, n)),
            Self::Reflect => Some(Padding::Reflect.source_index(index, n)),
        }
    }

    /// The least and the greatest of the indices that stand for those from `low` to `high`; `None`
    /// if there is none.
    pub(super) fn range(self, low: i64, high: i64, n: usize) -> Option<RangeInclusive<i64>> {
        let last = n as i64 - 1;
        match self {
            Self::Constant => {
                let (low, high) = (low.max(0), high.min(last));
                (low <= high).then_some(low..=high)
            }
            Self::Edge => Some(low.clamp(0, last)..=high.clamp(0, last)),
            Self::Reflect if last == 0 => Some(0..=0),
            Self::Reflect => {
                let index = |i| Padding::Reflect.source_index(i, n) as i64;
                let (a, b) = (index(low), index(high));
                // Between two indices the mirrored ones turn at multiples of the last.
                let first_turn = low.div_euclid(last) + i64::from(low.rem_euclid(last) > 0);
                let turns = high.div_euclid(last) - first_turn + 1;
                let meets = |odd: i64| turns > 1 || turns == 1 && first_turn.rem_euclid(2) == odd;
                let low = if meets(0) { 0 } else { a.min(b) };
                let high = if meets(1) { last } else { a.max(b) };
                Some(low..=high)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The range holds exactly the least and the greatest index that a loop finds.
    #[test]
    fn ranges_are_those_of_a_loop() {
        for border in [TapBorder::Constant, TapBorder::Edge, TapBorder::Reflect] {
            for n in 1..6 {
                for (low, high) in (-14..14).flat_map(|low| (low..14).map(move |h| (low, h))) {
                    let all: Vec<i64> =
                        (low..=high).filter_map(|i| border.index(i, n).map(|i| i as i64)).collect();
                    let expected =
                        all.iter().min().map(|&least| least..=*all.iter().max().unwrap());
                    let found = border.range(low, high, n);
                    assert_eq!(found, expected, "{border:?} {low}..={high} of {n}");
                }
            }
        }
    }
}
