//! Writes Blosc 1 frames (§6 of the specification).
//!
//! A volume is written once and read many times, so frames are made for fast decoding: planes that
//! hardly compress are stored, and a reader uses them in place.

use std::mem;

use super::header::{HEADER_BYTES, VERSION, VERSION_LZ, flag, splits};
use super::lz4::{self, MatchFinder};
use super::planes::PlaneKind;
use super::shuffle;
use super::strategy::{EncodeStrategy, Strides};
use super::zstd::ZstdEncoder;
use crate::Size3;
use crate::format::array::{BloscParameters, Compressor, Shuffle};
use crate::sys::isa::Isa;

/// A stream that does not shrink to this percentage is stored, which costs a reader nothing.
const STORED_PERCENT: usize = 97;

/// Bytes of a stream's length, before the stream.
const LENGTH_BYTES: usize = 4;

/// Encodes frames; one for each thread, since it owns its buffers.
pub struct Encoder {
    parameters: BloscParameters,
    typesize: usize,
    strides: Strides,
    shuffled: Vec<u8>,
    stream: Vec<u8>,
    compressor: BlockCompressor,
    /// The blocks of a trial: the best one so far, and the one being tried.
    trials: [Vec<u8>; 2],
}

enum BlockCompressor {
    Lz4(MatchFinder),
    Zstd(ZstdEncoder),
}

impl Encoder {
    /// An encoder of elements of `typesize` bytes.
    pub fn new(parameters: BloscParameters, typesize: usize) -> Self {
        let compressor = match parameters.compressor {
            Compressor::Lz4 => BlockCompressor::Lz4(MatchFinder::new()),
            Compressor::Zstd => BlockCompressor::Zstd(ZstdEncoder::new()),
        };
        Self {
            parameters,
            typesize,
            strides: Strides::default(),
            shuffled: Vec::new(),
            stream: Vec::new(),
            compressor,
            trials: Default::default(),
        }
    }

    /// Tells the encoder the extents of the chunks, `(z, y, x)`: rows and slices resemble the one
    /// before.
    #[must_use]
    pub fn chunk(mut self, chunk: Size3) -> Self {
        self.strides = Strides { row: chunk[2], plane: chunk[1] * chunk[2] };
        self
    }

    /// Appends the frame of `voxels` (1 to 2³¹ − 1 bytes of whole elements) to `out`.
    pub fn encode(&mut self, voxels: &[u8], out: &mut Vec<u8>) {
        let strategy = EncodeStrategy::of(self.parameters.shuffle, self.typesize);
        self.encode_as(strategy, voxels, None, out);
    }

    /// As [`Encoder::encode`], but where LZ4 and bit planes are asked for, byte planes or plain
    /// bytes are used instead if that suits the middle block better.
    pub fn encode_by_trial(&mut self, voxels: &[u8], out: &mut Vec<u8>) {
        let asked = EncodeStrategy::of(self.parameters.shuffle, self.typesize);
        if (self.parameters.compressor, asked.shuffle) != (Compressor::Lz4, Shuffle::Bit) {
            return self.encode_as(asked, voxels, None, out);
        }
        let block_bytes = self.block_bytes(voxels);
        // A whole one: the last block may be shorter, and of another number of streams.
        let number = voxels.len() / block_bytes / 2;
        let block = &voxels[number * block_bytes..][..block_bytes];
        let [mut best, mut trial] = mem::take(&mut self.trials);
        best.clear();
        self.encode_block(asked, block, block_bytes, usize::MAX, &mut best);
        let mut chosen = asked;
        for candidate in EncodeStrategy::candidates(self.typesize) {
            let budget = chosen.budget(best.len(), &candidate, block_bytes, self.typesize);
            trial.clear();
            if budget > 0
                && self.encode_block(candidate.strategy, block, block_bytes, budget, &mut trial)
            {
                chosen = candidate.strategy;
                mem::swap(&mut best, &mut trial);
            }
        }
        let thorough = chosen.thorough();
        let known = (thorough == chosen).then_some((number, &best[..]));
        self.encode_as(thorough, voxels, known, out);
        self.trials = [best, trial];
    }

    /// Whether the compressor had too little memory, so that frames hold streams as they were.
    pub fn lacks_memory(&self) -> bool {
        matches!(&self.compressor, BlockCompressor::Zstd(zstd) if zstd.lacks_memory())
    }

    /// Bytes of a block of `voxels`: whole elements.
    fn block_bytes(&self, voxels: &[u8]) -> usize {
        let block_bytes = self.parameters.block_bytes;
        (block_bytes - block_bytes % self.typesize).clamp(self.typesize, voxels.len())
    }

