//! Writes Blosc 1 frames (§6).
//!
//! Planes that hardly compress are stored, so that a reader uses them in place. Effort here pays at every read.

use super::frame::{HEADER_BYTES, VERSION, VERSION_LZ, flag, splits};
use super::{lz4, shuffle};
use crate::format::array::{BloscParameters, Compressor, Shuffle};

/// A stream that does not shrink to this share is stored: a copy in place decodes faster than it compresses.
const STORED_PERCENT: usize = 97;

/// An encoder of frames with its buffers; one for each thread.
pub struct Encoder {
    parameters: BloscParameters,
    typesize: usize,
    shuffled: Vec<u8>,
    stream: Vec<u8>,
    zstd: Option<zstd_safe::CCtx<'static>>,
}

impl Encoder {
    /// An encoder of elements of `typesize` bytes.
    pub fn new(parameters: BloscParameters, typesize: usize) -> Self {
        let zstd = (parameters.compressor == Compressor::Zstd).then(zstd_safe::CCtx::create);
        Self { parameters, typesize, shuffled: Vec::new(), stream: Vec::new(), zstd }
    }

    /// Appends the frame of `voxels` (1 to 2³¹ − 1 bytes of whole elements) to `out`.
    pub fn encode(&mut self, voxels: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let BloscParameters { compressor, shuffle, block_bytes, .. } = self.parameters;
        let block_bytes =
            (block_bytes - block_bytes % self.typesize).clamp(self.typesize, voxels.len());
        // Split streams only make sense of byte planes.
        let unsplit = shuffle != Shuffle::Byte;
        let split = splits(unsplit, self.typesize, block_bytes);
        let format: u8 = match compressor {
            Compressor::Lz4 => 1,
            Compressor::Zstd => 4,
        };
        let mut flags = format << flag::FORMAT_SHIFT;
        flags |= match shuffle {
            Shuffle::None => 0,
            Shuffle::Byte => flag::SHUFFLE,
            Shuffle::Bit => flag::BITSHUFFLE,
        };
        if unsplit {
            flags |= flag::UNSPLIT;
        }
        let table = begin + HEADER_BYTES;
        out.extend_from_slice(&[VERSION, VERSION_LZ, flags, self.typesize as u8]);
        out.extend_from_slice(&(voxels.len() as u32).to_le_bytes());
        out.extend_from_slice(&(block_bytes as u32).to_le_bytes());
        out.resize(table + 4 * voxels.len().div_ceil(block_bytes), 0);
        for (i, block) in voxels.chunks(block_bytes).enumerate() {
            let start = (out.len() - begin) as u32;
            out[table + 4 * i..][..4].copy_from_slice(&start.to_le_bytes());
            let streams = if split && block.len() == block_bytes { self.typesize } else { 1 };
            self.encode_block(block, streams, out);
        }
        if out.len() - begin >= HEADER_BYTES + voxels.len() {
            out.truncate(table);
            out[begin + 2] |= flag::MEMCPYED;
            out.extend_from_slice(voxels);
        }
        let cbytes = (out.len() - begin) as u32;
        out[begin + 12..table].copy_from_slice(&cbytes.to_le_bytes());
    }

    fn encode_block(&mut self, block: &[u8], streams: usize, out: &mut Vec<u8>) {
        self.shuffled.resize(block.len(), 0);
        match self.parameters.shuffle {
            Shuffle::None => self.shuffled.copy_from_slice(block),
            Shuffle::Byte => shuffle::shuffle_bytes(block, &mut self.shuffled, self.typesize),
            Shuffle::Bit => shuffle::shuffle_bits(block, &mut self.shuffled, self.typesize),
        }
        for stream in self.shuffled.chunks_exact(block.len() / streams) {
            let limit = stream.len() * STORED_PERCENT / 100;
            let fits = match &mut self.zstd {
                Some(zstd) => {
                    self.stream.resize(limit, 0);
                    let encoded =
                        zstd.compress(&mut self.stream[..], stream, self.parameters.level);
                    self.stream.truncate(encoded.unwrap_or(0));
                    encoded.is_ok()
                }
                None => lz4::encode(stream, &mut self.stream, self.parameters.level, limit),
            };
            let bytes = if fits { &self.stream[..] } else { stream };
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}
