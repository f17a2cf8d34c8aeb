//! Writes one volume from z layers.
//!
//! # Invariants
//! - Layers come in order, channels outermost.
//! - Memory is one layer of the caller, and the encoded chunks of one slab of shards.

use std::fmt;
use std::sync::Arc;

use super::pyramid::finish_volume;
use super::spec::VolumeSpec;
use super::volume::folder_bytes;
use super::volume_files::{ChunkError, VolumeFiles};
use crate::array::statistics::RunningStatistics;
use crate::format::array::ArrayLayout;
use crate::format::attributes::{DocumentChecksums, SourceFile};
use crate::format::grid::{ChunkId, ShardId, iter_box};
use crate::sys::executor::Executor;
use crate::sys::folder::Folder;
use crate::{Error, Region, Result};

/// A volume in preparation, written layer by layer; see [`crate::SubjectWriter::volume`].
///
/// ```
/// use voxquarry::format::attributes::Kind;
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
/// use voxquarry::{Dtype, IfExists, StoreWriter, VolumeSpec};
///
/// let shape =
///     VolumeShape { channels: None, size: [8, 16, 16], dtype: Dtype::UInt8, interleaved: 1 };
/// let layout = layout::choose(&shape, &[[8; 3]], Codec::Fast, 64 << 20)?;
/// # let folder = tempfile::tempdir().unwrap();
/// let mut subject = StoreWriter::open(folder.path().join("store.zarr"), None)?.subject("case01")?;
/// let mut volume = subject.volume(VolumeSpec::new("ct", Kind::Image, layout))?;
/// while volume.next_planes() > 0 {
///     volume.write_layer(&vec![7; volume.layer_bytes()])?; // The next planes, in C order.
/// }
/// subject.publish([volume.finish()?], IfExists::Error)?;
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub struct VolumeWriter {
    files: VolumeFiles,
    executor: Arc<Executor>,
    /// The group of interleaved channels and the z plane that come next.
    next: (usize, usize),
    statistics: RunningStatistics,
    source: Option<SourceFile>,
}

/// Proof that all voxels of a volume are on the disk; [`crate::SubjectWriter::publish`] asks for
/// it.
///
/// ```
/// use voxquarry::{FinishedVolume, IfExists, Result, SubjectWriter, VolumeWriter};
///
/// fn publish(subject: SubjectWriter, ct: VolumeWriter, seg: VolumeWriter) -> Result<()> {
///     let volumes: [FinishedVolume; 2] = [ct.finish()?, seg.finish()?];
///     subject.publish(volumes, IfExists::Error)
/// }
/// ```
#[derive(Debug)]
pub struct FinishedVolume {
    pub(super) name: String,
    pub(super) checksums: DocumentChecksums,
    stored_bytes: u64,
}

impl FinishedVolume {
    /// Bytes of all its files: shards, sidecars and metadata.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }
}

