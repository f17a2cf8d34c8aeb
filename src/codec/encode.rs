//! Writes Blosc 1 frames (§6).
//!
//! Planes that hardly compress are stored, so that a reader uses them in place. Effort here pays at every read.

use super::frame::{HEADER_BYTES, VERSION, VERSION_LZ, flag, splits};
use super::kernel::Kernel;
use super::lz4;
use super::planes::Grouping;
use super::shuffle;
use super::zstd::Zstd;
use crate::format::array::{BloscParameters, Compressor, Shuffle};

/// A stream that does not shrink to this share is stored: a copy in place decodes faster than it compresses.
const STORED_PERCENT: usize = 97;

/// Shortest LZ4 matches that are kept, in bit planes and elsewhere; see [`lz4::encode`].
///
/// Measured on CT-like int16, bit planes: ratio 2.80 with 4 (all matches), 2.64 with 16, 2.56 with 24, 2.50 with 48, 2.40 with
/// 96; patches of 96³ and 128³ come 7 % faster with 24 than with 16, 8 % faster with 48 than with 24, and no faster with 96.
/// Brain MR uint8, plain, ratio and decoded GB/s with `LZ4_decompress_safe`: 4 3.51 at 8.7, 6 3.38 at 16, 8 3.34 at 20, 16 3.22
/// at 22.
/// float32, byte planes beside bit planes as the trial finds: ratio 2.77 with 12, 2.73 with 16, 2.70 with 20; patches of 96³ come
/// 5 % faster with 16 than with 12, 4 % faster with 20.
const BITS_MIN_MATCH: usize = 48;
const BYTES_MIN_MATCH: usize = 8;
const LONG_BYTES_MIN_MATCH: usize = 16;

/// Elements of so many bytes are long: most of their byte planes are noise, which is used in place, and their bits take long to join.
const LONG: usize = 4;

/// Plain bytes are chosen before bit planes up to this share of their length: they are ready once decompressed.
const PLAIN_PERCENT: usize = 105;

/// Byte planes are chosen before bit planes only below this share: more sequences make them slower to decode; but not those of long
/// elements: float32 patches of 96³ come 12 % faster at 105 than at 80, as well as without bit planes.
const BYTES_PERCENT: usize = 80;
const LONG_BYTES_PERCENT: usize = 105;

/// How a frame is encoded: what a reader need not be told, but for the shuffle.
#[derive(Clone, Copy)]
struct Way {
    shuffle: Shuffle,
    /// Shortest match of LZ4; Zstandard chooses it for each stream.
    min_match: usize,
}

impl Way {
    /// The way that goes with that shuffle of elements of `typesize` bytes.
    fn of(shuffle: Shuffle, typesize: usize) -> Self {
        let min_match = match shuffle {
            Shuffle::Bit => BITS_MIN_MATCH,
            Shuffle::Byte if typesize >= LONG => LONG_BYTES_MIN_MATCH,
            Shuffle::None | Shuffle::Byte => BYTES_MIN_MATCH,
        };
        Self { shuffle, min_match }
    }
}

/// An encoder of frames with its buffers; one for each thread.
pub struct Encoder {
    parameters: BloscParameters,
    typesize: usize,
    shuffled: Vec<u8>,
    stream: Vec<u8>,
    searched: Vec<u8>,
    zstd: Option<Zstd>,
}

impl Encoder {
    /// An encoder of elements of `typesize` bytes.
    pub fn new(parameters: BloscParameters, typesize: usize) -> Self {
        let zstd = (parameters.compressor == Compressor::Zstd).then(Zstd::new);
        Self {
            parameters,
            typesize,
            shuffled: Vec::new(),
            stream: Vec::new(),
            searched: Vec::new(),
            zstd,
        }
    }

    /// Appends the frame of `voxels` (1 to 2³¹ − 1 bytes of whole elements) to `out`.
    pub fn encode(&mut self, voxels: &[u8], out: &mut Vec<u8>) {
        self.encode_as(Way::of(self.parameters.shuffle, self.typesize), voxels, out);
    }

