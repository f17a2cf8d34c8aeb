//! Classes of voxels: which voxels of a channel belong to one, counted and found in voxels of any
//! dtype.

use crate::{Dtype, Voxel, with_voxel};

/// The voxels of one channel that a sampler does not distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sample) struct Class {
    pub(super) channel: usize,
    pub(super) membership: Membership,
}

/// The rule by which a voxel of the channel belongs to a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Membership {
    /// Voxels above 0.
    Foreground,
    /// All other voxels.
    Background,
    /// Voxels of that label.
    Label(i64),
}

impl Membership {
    /// Whether each voxel belongs to the class.
    pub(super) fn members(self, dtype: Dtype, voxels: &[u8]) -> Vec<bool> {
        with_voxel!(dtype, T => {
            let test = VoxelTest::<T>::new(self);
            bytemuck::cast_slice(voxels).iter().map(|&voxel| test.holds(voxel)).collect()
        })
    }

    /// The number of voxels that belong to the class.
    pub(super) fn count(self, dtype: Dtype, voxels: &[u8]) -> u64 {
        with_voxel!(dtype, T => {
            VoxelTest::<T>::new(self).count(bytemuck::cast_slice(voxels)) as u64
        })
    }

    /// The index of voxel number `rank` of the class.
    pub(super) fn find(self, dtype: Dtype, voxels: &[u8], mut rank: usize) -> Option<usize> {
        /// Voxels that are counted before they are tested one by one.
        const BLOCK: usize = 1024;
        with_voxel!(dtype, T => {
            let (test, voxels): (_, &[T]) =
                (VoxelTest::<T>::new(self), bytemuck::cast_slice(voxels));
            for (number, block) in voxels.chunks(BLOCK).enumerate() {
                let count = test.count(block);
                if rank < count {
                    let mut members = (0..block.len()).filter(|&i| test.holds(block[i]));
                    return members.nth(rank).map(|i| number * BLOCK + i);
                }
                rank -= count;
            }
            None
        })
    }
}

/// A [`Membership`] as a test of voxels of one type.
#[derive(Clone, Copy)]
enum VoxelTest<T> {
    Above(T),
    NotAbove(T),
    Equals(T),
    /// A label that this type cannot hold, or that is not exact as `f64`.
    IsLabel(i64),
}

impl<T: Voxel> VoxelTest<T> {
    fn new(membership: Membership) -> Self {
        match membership {
            Membership::Foreground => Self::Above(T::default()),
            Membership::Background => Self::NotAbove(T::default()),
            Membership::Label(label) => T::from_f64_exact(label as f64)
                .filter(|voxel| voxel.to_label() == Some(label))
                .map_or(Self::IsLabel(label), Self::Equals),
        }
    }

    fn holds(self, voxel: T) -> bool {
        match self {
            Self::Above(zero) => voxel > zero,
            // NaN is above nothing.
            Self::NotAbove(zero) => {
                !matches!(voxel.partial_cmp(&zero), Some(std::cmp::Ordering::Greater))
            }
            Self::Equals(other) => voxel == other,
            Self::IsLabel(label) => voxel.to_label() == Some(label),
        }
    }

    fn count(self, voxels: &[T]) -> usize {
        // One loop for each test, so that each is vectorised.
        match self {
            Self::Above(zero) => count_if(voxels, |v| v > zero),
            Self::Equals(other) => count_if(voxels, |v| v == other),
            Self::NotAbove(_) | Self::IsLabel(_) => count_if(voxels, |v| self.holds(v)),
        }
    }
}

/// The number of voxels that pass a test.
fn count_if<T: Voxel>(voxels: &[T], test: impl Fn(T) -> bool) -> usize {
    /// The most whole vectors that a byte can count: a wider counter would widen every voxel.
    const BLOCK: usize = 240;
    let blocks = voxels.chunks(BLOCK);
    let counts = blocks.map(|block| block.iter().map(|&v| u8::from(test(v))).sum::<u8>());
    counts.map(usize::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares counts, ranks and members with those of the same voxels as labels.
    fn check(bytes: &[u8], dtype: Dtype, labels: &[i64], membership: Membership) {
        let is_member = |&label: &i64| match membership {
            Membership::Foreground => label > 0,
            Membership::Background => label <= 0,
            Membership::Label(wanted) => label == wanted,
        };
        let expected: Vec<usize> = (0..labels.len()).filter(|&i| is_member(&labels[i])).collect();
        let count = membership.count(dtype, bytes);
        assert_eq!(count, expected.len() as u64, "{membership:?} of {dtype}");
        let ranks = 0..=expected.len();
        let found = ranks.map_while(|rank| membership.find(dtype, bytes, rank));
        assert_eq!(found.collect::<Vec<_>>(), expected, "{membership:?} of {dtype}");
        let members = membership.members(dtype, bytes);
        assert_eq!(members, labels.iter().map(is_member).collect::<Vec<_>>());
    }

    #[test]
    fn members_are_counted_and_found_in_every_type() {
        let labels = [0i64, 3, 3, 0, 7, 3, 1, 0, 7];
        let wide = [0i64, i64::MAX, i64::MIN, -1, i64::MAX, (1 << 53) + 1, 1 << 53, 5, 0];
        let classes = [-1, 0, 1, 3, 7, 300, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN];
        let rules = classes.map(Membership::Label).into_iter();
        for rule in rules.chain([Membership::Foreground, Membership::Background]) {
            for dtype in Dtype::ALL {
                let mut bytes = Vec::new();
                with_voxel!(dtype, T => for &label in &labels {
                    let voxel = T::from_f64_exact(label as f64).unwrap();
                    bytes.extend_from_slice(bytemuck::bytes_of(&voxel));
                });
                check(&bytes, dtype, &labels, rule);
            }
            check(bytemuck::cast_slice(&wide), Dtype::Int64, &wide, rule);
            for length in [239, 240, 241, 480, 5000] {
                check(&vec![7; length], Dtype::UInt8, &vec![7; length], rule);
            }
        }
    }
}