impl VolumeWriter {
    pub(super) fn create(
        folder: Folder,
        spec: VolumeSpec,
        executor: Arc<Executor>,
    ) -> Result<Self> {
        let files = VolumeFiles::create(folder, spec, None, None)?;
        Ok(Self {
            files,
            executor,
            next: (0, 0),
            statistics: RunningStatistics::NONE,
            source: None,
        })
    }

    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.spec().name
    }

    /// The volume's layout.
    pub fn layout(&self) -> &ArrayLayout {
        &self.spec().layout
    }

    fn spec(&self) -> &VolumeSpec {
        self.files.spec()
    }

    /// Z planes of the next layer; 0 if all are written.
    pub fn next_planes(&self) -> usize {
        let (layout, (group, z)) = (self.layout(), self.next);
        if group * self.spec().interleaved == layout.channel_count() {
            0
        } else {
            layout.chunk[0].min(layout.size[0] - z)
        }
    }

    /// Bytes of a full layer: the size of the caller's buffer.
    pub fn layer_bytes(&self) -> usize {
        let layout = self.layout();
        self.spec().interleaved
            * layout.chunk[0].min(layout.size[0])
            * layout.size[1]
            * layout.size[2]
            * layout.dtype.size()
    }

    /// Records the file that the voxels come from.
    pub fn set_source(&mut self, source: SourceFile) {
        self.source = Some(source);
    }

    /// Writes the next [`VolumeWriter::next_planes`] planes: `(interleaved, z, y, x)` in C order.
    ///
    /// # Errors
    /// [`Error::BufferLength`]; [`Error::Data`] with the first voxel of a label map or of weights
    /// that is neither; [`Error::Io`].
    pub fn write_layer(&mut self, voxels: &[u8]) -> Result<()> {
        let layout = self.layout();
        let (planes, interleaved) = (self.next_planes(), self.spec().interleaved);
        let t = layout.dtype.size();
        let plane_bytes = layout.size[1] * layout.size[2] * t;
        let expected = interleaved * planes * plane_bytes;
        if voxels.len() != expected || planes == 0 {
            return Err(Error::BufferLength { found: voxels.len() / t, expected: expected / t });
        }
        let (group, z) = self.next;
        let layer = Region::new([z as i64, 0, 0], [planes, layout.size[1], layout.size[2]]);
        let all_planes: Vec<&[u8]> = voxels.chunks_exact(plane_bytes).collect();
        let ids = layer_chunks(layout, group * interleaved..(group + 1) * interleaved, z);
        let put = |(): &mut (), n: usize| {
            let id: ChunkId = ids[n];
            let inner = id.channel - group * interleaved;
            Ok(self.files.put(&all_planes[inner * planes..][..planes], &layer, id))
        };
        let results = self.executor.map(ids.len(), || (), put)?;
        let next = if z + planes == layout.size[0] { (group + 1, 0) } else { (group, z + planes) };
        let statistics = merge(self.statistics, results);
        self.statistics = statistics.map_err(|error| error.of_volume(self.name()))?;
        self.next = next;
        Ok(())
    }

    /// Writes the volume's coarser levels, sidecars and metadata.
    /// [`crate::SubjectWriter::publish`] takes the result.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if layers are missing, [`Error::Io`].
    pub fn finish(self) -> Result<FinishedVolume> {
        self.finish_observed(&mut |_| Ok(()))
    }

    /// As [`finish`](Self::finish); calls `made` with the bytes of the voxels of each shard of a
    /// coarser level, before compression.
    ///
    /// # Errors
    /// As [`finish`](Self::finish); that of `made`, which ends the work.
    pub fn finish_observed(
        self,
        made: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<FinishedVolume> {
        let planes = self.next_planes();
        let name = self.name().to_owned();
        if planes != 0 {
            let (group, z) = self.next;
            let channel = group * self.spec().interleaved;
            let missing = format!("{planes} planes are due at channel {channel}, z {z}");
            return Err(Error::Incomplete { what: format!("volume {name:?}"), missing });
        }
        let folder = self.files.folder().to_owned();
        let statistics = Some(self.statistics);
        let checksums = finish_volume(self.files, statistics, self.source, &self.executor, made)?;
        Ok(FinishedVolume { name, checksums, stored_bytes: folder_bytes(&folder)? })
    }
}

/// The chunks of a layer that begins at plane `z`, shard by shard.
fn layer_chunks(layout: &ArrayLayout, channels: std::ops::Range<usize>, z: usize) -> Vec<ChunkId> {
    let (cz, [_, sy, sx]) = (z / layout.chunk[0], layout.shard_grid());
    let of_shard = |channel, at| {
        let [_, ys, xs] = layout.shard_cells(ShardId { channel, at });
        iter_box([cz..cz + 1, ys, xs]).map(move |at| ChunkId { channel, at })
    };
    channels
        .flat_map(|channel| {
            iter_box([0..1, 0..sy, 0..sx]).flat_map(move |shard| of_shard(channel, shard))
        })
        .collect()
}

/// Merges the statistics of a layer's chunks in their order into those of the layers before.
///
/// # Errors
/// That of the voxel with the smallest index `(z, y, x)`; an error of storage before all others.
fn merge(
    mut statistics: RunningStatistics,
    results: Vec<Result<RunningStatistics, ChunkError>>,
) -> Result<RunningStatistics, ChunkError> {
    let mut first: Option<ChunkError> = None;
    for result in results {
        match (result, &first) {
            (Ok(chunk), _) => statistics.merge(&chunk),
            (Err(error @ ChunkError::Storage(_)), _) => return Err(error),
            (
                Err(ChunkError::Voxel { index, .. }),
                Some(ChunkError::Voxel { index: smallest, .. }),
            ) if index >= *smallest => {}
            (Err(error), _) => first = Some(error),
        }
    }
    first.map_or(Ok(statistics), Err)
}

impl fmt::Debug for VolumeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolumeWriter")
            .field("spec", self.spec())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
