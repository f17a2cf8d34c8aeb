//! Where finished voxels go: what takes them, and a volume of a store.

use std::path::PathBuf;

use crate::store::ChunkedVolumeWriter;
use crate::{Region, Result, Size3, Volume};

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

    /// In how many parts a box is taken, which threads share.
    fn parts(&self, _: &Region) -> usize {
        1
    }

    /// Takes one of the parts of a box: of its `slabs`, all of them. One behind the other along z they are the box; each is
    /// `(c, z, y, x)` voxels of the result's dtype.
    ///
    /// # Errors
    /// Whatever storing it returns; the result is of no use afterwards.
    fn put(&self, region: &Region, slabs: &[&[u8]], part: usize) -> Result<()>;

    /// After the last box.
    ///
    /// # Errors
    /// Whatever publishing returns.
    fn finish(self) -> Result<Self::Output>;
}

/// The result as a volume of a store; nothing of it is visible before it is whole.
#[derive(Debug)]
pub struct StoreSink {
    volume: ChunkedVolumeWriter,
    box_size: Size3,
}

impl StoreSink {
    /// A sink that fills `volume` with boxes of whole chunks.
    pub(super) fn new(volume: ChunkedVolumeWriter, box_size: Size3) -> Self {
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

    fn parts(&self, region: &Region) -> usize {
        self.volume.chunks_in(region)
    }

    fn put(&self, region: &Region, slabs: &[&[u8]], part: usize) -> Result<()> {
        self.volume.put_chunk(region, slabs, part)
    }

    fn finish(self) -> Result<Volume> {
        self.volume.publish()
    }
}
