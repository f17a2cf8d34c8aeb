//! The result as one array in memory.
//!
//! # Invariants
//! - A voxel is written by one call of [`ArraySink::put`] at most: boxes are disjoint, and each is put once.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Array4;

use super::plan::Tiling;
use super::sink::Sink;
use crate::{Region, Result, Size3, Voxel};

/// The result as one array `(c, z, y, x)`, which is not counted in the memory budget.
#[derive(Debug)]
pub struct ArraySink<T> {
    voxels: Shared<T>,
    channels: usize,
    boxes: Tiling,
    /// Boxes that were put.
    taken: Vec<AtomicBool>,
}

/// Voxels that threads write side by side: fresh memory is slow to come by, and under a lock one thread would wait for the
/// pages of another.
#[derive(Debug)]
struct Shared<T>(Vec<UnsafeCell<T>>);

// SAFETY: voxels are written by `ArraySink::put` alone, each by one call, as `ArraySink::taken` sees to; they are read when
// the sink is consumed.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Voxel> ArraySink<T> {
    pub(super) fn new(channels: usize, boxes: Tiling) -> Self {
        let voxels = vec![T::default(); channels * boxes.size().iter().product::<usize>()];
        let mut voxels = ManuallyDrop::new(voxels);
        let (base, len, capacity) = (voxels.as_mut_ptr(), voxels.len(), voxels.capacity());
        // SAFETY: the vector is given up for this one; a cell is laid out as what it holds.
        let voxels = Shared(unsafe { Vec::from_raw_parts(base.cast(), len, capacity) });
        let taken = (0..boxes.len()).map(|_| AtomicBool::new(false)).collect();
        Self { voxels, channels, boxes, taken }
    }
}

impl<T: Voxel> Sink for ArraySink<T> {
    type Output = Array4<T>;

    fn box_size(&self) -> Size3 {
        self.boxes.tile()
    }

    fn put(&self, region: &Region, slabs: &[&[u8]], _: usize) -> Result<()> {
        let number = self.boxes.holding(region.start);
        assert_eq!(self.boxes.region(number), *region, "a box of the sink");
        assert!(!self.taken[number].swap(true, Ordering::Relaxed), "a box is put once");
        let [_, ny, nx] = region.size;
        let [mut z0, y0, x0] = region.start.map(|v| v as usize);
        let [size_z, size_y, size_x] = self.boxes.size();
        for slab in slabs {
            let voxels = bytemuck::cast_slice::<u8, T>(slab);
            let nz = voxels.len() / (self.channels * ny * nx);
            let mut rows = voxels.chunks_exact(nx);
            for c in 0..self.channels {
                for z in z0..z0 + nz {
                    for y in y0..y0 + ny {
                        let to = ((c * size_z + z) * size_y + y) * size_x + x0;
                        let cells = &self.voxels.0[to..to + nx];
                        let row = rows.next().expect("a slab has all its rows");
                        // SAFETY: these cells are of this box, for its slabs are no higher, and no other call puts it; the row
                        // is as long as they are.
                        unsafe {
                            UnsafeCell::raw_get(cells.as_ptr())
                                .copy_from_nonoverlapping(row.as_ptr(), row.len());
                        }
                    }
                }
            }
            z0 += nz;
            assert!(z0 as i64 <= region.end(0), "slabs of the box");
        }
        Ok(())
    }

    fn finish(self) -> Result<Array4<T>> {
        let [z, y, x] = self.boxes.size();
        let mut voxels = ManuallyDrop::new(self.voxels.0);
        let (base, len, capacity) = (voxels.as_mut_ptr(), voxels.len(), voxels.capacity());
        // SAFETY: as in `new`, the other way.
        let voxels = unsafe { Vec::from_raw_parts(base.cast::<T>(), len, capacity) };
        Ok(Array4::from_shape_vec((self.channels, z, y, x), voxels).expect("as many as were made"))
    }
}
