//! Writes one volume from z layers: cut into chunks, encoded on all threads, collected into whole shards.
//!
//! # Invariants
//! - Layers come in order, channels outermost; memory is one layer of the caller plus the encoded chunks of one slab of shards.
//! - A shard file is written once, whole.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::chunk::{ChunkEncoder, ChunkResult, Encoded};
use super::figures::Figures;
use super::flush::Flushes;
use super::shard::{Totals, write_shard};
use crate::format::array::ArrayLayout;
use crate::format::attributes::{Kind, SourceFile};
use crate::format::grid::{ChunkId, ShardId, box_of};
use crate::format::layout::Codec;
use crate::store::pool::Pool;
use crate::store::weights::{self, ChunkSums};
use crate::{Affine, Error, Region, Result, Size3};

/// What a volume will be.
#[derive(Clone, Debug)]
pub struct VolumeSpec {
    /// Its name in the subject.
    pub name: String,
    /// Image or labels.
    pub kind: Kind,
    /// Shape, type, chunks, shards and codec; see [`crate::format::layout::choose`].
    pub layout: ArrayLayout,
    /// The codec's name for the metadata.
    pub codec: Codec,
    /// What the layout was chosen for.
    pub patch_sizes: Vec<Size3>,
    /// Voxel centre to RAS+ mm.
    pub affine: Affine,
    /// Real value = stored value × slope + intercept.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// Channels that come together in a layer; divides the number of channels.
    pub interleaved: usize,
}

/// A volume in preparation.
pub struct VolumeWriter {
    folder: PathBuf,
    spec: VolumeSpec,
    pool: Arc<Pool>,
    next: (usize, usize),
    slab: Vec<Vec<Encoded>>,
    figures: Figures,
    counts: Vec<(u64, Vec<(i64, u32)>)>,
    /// Of the chunks so far, where they are wanted.
    sums: Option<Vec<(u64, f64)>>,
    source: Option<SourceFile>,
    shard_files: u64,
    flushes: Flushes,
}

impl VolumeWriter {
    pub(super) fn create(folder: PathBuf, spec: VolumeSpec, pool: Arc<Pool>) -> Result<Self> {
        spec.layout.validate().map_err(Error::Usage)?;
        spec.affine.validate().map_err(Error::Usage)?;
        let channels = spec.layout.channel_count();
        if spec.interleaved == 0 || !channels.is_multiple_of(spec.interleaved) {
            return Err(Error::usage(format!(
                "{} interleaved channels do not divide {channels}",
                spec.interleaved
            )));
        }
        let level = folder.join("0");
        fs::create_dir_all(&level).map_err(Error::io(&level, "cannot create"))?;
        let [_, sy, sx] = spec.layout.shard_grid();
        let slab = (0..spec.interleaved * sy * sx).map(|_| Vec::new()).collect();
        Ok(Self {
            folder,
            spec,
            pool,
            next: (0, 0),
            slab,
            figures: Figures::NONE,
            counts: Vec::new(),
            sums: None,
            source: None,
            shard_files: 0,
            flushes: Flushes::default(),
        })
    }

    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The volume's layout.
    pub fn layout(&self) -> &ArrayLayout {
        &self.spec.layout
    }

    /// Z planes of the next layer; 0 if all are written.
    pub fn next_planes(&self) -> usize {
        let (layout, (outer, z)) = (&self.spec.layout, self.next);
        if outer * self.spec.interleaved == layout.channel_count() {
            0
        } else {
            layout.chunk[0].min(layout.size[0] - z)
        }
    }

    /// Bytes of a full layer: what a caller's buffer needs.
    pub fn layer_bytes(&self) -> usize {
        let layout = &self.spec.layout;
        self.spec.interleaved
            * layout.chunk[0].min(layout.size[0])
            * layout.size[1]
            * layout.size[2]
            * layout.dtype.size()
    }

    /// Makes the volume one of weights: the sums of its chunks will stand beside it. Before the first layer.
    pub fn sum_chunks(&mut self) {
        debug_assert_eq!(self.next, (0, 0), "sums begin with the first layer");
        self.sums = Some(Vec::new());
    }

    /// Notes the file that the voxels come from.
    pub fn set_source(&mut self, source: SourceFile) {
        self.source = Some(source);
    }

