//! Reads Blosc 1 frames block by block (§6 of the specification).
//!
//! # Invariants
//! - The header of a [`Frame`] fits its bytes; streams are checked when a block is decoded.

use std::ops::Range;

use super::block::{Block, BlockContent};
use super::constant::BlockLayout;
use super::context::{DecodeContext, grown, zstd_decoder};
use super::error::DecodeError;
use super::header::{HEADER_BYTES, VERSION, VERSION_LZ, flag, splits};
use super::lz4::{self, PlaneRef};
use super::planes::{MAX_PLANES, PlaneKind, Planes};
use crate::format::array::{Compressor, Shuffle};
use crate::format::index::u32_at;
use crate::sys::isa::Isa;

/// A frame whose header has been checked.
#[derive(Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    nbytes: usize,
    block_bytes: usize,
    typesize: usize,
    body: FrameBody,
}

#[derive(Clone, Copy, Debug)]
enum FrameBody {
    /// Elements that are neither compressed nor shuffled.
    Stored,
    Blocks {
        compressor: Compressor,
        shuffle: Shuffle,
        split: bool,
    },
}

impl<'a> Frame<'a> {
    /// Checks the header of a frame that must hold `nbytes` bytes of elements of `typesize` bytes.
    ///
    /// # Errors
    /// The first header field that is wrong.
    pub fn parse(bytes: &'a [u8], nbytes: usize, typesize: usize) -> Result<Self, DecodeError> {
        let expect = |field: &'static str, found: usize, expected: usize| {
            if found == expected {
                Ok(())
            } else {
                Err(DecodeError::HeaderField { field, found, expected })
            }
        };
        if bytes.len() < HEADER_BYTES {
            return Err(DecodeError::NoHeader { found: bytes.len() });
        }
        expect("version", bytes[0].into(), VERSION.into())?;
        expect("typesize", bytes[3].into(), typesize)?;
        expect("nbytes", u32_at(bytes, 4) as usize, nbytes)?;
        expect("cbytes", u32_at(bytes, 12) as usize, bytes.len())?;
        let (flags, block_bytes) = (bytes[2], u32_at(bytes, 8) as usize);
        if flags & flag::MEMCPYED != 0 {
            expect("stored length", bytes.len() - HEADER_BYTES, nbytes)?;
            let body = FrameBody::Stored;
            return Ok(Self { bytes, nbytes, block_bytes: nbytes, typesize, body });
        }
        expect("versionlz", bytes[1].into(), VERSION_LZ.into())?;
        if block_bytes == 0 || block_bytes > nbytes || block_bytes % typesize != 0 {
            return Err(DecodeError::BlockSize { found: block_bytes, typesize, nbytes });
        }
        let expected = HEADER_BYTES + 4 * nbytes.div_ceil(block_bytes);
        if bytes.len() < expected {
            return Err(DecodeError::BlockTable { found: bytes.len(), expected });
        }
        let shuffle = match (flags & flag::SHUFFLE != 0, flags & flag::BITSHUFFLE != 0) {
            _ if flags & flag::RESERVED != 0 => {
                return Err(DecodeError::Flags { flags, reason: "set a reserved bit" });
            }
            (true, true) => {
                return Err(DecodeError::Flags { flags, reason: "ask for two shuffles" });
            }
            (true, false) if typesize > 1 => Shuffle::Byte,
            (false, true) => Shuffle::Bit,
            _ => Shuffle::None,
        };
        let compressor = match flags >> flag::FORMAT_SHIFT {
            1 => Compressor::Lz4,
            4 => Compressor::Zstd,
            found => return Err(DecodeError::UnknownCompressor { found }),
        };
        let split = splits(flags & flag::UNSPLIT != 0, typesize, block_bytes);
        let body = FrameBody::Blocks { compressor, shuffle, split };
        Ok(Self { bytes, nbytes, block_bytes, typesize, body })
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.nbytes.div_ceil(self.block_bytes)
    }

    /// The range of decoded bytes that block `i` covers.
    pub fn block_range(&self, i: usize) -> Range<usize> {
        i * self.block_bytes..((i + 1) * self.block_bytes).min(self.nbytes)
    }

    /// The blocks that cover a range of decoded bytes.
    pub fn blocks_covering(&self, bytes: Range<usize>) -> Range<usize> {
        bytes.start / self.block_bytes..bytes.end.div_ceil(self.block_bytes)
    }

    /// Decompresses block `i`; what needs no decoding is borrowed from the frame, the rest from
    /// `context`.
    ///
    /// # Errors
    /// The first stream of the block that is damaged.
    pub fn block<'s>(
        &self,
        i: usize,
        context: &'s mut DecodeContext,
    ) -> Result<Block<'s>, DecodeError>
    where
        'a: 's,
    {
        let range = self.block_range(i);
        let (length, t) = (range.len(), self.typesize);
        let elements = length / t;
        let DecodeContext { streams: buffer, joined, unsplit, zstd, constant } = context;
        // What a block lends its elements from.
        grown(joined, length)?;
        let FrameBody::Blocks { compressor, shuffle, split } = self.body else {
            let content = BlockContent::Plain(&self.bytes[HEADER_BYTES..][range]);
            return Ok(Block::new(content, elements, t, joined));
        };
        let kind = match shuffle {
            Shuffle::Byte if t > 1 => Some(PlaneKind::Bytes),
            Shuffle::Bit if elements % 8 == 0 => Some(PlaneKind::Bits),
            _ => None,
        };
        let streams = if split && length == self.block_bytes { t } else { 1 };
        let layout = BlockLayout { length, typesize: t, streams, flags: self.bytes[2] };
        if let Some(pattern) = constant.get(layout, self.encoded(i)) {
            return Ok(Block::new(BlockContent::Constant(pattern), elements, t, joined));
        }
        let plane_bytes = length / kind.map_or(streams, |kind| kind.planes(t));
        let mut planes = Planes::new(kind.unwrap_or(PlaneKind::Bytes), plane_bytes);
        let encoded = self.decode_streams(i, compressor, layout, &mut planes, buffer, zstd)?;
        let content = if kind.is_none() {
            BlockContent::Plain(if streams == 1 {
                planes.bytes::<1>()[0]
            } else {
                // Our encoder never splits unshuffled bytes, other writers may: the streams are
                // consecutive parts.
                let (mut rest, bytes) = (grown(unsplit, length)?, 0..length);
                for plane in planes.iter() {
                    let (out, after) = rest.split_at_mut(plane.len());
                    out.copy_from_slice(plane);
                    rest = after;
                }
                &unsplit[bytes]
            })
        } else if let Some(pattern) = constant.detect(layout, encoded, &planes) {
            BlockContent::Constant(pattern)
        } else {
            planes.detect_high_bits();
            BlockContent::Shuffled(planes)
        };
        Ok(Block::new(content, elements, t, joined))
    }

    /// Decompresses the streams of block `i` into `buffer`, and appends their planes; returns the
    /// encoded bytes.
    #[inline]
    fn decode_streams<'s>(
        &self,
        i: usize,
        compressor: Compressor,
        layout: BlockLayout,
        planes: &mut Planes<'s>,
        buffer: &'s mut Vec<u8>,
        zstd: &mut Option<zstd_safe::DCtx<'static>>,
    ) -> Result<&'a [u8], DecodeError>
    where
        'a: 's,
    {
        let (stream_bytes, plane_bytes) = (layout.length / layout.streams, planes.plane_bytes());
        let mut refs = [PlaneRef::InOutput; MAX_PLANES];
        let refs = &mut refs[..stream_bytes / plane_bytes];
        let mut rest = grown(buffer, layout.length + lz4::SLACK_BYTES)?;
        let begin = u32_at(self.bytes, HEADER_BYTES + 4 * i) as usize;
        let mut at = begin;
        for _ in 0..layout.streams {
            let frame = self.bytes.len();
            let stream =
                self.stream(at).ok_or(DecodeError::StreamBounds { block: i, at, frame })?;
            at += 4 + stream.len();
            if stream.len() == stream_bytes {
                stream.chunks_exact(plane_bytes).for_each(|plane| planes.push(plane));
                continue;
            }
            // A decoder may overwrite what follows its output: the place of the next stream, or
            // slack.
            let is_whole = match compressor {
                Compressor::Lz4 => lz4::decode(Isa::detect(), stream, rest, stream_bytes, refs),
                Compressor::Zstd => zstd_decoder(zstd)?
                    .decompress(&mut rest[..stream_bytes], stream)
                    .is_ok_and(|n| n == stream_bytes),
            };
            if !is_whole {
                let (found, expected) = (stream.len(), stream_bytes);
                return Err(DecodeError::Stream { block: i, compressor, found, expected });
            }
            let (done, after) = rest.split_at_mut(stream_bytes);
            rest = after;
            let done: &'s [u8] = done;
            for (p, plane) in refs.iter().enumerate() {
                planes.push(plane.bytes(p, plane_bytes, stream, done));
            }
        }
        Ok(&self.bytes[begin..at])
    }

    /// The encoded bytes of block `i`, to be prefetched; empty if they are used where they lie.
    pub fn encoded(&self, i: usize) -> &'a [u8] {
        if i >= self.blocks() || matches!(self.body, FrameBody::Stored) {
            return &[];
        }
        let begin = |i: usize| u32_at(self.bytes, HEADER_BYTES + 4 * i) as usize;
        let end = if i + 1 < self.blocks() { begin(i + 1) } else { self.bytes.len() };
        // Other writers may order blocks differently, and damaged tables point anywhere.
        self.bytes.get(begin(i)..end).unwrap_or_default()
    }

    fn stream(&self, at: usize) -> Option<&'a [u8]> {
        let body = at.checked_add(4).filter(|&body| body <= self.bytes.len())?;
        let length = u32_at(self.bytes, at) as usize;
        self.bytes.get(body..body.checked_add(length)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode::Encoder;
    use crate::codec::strided::RowsMut;
    use crate::format::array::BloscParameters;

    fn decode(frame: &Frame<'_>, context: &mut DecodeContext) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        for i in 0..frame.blocks() {
            out.extend_from_slice(frame.block(i, context)?.whole());
        }
        Ok(out)
    }

    fn voxels(nbytes: usize, noise: u32) -> Vec<u8> {
        let mut state = 1u32;
        (0..nbytes)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((i / 50) as u32 + (state >> 24) % noise.max(1)) as u8
            })
            .collect()
    }

    fn every_frame() -> Vec<(Vec<u8>, Vec<u8>, usize)> {
        let mut frames = Vec::new();
        for typesize in [1, 2, 4, 8] {
            for (compressor, level) in [(Compressor::Lz4, 5), (Compressor::Zstd, 3)] {
                for shuffle in [Shuffle::None, Shuffle::Byte, Shuffle::Bit] {
                    for (nbytes, block_bytes) in
                        [(4096, 4096), (5000, 2048), (40, 8), (4096, 1600), (8 * 1001, 8 * 500)]
                    {
                        for noise in [1, 5, 256] {
                            let parameters =
                                BloscParameters { compressor, level, shuffle, block_bytes };
                            let voxels = voxels(nbytes, noise);
                            let mut frame = Vec::new();
                            Encoder::new(parameters, typesize).encode(&voxels, &mut frame);
                            frames.push((frame, voxels, typesize));
                        }
                    }
                }
            }
        }
        frames
    }

    #[test]
    fn frames_decode_to_what_was_encoded() {
        let mut context = DecodeContext::new();
        for (bytes, voxels, typesize) in every_frame() {
            let frame = Frame::parse(&bytes, voxels.len(), typesize).unwrap();
            assert!(decode(&frame, &mut context).unwrap() == voxels, "{frame:?}");
        }
    }

    #[test]
    fn constant_blocks_are_recognized_and_almost_constant_ones_are_not() {
        const ELEMENTS: usize = 4096;
        let mut context = DecodeContext::new();
        let compressors = [(Compressor::Lz4, 5), (Compressor::Zstd, 3)];
        for ((compressor, level), shuffle, t, other) in
            compressors.into_iter().flat_map(|compressor| {
                [Shuffle::Byte, Shuffle::Bit].into_iter().flat_map(move |shuffle| {
                    [2, 4, 8].into_iter().flat_map(move |t| {
                        [None, Some(0), Some(ELEMENTS / 2 + 1), Some(ELEMENTS - 1)]
                            .map(|other| (compressor, shuffle, t, other))
                    })
                })
            })
        {
            let mut voxels = [0x00, 0xfc, 0x93, 0xc1, 0xff, 0x01, 0x80, 0x7f][..t].repeat(ELEMENTS);
            if let Some(element) = other {
                voxels[element * t] ^= 0x10;
            }
            let parameters =
                BloscParameters { compressor, level, shuffle, block_bytes: voxels.len() };
            let mut bytes = Vec::new();
            Encoder::new(parameters, t).encode(&voxels, &mut bytes);
            let frame = Frame::parse(&bytes, voxels.len(), t).unwrap();
            let constant = other.is_none();
            // Decoded first, then recognized by its encoded bytes.
            for _ in 0..2 {
                let mut block = frame.block(0, &mut context).unwrap();
                assert_eq!(block.is_constant(), constant, "{parameters:?} {t} {other:?}");
                assert!(block.whole() == voxels, "{parameters:?} {t} {other:?}");
            }
            let block = frame.block(0, &mut context).unwrap();
            for n in (1..=24).filter(|_| constant) {
                let mut out = vec![0xa5; 3 * (n * t + 1)];
                let mut rows = RowsMut::of(&mut out, n * t, n * t + 1);
                assert!(block.put(7, 32, &mut rows));
                for row in out.chunks_exact(n * t + 1) {
                    assert!(row[..n * t] == voxels[..n * t] && row[n * t] == 0xa5, "{t} {n}");
                }
                let mut rows = RowsMut::of(&mut out, n * t, n * t + 1);
                assert!(!block.put(ELEMENTS - n - 63, 32, &mut rows), "rows beyond the block");
            }
        }
    }

    #[test]
    fn hostile_frames_are_errors() {
        let (mut context, mut refused) = (DecodeContext::new(), 0);
        for (bytes, voxels, typesize) in every_frame() {
            for at in 0..bytes.len().min(80) {
                for value in [0, 1, 0x7f, 0xff, bytes[at] ^ 0x10] {
                    let mut bytes = bytes.clone();
                    bytes[at] = value;
                    let decoded = Frame::parse(&bytes, voxels.len(), typesize)
                        .and_then(|frame| decode(&frame, &mut context));
                    match decoded {
                        Ok(decoded) => assert_eq!(decoded.len(), voxels.len()),
                        Err(_) => refused += 1,
                    }
                }
            }
            for cut in [0, 1, 15, 16, 17, bytes.len() / 2, bytes.len() - 1] {
                assert!(
                    Frame::parse(&bytes[..cut.min(bytes.len())], voxels.len(), typesize).is_err()
                );
            }
        }
        assert!(refused > 1000, "{refused}");
    }
}
