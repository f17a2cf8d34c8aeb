//! Where finished voxels go: an array, or a volume of a store.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Array4;

use super::plan::Tiling;
use crate::store::AddedVolume;
use crate::{Region, Result, Size3, Volume, Voxel};

/// Takes the result box by box, in any order, from any thread.
pub trait Sink: Send + Sync {
    /// What the finished result is.
    type Output;

    /// The boxes it takes: a regular grid of these extents, cut off by the volume's end.
    fn box_size(&self) -> Size3;

    /// A folder for what exceeds the memory budget.
    fn scratch_folder(&self) -> PathBuf {
        std::env::temp_dir()
    }

    /// Whether a box is there from an earlier run.
    fn has(&self, _: &Region) -> bool {
        false
    }

    /// Takes a box: `(c, z, y, x)` voxels of the result's dtype.
    ///
    /// # Errors
    /// Whatever storing it returns; the result is of no use afterwards.
    fn put(&self, region: &Region, voxels: &[u8]) -> Result<()>;

    /// After the last box.
    ///
    /// # Errors
    /// Whatever publishing returns.
    fn finish(self) -> Result<Self::Output>;
}

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

    fn put(&self, region: &Region, voxels: &[u8]) -> Result<()> {
        let number = self.boxes.holding(region.start);
        assert_eq!(self.boxes.region(number), *region, "a box of the sink");
        assert!(!self.taken[number].swap(true, Ordering::Relaxed), "a box is put once");
        let [nz, ny, nx] = region.size;
        let [z0, y0, x0] = region.start.map(|v| v as usize);
        let [size_z, size_y, size_x] = self.boxes.size();
        let mut rows = bytemuck::cast_slice::<u8, T>(voxels).chunks_exact(nx);
        for c in 0..self.channels {
            for z in z0..z0 + nz {
                for y in y0..y0 + ny {
                    let to = ((c * size_z + z) * size_y + y) * size_x + x0;
                    let cells = &self.voxels.0[to..to + nx];
                    let row = rows.next().expect("a box has all its rows");
                    // SAFETY: these cells are of this box, and no other call puts it; the row is as long as they are.
                    unsafe {
                        UnsafeCell::raw_get(cells.as_ptr())
                            .copy_from_nonoverlapping(row.as_ptr(), row.len());
                    }
                }
            }
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

/// The result as a volume of a store; nothing of it is visible before it is whole.
#[derive(Debug)]
pub struct StoreSink {
    volume: AddedVolume,
    box_size: Size3,
}

impl StoreSink {
    /// A sink that fills `volume` with boxes of whole chunks.
    pub(super) fn new(volume: AddedVolume, box_size: Size3) -> Self {
        Self { volume, box_size }
    }
}

impl Sink for StoreSink {
    type Output = Volume;

    fn box_size(&self) -> Size3 {
        self.box_size
    }

    fn scratch_folder(&self) -> PathBuf {
        self.volume.work_folder()
    }

    fn has(&self, region: &Region) -> bool {
        self.volume.is_written(region)
    }

    fn put(&self, region: &Region, voxels: &[u8]) -> Result<()> {
        self.volume.put(region, voxels)
    }

    fn finish(self) -> Result<Volume> {
        self.volume.publish()
    }
}
