//! Writes one volume from z layers: cut into chunks, encoded on all threads, collected into whole shards.
//!
//! # Invariants
//! - Layers come in order, channels outermost; memory is one layer of the caller plus the encoded chunks of one slab of shards.
//! - A shard file is written once, whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::figures::{Figures, labels_in};
use crate::codec::checksum;
use crate::codec::encode::Encoder;
use crate::format::array::{ArrayLayout, ChunkCodec};
use crate::format::attributes::{Kind, SourceFile, VolumeAttributes};
use crate::format::document;
use crate::format::grid::{ChunkId, ShardId, box_of};
use crate::format::index::IndexBuilder;
use crate::format::layout::Codec;
use crate::store::pool::Pool;
use crate::store::summary::LabelCounts;
use crate::store::weights::{self, BadWeight, ChunkSums, Weigher};
use crate::{Affine, Error, Result, Size3};

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
}

struct Encoded {
    slot: usize,
    bytes: Vec<u8>,
}

struct ChunkResult {
    id: ChunkId,
    bytes: Option<Vec<u8>>,
    figures: Figures,
    labels: Vec<(i64, u32)>,
    sum: Result<f64, BadWeight>,
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
        let pool = self.pool.get()?;
        let mut bad: Option<([i64; 3], String)> = None;
        for inner in 0..self.spec.interleaved {
            let channel = outer * self.spec.interleaved + inner;
            let plane_bytes = layout.size[1] * layout.size[2] * t;
            let channel_voxels = &voxels[inner * planes * plane_bytes..][..planes * plane_bytes];
            for (at, held) in box_of([0..1, 0..sy, 0..sx]).zip(inner * sy * sx..) {
                let shard = ShardId { channel, at: [cz / shard_chunks[0], at[1], at[2]] };
                let [ys, xs] = [1, 2].map(|a| {
                    shard.at[a] * shard_chunks[a]
                        ..((shard.at[a] + 1) * shard_chunks[a]).min(chunk_grid[a])
                });
                let ids: Vec<ChunkId> =
                    box_of([cz..cz + 1, ys, xs]).map(|at| ChunkId { channel, at }).collect();
                let encode = |encoder: &mut ChunkEncoder, &id: &ChunkId| {
                    encoder.encode(&self.spec, self.sums.is_some(), channel_voxels, planes, id)
                };
                let results: Vec<Result<ChunkResult, String>> = pool.install(|| {
                    ids.par_iter().map_init(|| ChunkEncoder::new(&layout), encode).collect()
                });
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
                    self.write_shard(shard, chunks)?;
                }
            }
        }
        if let Some((_, message)) = bad {
            return Err(Error::data(&self.spec.name, message));
        }
        self.next = if z + planes == layout.size[0] { (outer + 1, 0) } else { (outer, z + planes) };
        Ok(())
    }

    fn write_shard(&mut self, shard: ShardId, mut chunks: Vec<Encoded>) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let layout = &self.spec.layout;
        let order = layout.morton_slots();
        let mut rank = vec![0; order.len()];
        for (place, &slot) in order.iter().enumerate() {
            rank[slot] = place;
        }
        chunks.sort_by_key(|chunk| rank[chunk.slot]);
        let path = self.folder.join("0").join(layout.shard_key(shard));
        let parent = path.parent().expect("a shard lies in a folder");
        fs::create_dir_all(parent).map_err(Error::io(parent, "cannot create"))?;
        let (mut index, mut offset) = (IndexBuilder::new(order.len()), 0);
        for chunk in &chunks {
            index.set(chunk.slot, offset, chunk.bytes.len());
            offset += chunk.bytes.len() as u64;
        }
        write_file(&path, chunks.iter().map(|c| &c.bytes[..]).chain([&index.encode()[..]]))?;
        self.shard_files += 1;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let layout = &self.spec.layout;
        let planes = self.next_planes();
        if planes != 0 {
            return Err(Error::usage(format!(
                "volume {:?} is not finished: {planes} planes are due at {:?}",
                self.spec.name, self.next
            )));
        }
        if self.spec.kind == Kind::Labels {
            self.counts.sort_unstable_by_key(|c| c.0);
            let mut counts = LabelCounts::new();
            let mut listed = self.counts.iter().peekable();
            for index in 0..layout.chunk_count() {
                let labels = listed.next_if(|c| c.0 == index).map_or(&[][..], |c| &c.1);
                counts.push(labels);
            }
            counts.write(&self.folder)?;
        }
        document::write(&self.folder.join("0"), &layout.to_json())?;
        let spec = &self.spec;
        let attributes = VolumeAttributes {
            kind: spec.kind,
            affine: spec.affine,
            slope: spec.slope,
            intercept: spec.intercept,
            patch_sizes: spec.patch_sizes.clone(),
            codec: spec.codec.name().to_owned(),
            statistics: self.figures.statistics(),
            shard_files: self.shard_files,
            source: self.source.take(),
        };
        document::write(
            &self.folder,
            &document::group(attributes.to_json(&spec.name, layout.channels.is_some())),
        )?;
        if let Some(mut sums) = self.sums {
            sums.sort_unstable_by_key(|sum| sum.0);
            let sums = ChunkSums(sums.into_iter().map(|sum| sum.1).collect());
            sums.write(&self.folder.join(weights::FOLDER), &self.folder)?;
        }
        Ok(())
    }
}

