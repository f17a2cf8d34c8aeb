//! The coarser levels of a volume: how many there are, how much coarser each is, and how its array
//! is divided (§8).
//!
//! Not here: what one voxel of a level becomes (`array::reduce`).

use std::fmt;
use std::str::FromStr;

use super::array::{ArrayLayout, ChunkCodec};
use crate::{Error, Result, Size3};

/// A pyramid is complete if its longest axis has at most so many voxels.
const COMPLETE: usize = 128;

/// How many coarser levels a volume gets; none by default.
///
/// Each level halves every axis of more than one voxel whose spacing is less than twice the
/// smallest spacing of such axes: anisotropic volumes become isotropic first.
///
/// ```
/// use voxquarry::format::levels::Levels;
///
/// let ct = ([40, 512, 512], [5.0, 0.8, 0.8]);
/// assert_eq!(Levels::Auto.factors(ct.0, ct.1)?, [[1, 2, 2], [1, 4, 4]]);
/// assert_eq!("1".parse::<Levels>()?.factors(ct.0, ct.1)?, [[1, 2, 2]]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Levels {
    /// So many beside level 0.
    Count(usize),
    /// As many as make the longest axis at most 128 voxels long.
    Auto,
}

impl Default for Levels {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl FromStr for Levels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || Error::invalid("levels", text, "auto, or the number of coarser levels");
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Count).map_err(|_| expected()),
        }
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl Levels {
    /// The factors of the levels 1, 2, … of a volume of these extents and spacings, `(z, y, x)`:
    /// the voxels of level 0 in one of theirs.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more levels than there can be: the last has one voxel.
    pub fn factors(self, size: Size3, spacing: [f64; 3]) -> Result<Vec<Size3>> {
        let mut found: Vec<Size3> = Vec::new();
        let mut factors = [1; 3];
        loop {
            let now = coarser(size, factors);
            let is_enough = match self {
                Self::Count(count) => found.len() == count,
                Self::Auto => now.iter().all(|&extent| extent <= COMPLETE),
            };
            if is_enough {
                return Ok(found);
            }
            if now == [1; 3] {
                let most = found.len();
                let expected = format!("at most {most} for {size:?} voxels (z, y, x), or auto");
                return Err(Error::invalid("levels", self, expected));
            }
            factors = next(now, factors, spacing);
            found.push(factors);
        }
    }
}

/// The factors of the level after one of extents `now`, which has an axis of more than one voxel.
fn next(now: Size3, factors: Size3, spacing: [f64; 3]) -> Size3 {
    let long = |axis: &usize| now[*axis] > 1;
    let spacing = [0, 1, 2].map(|a| spacing[a] * factors[a] as f64);
    let smallest = (0..3).filter(long).map(|a| spacing[a]).fold(f64::INFINITY, f64::min);
    [0, 1, 2].map(|a| {
        let halves = long(&a) && spacing[a] < 2.0 * smallest;
        factors[a] * if halves { 2 } else { 1 }
    })
}

/// The extents of a level whose voxels cover `factors` voxels of one of `size`.
pub(crate) fn coarser(size: Size3, factors: Size3) -> Size3 {
    [0, 1, 2].map(|a| size[a].div_ceil(factors[a]))
}

/// Checks the factors of the levels 1, 2, … of a volume.
///
/// # Errors
/// The first that is not as §8 says.
pub(crate) fn check_factors(all: impl IntoIterator<Item = Size3>) -> Result<(), String> {
    let mut before: Size3 = [1; 3];
    for (i, factors) in all.into_iter().enumerate() {
        let is_multiple = |a: usize| {
            let allowed = (1..=super::limits::AXIS_VOXELS).contains(&(factors[a] as u64));
            allowed && factors[a].is_multiple_of(before[a])
        };
        if factors == before || !(0..3).all(is_multiple) {
            let level = i + 1;
            return Err(format!("factors {factors:?} of level {level} after {before:?}"));
        }
        before = factors;
    }
    Ok(())
}

/// The layout of a level of the volume whose level 0 has `finest`: its chunks and shards, or
/// smaller ones where the level is smaller.
pub(crate) fn layout_of(finest: &ArrayLayout, factors: Size3) -> ArrayLayout {
    let size = coarser(finest.size, factors);
    let chunk = [0, 1, 2].map(|a| finest.chunk[a].min(size[a].next_power_of_two()));
    let most = finest.shard_chunks();
    let shard = [0, 1, 2].map(|a| chunk[a] * most[a].min(size[a].div_ceil(chunk[a])));
    let codec = match finest.codec {
        ChunkCodec::Blosc(mut blosc) if chunk != finest.chunk => {
            let plane_bytes = chunk[1] * chunk[2] * finest.dtype.size();
            // Whole planes, so that a block is a slab.
            let planes = (blosc.block_bytes / plane_bytes).clamp(1, chunk[0]);
            blosc.block_bytes = planes * plane_bytes;
            ChunkCodec::Blosc(blosc)
        }
        codec => codec,
    };
    ArrayLayout { size, chunk, shard, codec, ..finest.clone() }
}

