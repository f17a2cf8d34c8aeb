//! The grids of chunks and shards: maps voxels to chunks and chunks to shards.
//!
//! [`ArrayLayout::chunk_index`] counts chunks over the volume in C order, channel slowest (§8).

use std::ops::Range;

use super::array::ArrayLayout;
use crate::{Error, Region, Result, Size3};

/// A chunk of a volume.
///
/// ```
/// use voxquarry::format::grid::ChunkId;
/// use voxquarry::{Dataset, OpenOptions};
///
/// # let store = "format-spec/golden/v1";
/// let subject = Dataset::open(store, &OpenOptions::default())?.subject("grid")?;
/// let volume = subject.volume("u8")?;
/// let chunk = ChunkId { channel: 0, at: [0, 0, 0] };
/// assert_eq!(volume.layout().chunk_region(chunk.at).start, [0, 0, 0]);
/// assert_eq!(volume.layout().chunk_index(chunk), 0);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId {
    /// The channel it holds.
    pub channel: usize,
    /// Its grid cell, `(z, y, x)`.
    pub at: Size3,
}

/// A shard of a volume.
///
/// ```
/// use voxquarry::{Dataset, OpenOptions};
///
/// # let store = "format-spec/golden/v1";
/// let subject = Dataset::open(store, &OpenOptions::default())?.subject("grid")?;
/// let volume = subject.volume("i16")?;
/// let keys: Vec<_> = volume.layout().shards().map(|id| volume.layout().shard_key(id)).collect();
/// assert_eq!(keys[0], "c/0/0/0/0");
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId {
    /// The channel it holds.
    pub channel: usize,
    /// Its grid cell, `(z, y, x)`.
    pub at: Size3,
}

impl ArrayLayout {
    /// Chunks along each axis, `(z, y, x)`.
    pub fn chunk_grid(&self) -> Size3 {
        [0, 1, 2].map(|a| self.size[a].div_ceil(self.chunk[a]))
    }

    /// Shards along each axis, `(z, y, x)`.
    pub fn shard_grid(&self) -> Size3 {
        [0, 1, 2].map(|a| self.size[a].div_ceil(self.shard[a]))
    }

    /// Chunks of the volume, over all channels.
    pub fn chunk_count(&self) -> u64 {
        self.chunk_grid().iter().map(|&n| n as u64).product::<u64>() * self.channel_count() as u64
    }

    /// The index of a chunk in the C order of all chunks.
    pub fn chunk_index(&self, id: ChunkId) -> u64 {
        let grid = self.chunk_grid();
        (0..3).fold(id.channel as u64, |n, a| n * grid[a] as u64 + id.at[a] as u64)
    }

    /// The voxels of a grid cell's chunk, clipped to the volume.
    pub fn chunk_region(&self, at: Size3) -> Region {
        let start = [0, 1, 2].map(|a| (at[a] * self.chunk[a]) as i64);
        Region::new(start, self.chunk).clip(self.size)
    }

    /// The shard of a chunk, and its slot in that shard's index.
    pub fn shard_of(&self, id: ChunkId) -> (ShardId, usize) {
        let chunks = self.shard_chunks();
        let at = [0, 1, 2].map(|a| id.at[a] / chunks[a]);
        let slot = (0..3).fold(0, |n, a| n * chunks[a] + id.at[a] % chunks[a]);
        (ShardId { channel: id.channel, at }, slot)
    }

    /// The chunk in a slot of a shard; it may lie outside of the volume.
    pub fn chunk_in(&self, shard: ShardId, slot: usize) -> ChunkId {
        let chunks = self.shard_chunks();
        let local =
            [slot / (chunks[1] * chunks[2]), slot / chunks[2] % chunks[1], slot % chunks[2]];
        ChunkId {
            channel: shard.channel,
            at: [0, 1, 2].map(|a| shard.at[a] * chunks[a] + local[a]),
        }
    }

    /// The path of a shard's file below the level's folder.
    pub fn shard_key(&self, shard: ShardId) -> String {
        let [z, y, x] = shard.at;
        match self.channels {
            Some(_) => format!("c/{}/{z}/{y}/{x}", shard.channel),
            None => format!("c/{z}/{y}/{x}"),
        }
    }

    /// The cells of the chunk grid that a shard covers, inside of the volume.
    pub fn shard_cells(&self, shard: ShardId) -> [Range<usize>; 3] {
        let (each, grid) = (self.shard_chunks(), self.chunk_grid());
        [0, 1, 2].map(|a| shard.at[a] * each[a]..((shard.at[a] + 1) * each[a]).min(grid[a]))
    }

