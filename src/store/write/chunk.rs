//! Cuts chunks out of voxels in memory and encodes them.

use super::VolumeSpec;
use super::figures::{Figures, labels_in};
use crate::Region;
use crate::codec::{Encoder, checksum};
use crate::format::array::{ArrayLayout, ChunkCodec};
use crate::format::attributes::Kind;
use crate::format::grid::ChunkId;
use crate::store::weights::{BadWeight, Weigher};

/// An encoded chunk and its slot in its shard.
pub(super) struct Encoded {
    pub(super) slot: usize,
    pub(super) bytes: Vec<u8>,
}

/// What became of a chunk; no bytes if all its voxels are the fill value.
pub(super) struct ChunkResult {
    pub(super) id: ChunkId,
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) figures: Figures,
    pub(super) labels: Vec<(i64, u32)>,
    /// Of its weights, or 0 where they are not asked for.
    pub(super) sum: Result<f64, BadWeight>,
}

/// A thread's buffers for cutting out and encoding chunks.
pub(super) struct ChunkEncoder {
    voxels: Vec<u8>,
    encoded: Vec<u8>,
    encoder: Option<Encoder>,
}

impl ChunkEncoder {
    pub(super) fn new(layout: &ArrayLayout) -> Self {
        let encoder = match layout.codec {
            ChunkCodec::Raw => None,
            ChunkCodec::Blosc(parameters) => Some(Encoder::new(parameters, layout.dtype.size())),
        };
        Self { voxels: vec![0; layout.chunk_bytes()], encoded: Vec::new(), encoder }
    }

    /// Cuts chunk `id` out of one channel's `planes` of `source`, which holds all of it, and encodes it.
    ///
    /// # Errors
    /// A sentence about the first voxel of a label map that is no label.
    pub(super) fn encode(
        &mut self,
        spec: &VolumeSpec,
        weighs: bool,
        planes: &[&[u8]],
        source: &Region,
        id: ChunkId,
    ) -> Result<ChunkResult, String> {
        let layout = &spec.layout;
        let t = layout.dtype.size();
        let inside = layout.chunk_region(id.at);
        if inside.size != layout.chunk {
            self.voxels.fill(0);
        }
        let first = [0, 1, 2].map(|a| (inside.start[a] - source.start[a]) as usize);
        let nx = source.size[2];
        for z in 0..inside.size[0] {
            let plane = planes[first[0] + z];
            for y in 0..inside.size[1] {
                let from = ((first[1] + y) * nx + first[2]) * t;
                let to = (z * layout.chunk[1] + y) * layout.chunk[2] * t;
                let bytes = inside.size[2] * t;
                self.voxels[to..to + bytes].copy_from_slice(&plane[from..from + bytes]);
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
