//! Applies a function to boxes of an array's voxels, one box per chunk, on all threads.
//!
//! # Invariants
//! - Results come in the order of the boxes, whatever the number of threads.
//! - Memory is one box for each thread, and the results.

use super::channels::Channels;
use super::gather::ReadContext;
use super::handle::ArrayHandle;
use super::padded::read_patches;
use crate::format::grid::iter_box;
use crate::memory::{collected, reserve};
use crate::{Padding, Region, Result, Size3};

/// With fewer boxes a second thread costs more than it saves.
const PARALLEL_BOXES: usize = 4;

/// A box of one channel, inside of one chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkBox {
    pub(crate) channel: usize,
    /// The chunk's cell of the chunk grid.
    pub(crate) at: Size3,
    /// All voxels of the chunk, or some of them.
    pub(crate) region: Region,
}

impl ArrayHandle {
    /// The box of every chunk, in C order, channel slowest; voxels beyond the array's edge
    /// excluded.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(crate) fn chunk_boxes(&self) -> Result<Vec<ChunkBox>> {
        let layout = self.layout();
        let boxes = |channel| {
            let boxed = move |at| ChunkBox { channel, at, region: layout.chunk_region(at) };
            iter_box(layout.chunk_grid().map(|n| 0..n)).map(boxed)
        };
        let count = layout.chunk_count();
        let boxes = (0..layout.channel_count()).flat_map(boxes);
        collected(boxes, count, || format!("a list of {count} chunks"))
    }

    /// Reads one box into `voxels`: C order, no gaps.
    pub(crate) fn read_box(&self, wanted: &ChunkBox, voxels: &mut Vec<u8>) -> Result<()> {
        let region = &wanted.region;
        let bytes = region.len() * self.layout().dtype.size();
        let more = bytes.saturating_sub(voxels.len());
        reserve(voxels, more, || format!("the voxels of a chunk, {:?}", region.size))?;
        voxels.resize(bytes, 0);
        let channels = &Channels::from(wanted.channel..wanted.channel + 1);
        let resources = self.resources();
        let context = ReadContext { cache: &resources.cache, executor: Some(&resources.executor) };
        let starts = [region.start];
        read_patches(self, &starts, region.size, Padding::None, channels, voxels, context)
    }

    /// The results of `map` for the number and the voxels of each box.
    pub(crate) fn map_boxes<R: Send>(
        &self,
        boxes: &[ChunkBox],
        map: impl Fn(usize, &[u8]) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let map_one = |voxels: &mut Vec<u8>, i: usize| {
            self.read_box(&boxes[i], voxels)?;
            map(i, voxels)
        };
        if boxes.len() < PARALLEL_BOXES {
            let mut voxels = Vec::new();
            return (0..boxes.len()).map(|i| map_one(&mut voxels, i)).collect();
        }
        self.resources().executor.map(boxes.len(), Vec::new, map_one)
    }
}
