//! Completes a volume whose voxels are written: makes its coarser levels, each of the one before,
//! and then what lies beside them (§8).
//!
//! # Invariants
//! - Memory is that of some chunks for each thread, and the encoded chunks of one shard.
//! - A level depends on the voxels of the one before alone: not on threads, nor on the order in
//!   which chunks are made.

use bytemuck::{cast_slice, cast_slice_mut};

use super::options::OpenOptions;
use super::spec::VolumeSpec;
use super::volume_files::VolumeFiles;
use crate::array::channels::Channels;
use crate::array::context::ArrayContext;
use crate::array::handle::ArrayHandle;
use crate::array::reduce::{Averaged, Reduction, reduce};
use crate::array::shards::Verify;
use crate::array::statistics::RunningStatistics;
use crate::array::{ReadContext, read_patches};
use crate::format::attributes::{DocumentChecksums, Kind, SourceFile, StoredLevel};
use crate::format::grid::{ChunkId, ShardId, iter_box};
use crate::format::levels::{layout_of, level_folder, shard_list_folder};
use crate::memory::zeroed;
use crate::sys::executor::Executor;
use crate::sys::file::Access;
use crate::{Padding, Result, Size3, with_voxel};

/// Writes the coarser levels, sidecars and metadata of a volume, and returns the checksums of its
/// documents. `made` is called after each shard of a level with the bytes of its voxels.
///
/// # Errors
/// [`Error::Incomplete`](crate::Error::Incomplete) if chunks are missing,
/// [`Error::Io`](crate::Error::Io), and that of `made`.
pub(super) fn finish_volume(
    files: VolumeFiles,
    statistics: Option<RunningStatistics>,
    source: Option<SourceFile>,
    executor: &Executor,
    made: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<DocumentChecksums> {
    let shards = files.finish_shards()?;
    let levels = make_levels(&files, shards.crc32c, executor, made)?;
    files.finish(shards, statistics, source, levels)
}

/// Makes the levels 1, 2, … of a volume whose shards and their list are written.
fn make_levels(
    finest: &VolumeFiles,
    mut shards_crc32c: u32,
    executor: &Executor,
    made: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<StoredLevel>> {
    let (spec, folder) = (finest.spec(), finest.folder());
    let reduction = match spec.kind {
        Kind::Image => Reduction::Mean,
        Kind::Labels => Reduction::Mode,
    };
    let (mut before, mut layout) = ([1; 3], spec.layout.clone());
    let mut levels = Vec::new();
    for (number, factors) in spec.level_factors()?.into_iter().enumerate() {
        let list = (folder.join(shard_list_folder(number)), shards_crc32c);
        let array =
            ArrayHandle::new(folder.join(level_folder(number)), layout, list, unshared_context());
        layout = layout_of(&spec.layout, factors);
        let spec = VolumeSpec { layout: layout.clone(), ..spec.clone() };
        let files = VolumeFiles::create_level(number + 1, folder.clone(), &spec)?;
        let step = [0, 1, 2].map(|a| factors[a] / before[a]);
        let maker = LevelMaker { source: &array, files: &files, step, reduction };
        for shard in layout.shards() {
            made(maker.make_shard(shard, executor)?)?;
        }
        let level = files.finish_level(factors)?;
        (before, shards_crc32c) = (factors, level.shards_crc32c);
        levels.push(level);
    }
    Ok(levels)
}

/// What reads one level: no cache, for each chunk is read once, and no map, whose pages would count
/// as memory. Every checksum is compared: a level is made of what the disk holds.
fn unshared_context() -> std::sync::Arc<ArrayContext> {
    let options = OpenOptions::default().cache_bytes(0).threads(1);
    ArrayContext::new(options.access(Access::Read).verify(Verify::Always).array_options())
}

/// Makes the chunks of a level of the voxels of the one before.
struct LevelMaker<'a> {
    source: &'a ArrayHandle,
    files: &'a VolumeFiles,
    /// Voxels of the source in one of the level, 1 or 2 along each axis.
    step: Size3,
    reduction: Reduction,
}

impl LevelMaker<'_> {
    /// Makes all chunks of a shard; returns the bytes of their voxels.
    fn make_shard(&self, shard: ShardId, executor: &Executor) -> Result<u64> {
        let layout = &self.files.spec().layout;
        let channel = shard.channel;
        let cells = layout.shard_cells(shard);
        let ids: Vec<_> = iter_box(cells).map(|at| ChunkId { channel, at }).collect();
        let dtype = layout.dtype;
        let make = |(): &mut (), n: usize| with_voxel!(dtype, T => self.make_chunk::<T>(ids[n]));
        executor.share(ids.len(), || (), make)?;
        let voxels: usize = ids.iter().map(|id| layout.chunk_region(id.at).len()).sum();
        Ok((voxels * dtype.size()) as u64)
    }

    fn make_chunk<T: Averaged>(&self, id: ChunkId) -> Result<()> {
        let (step, files) = (self.step, self.files);
        let inside = files.spec().layout.chunk_region(id.at);
        let extents = self.source.layout().size;
        let start = [0, 1, 2].map(|a| inside.start[a] as usize * step[a]);
        let size = [0, 1, 2].map(|a| (inside.size[a] * step[a]).min(extents[a] - start[a]));
        let what = || "the voxels of a chunk of a level".to_owned();
        let mut voxels: Vec<T> = zeroed(size.iter().product(), what)?;
        let resources = self.source.resources();
        let context = ReadContext { cache: &resources.cache, executor: None };
        let (starts, channels) =
            ([start.map(|n| n as i64)], Channels::from(id.channel..id.channel + 1));
        let out = cast_slice_mut(&mut voxels);
        read_patches(self.source, &starts, size, Padding::None, &channels, out, context)?;
        let mut reduced: Vec<T> = zeroed(inside.len(), what)?;
        reduce(&voxels, size, step, self.reduction, &mut reduced);
        drop(voxels);
        let plane = inside.size[1] * inside.size[2];
        let planes: Vec<&[u8]> = reduced.chunks_exact(plane).map(cast_slice).collect();
        let put = files.put(&planes, &inside, id);
        put.map(drop).map_err(|error| error.of_volume(&files.spec().name))
    }
}