    /// As [`Encoder::encode`], but in the way that suits the middle block best.
    ///
    /// For LZ4, noise wants its bits apart; what repeats exactly, such as labels and values without noise, is shorter as
    /// bytes, and single bytes need not be put together again.
    pub fn encode_by_trial(&mut self, voxels: &[u8], out: &mut Vec<u8>) {
        let asked = Way::of(self.parameters.shuffle, self.typesize);
        if (self.parameters.compressor, asked.shuffle) != (Compressor::Lz4, Shuffle::Bit) {
            return self.encode_as(asked, voxels, out);
        }
        let (other, percent) = match self.typesize {
            1 => (Shuffle::None, PLAIN_PERCENT),
            LONG.. => (Shuffle::Byte, LONG_BYTES_PERCENT),
            _ => (Shuffle::Byte, BYTES_PERCENT),
        };
        let other = Way::of(other, self.typesize);
        let blocks: Vec<&[u8]> = voxels.chunks(self.block_bytes(voxels)).collect();
        let middle = blocks[blocks.len() / 2];
        let begin = out.len();
        let mut length = |way: Way| {
            let split = splits(way.shuffle != Shuffle::Byte, self.typesize, middle.len());
            self.encode_block(way, middle, if split { self.typesize } else { 1 }, out);
            let length = out.len() - begin;
            out.truncate(begin);
            length
        };
        let better = length(other) * 100 <= length(asked) * percent;
        self.encode_as(if better { other } else { asked }, voxels, out);
    }

    /// Bytes of a block of `voxels`: whole elements.
    fn block_bytes(&self, voxels: &[u8]) -> usize {
        let block_bytes = self.parameters.block_bytes;
        (block_bytes - block_bytes % self.typesize).clamp(self.typesize, voxels.len())
    }

    fn encode_as(&mut self, way: Way, voxels: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let (compressor, block_bytes) = (self.parameters.compressor, self.block_bytes(voxels));
        // Split streams only make sense of byte planes.
        let unsplit = way.shuffle != Shuffle::Byte;
        let split = splits(unsplit, self.typesize, block_bytes);
        let format: u8 = match compressor {
            Compressor::Lz4 => 1,
            Compressor::Zstd => 4,
        };
        let mut flags = format << flag::FORMAT_SHIFT;
        flags |= match way.shuffle {
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
            self.encode_block(way, block, streams, out);
        }
        if out.len() - begin >= HEADER_BYTES + voxels.len() {
            out.truncate(table);
            out[begin + 2] |= flag::MEMCPYED;
            out.extend_from_slice(voxels);
        }
        let cbytes = (out.len() - begin) as u32;
        out[begin + 12..table].copy_from_slice(&cbytes.to_le_bytes());
    }

    fn split(&mut self, grouping: Grouping, block: &[u8]) {
        shuffle::split(Kernel::best(), grouping, block, &mut self.shuffled, self.typesize);
    }

    fn encode_block(&mut self, way: Way, block: &[u8], streams: usize, out: &mut Vec<u8>) {
        self.shuffled.resize(block.len(), 0);
        match way.shuffle {
            Shuffle::None => self.shuffled.copy_from_slice(block),
            Shuffle::Byte => self.split(Grouping::Bytes, block),
            Shuffle::Bit => self.split(Grouping::Bits, block),
        }
        let level = self.parameters.level;
        for stream in self.shuffled.chunks_exact(block.len() / streams) {
            let limit = stream.len() * STORED_PERCENT / 100;
            let fits = if let Some(zstd) = &mut self.zstd {
                zstd.encode(stream, &mut self.stream, level, limit)
            } else {
                let buffer = &mut self.searched;
                lz4::encode(stream, &mut self.stream, buffer, level, way.min_match, limit)
            };
            let bytes = if fits { &self.stream[..] } else { stream };
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}
