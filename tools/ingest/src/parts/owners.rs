//! Divides the cases of a plan among parts.
//!
//! # Invariants
//! - The owner of a case depends on the plan and the number of parts alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::document::PlanCase;

/// The part of `count` that owns each case: the largest go first, each to the part that has least.
pub(super) fn owners(cases: &[PlanCase], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by_key(|&i| Reverse(cases[i].voxel_bytes));
    let mut parts: BinaryHeap<Reverse<(u64, usize)>> =
        (0..count).map(|n| Reverse((0, n))).collect();
    let mut owners = vec![0; cases.len()];
    for i in order {
        let Reverse((bytes, part)) = parts.pop().expect("at least one part");
        owners[i] = part;
        // Each takes some time, even an empty one.
        parts.push(Reverse((bytes.saturating_add(cases[i].voxel_bytes + 1), part)));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn cases(bytes: &[u64]) -> Vec<PlanCase> {
        let case = |(i, &voxel_bytes): (usize, &u64)| {
            let mut case = PlanCase::new(&format!("s{i}"), &[], &Manifest::new()).unwrap();
            case.voxel_bytes = voxel_bytes;
            case
        };
        bytes.iter().enumerate().map(case).collect()
    }

    #[test]
    fn parts_are_balanced_by_bytes() {
        let bytes: Vec<u64> = (0..500).map(|i| 1 + i * 7919 % 1000).collect();
        let cases = cases(&bytes);
        for count in [1, 3, 16] {
            let mut loads = vec![0; count];
            for (owner, bytes) in owners(&cases, count).into_iter().zip(&bytes) {
                loads[owner] += bytes;
            }
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(most - least <= 1000, "{loads:?}");
        }
    }

    #[test]
    fn empty_cases_are_shared_out_too_and_few_leave_parts_empty() {
        let mut owners_of_empty = owners(&cases(&[0; 4]), 4);
        owners_of_empty.sort_unstable();
        assert_eq!(owners_of_empty, [0, 1, 2, 3]);
        assert_eq!(owners(&cases(&[5, 9]), 4), [1, 0]);
    }
}
