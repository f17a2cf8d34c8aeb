//! Weights of the chunks of one subject, which make the centres in a chunk more or less likely.
//!
//! # Invariants
//! - Under weights the probability of a centre is what the sampler gives it, times the weight of
//!   its chunk, over the sum of these; for a label sampler within each class.
//! - Nothing is drawn and rejected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::boxes::{in_chunk, random_voxel};
use super::random::RandomStream;
use crate::format::grid::iter_box;
use crate::memory::collected;
use crate::{Error, Region, Result, Size3, Volume};

/// A weight for each chunk of a volume; chunks in C order.
///
/// ```
/// use voxquarry::ChunkWeights;
///
/// let weights = ChunkWeights::new([1, 2, 2], vec![1.0, 0.0, 0.5, 4.0])?;
/// assert_eq!((weights.grid(), weights.values()[3]), ([1, 2, 2], 4.0));
/// assert!(ChunkWeights::new([1, 1, 1], vec![-1.0]).is_err());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChunkWeights {
    grid: Size3,
    values: Arc<[f64]>,
    /// Names what is computed from them.
    id: u64,
}

impl PartialEq for ChunkWeights {
    fn eq(&self, other: &Self) -> bool {
        (self.grid, &self.values) == (other.grid, &other.values)
    }
}

impl ChunkWeights {
    /// Weights of `grid` chunks, `(z, y, x)`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another number of weights, or one that is negative or not
    /// finite.
    pub fn new(grid: Size3, values: impl Into<Arc<[f64]>>) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let values = values.into();
        let count = grid.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        if count != Some(values.len()) {
            let expected = format!("one for each of {grid:?} chunks");
            return Err(Error::invalid("number of weights", values.len(), expected));
        }
        if let Some(i) = values.iter().position(|w| !(0.0..f64::INFINITY).contains(w)) {
            let [_, ny, nx] = grid;
            let argument = format!("weight of chunk {:?}", [i / (ny * nx), i / nx % ny, i % nx]);
            return Err(Error::invalid(argument, values[i], "a finite number, 0 or more"));
        }
        Ok(Self { grid, values, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Chunks along each axis, `(z, y, x)`.
    pub fn grid(&self) -> Size3 {
        self.grid
    }

    /// The weight of each chunk, in C order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// A name for what is computed from these weights, unique in the process.
    pub(super) fn name(&self) -> String {
        format!("chunk weights {}", self.id)
    }

    /// The sums, one after the other, of `parts` of chunks of `volume` times the weights of these
    /// chunks; `None` if nothing is left.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the volume has another number of chunks, or the sum exceeds
    /// `f64`; [`Error::OutOfMemory`].
    pub(super) fn cumulative(
        &self,
        volume: &Volume,
        parts: impl ExactSizeIterator<Item = (Size3, f64)>,
    ) -> Result<Option<Vec<f64>>> {
        let (grid, count) = (volume.layout().chunk_grid(), parts.len());
        if grid != self.grid {
            let expected = format!("{grid:?}: one for each chunk of {}", volume.path().display());
            let found = format!("of shape {:?}", self.grid);
            return Err(Error::invalid("chunk weights", found, expected));
        }
        let (mut sum, [_, ny, nx]) = (0.0, grid);
        let sums = parts.map(|([z, y, x], part)| {
            sum += part * self.values[(z * ny + y) * nx + x];
            sum
        });
        let sums = collected(sums, count as u64, || format!("the weights of {count} chunks"))?;
        if !f64::is_finite(sum) {
            let argument = format!("sum of the chunk weights of {}", volume.path().display());
            return Err(Error::invalid(argument, sum, "a finite number"));
        }
        Ok((sum > 0.0).then_some(sums))
    }

    /// The error for weights that leave nothing to draw.
    pub(super) fn nothing_left(volume: &Volume) -> Error {
        Error::unsupported(
            format!(
                "{}: all chunks in which a patch can be centred weigh 0",
                volume.path().display()
            ),
            "give one of them a weight above 0, or the subject the weight 0",
        )
    }
}

/// Weights of chunks, and the volume whose chunks they are for samplers that draw by no volume.
#[derive(Clone, Copy)]
pub(crate) struct Reweighting<'a> {
    pub(crate) weights: &'a ChunkWeights,
    pub(crate) volume: &'a Volume,
}

/// A box of voxels in the parts that lie in different chunks, each of its own weight.
pub(super) struct WeightedBox {
    parts: Vec<Region>,
    cumulative: Vec<f64>,
}

impl WeightedBox {
    /// Every voxel of `region` weighs as much as its chunk of `volume`.
    ///
    /// # Errors
    /// Those of [`ChunkWeights::cumulative`]; [`Error::Unsupported`] if nothing is left.
    pub(super) fn new(weights: &ChunkWeights, volume: &Volume, region: &Region) -> Result<Self> {
        let layout = volume.layout();
        let cells = layout.chunks_meeting(region);
        let count = cells.iter().map(|cells| cells.len() as u64).product();
        let what = || format!("the parts of {count} chunks");
        let at: Vec<Size3> = collected(iter_box(cells), count, what)?;
        let part = |&at: &Size3| in_chunk(region, layout, at);
        let parts: Vec<Region> = collected(at.iter().map(part), count, what)?;
        let voxels = parts.iter().map(|part| part.len() as f64);
        let cumulative = weights.cumulative(volume, at.into_iter().zip(voxels))?;
        let cumulative = cumulative.ok_or_else(|| ChunkWeights::nothing_left(volume))?;
        Ok(Self { parts, cumulative })
    }

    /// One draw for the chunk, three for the voxel.
    pub(super) fn voxel(&self, random: &mut RandomStream) -> [i64; 3] {
        let part = random.pick(&self.cumulative);
        random_voxel(&self.parts[part], random)
    }

    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.parts.len() * size_of::<Region>() + self.cumulative.len() * 8
    }
}
