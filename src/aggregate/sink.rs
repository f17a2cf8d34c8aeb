//! Where finished voxels go: an array, or a volume of a store.

use std::ops::Range;
use std::path::PathBuf;

use ndarray::Array4;

use crate::store::AddedVolume;
use crate::{Result, Size3, Volume, Voxel};

/// Takes the result layer by layer, in z order.
pub trait Sink: Send {
    /// What the finished result is.
    type Output;

    /// Z planes of every layer but the last, which may have fewer.
    fn layer_planes(&self) -> usize;

    /// A folder for what exceeds the memory budget.
    fn scratch_folder(&self) -> PathBuf {
        std::env::temp_dir()
    }

    /// Takes the next layer: `(c, z, y, x)` voxels of the result's dtype.
    ///
    /// # Errors
    /// Whatever storing it returns; nothing is put afterwards.
    fn put(&mut self, planes: Range<usize>, voxels: &[u8]) -> Result<()>;

    /// After the last layer.
    ///
    /// # Errors
    /// Whatever publishing returns.
    fn finish(self) -> Result<Self::Output>;
}

/// The result as one array `(c, z, y, x)`, which is not counted in the memory budget.
#[derive(Debug)]
pub struct ArraySink<T> {
    voxels: Vec<T>,
    channels: usize,
    size: Size3,
}

/// Planes that the patches of an array are blended in: few, so that threads have bands of their own.
const ARRAY_LAYER_PLANES: usize = 16;

impl<T: Voxel> ArraySink<T> {
    pub(super) fn new(channels: usize, size: Size3) -> Self {
        let voxels = vec![T::default(); channels * size.iter().product::<usize>()];
        Self { voxels, channels, size }
    }
}

impl<T: Voxel> Sink for ArraySink<T> {
    type Output = Array4<T>;

    fn layer_planes(&self) -> usize {
        ARRAY_LAYER_PLANES
    }

    fn put(&mut self, planes: Range<usize>, voxels: &[u8]) -> Result<()> {
        let plane = self.size[1] * self.size[2];
        let layer_bytes = planes.len() * plane * size_of::<T>();
        let channels = self.voxels.chunks_exact_mut(self.size[0] * plane);
        for (channel, layer) in channels.zip(voxels.chunks_exact(layer_bytes)) {
            let room = &mut channel[planes.start * plane..planes.end * plane];
            bytemuck::cast_slice_mut(room).copy_from_slice(layer);
        }
        Ok(())
    }

    fn finish(self) -> Result<Array4<T>> {
        let [z, y, x] = self.size;
        let shape = (self.channels, z, y, x);
        Ok(Array4::from_shape_vec(shape, self.voxels).expect("as many as were made"))
    }
}

/// The result as a volume of a store; nothing of it is visible before it is whole.
#[derive(Debug)]
pub struct StoreSink {
    volume: AddedVolume,
}

impl StoreSink {
    /// A sink that fills `volume`, whose layers hold all channels together.
    pub(super) fn new(volume: AddedVolume) -> Self {
        Self { volume }
    }
}

impl Sink for StoreSink {
    type Output = Volume;

    fn layer_planes(&self) -> usize {
        self.volume.layout().chunk[0]
    }

    fn scratch_folder(&self) -> PathBuf {
        self.volume.work_folder()
    }

    fn put(&mut self, _: Range<usize>, voxels: &[u8]) -> Result<()> {
        self.volume.write_layer(voxels)
    }

    fn finish(self) -> Result<Volume> {
        self.volume.publish()
    }
}
