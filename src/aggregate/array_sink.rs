//! A sink that collects the result in one array in memory.
//!
//! # Invariants
//! - A voxel is written by at most one call of [`ArraySink::put`]: boxes are disjoint, and each is
//!   put once.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Array4;

use super::aggregator::Aggregator;
use super::box_grid::BoxGrid;
use super::engine::{EnginePlan, TILE_PLANES};
use super::options::AggregateOptions;
use super::plan::BlendPlan;
use super::sink::Sink;
use crate::memory::zeroed;
use crate::sample::Grid;
use crate::{Error, Region, Result, Size3, Voxel};

/// Collects the result in one array `(c, z, y, x)`, which does not count against `memory_bytes`.
///
/// `T` is the dtype of the result, whatever that of the patches.
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler};
///
/// let grid = GridSampler::new([2, 2, 2], 0)?.grid([2, 2, 2])?;
/// let aggregator = Aggregator::<ArraySink<u8>>::to_array(grid, &AggregateOptions::default())?;
/// aggregator.add(&[2.6f32; 8], &[[0, 0, 0]])?;
/// assert!(aggregator.finish()?.iter().all(|&voxel| voxel == 3));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct ArraySink<T> {
    voxels: SharedVoxels<T>,
    channels: usize,
    boxes: BoxGrid,
    /// Whether each box was put.
    taken: Vec<AtomicBool>,
}

/// Voxels that threads write without a lock: the first write to a page waits for the system, and a
/// lock would make all threads wait for the pages of one.
#[derive(Debug)]
struct SharedVoxels<T>(Vec<UnsafeCell<T>>);

// SAFETY: `ArraySink::put` alone writes voxels, and `ArraySink::taken` ensures that no two calls
// write the same one; they are read only when the sink is consumed. The test
// `a_box_is_put_once_and_whole` below watches it.
unsafe impl<T: Send> Sync for SharedVoxels<T> {}

impl<T: Voxel> Aggregator<ArraySink<T>> {
    /// Blends into an array in memory, `(c, z, y, x)`; labels have one channel.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Unsupported`] and [`Error::TooLarge`] for options that
    /// do not fit the grid; [`Error::OutOfMemory`].
    pub fn to_array(grid: Grid, options: &AggregateOptions) -> Result<Self> {
        if options.resume.is_some() {
            return Err(Error::unsupported(
                "an array ends with its process and cannot be resumed",
                "blend into a store",
            ));
        }
        let plan = BlendPlan::new(grid, options, Some(T::DTYPE))?;
        let engine = EnginePlan::new(plan, [TILE_PLANES, 16, 64]);
        let boxes = BoxGrid::new(engine.plan.target.size(), engine.tile_size);
        let sink = ArraySink::new(engine.plan.out_channels().unwrap_or(1), boxes)?;
        Self::new(engine, options, sink)
    }
}

impl<T: Voxel> ArraySink<T> {
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn new(channels: usize, boxes: BoxGrid) -> Result<Self> {
        let size = boxes.size();
        let len = channels * size.iter().product::<usize>();
        // Fresh pages are zero, so that they cost nothing before they are written.
        let what = || format!("an array of {channels} channels of {size:?} voxels");
        let mut voxels = ManuallyDrop::new(zeroed::<T>(len, what)?);
        let (base, len, capacity) = (voxels.as_mut_ptr(), voxels.len(), voxels.capacity());
        // SAFETY: the parts are those of a vector that is not dropped, and `UnsafeCell<T>` has the
        // layout of `T`; every test of an array as the result goes through here.
        let voxels = SharedVoxels(unsafe { Vec::from_raw_parts(base.cast(), len, capacity) });
        let taken = boxes.for_each(|_| AtomicBool::new(false))?;
        Ok(Self { voxels, channels, boxes, taken })
    }
}

impl<T: Voxel> Sink for ArraySink<T> {
    type Finished = Array4<T>;

    fn box_size(&self) -> Size3 {
        self.boxes.box_size()
    }

    fn put(&self, region: &Region, slabs: &[&[u8]], _: usize) -> Result<()> {
        let number = self.boxes.containing(region.start);
        assert_eq!(self.boxes.region(number), *region, "a box of the sink");
        assert!(!self.taken[number].swap(true, Ordering::Relaxed), "a box is put once");
        let [_, ny, nx] = region.size;
        let [mut z0, y0, x0] = region.start.map(|v| v as usize);
        let [size_z, size_y, size_x] = self.boxes.size();
        for slab in slabs {
            let voxels = bytemuck::cast_slice::<u8, T>(slab);
            let nz = voxels.len() / (self.channels * ny * nx);
            assert!((z0 + nz) as i64 <= region.end(0), "slabs end with the box");
            let mut rows = voxels.chunks_exact(nx);
            for c in 0..self.channels {
                for z in z0..z0 + nz {
                    for y in y0..y0 + ny {
                        let to = ((c * size_z + z) * size_y + y) * size_x + x0;
                        let cells = &self.voxels.0[to..to + nx];
                        let row = rows.next().expect("a slab has all its rows");
                        // SAFETY: the cells belong to this box, since its slabs have no more planes
                        // than it, and `taken` lets no other call put it; the row is as long as
                        // they are. The test below watches it.
                        unsafe {
                            UnsafeCell::raw_get(cells.as_ptr())
                                .copy_from_nonoverlapping(row.as_ptr(), row.len());
                        }
                    }
                }
            }
            z0 += nz;
        }
        Ok(())
    }

    fn finish(self) -> Result<Array4<T>> {
        let [z, y, x] = self.boxes.size();
        let mut voxels = ManuallyDrop::new(self.voxels.0);
        let (base, len, capacity) = (voxels.as_mut_ptr(), voxels.len(), voxels.capacity());
        // SAFETY: the parts are those of a vector that is not dropped, as in `new`.
        let voxels = unsafe { Vec::from_raw_parts(base.cast::<T>(), len, capacity) };
        Ok(Array4::from_shape_vec((self.channels, z, y, x), voxels).expect("the voxels of `new`"))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_box_is_put_once_and_whole() {
        let sink = ArraySink::<u8>::new(2, BoxGrid::new([3, 2, 2], [3, 2, 2])).unwrap();
        let region = Region::new([0; 3], [3, 2, 2]);
        // Two planes, then one, of two channels.
        let (first, last) = ([1; 16], [2; 8]);
        sink.put(&region, &[&first, &last], 0).unwrap();
        let again = catch_unwind(AssertUnwindSafe(|| sink.put(&region, &[&first, &last], 0)));
        assert!(again.is_err(), "a box that is there is not written again");
        let array = sink.finish().unwrap();
        assert_eq!(array.index_axis(ndarray::Axis(1), 2).sum(), 16);
        assert_eq!(array.sum(), 32);

        let sink = ArraySink::<u8>::new(1, BoxGrid::new([4, 2, 2], [2, 2, 2])).unwrap();
        let region = Region::new([0; 3], [2, 2, 2]);
        let too_high = catch_unwind(AssertUnwindSafe(|| sink.put(&region, &[&[1; 12]], 0)));
        assert!(too_high.is_err(), "slabs beyond the box are refused");
    }
}