    /// The number of shards, over all channels.
    pub fn shard_count(&self) -> u64 {
        self.shard_grid().iter().map(|&n| n as u64).product::<u64>() * self.channel_count() as u64
    }

    /// The number of a shard in C order, channel slowest.
    pub fn shard_number(&self, shard: ShardId) -> usize {
        let grid = self.shard_grid();
        (0..3).fold(shard.channel, |n, a| n * grid[a] + shard.at[a])
    }

    /// The shard of a number in C order, channel slowest.
    pub fn shard_at(&self, number: usize) -> ShardId {
        let [sz, sy, sx] = self.shard_grid();
        let at = [number / (sy * sx) % sz, number / sx % sy, number % sx];
        ShardId { channel: number / (sz * sy * sx), at }
    }

    /// Every shard, in C order.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let grid = self.shard_grid();
        (0..self.channel_count()).flat_map(move |channel| {
            iter_box(grid.map(|n| 0..n)).map(move |at| ShardId { channel, at })
        })
    }

    /// The grid cells of the chunks that intersect `region`, which is not empty and lies in the
    /// volume.
    pub fn chunks_meeting(&self, region: &Region) -> [Range<usize>; 3] {
        [0, 1, 2].map(|a| {
            let (start, end) = (region.start[a] as usize, region.end(a) as usize);
            start / self.chunk[a]..end.div_ceil(self.chunk[a])
        })
    }

    /// The slots of a shard in Morton order, in which its chunks are written (§7).
    pub fn morton_slots(&self) -> Vec<usize> {
        let chunks = self.shard_chunks();
        let mut slots: Vec<usize> = (0..chunks.iter().product()).collect();
        let key = |slot: &usize| {
            let at =
                [slot / (chunks[1] * chunks[2]), slot / chunks[2] % chunks[1], slot % chunks[2]];
            at.iter().enumerate().fold(0u64, |key, (a, &v)| key | spread(v as u64) << (2 - a))
        };
        slots.sort_by_cached_key(key);
        slots
    }
}

/// Every point of a box, in C order.
pub fn iter_box([z, y, x]: [Range<usize>; 3]) -> impl Iterator<Item = Size3> {
    z.flat_map(move |z| {
        let x = x.clone();
        y.clone().flat_map(move |y| x.clone().map(move |x| [z, y, x]))
    })
}

/// Moves bit `i` to bit `3 i`; a shard has at most 2¹⁶ chunks along an axis.
fn spread(v: u64) -> u64 {
    (0..17).fold(0, |out, bit| out | (v >> bit & 1) << (3 * bit))
}

/// Checks that a patch has at least one voxel on each axis.
pub(crate) fn check_patch_size(size: Size3) -> Result<()> {
    if size.contains(&0) {
        let expected = "at least one voxel along every axis";
        return Err(Error::invalid("patch_size", format!("{size:?}"), expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::format::array::ChunkCodec;

    fn layout(channels: Option<usize>) -> ArrayLayout {
        let (size, chunk, shard) = ([70, 33, 5], [16, 32, 4], [32, 64, 8]);
        ArrayLayout { channels, size, dtype: Dtype::UInt8, chunk, shard, codec: ChunkCodec::Raw }
    }

    #[test]
    fn chunks_and_slots_correspond() {
        let layout = layout(Some(2));
        for shard in layout.shards() {
            for slot in 0..8 {
                let chunk = layout.chunk_in(shard, slot);
                assert_eq!(layout.shard_of(chunk), (shard, slot));
            }
        }
        assert_eq!(layout.chunk_grid(), [5, 2, 2]);
        assert_eq!(
            layout.chunk_index(ChunkId { channel: 1, at: [4, 1, 1] }) + 1,
            layout.chunk_count()
        );
        assert_eq!(layout.shard_key(ShardId { channel: 1, at: [2, 0, 1] }), "c/1/2/0/1");
    }

    #[test]
    fn edge_chunks_are_clipped_and_ranges_are_tight() {
        let layout = layout(None);
        assert_eq!(layout.chunk_region([4, 1, 1]), Region::new([64, 32, 4], [6, 1, 1]));
        assert_eq!(
            layout.chunks_meeting(&Region::new([16, 31, 0], [16, 2, 4])),
            [1..2, 0..2, 0..1]
        );
    }

    #[test]
    fn morton_order_interleaves_z_y_x() {
        let layout = layout(None);
        // Two chunks on each axis: Morton order is C order there.
        assert_eq!(layout.morton_slots(), (0..8).collect::<Vec<_>>());
        let flat = ArrayLayout { chunk: [1, 1, 1], shard: [1, 4, 4], ..layout };
        assert_eq!(flat.morton_slots()[..8], [0, 1, 4, 5, 2, 3, 6, 7]);
    }
}