    /// Writes the next [`VolumeWriter::next_planes`] planes: `(interleaved, z, y, x)` in C order.
    ///
    /// # Errors
    /// [`Error::BufferLength`]; [`Error::Data`] if a label map or weights hold something else; [`Error::Io`].
    pub fn write_layer(&mut self, voxels: &[u8]) -> Result<()> {
        let layout = self.spec.layout.clone();
        let planes = self.next_planes();
        let t = layout.dtype.size();
        let expected = self.spec.interleaved * planes * layout.size[1] * layout.size[2] * t;
        if voxels.len() != expected || planes == 0 {
            return Err(Error::BufferLength { found: voxels.len() / t, expected: expected / t });
        }
        let (outer, z) = self.next;
        let (cz, [_, sy, sx]) = (z / layout.chunk[0], layout.shard_grid());
        let shard_chunks = layout.shard_chunks();
        let chunk_grid = layout.chunk_grid();
        let slab_ends = (cz + 1) % shard_chunks[0] == 0 || cz + 1 == chunk_grid[0];
        let mut bad: Option<([i64; 3], String)> = None;
        let layer = Region::new([z as i64, 0, 0], [planes, layout.size[1], layout.size[2]]);
        for inner in 0..self.spec.interleaved {
            let channel = outer * self.spec.interleaved + inner;
            let plane_bytes = layout.size[1] * layout.size[2] * t;
            let layer_planes = voxels[inner * planes * plane_bytes..][..planes * plane_bytes]
                .chunks_exact(plane_bytes)
                .collect::<Vec<_>>();
            for (at, held) in box_of([0..1, 0..sy, 0..sx]).zip(inner * sy * sx..) {
                let shard = ShardId { channel, at: [cz / shard_chunks[0], at[1], at[2]] };
                let [ys, xs] = [1, 2].map(|a| {
                    shard.at[a] * shard_chunks[a]
                        ..((shard.at[a] + 1) * shard_chunks[a]).min(chunk_grid[a])
                });
                let ids: Vec<ChunkId> =
                    box_of([cz..cz + 1, ys, xs]).map(|at| ChunkId { channel, at }).collect();
                let encode = |encoder: &mut ChunkEncoder, &id: &ChunkId| {
                    encoder.encode(&self.spec, self.sums.is_some(), &layer_planes, &layer, id)
                };
                let results: Vec<Result<ChunkResult, String>> = self.pool.install(|| {
                    ids.par_iter().map_init(|| ChunkEncoder::new(&layout), encode).collect()
                })?;
                for result in results {
                    let result = result.map_err(|message| Error::data(&self.spec.name, message))?;
                    self.figures.merge(&result.figures);
                    if !result.labels.is_empty() {
                        self.counts.push((layout.chunk_index(result.id), result.labels));
                    }
                    match (&mut self.sums, result.sum) {
                        (None, _) => {}
                        (Some(sums), Ok(sum)) => sums.push((layout.chunk_index(result.id), sum)),
                        (Some(_), Err(weight)) => {
                            let start = layout.chunk_region(result.id.at).start;
                            let place = weight.place(start);
                            if bad.as_ref().is_none_or(|first| place < first.0) {
                                bad = Some((place, weight.message(start)));
                            }
                        }
                    }
                    if let Some(bytes) = result.bytes {
                        self.slab[held].push(Encoded { slot: layout.shard_of(result.id).1, bytes });
                    }
                }
                if slab_ends {
                    let chunks = std::mem::take(&mut self.slab[held]);
                    if let Some(file) = write_shard(&self.folder, &layout, shard, chunks)? {
                        self.shard_files += 1;
                        self.flushes.push(&self.folder, || file.flush())?;
                    }
                }
            }
        }
        if let Some((_, message)) = bad {
            return Err(Error::data(&self.spec.name, message));
        }
        self.next = if z + planes == layout.size[0] { (outer + 1, 0) } else { (outer, z + planes) };
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let planes = self.next_planes();
        if planes != 0 {
            return Err(Error::usage(format!(
                "volume {:?} is not finished: {planes} planes are due at {:?}",
                self.spec.name, self.next
            )));
        }
        self.flushes.finish()?;
        let totals =
            Totals { figures: self.figures, counts: self.counts, shard_files: self.shard_files };
        totals.write(&self.folder, &self.spec, self.source.take())?;
        if let Some(mut sums) = self.sums {
            sums.sort_unstable_by_key(|sum| sum.0);
            let sums = ChunkSums(sums.into_iter().map(|sum| sum.1).collect());
            sums.write(&self.folder.join(weights::FOLDER), &self.folder)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for VolumeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeWriter")
            .field("spec", &self.spec)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
