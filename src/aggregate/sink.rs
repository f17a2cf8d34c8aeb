//! Where finished voxels go: an array, or a volume of a store.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ndarray::Array4;

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
    voxels: Mutex<Vec<T>>,
    channels: usize,
    size: Size3,
    box_size: Size3,
}

impl<T: Voxel> ArraySink<T> {
    pub(super) fn new(channels: usize, size: Size3, box_size: Size3) -> Self {
        let voxels = vec![T::default(); channels * size.iter().product::<usize>()];
        Self { voxels: Mutex::new(voxels), channels, size, box_size }
    }
}

impl<T: Voxel> Sink for ArraySink<T> {
    type Output = Array4<T>;

    fn box_size(&self) -> Size3 {
        self.box_size
    }

    /// Holds the lock for as long as the rows of a box are copied.
    fn put(&self, region: &Region, voxels: &[u8]) -> Result<()> {
        let [nz, ny, nx] = region.size;
        let [z0, y0, x0] = region.start.map(|v| v as usize);
        let mut rows = bytemuck::cast_slice::<u8, T>(voxels).chunks_exact(nx);
        let mut all = self.voxels.lock().unwrap_or_else(PoisonError::into_inner);
        for c in 0..self.channels {
            for z in z0..z0 + nz {
                for y in y0..y0 + ny {
                    let to = ((c * self.size[0] + z) * self.size[1] + y) * self.size[2] + x0;
                    let row = rows.next().expect("a box has all its rows");
                    all[to..to + nx].copy_from_slice(row);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Array4<T>> {
        let [z, y, x] = self.size;
        let shape = (self.channels, z, y, x);
        let voxels = self.voxels.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Array4::from_shape_vec(shape, voxels).expect("as many as were made"))
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
