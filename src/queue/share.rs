//! Divides an epoch: among ranks by patches, and a rank's patches among worker processes by
//! batches.
//!
//! # Invariants
//! - Each batch of a rank belongs to exactly one of its shards.

use crate::{Error, Result};

/// The patches of one rank: every `world_size`-th position of an epoch, from the rank's number on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RankShare {
    rank: u64,
    world_size: u64,
    total: u64,
    /// Patches of this rank.
    patches: u64,
    batch_size: u64,
}

impl RankShare {
    /// Divides `total` patches so that every rank has as many.
    ///
    /// Where they do not divide evenly, ranks repeat the first patches of the plan at the end. With
    /// `drop_last` every rank instead leaves out the patches that do not fill a batch.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a rank outside of `world_size`, or a zero.
    pub(super) fn new(
        total: u64,
        rank: u64,
        world_size: u64,
        batch_size: u64,
        drop_last: bool,
    ) -> Result<Self> {
        if world_size == 0 {
            return Err(Error::invalid("world_size", 0, "at least 1"));
        }
        if rank >= world_size {
            return Err(Error::invalid("rank", rank, format!("less than world_size {world_size}")));
        }
        if batch_size == 0 {
            return Err(Error::invalid("batch_size", 0, "at least 1"));
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

/// The patches of one iteration: every `num_shards`-th batch of a rank, counted from patch `start`,
/// beginning with batch `index`.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerShare {
    pub(super) rank_share: RankShare,
    pub(super) start: u64,
    pub(super) num_shards: u64,
    pub(super) index: u64,
}

impl WorkerShare {
    /// Patches in these batches.
    pub(super) fn patches(&self) -> u64 {
        let batch = self.rank_share.batch_size;
        let rest = self.rank_share.patches - self.start;
        let batches = rest.div_ceil(batch).saturating_sub(self.index).div_ceil(self.num_shards);
        let Some(full) = batches.checked_sub(1) else { return 0 };
        // The last batch of the rank may be short.
        full * batch + batch.min(rest - self.offset(full * batch))
    }

    /// The distance of patch `n` of this share from `start`, even if the rank has no such patch.
    fn offset(&self, n: u64) -> u64 {
        let batch = self.rank_share.batch_size;
        (self.index + n / batch * self.num_shards) * batch + n % batch
    }

    /// The rank's number of patch `n` of this share, but at most the end of the rank's patches.
    pub(super) fn end_of(&self, n: u64) -> u64 {
        (self.start + self.offset(n)).min(self.rank_share.patches)
    }

    /// The plan's position of patch `n` of this share.
    pub(super) fn position(&self, n: u64) -> u64 {
        self.rank_share.position(self.start + self.offset(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_every_epoch() {
        for (total, world) in [(0, 3), (1, 4), (10, 3), (12, 4), (7, 1)] {
            let share = |rank| RankShare::new(total, rank, world, 2, false).unwrap();
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
        let share = |batch| RankShare::new(100, 1, 3, batch, true).unwrap();
        assert_eq!((share(7).patches(), share(7).batches()), (28, 4));
        assert_eq!(share(34).batches(), 0);
        assert!(
            RankShare::new(1, 2, 2, 1, false).is_err()
                && RankShare::new(1, 0, 0, 1, false).is_err()
        );
    }

    #[test]
    fn shards_divide_a_rank_by_batches() {
        let cases = [(0, 3, 0), (20, 4, 0), (23, 4, 0), (23, 4, 5), (7, 9, 2), (7, 9, 4)];
        for (total, batch, start) in cases {
            let rank_share = RankShare::new(total, 1, 2, batch, false).unwrap();
            let whole: Vec<u64> =
                (start..rank_share.patches()).map(|n| rank_share.position(n)).collect();
            for num_shards in 1..5 {
                let shard = |index| {
                    let share = WorkerShare { rank_share, start, num_shards, index };
                    assert_eq!(share.end_of(0), (start + index * batch).min(rank_share.patches()));
                    (0..share.patches()).map(|n| share.position(n)).collect::<Vec<_>>()
                };
                let shards: Vec<_> = (0..num_shards).map(shard).collect();
                let batches = (0..).map_while(|n: u64| {
                    let own = &shards[(n % num_shards) as usize];
                    own.chunks(batch as usize).nth((n / num_shards) as usize)
                });
                let joined: Vec<u64> = batches.flatten().copied().collect();
                assert_eq!(
                    joined, whole,
                    "{total} patches in {batch}, {start}, {num_shards} shards"
                );
                assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), whole.len());
            }
        }
    }
}
