//! Writes Blosc 1 frames (§6 of the specification).
//!
//! A volume is written once and read many times, so the encoder spends time to make decoding fast:
//! planes that hardly compress are stored, and a reader uses them in place.

use super::header::{HEADER_BYTES, VERSION, VERSION_LZ, flag, splits};
use super::lz4;
use super::planes::PlaneKind;
use super::shuffle;
use super::zstd::ZstdEncoder;
use crate::format::array::{BloscParameters, Compressor, Shuffle};
use crate::sys::isa::Isa;

/// A stream that does not shrink to this percentage is stored, which costs a reader nothing.
const STORED_PERCENT: usize = 97;

/// Shortest LZ4 matches that are kept in bit planes; see [`lz4::encode`].
///
/// Measured on CT-like int16: ratio 2.80 with 4 (all matches), 2.64 with 16, 2.56 with 24, 2.50
/// with 48, 2.40 with 96. Patches of 96³ and 128³ are read 7 % faster with 24 than with 16, 8 %
/// faster with 48 than with 24, and no faster with 96.
const BITS_MIN_MATCH: usize = 48;

/// As [`BITS_MIN_MATCH`], in byte planes and plain bytes.
///
/// Measured on brain MR, uint8, plain, with `LZ4_decompress_safe`: ratio 3.51 at 8.7 GB/s with 4,
/// 3.38 at 16 with 6, 3.34 at 20 with 8, 3.22 at 22 with 16.
const BYTES_MIN_MATCH: usize = 8;

/// As [`BITS_MIN_MATCH`], in byte planes of long elements.
///
/// Measured on float32, where the trial chooses byte or bit planes: ratio 2.77 with 12, 2.73 with
/// 16, 2.70 with 20. Patches of 96³ are read 5 % faster with 16 than with 12, 4 % faster with 20.
const LONG_BYTES_MIN_MATCH: usize = 16;

/// Smallest long element in bytes: most of its byte planes are noise, which is stored and used in
/// place, and its many bit planes are slow to join.
const LONG: usize = 4;

/// Plain bytes are preferred to bit planes up to this percentage of their length: they need no
/// unshuffling.
const PLAIN_PERCENT: usize = 105;

/// Byte planes are preferred to bit planes only below this percentage of their length: they have
/// more sequences, which are slower to decode.
const BYTES_PERCENT: usize = 80;

/// As [`BYTES_PERCENT`], for long elements.
///
/// float32 patches of 96³ are read 12 % faster with 105 than with 80, and as fast as without bit
/// planes.
const LONG_BYTES_PERCENT: usize = 105;

/// How the elements of a frame are shuffled and compressed.
#[derive(Clone, Copy)]
struct EncodeStrategy {
    shuffle: Shuffle,
    /// Shortest match of LZ4; Zstandard chooses it for each stream.
    min_match: usize,
}

impl EncodeStrategy {
    /// The strategy for that shuffle of elements of `typesize` bytes.
    fn of(shuffle: Shuffle, typesize: usize) -> Self {
        let min_match = match shuffle {
            Shuffle::Bit => BITS_MIN_MATCH,
            Shuffle::Byte if typesize >= LONG => LONG_BYTES_MIN_MATCH,
            Shuffle::None | Shuffle::Byte => BYTES_MIN_MATCH,
        };
        Self { shuffle, min_match }
    }
}

/// Encodes frames; one for each thread, since it owns its buffers.
pub struct Encoder {
    parameters: BloscParameters,
    typesize: usize,
    shuffled: Vec<u8>,
    stream: Vec<u8>,
    lz4: Vec<u8>,
    zstd: Option<ZstdEncoder>,
}

impl Encoder {
    /// An encoder of elements of `typesize` bytes.
    pub fn new(parameters: BloscParameters, typesize: usize) -> Self {
        let zstd = (parameters.compressor == Compressor::Zstd).then(ZstdEncoder::new);
        Self {
            parameters,
            typesize,
            shuffled: Vec::new(),
            stream: Vec::new(),
            lz4: Vec::new(),
            zstd,
        }
    }

