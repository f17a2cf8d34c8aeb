//! An index of the voxels of classes: how many each chunk holds among the possible centres, so that
//! voxel number k is found by decoding one chunk.
//!
//! The label counts of whole chunks decide most chunks without decoding them: those inside the box
//! of the centres, and those on its border that hold no voxel of the class or nothing else. The
//! other chunks on the border are decoded and counted when a class is first drawn.
//!
//! # Invariants
//! - Counts are exact, so that every voxel of a class is equally likely.
//! - Memory is one entry for each chunk that holds a class, for classes that were drawn.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::classes::{Class, Membership};
use crate::array::boxes::ChunkBox;
use crate::format::array::ArrayLayout;
use crate::format::grid::{ChunkId, iter_box};
use crate::memory::zeroed;
use crate::sample::boxes::in_chunk;
use crate::store::{LabelCounts, derive};
use crate::{Error, Region, Result, Size3, Volume};

/// The indexes of the classes of one label map, among the centres of one box.
pub(in crate::sample) struct ClassIndexes {
    counts: Arc<LabelCounts>,
    region: Region,
    /// The indexes that were asked for, by their classes.
    built: Mutex<HashMap<Vec<Class>, Arc<ClassIndex>>>,
}

impl ClassIndexes {
    /// Those of `volume` in `region`, which is not empty; cached.
    pub(in crate::sample) fn of(volume: &Volume, region: Region) -> Result<Arc<Self>> {
        volume.derived(format!("class indexes in {region:?}"), || {
            let counts = derive::label_counts(volume)?;
            // Each class that a chunk holds may get an entry, and so may the chunk's foreground and
            // background.
            let bytes = (counts.entries() + 2 * counts.chunks()) * size_of::<IndexedChunk>();
            Ok((Self { counts, region, built: Mutex::default() }, bytes))
        })
    }

    /// The labels above 0 of a channel of the whole volume, ascending.
    pub(super) fn labels(&self, layout: &ArrayLayout, channel: usize) -> Vec<i64> {
        let chunks = layout.chunk_grid().iter().product::<usize>();
        let labels: HashSet<i64> = (channel * chunks..(channel + 1) * chunks)
            .flat_map(|index| self.counts.chunk(index).map(|(label, _)| label))
            .filter(|&label| label > 0)
            .collect();
        let mut labels: Vec<i64> = labels.into_iter().collect();
        labels.sort_unstable();
        labels
    }