    /// Appends the frame; the block with the number in `known` is encoded already.
    fn encode_as(
        &mut self,
        strategy: EncodeStrategy,
        voxels: &[u8],
        known: Option<(usize, &[u8])>,
        out: &mut Vec<u8>,
    ) {
        let begin = out.len();
        let (compressor, block_bytes) = (self.parameters.compressor, self.block_bytes(voxels));
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
        if is_unsplit(strategy) {
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
            match known {
                Some((number, bytes)) if number == i => out.extend_from_slice(bytes),
                _ => {
                    self.encode_block(strategy, block, block_bytes, usize::MAX, out);
                }
            }
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

    /// Appends a block of a frame whose blocks have `block_bytes`. `false`, before its end, if it
    /// takes more than `budget` bytes.
    fn encode_block(
        &mut self,
        strategy: EncodeStrategy,
        block: &[u8],
        block_bytes: usize,
        budget: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        self.shuffled.resize(block.len(), 0);
        match strategy.shuffle {
            Shuffle::None => self.shuffled.copy_from_slice(block),
            Shuffle::Byte => self.split(PlaneKind::Bytes, block),
            Shuffle::Bit => self.split(PlaneKind::Bits, block),
        }
        let is_split = splits(is_unsplit(strategy), self.typesize, block_bytes);
        let streams = if is_split && block.len() == block_bytes { self.typesize } else { 1 };
        let search = strategy.search(self.typesize, self.strides, block.len());
        let (level, begin) = (self.parameters.level, out.len());
        for stream in self.shuffled.chunks_exact(block.len() / streams) {
            let left = budget.saturating_sub(out.len() - begin + LENGTH_BYTES);
            let limit = left.min(stream.len() * STORED_PERCENT / 100);
            let fits = match &mut self.compressor {
                BlockCompressor::Lz4(finder) => {
                    lz4::encode(stream, &mut self.stream, finder, &search, limit)
                }
                BlockCompressor::Zstd(zstd) => zstd.encode(stream, &mut self.stream, level, limit),
            };
            let bytes = if fits { &self.stream[..] } else { stream };
            if bytes.len() > left {
                return false;
            }
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        true
    }
}

/// Only byte planes are split into streams.
fn is_unsplit(strategy: EncodeStrategy) -> bool {
    strategy.shuffle != Shuffle::Byte
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{DecodeContext, Frame};

    /// Pseudorandom numbers of that many bits.
    fn noise(bits: u32, mut state: u64) -> impl FnMut() -> u32 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> (64 - bits)) as u32
        }
    }

    fn encoder(typesize: usize, block_bytes: usize) -> Encoder {
        let (compressor, shuffle) = (Compressor::Lz4, Shuffle::Bit);
        let parameters = BloscParameters { compressor, level: 5, shuffle, block_bytes };
        Encoder::new(parameters, typesize).chunk([32, 32, 32])
    }

    /// Encodes by trial, compares the decoded voxels, and returns the frame.
    fn frame_of(encoder: &mut Encoder, voxels: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xaa; 5];
        encoder.encode_by_trial(voxels, &mut bytes);
        bytes.drain(..5);
        let frame = Frame::parse(&bytes, voxels.len(), encoder.typesize).unwrap();
        let (mut context, mut found) = (DecodeContext::new(), Vec::new());
        for i in 0..frame.blocks() {
            found.extend_from_slice(frame.block(i, &mut context).unwrap().whole());
        }
        assert!(found == voxels, "{} bytes", voxels.len());
        bytes
    }

    fn shuffle_of(frame: &[u8]) -> Shuffle {
        match frame[2] & (flag::SHUFFLE | flag::BITSHUFFLE) {
            0 => Shuffle::None,
            flag::SHUFFLE => Shuffle::Byte,
            _ => Shuffle::Bit,
        }
    }

    #[test]
    fn a_trial_chooses_what_suits_the_voxels() {
        let mut draw = noise(6, 1);
        let ct: Vec<u8> = (0..32_768)
            .flat_map(|i| ((i / 1024) as i16 * 5 + draw() as i16).to_le_bytes())
            .collect();
        assert_eq!(shuffle_of(&frame_of(&mut encoder(2, 32 << 10), &ct)), Shuffle::Bit);

        // Eight bits, scaled: each element is one of few words.
        let mut draw = noise(3, 2);
        let scaled: Vec<u8> = (0..16_384)
            .flat_map(|i| {
                let stored = (i / 512 % 32) as u32 * 4 + draw() * u32::from(i % 9 == 0);
                ((stored as f32 - 37.3) / 11.7).to_le_bytes()
            })
            .collect();
        let frame = frame_of(&mut encoder(4, 32 << 10), &scaled);
        assert_eq!(shuffle_of(&frame), Shuffle::None);
        let mut shuffled = Vec::new();
        let mut encoder = encoder(4, 32 << 10);
        encoder.encode(&scaled, &mut shuffled);
        assert!(frame.len() * 3 < shuffled.len() * 2, "{} of {}", frame.len(), shuffled.len());
    }

    #[test]
    fn short_last_blocks_and_reused_encoders_change_nothing() {
        for typesize in [1, 2, 4, 8] {
            let mut reused = encoder(typesize, 4096);
            for elements in [1, 2, 17, 511, 512, 513, 1024, 1535, 3000, 9000] {
                for bits in [1, 3, 8] {
                    let mut draw = noise(bits, elements as u64);
                    let voxels: Vec<u8> = (0..elements)
                        .flat_map(|i| {
                            let value =
                                (i as u64 / 40).wrapping_mul(0x0101_0101) + u64::from(draw());
                            value.to_le_bytes()[..typesize].to_vec()
                        })
                        .collect();
                    let expected = frame_of(&mut encoder(typesize, 4096), &voxels);
                    assert!(frame_of(&mut reused, &voxels) == expected, "{typesize} {elements}");
                }
            }
        }
    }
}
