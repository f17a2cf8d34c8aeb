//! Voxels that were blended elsewhere, as on a GPU: the aggregator takes them as they are and does
//! the rest, from the mask to the sink.

use std::ops::Range;

use super::aggregator::Aggregator;
use super::box_grid::BoxGrid;
use super::options::Duplicates;
use super::sink::Sink;
use crate::format::grid::iter_box;
use crate::memory::collected;
use crate::{Error, Region, Result, Size3};

impl<S: Sink> Aggregator<S> {
    /// Extents `(z, y, x)` of the boxes that [`Aggregator::put`] takes: a regular grid, cut off at
    /// the result's end.
    pub fn box_size(&self) -> Size3 {
        self.engine.box_grid().box_size()
    }

    /// Takes finished voxels of `region`, which consists of whole boxes: channels, then z, y, x, in
    /// C order, of the result's dtype.
    ///
    /// Patches whose voxels are all finished then are no longer missing. Boxes that an earlier run
    /// has written are left alone, and what the mask excludes gets its stated value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a region that does not consist of boxes, and
    /// [`Error::BufferLength`]; [`Error::Unsupported`] with [`Duplicates::Replace`]: nothing is
    /// taken. [`Error::Io`] if the sink fails: the result cannot be completed any more.
    ///
    /// # Example
    /// ```
    /// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler, Region};
    ///
    /// let grid = GridSampler::new([4, 4, 4], 2)?.grid([8, 8, 8])?;
    /// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &Default::default())?;
    /// aggregator.put(&Region::whole([8, 8, 8]), bytemuck::cast_slice(&[0.5f32; 512]))?;
    /// assert!(aggregator.finish()?.iter().all(|&voxel| voxel == 0.5));
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    pub fn put(&self, region: &Region, voxels: &[u8]) -> Result<()> {
        if self.duplicates() == Duplicates::Replace {
            return Err(Error::unsupported(
                "finished voxels cannot be replaced, as patches can with replace",
                "put them without it",
            ));
        }
        let plan = self.engine.plan();
        let size = plan.target.size();
        check_boxes(self.engine.box_grid(), region, size)?;
        let voxel_bytes = plan.out_channels().unwrap_or(1) * plan.dtype.size();
        let expected = region.len() * voxel_bytes;
        if voxels.len() != expected {
            return Err(Error::BufferLength { found: voxels.len(), expected });
        }
        self.check_failed()?;
        self.engine.put_finished(region, voxels)?;
        let range = |a: usize| region.start[a] as usize..region.end(a) as usize;
        let complete: Vec<usize> = iter_box(plan.patches_meeting(&[range(0), range(1), range(2)]))
            .filter(|&index| self.engine.is_complete(index))
            .map(|index| plan.grid.number_of(index))
            .collect();
        let mut tracker = self.tracker();
        for number in complete {
            tracker.mark(number);
        }
        Ok(())
    }
}

/// Checks that a region consists of whole boxes.
fn check_boxes(boxes: &BoxGrid, region: &Region, size: Size3) -> Result<()> {
    let step = boxes.box_size();
    let is_whole = !region.is_empty()
        && (0..3).all(|a| {
            let Ok(start) = usize::try_from(region.start[a]) else { return false };
            let end = start.saturating_add(region.size[a]);
            let is_at_end = end.is_multiple_of(step[a]) || end == size[a];
            end <= size[a] && start.is_multiple_of(step[a]) && is_at_end
        });
    if is_whole {
        return Ok(());
    }
    let found = format!("of {:?} voxels at {:?} (z, y, x)", region.size, region.start);
    let expected = format!("whole boxes of {step:?} voxels, cut off at {size:?}");
    Err(Error::invalid("region", found, expected))
}

/// How the patches of a grid count along one axis of the result, for blending elsewhere.
///
/// The weight of a patch's voxel is the product of its weights along the three axes, but at least
/// [`Aggregator::least_weight`].
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler, Window};
///
/// let grid = GridSampler::new([4, 4, 4], 2)?.grid([8, 8, 8])?;
/// let options = AggregateOptions::default().window(Window::Average);
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &options)?;
/// let [z, ..] = aggregator.axis_weights()?;
/// assert_eq!((z.starts, z.used), (vec![0, 2, 4], vec![0..4, 2..6, 4..8]));
/// assert_eq!(z.weights, [1.0; 4]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AxisWeights {
    /// First voxel of each patch, which may lie outside of the result.
    pub starts: Vec<i64>,
    /// For each start, the voxels of the result that its patch counts for.
    pub used: Vec<Range<usize>>,
    /// The weight of each voxel of a patch.
    pub weights: Vec<f64>,
}

impl<S: Sink> Aggregator<S> {
    /// The weights along each axis, `(z, y, x)`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn axis_weights(&self) -> Result<[AxisWeights; 3]> {
        let plan = self.engine.plan();
        let axis = |a: usize| -> Result<AxisWeights> {
            let (axis, weights) = (&plan.axes[a], &plan.weights.profiles[a]);
            let what = || format!("the weights of {} patches", axis.starts.len());
            Ok(AxisWeights {
                starts: collected(axis.starts.iter().copied(), axis.starts.len() as u64, what)?,
                used: collected(axis.used.iter().cloned(), axis.used.len() as u64, what)?,
                weights: collected(weights.iter().copied(), weights.len() as u64, what)?,
            })
        };
        Ok([axis(0)?, axis(1)?, axis(2)?])
    }

    /// The least weight of a patch's voxel; 0 where weights are products without a lower limit.
    pub fn least_weight(&self) -> f64 {
        self.engine.plan().weights.floor
    }
}
