//! How many voxels of a class each chunk holds among the possible centres, and finding the k-th of them.
//!
//! What the label counts of whole chunks decide is not decoded: chunks that lie within the centres' box, and those of the
//! border that hold none of the class, or nothing else. The rest of the border is decoded and counted when a class is first
//! drawn.
//!
//! # Invariants
//! - Counts are exact, so that every voxel of a class is equally likely.
//! - Memory is one entry for each chunk that holds a class, for classes that were drawn.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::format::array::ArrayLayout;
use crate::format::grid::{ChunkId, box_of};
use crate::store::{ChunkBox, LabelCounts};
use crate::{Dtype, Error, Region, Result, Size3, Volume, Voxel, with_voxel};

/// Voxels of one channel that are alike to a sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) channel: usize,
    pub(super) of: Of,
}

/// Which voxels of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    /// Those above 0.
    Foreground,
    /// The others.
    Background,
    /// Those of that label.
    Label(i64),
}

/// Classes of one label map among the centres of one box.
pub(super) struct Tallies {
    counts: Arc<LabelCounts>,
    region: Region,
    /// Those that were asked for.
    made: Mutex<HashMap<Vec<Class>, Arc<Tally>>>,
}

/// The voxels of some classes: which chunks hold how many.
pub(super) struct Tally {
    entries: Vec<Entry>,
}

struct Entry {
    class: Class,
    at: Size3,
    /// Voxels up to the end of this chunk.
    end: u64,
}

impl Tallies {
    /// Those of `volume` in `region`, which is not empty; remembered.
    pub(super) fn of(volume: &Volume, region: Region) -> Result<Arc<Self>> {
        volume.remember(format!("tallies of {region:?}"), || {
            let counts = LabelCounts::of(volume)?;
            // Each class that a chunk holds may become an entry, and so may its foreground and its background.
            let bytes = (counts.entries() + 2 * counts.chunks()) * size_of::<Entry>();
            Ok((Self { counts, region, made: Mutex::default() }, bytes))
        })
    }

    /// Labels of a channel above 0, over the whole volume, ascending.
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

    /// Which of the sets have a voxel.
    pub(super) fn present(&self, volume: &Volume, sets: &[Vec<Class>]) -> Result<Vec<bool>> {
        let mut unseen: HashSet<Class> = sets.iter().flatten().copied().collect();
        let inside = self.chunks_inside(volume.layout());
        for channel in 0..volume.layout().channel_count() {
            // Foreground and background are few, and most chunks have them.
            for of in [Of::Foreground, Of::Background, Of::Label(0)] {
                let class = Class { channel, of };
                let seen =
                    || box_of(inside.clone()).any(|at| self.whole(volume.layout(), class, at) > 0);
                if unseen.contains(&class) && seen() {
                    unseen.remove(&class);
                }
            }
            for at in box_of(inside.clone()) {
                if unseen.is_empty() {
                    break;
                }
                let index = volume.layout().chunk_index(ChunkId { channel, at });
                for (label, _) in self.counts.chunk(index as usize) {
                    unseen.remove(&Class { channel, of: Of::Label(label) });
                }
            }
        }
        let is_present = |set: &Vec<Class>| {
            let seen = set.iter().any(|class| !unseen.contains(class));
            // Whether the border has any is counted.
            Ok(seen || self.tally(volume, set)?.total() > 0)
        };
        sets.iter().map(is_present).collect()
    }

    /// The voxels of some classes, each counted once for each class that it is of.
    pub(super) fn tally(&self, volume: &Volume, set: &[Class]) -> Result<Arc<Tally>> {
        let lock = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = lock().get(set) {
            return Ok(tally.clone());
        }
        // Not under the lock: a thread that counts may be given another sample to draw meanwhile.
        let tally = Arc::new(self.count(volume, set)?);
        Ok(lock().entry(set.to_vec()).or_insert(tally).clone())
    }

