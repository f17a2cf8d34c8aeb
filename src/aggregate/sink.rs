//! Destinations of finished voxels: the trait, and the sink that writes a volume of a store.

use std::path::PathBuf;

use crate::store::{ChunkedVolumeWriter, VolumePartWriter};
use crate::{Region, Result, Size3, Volume};

/// Takes the result box by box, in any order and from any thread.
///
/// [`ArraySink`](crate::ArraySink) collects an array in memory, [`StoreSink`] writes a volume. A
/// function over both names this trait:
/// ```
/// use voxquarry::{Aggregator, Result, Sink};
///
/// fn add_zeros(aggregator: &Aggregator<impl Sink>) -> Result<()> {
///     let zeros = vec![0.0f32; aggregator.patch_size().iter().product()];
///     aggregator.needed()?.iter().try_for_each(|&start| aggregator.add(&zeros, &[start]))
/// }
/// ```
pub trait Sink: Send + Sync {
    /// The finished result.
    type Finished;

    /// Extents `(z, y, x)` of the boxes that it takes: a regular grid, cut off at the volume's end.
    fn box_size(&self) -> Size3;

    /// A folder for unfinished voxels beyond the memory limit.
    fn scratch_folder(&self) -> PathBuf {
        std::env::temp_dir()
    }

    /// Whether an earlier run has written a box.
    fn has(&self, _: &Region) -> bool {
        false
    }

    /// The number of parts in which a box is taken, by several threads.
    fn parts(&self, _: &Region) -> usize {
        1
    }

    /// Takes part number `part` of a box. All `slabs` of the box are given; one behind the other
    /// along z they are the box, each `(c, z, y, x)` voxels of the result's dtype.
    ///
    /// # Errors
    /// What storing it returns; the result cannot be completed then.
    fn put(&self, region: &Region, slabs: &[&[u8]], part: usize) -> Result<()>;

    /// Completes the result after the last box.
    ///
    /// # Errors
    /// What publishing it returns.
    fn finish(self) -> Result<Self::Finished>;
}

/// Writes the result as a volume of a store, which is not visible before it is complete.
///
/// ```
/// use voxquarry::{Affine, AggregateOptions, Aggregator, Dtype, GridSampler, StoreWriter};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("predictions.zarr");
/// let store = StoreWriter::open(&path, None)?;
/// let grid = GridSampler::new([4, 4, 4], 2)?.grid([8, 8, 8])?;
/// let aggregator = Aggregator::to_store(
///     grid.clone(),
///     &AggregateOptions::default(),
///     Dtype::Float32,
///     &store,
///     ("case01", "lesion"),
///     Affine::IDENTITY, // of the volume that was predicted from
/// )?;
/// for start in grid.starts() {
///     aggregator.add(&[1.0f32; 64], &[start])?;
/// }
/// let volume = aggregator.finish()?;
/// assert_eq!(volume.size(), [8, 8, 8]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
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
    type Finished = Volume;

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

/// Writes one part of the shards of a volume, as a process of its own; see
/// [`Aggregator::to_part`](crate::Aggregator::to_part).
///
/// ```
/// use voxquarry::{Aggregator, PartSink, Result};
///
/// /// Predicts what the part lacks.
/// fn run(part: Aggregator<PartSink>, model: impl Fn([i64; 3]) -> Vec<f32>) -> Result<()> {
///     part.needed()?.into_iter().try_for_each(|start| part.add(&model(start), &[start]))?;
///     part.finish()
/// }
/// ```
#[derive(Debug)]
pub struct PartSink {
    volume: VolumePartWriter,
    box_size: Size3,
}

impl PartSink {
    /// A sink that fills the part's shards with boxes of whole chunks.
    pub(super) fn new(volume: VolumePartWriter, box_size: Size3) -> Self {
        Self { volume, box_size }
    }
}

impl Sink for PartSink {
    type Finished = ();

    fn box_size(&self) -> Size3 {
        self.box_size
    }

    fn scratch_folder(&self) -> PathBuf {
        self.volume.chunks().work_folder()
    }

    fn has(&self, region: &Region) -> bool {
        self.volume.chunks().is_written(region)
    }

    fn parts(&self, region: &Region) -> usize {
        self.volume.chunks().chunks_in(region)
    }

    fn put(&self, region: &Region, slabs: &[&[u8]], part: usize) -> Result<()> {
        self.volume.chunks().put_chunk(region, slabs, part)
    }

    fn finish(self) -> Result<()> {
        self.volume.finish()
    }
}