    /// Whether any of the sets has a voxel among the centres.
    pub(super) fn is_any_present(&self, volume: &Volume, sets: &[Vec<Class>]) -> Result<bool> {
        if self.are_inside(volume, sets).contains(&true) {
            return Ok(true);
        }
        for set in sets {
            // Chunks on the border are decoded until one has any, unless their counts tell.
            let decided = |least, most| least > 0 || most == 0;
            if self.voxels_in(volume, set, &self.region, decided)?.0 > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any voxel of the volume, a centre or not, is of one of the sets.
    pub(super) fn is_any_in_volume(&self, volume: &Volume, sets: &[Vec<Class>]) -> bool {
        let layout = volume.layout();
        let chunks = || iter_box(layout.chunks_meeting(&Region::whole(layout.size)));
        let has = |&class: &Class| chunks().any(|at| self.count_in_chunk(layout, class, at) > 0);
        sets.iter().flatten().any(has)
    }

    /// Which of the sets have a voxel.
    pub(super) fn are_present(&self, volume: &Volume, sets: &[Vec<Class>]) -> Result<Vec<bool>> {
        let are_inside = self.are_inside(volume, sets).into_iter();
        let is_present = |(is_inside, set): (bool, &Vec<Class>)| {
            // Only counting shows whether chunks on the border have any.
            Ok(is_inside || self.get(volume, set)?.len() > 0)
        };
        are_inside.zip(sets).map(is_present).collect()
    }

    /// Which of the sets have a voxel in a chunk all of whose voxels are centres.
    fn are_inside(&self, volume: &Volume, sets: &[Vec<Class>]) -> Vec<bool> {
        let mut unseen: HashSet<Class> = sets.iter().flatten().copied().collect();
        let inside = self.chunks_inside(volume.layout());
        for channel in 0..volume.layout().channel_count() {
            // Foreground and background are few, and most chunks have them.
            for membership in [Membership::Foreground, Membership::Background, Membership::Label(0)]
            {
                let class = Class { channel, membership };
                let has_class = |at| self.count_in_chunk(volume.layout(), class, at) > 0;
                if unseen.contains(&class) && iter_box(inside.clone()).any(has_class) {
                    unseen.remove(&class);
                }
            }
            for at in iter_box(inside.clone()) {
                if unseen.is_empty() {
                    break;
                }
                let index = volume.layout().chunk_index(ChunkId { channel, at });
                for (label, _) in self.counts.chunk(index as usize) {
                    unseen.remove(&Class { channel, membership: Membership::Label(label) });
                }
            }
        }
        sets.iter().map(|set| set.iter().any(|class| !unseen.contains(class))).collect()
    }

    /// The index of some classes; a voxel counts once for each class that it belongs to.
    pub(in crate::sample) fn get(&self, volume: &Volume, set: &[Class]) -> Result<Arc<ClassIndex>> {
        let lock = || self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = lock().get(set) {
            return Ok(index.clone());
        }
        // Not under the lock: while this thread waits for the scan, its pool may run another draw
        // on it.
        let index = Arc::new(self.build(volume, set)?);
        Ok(lock().entry(set.to_vec()).or_insert(index).clone())
    }

    /// Bounds on the number of voxels in `region` that are of some classes: at least the first and
    /// at most the second. Chunks are decoded only until `decided` accepts the bounds. Voxels
    /// outside the volume are of no class.
    pub(in crate::sample) fn voxels_in(
        &self,
        volume: &Volume,
        set: &[Class],
        region: &Region,
        decided: impl Fn(u64, u64) -> bool,
    ) -> Result<(u64, u64)> {
        let layout = volume.layout();
        let inside = region.clip(layout.size);
        let (mut least, mut most, mut open) = (0, 0, Vec::new());
        if inside.is_empty() {
            return Ok((0, 0));
        }
        for &class in set {
            for at in iter_box(layout.chunks_meeting(&inside)) {
                let region = in_chunk(&inside, layout, at);
                let (whole, here) = (layout.chunk_region(at).len() as u64, region.len() as u64);
                let voxels = self.count_in_chunk(layout, class, at);
                let bounds = (voxels.saturating_sub(whole - here), voxels.min(here));
                least += bounds.0;
                most += bounds.1;
                if bounds.0 < bounds.1 {
                    open.push((class, bounds, ChunkBox { channel: class.channel, at, region }));
                }
            }
        }
        let mut voxels = Vec::new();
        for (class, bounds, chunk) in open {
            if decided(least, most) {
                break;
            }
            volume.array().read_box(&chunk, &mut voxels)?;
            let found = class.membership.count(volume.dtype(), &voxels);
            least += found - bounds.0.min(found);
            most -= bounds.1 - found.min(bounds.1);
        }
        Ok((least, most))
    }

    /// A bound on the voxels of some classes in any patch: no patch has more, as the counts of the
    /// chunks that it can meet show.
    pub(in crate::sample) fn most_in_patch(
        &self,
        volume: &Volume,
        set: &[Class],
        patch_size: Size3,
    ) -> Result<u64> {
        let layout = volume.layout();
        let grid = layout.chunk_grid();
        // Chunks that a patch can meet along each axis.
        let window = [0, 1, 2].map(|a| {
            let met = (patch_size[a] - 1).div_ceil(layout.chunk[a]) + 1;
            met.min(grid[a])
        });
        let shape = grid.map(|n| n + 1);
        let index = |[z, y, x]: Size3| (z * shape[1] + y) * shape[2] + x;
        // Sums over the chunks before each corner of the chunk grid.
        let corners = shape.iter().product();
        let mut sums = zeroed::<u64>(corners, || format!("the sums of {corners} chunks"))?;
        for [z, y, x] in iter_box(grid.map(|n| 0..n)) {
            let here: u64 = set.iter().map(|&c| self.count_in_chunk(layout, c, [z, y, x])).sum();
            let before = |dz, dy, dx| sums[index([z + 1 - dz, y + 1 - dy, x + 1 - dx])];
            let odd = before(1, 0, 0) + before(0, 1, 0) + before(0, 0, 1) + before(1, 1, 1);
            let even = before(1, 1, 0) + before(1, 0, 1) + before(0, 1, 1);
            sums[index([z + 1, y + 1, x + 1])] = here + odd - even;
        }
        let within = |[z, y, x]: Size3| {
            let at = |a: bool, b: bool, c: bool| {
                let [dz, dy, dx] = window;
                let step = |is, d| if is { d } else { 0 };
                sums[index([z + step(a, dz), y + step(b, dy), x + step(c, dx)])]
            };
            let (t, f) = (true, false);
            let plus = at(t, t, t) + at(t, f, f) + at(f, t, f) + at(f, f, t);
            plus - at(t, t, f) - at(t, f, t) - at(f, t, t) - at(f, f, f)
        };
        let starts = [0, 1, 2].map(|a| 0..grid[a] - window[a] + 1);
        Ok(iter_box(starts).map(within).max().unwrap_or(0))
    }

    fn build(&self, volume: &Volume, set: &[Class]) -> Result<ClassIndex> {
        let layout = volume.layout();
        let (mut found, mut undecided) = (Vec::new(), Vec::new());
        for &class in set {
            for at in iter_box(layout.chunks_meeting(&self.region)) {
                let (whole, region) = (layout.chunk_region(at), in_chunk(&self.region, layout, at));
                let voxels = match self.count_in_chunk(layout, class, at) {
                    0 => continue,
                    n if n == whole.len() as u64 => region.len() as u64,
                    n if region == whole => n,
                    _ => {
                        let chunk = ChunkBox { channel: class.channel, at, region };
                        undecided.push((found.len(), chunk));
                        0
                    }
                };
                found.push((class, at, voxels));
            }
        }
        let boxes: Vec<ChunkBox> = undecided.iter().map(|one| one.1).collect();
        let membership = |i: usize| found[undecided[i].0].0.membership;
        let counts = volume
            .array()
            .map_boxes(&boxes, |i, voxels| Ok(membership(i).count(volume.dtype(), voxels)))?;
        for (i, n) in counts.into_iter().enumerate() {
            found[undecided[i].0].2 = n;
        }
        let mut end = 0;
        let indexed = |(class, at, voxels): (Class, Size3, u64)| {
            end += voxels;
            (voxels > 0).then_some(IndexedChunk { class, at, end })
        };
        Ok(ClassIndex { chunks: found.into_iter().filter_map(indexed).collect() })
    }

    /// The chunks all of whose voxels lie in the region.
    fn chunks_inside(&self, layout: &ArrayLayout) -> [Range<usize>; 3] {
        [0, 1, 2].map(|a| {
            let (start, end) = (self.region.start[a] as usize, self.region.end(a) as usize);
            let first = start.div_ceil(layout.chunk[a]);
            // The edge of the volume may cut the last chunk off.
            let last = if end == layout.size[a] {
                end.div_ceil(layout.chunk[a])
            } else {
                end / layout.chunk[a]
            };
            first..last.max(first)
        })
    }

    /// Voxels of a class in a whole chunk.
    fn count_in_chunk(&self, layout: &ArrayLayout, class: Class, at: Size3) -> u64 {
        let index = layout.chunk_index(ChunkId { channel: class.channel, at }) as usize;
        let sum_of = |is_wanted: &dyn Fn(i64) -> bool| -> u64 {
            let counts = self.counts.chunk(index).filter(|entry| is_wanted(entry.0));
            counts.map(|entry| u64::from(entry.1)).sum()
        };
        let all = || layout.chunk_region(at).len() as u64;
        match class.membership {
            Membership::Foreground => sum_of(&|label| label > 0),
            Membership::Background => all().saturating_sub(sum_of(&|label| label > 0)),
            Membership::Label(0) => all().saturating_sub(sum_of(&|_| true)),
            Membership::Label(label) => self.counts.of_label(index, label),
        }
    }
}

/// The voxels of some classes, by the chunks that hold them.
pub(in crate::sample) struct ClassIndex {
    chunks: Vec<IndexedChunk>,
}

struct IndexedChunk {
    class: Class,
    /// The chunk's index on the chunk grid.
    at: Size3,
    /// Voxels up to the end of this chunk.
    end: u64,
}

impl IndexedChunk {
    /// The voxels of the chunk that may be centres.
    fn centres(&self, volume: &Volume, region: &Region) -> ChunkBox {
        let region = in_chunk(region, volume.layout(), self.at);
        ChunkBox { channel: self.class.channel, at: self.at, region }
    }
}

impl ClassIndex {
    /// The number of voxels.
    pub(in crate::sample) fn len(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.end)
    }

    /// The chunks, each with the number of its voxels.
    pub(super) fn chunk_voxels(&self) -> impl ExactSizeIterator<Item = (Size3, f64)> {
        (0..self.chunks.len()).map(|i| {
            let voxels = self.voxels_of_chunk(i);
            (self.chunks[i].at, (voxels.end - voxels.start) as f64)
        })
    }

    /// The numbers of the voxels of the `i`-th chunk.
    pub(super) fn voxels_of_chunk(&self, i: usize) -> Range<u64> {
        let begin = i.checked_sub(1).map_or(0, |before| self.chunks[before].end);
        begin..self.chunks[i].end
    }

    /// Calls `visit` for each chunk with its centres and whether each of them, in C order, is of
    /// the class.
    pub(super) fn for_each_chunk(
        &self,
        volume: &Volume,
        region: &Region,
        mut visit: impl FnMut(&Region, &[bool]),
    ) -> Result<()> {
        let mut voxels = Vec::new();
        for chunk in &self.chunks {
            let centres = chunk.centres(volume, region);
            volume.array().read_box(&centres, &mut voxels)?;
            visit(&centres.region, &chunk.class.membership.members(volume.dtype(), &voxels));
        }
        Ok(())
    }

    /// Voxel number `k < len()`: chunks in C order, the voxels of each in C order.
    pub(in crate::sample) fn select(
        &self,
        volume: &Volume,
        region: &Region,
        k: u64,
    ) -> Result<[i64; 3]> {
        let i = self.chunks.partition_point(|chunk| chunk.end <= k);
        let (chunk, begin) = (&self.chunks[i], self.voxels_of_chunk(i).start);
        let centres = chunk.centres(volume, region);
        let mut voxels = Vec::new();
        volume.array().read_box(&centres, &mut voxels)?;
        let rank = (k - begin) as usize;
        let voxel = chunk.class.membership.find(volume.dtype(), &voxels, rank);
        let i = voxel.ok_or_else(|| {
            let message = format!(
                "the label counts of the chunk at {:?} disagree with its voxels: ingest the volume \
                 again",
                chunk.at
            );
            Error::data(volume.path(), message)
        })?;
        let [_, ny, nx] = centres.region.size;
        let local = [i / (ny * nx), i / nx % ny, i % nx];
        Ok([0, 1, 2].map(|a| centres.region.start[a] + local[a] as i64))
    }
}