    /// At least and at most so many voxels of some classes lie in `region`, as narrow as `decided` asks for; voxels outside the
    /// volume are of none. Chunks are decoded only where counts do not decide.
    pub(super) fn voxels_in(
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
            for at in box_of(layout.chunks_meeting(&inside)) {
                let region = part(layout, at, &inside);
                let (whole, here) = (layout.chunk_region(at).len() as u64, region.len() as u64);
                let voxels = self.whole(layout, class, at);
                let bounds = (voxels.saturating_sub(whole - here), voxels.min(here));
                least += bounds.0;
                most += bounds.1;
                if bounds.0 < bounds.1 {
                    open.push((class, bounds, ChunkBox { channel: class.channel, at, region }));
                }
            }
        }
        let mut voxels = Vec::new();
        for (class, bounds, wanted) in open {
            if decided(least, most) {
                break;
            }
            volume.read_box(&wanted, &mut voxels)?;
            let found = count(class.of, volume.dtype(), &voxels);
            least += found - bounds.0.min(found);
            most -= bounds.1 - found.min(bounds.1);
        }
        Ok((least, most))
    }

    fn count(&self, volume: &Volume, set: &[Class]) -> Result<Tally> {
        let layout = volume.layout();
        let (mut found, mut undecided) = (Vec::new(), Vec::new());
        for &class in set {
            for at in box_of(layout.chunks_meeting(&self.region)) {
                let (whole, region) = (layout.chunk_region(at), part(layout, at, &self.region));
                let voxels = match self.whole(layout, class, at) {
                    0 => continue,
                    n if n == whole.len() as u64 => region.len() as u64,
                    n if region == whole => n,
                    _ => {
                        undecided
                            .push((found.len(), ChunkBox { channel: class.channel, at, region }));
                        0
                    }
                };
                found.push((class, at, voxels));
            }
        }
        let boxes: Vec<ChunkBox> = undecided.iter().map(|one| one.1).collect();
        let class_at = |i: usize| found[undecided[i].0].0.of;
        let counted =
            volume.scan(&boxes, |i, voxels| Ok(count(class_at(i), volume.dtype(), voxels)))?;
        for (i, n) in counted.into_iter().enumerate() {
            found[undecided[i].0].2 = n;
        }
        let mut end = 0;
        let entry = |(class, at, voxels): (Class, Size3, u64)| {
            end += voxels;
            (voxels > 0).then_some(Entry { class, at, end })
        };
        Ok(Tally { entries: found.into_iter().filter_map(entry).collect() })
    }

    /// Chunks all of whose voxels lie in the region.
    fn chunks_inside(&self, layout: &ArrayLayout) -> [Range<usize>; 3] {
        [0, 1, 2].map(|a| {
            let (start, end) = (self.region.start[a] as usize, self.region.end(a) as usize);
            let first = start.div_ceil(layout.chunk[a]);
            // The last chunk may be cut off by the volume's edge.
            let last = if end == layout.size[a] {
                end.div_ceil(layout.chunk[a])
            } else {
                end / layout.chunk[a]
            };
            first..last.max(first)
        })
    }

    /// Voxels of a class in a whole chunk.
    fn whole(&self, layout: &ArrayLayout, class: Class, at: Size3) -> u64 {
        let index = layout.chunk_index(ChunkId { channel: class.channel, at }) as usize;
        let listed = |wanted: &dyn Fn(i64) -> bool| -> u64 {
            let voxels = self.counts.chunk(index).filter(|entry| wanted(entry.0));
            voxels.map(|entry| u64::from(entry.1)).sum()
        };
        let all = || layout.chunk_region(at).len() as u64;
        match class.of {
            Of::Foreground => listed(&|label| label > 0),
            Of::Background => all().saturating_sub(listed(&|label| label > 0)),
            Of::Label(0) => all().saturating_sub(listed(&|_| true)),
            Of::Label(label) => self.counts.of_label(index, label),
        }
    }
}

impl Entry {
    /// The chunk's voxels that may be centres.
    fn wanted(&self, volume: &Volume, region: &Region) -> ChunkBox {
        let region = part(volume.layout(), self.at, region);
        ChunkBox { channel: self.class.channel, at: self.at, region }
    }
}

impl Tally {
    /// Voxels in all.
    pub(super) fn total(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.end)
    }

    /// Tells of the chunks one by one: which voxels, and whether each of them, in C order, is of the class.
    pub(super) fn visit(
        &self,
        volume: &Volume,
        region: &Region,
        mut tell: impl FnMut(&Region, &[bool]),
    ) -> Result<()> {
        let mut voxels = Vec::new();
        for entry in &self.entries {
            let wanted = entry.wanted(volume, region);
            volume.read_box(&wanted, &mut voxels)?;
            tell(&wanted.region, &members(entry.class.of, volume.dtype(), &voxels));
        }
        Ok(())
    }

    /// Voxel `k < total()`: chunks in C order, then the voxels of each in C order.
    pub(super) fn voxel(&self, volume: &Volume, region: &Region, k: u64) -> Result<[i64; 3]> {
        let place = self.entries.partition_point(|entry| entry.end <= k);
        let (entry, begin) = (
            &self.entries[place],
            place.checked_sub(1).map_or(0, |before| self.entries[before].end),
        );
        let wanted = entry.wanted(volume, region);
        let mut voxels = Vec::new();
        volume.read_box(&wanted, &mut voxels)?;
        let i = find(entry.class.of, volume.dtype(), &voxels, (k - begin) as usize);
        let i = i.ok_or_else(|| {
            let message = format!(
                "label counts of the chunk at {:?} are not its voxels': ingest the volume again",
                entry.at
            );
            Error::data(volume.path(), message)
        })?;
        let [_, ny, nx] = wanted.region.size;
        let local = [i / (ny * nx), i / nx % ny, i % nx];
        Ok([0, 1, 2].map(|a| wanted.region.start[a] + local[a] as i64))
    }
}