fn write_file<'a>(path: &Path, parts: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let file = File::create_new(path).map_err(Error::io(path, "cannot create"))?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    for part in parts {
        writer.write_all(part).map_err(Error::io(path, "cannot write"))?;
    }
    let file = writer.into_inner().map_err(|e| Error::io(path, "cannot write")(e.into_error()))?;
    file.sync_all().map_err(Error::io(path, "cannot flush"))
}

/// A thread's buffers for cutting out and encoding chunks.
struct ChunkEncoder {
    voxels: Vec<u8>,
    encoded: Vec<u8>,
    encoder: Option<Encoder>,
}

impl ChunkEncoder {
    fn new(layout: &ArrayLayout) -> Self {
        let encoder = match layout.codec {
            ChunkCodec::Raw => None,
            ChunkCodec::Blosc(parameters) => Some(Encoder::new(parameters, layout.dtype.size())),
        };
        Self { voxels: vec![0; layout.chunk_bytes()], encoded: Vec::new(), encoder }
    }

    /// Cuts chunk `id` out of one channel's layer of `planes` planes, and encodes it.
    fn encode(
        &mut self,
        spec: &VolumeSpec,
        weighs: bool,
        layer: &[u8],
        planes: usize,
        id: ChunkId,
    ) -> Result<ChunkResult, String> {
        let layout = &spec.layout;
        let t = layout.dtype.size();
        let inside = layout.chunk_region(id.at);
        debug_assert_eq!(inside.size[0], planes);
        if inside.size != layout.chunk {
            self.voxels.fill(0);
        }
        let [_, y0, x0] = inside.start.map(|v| v as usize);
        let [_, ny, nx] = layout.size;
        for z in 0..planes {
            for y in 0..inside.size[1] {
                let from = ((z * ny + y0 + y) * nx + x0) * t;
                let to = (z * layout.chunk[1] + y) * layout.chunk[2] * t;
                let bytes = inside.size[2] * t;
                self.voxels[to..to + bytes].copy_from_slice(&layer[from..from + bytes]);
            }
        }
        let figures = Figures::of(&self.voxels, layout, id.at);
        let labels = if spec.kind == Kind::Labels {
            labels_in(&self.voxels, layout.dtype, layout.chunk, inside)?
        } else {
            Vec::new()
        };
        let sum = if weighs {
            Weigher::new(layout.dtype, (spec.slope, spec.intercept)).sum(
                &self.voxels,
                layout.chunk,
                inside,
            )
        } else {
            Ok(0.0)
        };
        let bytes = self.voxels.iter().any(|&b| b != 0).then(|| {
            self.encoded.clear();
            match &mut self.encoder {
                Some(encoder) => encoder.encode_by_trial(&self.voxels, &mut self.encoded),
                None => self.encoded.extend_from_slice(&self.voxels),
            }
            self.encoded.extend_from_slice(&checksum(&self.encoded).to_le_bytes());
            // A vector that grew may be half empty, and these are held until their shard is whole.
            self.encoded.clone()
        });
        Ok(ChunkResult { id, bytes, figures, labels, sum })
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
