//! Looks at boxes of a volume's voxels, each within one chunk, on all threads.
//!
//! # Invariants
//! - Results come in the order of the boxes, whatever the number of threads.
//! - Memory is one box for each thread, and the results.

use rayon::prelude::*;

use super::volume::Volume;
use crate::format::grid::box_of;
use crate::{Padding, Region, Result, Size3};

/// Below so many boxes a second thread costs more than it saves.
const PARALLEL_BOXES: usize = 4;

/// A box of one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkBox {
    pub(crate) channel: usize,
    /// The chunk's place on the chunk grid.
    pub(crate) at: Size3,
    /// The voxels: the chunk's, or some of them.
    pub(crate) region: Region,
}

impl Volume {
    /// Every chunk, in C order, channel slowest; voxels beyond the volume's edge left out.
    pub(super) fn chunk_boxes(&self) -> Vec<ChunkBox> {
        let layout = self.layout();
        let boxes = |channel| {
            let boxed = move |at| ChunkBox { channel, at, region: layout.chunk_region(at) };
            box_of(layout.chunk_grid().map(|n| 0..n)).map(boxed)
        };
        (0..layout.channel_count()).flat_map(boxes).collect()
    }

    /// Reads one box into `voxels`: C order, no gaps.
    pub(crate) fn read_box(&self, wanted: &ChunkBox, voxels: &mut Vec<u8>) -> Result<()> {
        let region = &wanted.region;
        voxels.resize(region.len() * self.dtype().size(), 0);
        let channels = wanted.channel..wanted.channel + 1;
        self.read_bytes(&[region.start], region.size, Padding::Refuse, channels, voxels)
    }

    /// What `look` makes of each box's number and voxels.
    pub(crate) fn scan<R: Send>(
        &self,
        boxes: &[ChunkBox],
        look: impl Fn(usize, &[u8]) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let one = |voxels: &mut Vec<u8>, (i, wanted): (usize, &ChunkBox)| {
            self.read_box(wanted, voxels)?;
            look(i, voxels)
        };
        if boxes.len() < PARALLEL_BOXES || self.context().shared().pool.threads() == 1 {
            let mut voxels = Vec::new();
            return boxes.iter().enumerate().map(|wanted| one(&mut voxels, wanted)).collect();
        }
        let scan = || boxes.par_iter().enumerate().map_init(Vec::new, one).collect();
        self.context().shared().pool.install(scan)?
    }
}