/// The part of a chunk that lies in `region`.
pub(super) fn part(layout: &ArrayLayout, at: Size3, region: &Region) -> Region {
    let chunk = layout.chunk_region(at);
    let start = [0, 1, 2].map(|a| chunk.start[a].max(region.start[a]));
    let end = [0, 1, 2].map(|a| chunk.end(a).min(region.end(a)));
    Region::new(start, [0, 1, 2].map(|a| (end[a] - start[a]).max(0) as usize))
}

/// How a voxel of one type is told to be of a class.
#[derive(Clone, Copy)]
enum Test<T> {
    Above(T),
    NotAbove(T),
    Equals(T),
    /// A label that this type may not have, or not exactly as `f64`.
    IsLabel(i64),
}

impl<T: Voxel> Test<T> {
    fn of(of: Of) -> Self {
        match of {
            Of::Foreground => Self::Above(T::default()),
            Of::Background => Self::NotAbove(T::default()),
            Of::Label(label) => T::from_f64_exact(label as f64)
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

    fn among(self, voxels: &[T]) -> usize {
        // One loop for each test, so that each becomes wide instructions.
        match self {
            Self::Above(zero) => number(voxels, |v| v > zero),
            Self::Equals(other) => number(voxels, |v| v == other),
            Self::NotAbove(_) | Self::IsLabel(_) => number(voxels, |v| self.holds(v)),
        }
    }
}

/// How many voxels fulfil something.
fn number<T: Voxel>(voxels: &[T], test: impl Fn(T) -> bool) -> usize {
    /// As many as a byte can count, in whole vectors: a wide counter would have to widen every voxel.
    const BLOCK: usize = 240;
    let blocks = voxels.chunks(BLOCK);
    let counts = blocks.map(|block| block.iter().map(|&v| u8::from(test(v))).sum::<u8>());
    counts.map(usize::from).sum()
}

/// Whether each voxel is of the class.
fn members(of: Of, dtype: Dtype, voxels: &[u8]) -> Vec<bool> {
    with_voxel!(dtype, T => {
        let test = Test::<T>::of(of);
        bytemuck::cast_slice(voxels).iter().map(|&voxel| test.holds(voxel)).collect()
    })
}

/// Voxels of the class.
fn count(of: Of, dtype: Dtype, voxels: &[u8]) -> u64 {
    with_voxel!(dtype, T => Test::<T>::of(of).among(bytemuck::cast_slice(voxels)) as u64)
}

/// The place of voxel number `rank` of the class.
fn find(of: Of, dtype: Dtype, voxels: &[u8], mut rank: usize) -> Option<usize> {
    /// Voxels that are counted before they are looked at one by one.
    const BLOCK: usize = 1024;
    with_voxel!(dtype, T => {
        let (test, voxels): (_, &[T]) = (Test::<T>::of(of), bytemuck::cast_slice(voxels));
        for (number, block) in voxels.chunks(BLOCK).enumerate() {
            let here = test.among(block);
            if rank < here {
                let mut places = (0..block.len()).filter(|&i| test.holds(block[i]));
                return places.nth(rank).map(|i| number * BLOCK + i);
            }
            rank -= here;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_and_found_in_every_type() {
        let labels = [0i64, 3, 3, 0, 7, 3, 1, 0, 7];
        let wide = [0i64, i64::MAX, i64::MIN, -1, i64::MAX, (1 << 53) + 1, 1 << 53, 5, 0];
        let check = |bytes: &[u8], dtype, labels: &[i64], of: Of| {
            let is_member = |&label: &i64| match of {
                Of::Foreground => label > 0,
                Of::Background => label <= 0,
                Of::Label(wanted) => label == wanted,
            };
            let places: Vec<usize> = (0..labels.len()).filter(|&i| is_member(&labels[i])).collect();
            assert_eq!(count(of, dtype, bytes), places.len() as u64, "{of:?} of {dtype}");
            let found = (0..=places.len()).map_while(|rank| find(of, dtype, bytes, rank));
            assert_eq!(found.collect::<Vec<_>>(), places, "{of:?} of {dtype}");
            let members = members(of, dtype, bytes);
            assert_eq!(members, labels.iter().map(is_member).collect::<Vec<_>>());
        };
        let classes = [-1, 0, 1, 3, 7, 300, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN];
        let kinds = classes.map(Of::Label).into_iter().chain([Of::Foreground, Of::Background]);
        for of in kinds {
            for dtype in Dtype::ALL {
                let mut bytes = Vec::new();
                with_voxel!(dtype, T => for &label in &labels {
                    let voxel = T::from_f64_exact(label as f64).unwrap();
                    bytes.extend_from_slice(bytemuck::bytes_of(&voxel));
                });
                check(&bytes, dtype, &labels, of);
            }
            check(bytemuck::cast_slice(&wide), Dtype::Int64, &wide, of);
            for length in [239, 240, 241, 480, 5000] {
                check(&vec![7; length], Dtype::UInt8, &vec![7; length], of);
            }
        }
    }
}
