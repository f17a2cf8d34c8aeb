//! Cuts chunks out of voxels in memory and encodes them.

use crate::codec::{Encoder, checksum};
use crate::format::array::{ArrayLayout, ChunkCodec};
use crate::format::grid::ChunkId;
use crate::memory::{reserve, zeroed};
use crate::{Error, Region, Result};

/// More than a compressor takes for a block.
const ENCODER_BYTES: u64 = 8 << 20;

/// Buffers of one thread that cuts out and encodes chunks.
pub(crate) struct ChunkEncoder {
    voxels: Vec<u8>,
    encoded: Vec<u8>,
    encoder: Option<Encoder>,
}

impl ChunkEncoder {
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn new(layout: &ArrayLayout) -> Result<Self> {
        let encoder = match layout.codec {
            ChunkCodec::Raw => None,
            ChunkCodec::Blosc(parameters) => {
                Some(Encoder::new(parameters, layout.dtype.size()).chunk(layout.chunk))
            }
        };
        let voxels = zeroed(layout.chunk_bytes(), || "the voxels of a chunk".to_owned())?;
        Ok(Self { voxels, encoded: Vec::new(), encoder })
    }

    /// Cuts chunk `id` out of one channel's `planes` of `source`, which holds all of it.
    ///
    /// Returns its voxels in C order; those beyond the array's edge are zero.
    pub(crate) fn cut(
        &mut self,
        layout: &ArrayLayout,
        planes: &[&[u8]],
        source: &Region,
        id: ChunkId,
    ) -> &[u8] {
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
        &self.voxels
    }

    /// Encodes the chunk that was cut out last, with its checksum; `None` if all its voxels are the
    /// fill value.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn encode(&mut self) -> Result<Option<Vec<u8>>> {
        let what = || "an encoded chunk".to_owned();
        if self.voxels.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        self.encoded.clear();
        reserve(&mut self.encoded, self.voxels.len(), what)?;
        match &mut self.encoder {
            Some(encoder) => {
                encoder.encode_by_trial(&self.voxels, &mut self.encoded);
                if encoder.lacks_memory() {
                    return Err(Error::OutOfMemory { what: what(), bytes: ENCODER_BYTES });
                }
            }
            None => self.encoded.extend_from_slice(&self.voxels),
        }
        self.encoded.extend_from_slice(&checksum(&self.encoded).to_le_bytes());
        // A vector that grew may be half empty, and chunks are held until their shard is complete.
        let mut encoded = Vec::new();
        reserve(&mut encoded, self.encoded.len(), what)?;
        encoded.extend_from_slice(&self.encoded);
        Ok(Some(encoded))
    }
}