/// Bounds the memory of each thread that makes the chunks of levels of `finest`, beside what
/// [`encoder_memory`](super::layout::encoder_memory) counts: up to eight chunks of the level
/// before, what decodes them, and the voxels that they become.
pub fn maker_memory(finest: &ArrayLayout) -> u64 {
    const CHUNKS: u64 = 12;
    CHUNKS * finest.chunk_bytes() as u64
}

/// Bytes of the voxels of all levels but 0 that `levels` asks for, before compression; none of more
/// levels than there can be.
pub fn voxel_bytes(levels: Levels, finest: &ArrayLayout, spacing: [f64; 3]) -> u64 {
    let all = levels.factors(finest.size, spacing).unwrap_or_default();
    let voxels = |factors: Size3| coarser(finest.size, factors).iter().product::<usize>();
    let sum: u64 = all.into_iter().map(|factors| voxels(factors) as u64).sum();
    sum * (finest.channel_count() * finest.dtype.size()) as u64
}

/// The folder of a level's array, in the volume's folder.
pub(crate) fn level_folder(level: usize) -> String {
    level.to_string()
}

/// The folder of a level's list of shards, in the volume's folder.
pub(crate) fn shard_list_folder(level: usize) -> String {
    if level == 0 { "shards".to_owned() } else { format!("shards-{level}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::format::layout::{self, Codec, VolumeShape};

    #[test]
    fn anisotropic_volumes_become_isotropic_first() {
        let factors = |size, spacing| Levels::Auto.factors(size, spacing).unwrap();
        assert_eq!(factors([300; 3], [1.0; 3]), [[2; 3], [4; 3]]);
        assert_eq!(factors([128; 3], [1.0; 3]), [[0usize; 3]; 0]);
        // Twice the spacing is left alone, less is not.
        assert_eq!(factors([9, 200, 200], [2.0, 1.0, 1.0]), [[1, 2, 2]]);
        assert_eq!(factors([9, 200, 200], [1.9, 1.0, 1.0]), [[2, 2, 2]]);
        // The long axis is coarse: it is halved once the others are as coarse, or one voxel.
        let long = factors([1000, 3, 3], [5.0, 1.0, 1.0]);
        assert_eq!(long[..3], [[1, 2, 2], [1, 4, 4], [2, 4, 4]]);
        assert_eq!(coarser([1000, 3, 3], *long.last().unwrap()), [125, 1, 1]);
        // The spacing of an axis of one voxel says nothing.
        assert_eq!(factors([1, 200, 200], [1e-3, 1.0, 1.0]), [[1, 2, 2]]);
    }

    #[test]
    fn the_last_level_that_can_be_has_one_voxel() {
        let spacing = [3.0, 1.0, 1.0];
        let all = Levels::Count(4).factors([5, 9, 16], spacing).unwrap();
        assert_eq!(all, [[1, 2, 2], [2, 4, 4], [4, 8, 8], [8, 16, 16]]);
        let error = Levels::Count(5).factors([5, 9, 16], spacing).unwrap_err().to_string();
        assert!(error.contains("levels 5") && error.contains("at most 4"), "{error}");
        assert!(Levels::Count(1).factors([1; 3], spacing).is_err());
        assert!(Levels::Count(usize::MAX).factors([1 << 40; 3], spacing).is_err());
    }

    #[test]
    fn levels_are_written_as_they_are_read() {
        for levels in [Levels::Auto, Levels::Count(0), Levels::Count(17)] {
            assert_eq!(levels.to_string().parse::<Levels>().unwrap(), levels);
        }
        for text in ["", "-1", "Auto", "1.5", "99999999999999999999"] {
            assert!(text.parse::<Levels>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn layouts_of_levels_are_valid_and_keep_whole_planes_in_blocks() {
        for (size, codec) in [
            ([300, 300, 300], Codec::Fast),
            ([7, 700, 33], Codec::Compact),
            ([1, 1, 5], Codec::None),
        ] {
            for dtype in Dtype::ALL {
                let shape = VolumeShape { channels: Some(2), size, dtype, interleaved: 1 };
                let finest = layout::choose(&shape, &[[96; 3]], codec, 4 << 30).unwrap();
                let spacing = [2.0, 1.0, 1.0];
                for count in 0..4 {
                    let Ok(all) = Levels::Count(count).factors(size, spacing) else { continue };
                    for factors in all {
                        let layout = layout_of(&finest, factors);
                        layout.validate().unwrap();
                        assert_eq!(layout.size, coarser(size, factors));
                        assert!((0..3).all(|a| layout.chunk[a] <= finest.chunk[a]));
                        if let ChunkCodec::Blosc(blosc) = layout.codec {
                            let plane = layout.chunk[1] * layout.chunk[2] * dtype.size();
                            assert!(blosc.block_bytes.is_multiple_of(plane));
                            assert!(blosc.block_bytes <= layout.chunk_bytes());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn factors_ascend_by_multiples() {
        assert!(check_factors([[1, 2, 2], [2, 4, 2], [6, 4, 2]]).is_ok());
        for bad in [
            vec![[1, 1, 1]],
            vec![[0, 2, 2]],
            vec![[2, 2, 2], [2, 2, 2]],
            vec![[2, 2, 2], [3, 4, 4]],
            vec![[4, 4, 4], [2, 2, 2]],
            vec![[1, 1, 1 << 41]],
        ] {
            assert!(check_factors(bad.iter().copied()).is_err(), "{bad:?}");
        }
    }
}