    /// Appends the frame of `voxels` (1 to 2³¹ − 1 bytes of whole elements) to `out`.
    pub fn encode(&mut self, voxels: &[u8], out: &mut Vec<u8>) {
        self.encode_as(EncodeStrategy::of(self.parameters.shuffle, self.typesize), voxels, out);
    }

    /// As [`Encoder::encode`], but where LZ4 and bit planes are asked for, byte planes or plain
    /// bytes are used instead if that suits the middle block better.
    ///
    /// With LZ4, noisy values compress best as bit planes. Values that repeat exactly, such as
    /// labels, are shorter as bytes, and single bytes need no unshuffling.
    pub fn encode_by_trial(&mut self, voxels: &[u8], out: &mut Vec<u8>) {
        let asked = EncodeStrategy::of(self.parameters.shuffle, self.typesize);
        if (self.parameters.compressor, asked.shuffle) != (Compressor::Lz4, Shuffle::Bit) {
            return self.encode_as(asked, voxels, out);
        }
        let (other, percent) = match self.typesize {
            1 => (Shuffle::None, PLAIN_PERCENT),
            LONG.. => (Shuffle::Byte, LONG_BYTES_PERCENT),
            _ => (Shuffle::Byte, BYTES_PERCENT),
        };
        let other = EncodeStrategy::of(other, self.typesize);
        let blocks: Vec<&[u8]> = voxels.chunks(self.block_bytes(voxels)).collect();
        let middle = blocks[blocks.len() / 2];
        let begin = out.len();
        let mut length = |strategy: EncodeStrategy| {
            let split = splits(strategy.shuffle != Shuffle::Byte, self.typesize, middle.len());
            self.encode_block(strategy, middle, if split { self.typesize } else { 1 }, out);
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

    fn encode_as(&mut self, strategy: EncodeStrategy, voxels: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let (compressor, block_bytes) = (self.parameters.compressor, self.block_bytes(voxels));
        // Only byte planes are split into streams.
        let unsplit = strategy.shuffle != Shuffle::Byte;
        let split = splits(unsplit, self.typesize, block_bytes);
        let format: u8 = match compressor {
            Compressor::Lz4 => 1,
            Compressor::Zstd => 4,
        };
        let mut flags = format << flag::FORMAT_SHIFT;
        flags |= match strategy.shuffle {
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
            self.encode_block(strategy, block, streams, out);
        }
        if out.len() - begin >= HEADER_BYTES + voxels.len() {
            out.truncate(table);
            out[begin + 2] |= flag::MEMCPYED;
            out.extend_from_slice(voxels);
        }
        let cbytes = (out.len() - begin) as u32;
        out[begin + 12..table].copy_from_slice(&cbytes.to_le_bytes());
    }

    fn split(&mut self, kind: PlaneKind, block: &[u8]) {
        shuffle::split(Isa::detect(), kind, block, &mut self.shuffled, self.typesize);
    }

    fn encode_block(
        &mut self,
        strategy: EncodeStrategy,
        block: &[u8],
        streams: usize,
        out: &mut Vec<u8>,
    ) {
        self.shuffled.resize(block.len(), 0);
        match strategy.shuffle {
            Shuffle::None => self.shuffled.copy_from_slice(block),
            Shuffle::Byte => self.split(PlaneKind::Bytes, block),
            Shuffle::Bit => self.split(PlaneKind::Bits, block),
        }
        let level = self.parameters.level;
        for stream in self.shuffled.chunks_exact(block.len() / streams) {
            let limit = stream.len() * STORED_PERCENT / 100;
            let fits = if let Some(zstd) = &mut self.zstd {
                zstd.encode(stream, &mut self.stream, level, limit)
            } else {
                let min_match = strategy.min_match;
                lz4::encode(stream, &mut self.stream, &mut self.lz4, level, min_match, limit)
            };
            let bytes = if fits { &self.stream[..] } else { stream };
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}
