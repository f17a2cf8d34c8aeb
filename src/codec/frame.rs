//! Reads Blosc 1 frames, block by block: §6 of the specification.
//!
//! # Invariants
//! - A [`Frame`] has a header that fits its bytes; streams are bounded when they are met.

use std::ops::Range;

use super::constant::{self, Kind, Pattern};
use super::kernel::Kernel;
use super::lz4::{self, Place};
use super::planes::{Grouping, MAX_PLANES, Planes};
use super::rows::RowsMut;
use super::shuffle::{self, GROUP};
use super::{Complaint, Scratch};
use crate::format::array::{Compressor, Shuffle};
use crate::format::index::u32_at;

/// Header bytes before the block table.
pub const HEADER_BYTES: usize = 16;
pub(super) const VERSION: u8 = 2;
pub(super) const VERSION_LZ: u8 = 1;
/// Bits of `flags`.
pub(super) mod flag {
    pub(in crate::codec) const SHUFFLE: u8 = 0x01;
    pub(in crate::codec) const MEMCPYED: u8 = 0x02;
    pub(in crate::codec) const BITSHUFFLE: u8 = 0x04;
    pub(in crate::codec) const RESERVED: u8 = 0x08;
    pub(in crate::codec) const UNSPLIT: u8 = 0x10;
    pub(in crate::codec) const FORMAT_SHIFT: u8 = 5;
}
const SPLIT_TYPESIZE: usize = 16;
const SPLIT_ELEMENTS: usize = 128;

/// A frame whose header has been checked.
#[derive(Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    nbytes: usize,
    block_bytes: usize,
    typesize: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Stored,
    Blocks { compressor: Compressor, shuffle: Shuffle, split: bool },
}

/// A decompressed block, whose elements are put together as they are asked for.
#[derive(Debug)]
pub struct Block<'s> {
    body: BlockBody<'s>,
    elements: usize,
    typesize: usize,
    joined: &'s mut Vec<u8>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // It stays on one thread's stack while its block is worked on.
enum BlockBody<'s> {
    Plain(&'s [u8]),
    Shuffled(Planes<'s>),
    /// All elements are one; repeated.
    Constant(Pattern),
}

impl<'s> Block<'s> {
    fn plain(bytes: &'s [u8], typesize: usize, joined: &'s mut Vec<u8>) -> Self {
        Self { body: BlockBody::Plain(bytes), elements: bytes.len() / typesize, typesize, joined }
    }

    /// The bytes of some elements, counted in the block. Only shuffled ones are written anew, and forgotten at the next call.
    #[inline]
    pub fn elements(&mut self, range: Range<usize>) -> &[u8] {
        let t = self.typesize;
        match &self.body {
            BlockBody::Plain(bytes) => &bytes[range.start * t..range.end * t],
            BlockBody::Shuffled(planes) => {
                assert!(range.end <= self.elements, "elements beyond the block");
                // Four at a time are joined fastest.
                let groups = range.start / GROUP / 4 * 4..range.end.div_ceil(4 * GROUP) * 4;
                let groups = groups.start..groups.end.min(self.elements.div_ceil(GROUP));
                let first = groups.start * GROUP;
                let bytes = ((groups.end * GROUP).min(self.elements) - first) * t;
                let out = room(self.joined, bytes);
                shuffle::join(Kernel::best(), planes, t, groups, out);
                &out[(range.start - first) * t..(range.end - first) * t]
            }
            BlockBody::Constant(pattern) => {
                assert!(range.end <= self.elements, "elements beyond the block");
                let out = room(self.joined, range.len() * t);
                constant::fill(out, pattern);
                out
            }
        }
    }

    /// Puts some elements straight into `rows`: the first row's lie from element `first` of the block on, each other's `stride`
    /// behind the one before. `false`, and nothing is done, where they have to be put together elsewhere first, or lie together
    /// already.
    #[inline]
    pub(crate) fn put(&self, first: usize, stride: usize, rows: &mut RowsMut<'_>) -> bool {
        let (row, t) = (rows.row_bytes() / self.typesize, self.typesize);
        let end = first + rows.count().saturating_sub(1) * stride + row;
        if end > self.elements {
            return false;
        }
        match &self.body {
            BlockBody::Plain(_) => false,
            BlockBody::Constant(pattern) => {
                rows.iter_mut().for_each(|row| constant::fill(row, pattern));
                true
            }
            BlockBody::Shuffled(planes) => {
                let whole =
                    row == stride && first.is_multiple_of(GROUP) && end.is_multiple_of(GROUP);
                let groups = first / GROUP..end / GROUP;
                whole && shuffle::join_rows(Kernel::best(), planes, t, groups, rows)
                    || shuffle::join_parts(planes, t, first, stride, rows)
            }
        }
    }

    /// All elements, put together once.
    pub fn whole(&mut self) -> &[u8] {
        self.elements(0..self.elements)
    }
}

/// The first `bytes` of a buffer, which grows to have them.
fn room(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    &mut buffer[..bytes]
}

/// Whether a full block of that size is split into one stream for each byte of the type.
pub(super) fn splits(unsplit: bool, typesize: usize, block_bytes: usize) -> bool {
    !unsplit && typesize <= SPLIT_TYPESIZE && block_bytes / typesize >= SPLIT_ELEMENTS
}

impl<'a> Frame<'a> {
    /// Checks the header of a frame that must hold `nbytes` bytes of elements of `typesize`.
    ///
    /// # Errors
    /// A sentence about the first field that is wrong.
    pub fn parse(bytes: &'a [u8], nbytes: usize, typesize: usize) -> Result<Self, Complaint> {
        let expect = |field: &str, found: usize, expected: usize| {
            if found == expected {
                Ok(())
            } else {
                Err(format!("blosc {field} is {found}, expected {expected}"))
            }
        };
        if bytes.len() < HEADER_BYTES {
            return Err(format!("{} bytes are no blosc frame", bytes.len()));
        }
        expect("version", bytes[0].into(), VERSION.into())?;
        expect("typesize", bytes[3].into(), typesize)?;
        expect("nbytes", u32_at(bytes, 4) as usize, nbytes)?;
        expect("cbytes", u32_at(bytes, 12) as usize, bytes.len())?;
        let (flags, block_bytes) = (bytes[2], u32_at(bytes, 8) as usize);
        if flags & flag::MEMCPYED != 0 {
            expect("stored length", bytes.len() - HEADER_BYTES, nbytes)?;
            return Ok(Self { bytes, nbytes, block_bytes: nbytes, typesize, body: Body::Stored });
        }
        expect("versionlz", bytes[1].into(), VERSION_LZ.into())?;
        if block_bytes == 0 || block_bytes > nbytes || block_bytes % typesize != 0 {
            return Err(format!(
                "blosc blocksize {block_bytes} does not suit {nbytes} bytes of {typesize}-byte elements"
            ));
        }
        if bytes.len() < HEADER_BYTES + 4 * nbytes.div_ceil(block_bytes) {
            return Err(format!(
                "blosc frame of {} bytes is shorter than its block table",
                bytes.len()
            ));
        }
        let shuffle = match (flags & flag::SHUFFLE != 0, flags & flag::BITSHUFFLE != 0) {
            _ if flags & flag::RESERVED != 0 => {
                return Err(format!("blosc flags {flags:#04x} are from the future"));
            }
            (true, true) => return Err(format!("blosc flags {flags:#04x} ask for two shuffles")),
            (true, false) if typesize > 1 => Shuffle::Byte,
            (false, true) => Shuffle::Bit,
            _ => Shuffle::None,
        };
        let compressor = match flags >> flag::FORMAT_SHIFT {
            1 => Compressor::Lz4,
            4 => Compressor::Zstd,
            other => {
                return Err(format!(
                    "blosc compressor {other} is outside the profile (1 = LZ4, 4 = Zstandard)"
                ));
            }
        };
        let split = splits(flags & flag::UNSPLIT != 0, typesize, block_bytes);
        Ok(Self {
            bytes,
            nbytes,
            block_bytes,
            typesize,
            body: Body::Blocks { compressor, shuffle, split },
        })
    }

    /// Blocks in the frame.
    pub fn blocks(&self) -> usize {
        self.nbytes.div_ceil(self.block_bytes)
    }

    /// The decoded bytes that block `i` covers.
    pub fn block_range(&self, i: usize) -> Range<usize> {
        i * self.block_bytes..((i + 1) * self.block_bytes).min(self.nbytes)
    }

    /// The blocks that cover a range of decoded bytes.
    pub fn blocks_covering(&self, bytes: Range<usize>) -> Range<usize> {
        bytes.start / self.block_bytes..bytes.end.div_ceil(self.block_bytes)
    }

    /// Decompresses block `i`; what is stored as it is is lent from the frame, the rest from `scratch`.
    ///
    /// # Errors
    /// A sentence about what is damaged.
    pub fn block<'s>(&self, i: usize, scratch: &'s mut Scratch) -> Result<Block<'s>, Complaint>
    where
        'a: 's,
    {
        let range = self.block_range(i);
        let Body::Blocks { compressor, shuffle, split } = self.body else {
            let bytes = &self.bytes[HEADER_BYTES..][range];
            return Ok(Block::plain(bytes, self.typesize, &mut scratch.joined));
        };
        let (length, t) = (range.len(), self.typesize);
        let elements = length / t;
        let grouping = match shuffle {
            Shuffle::Byte if t > 1 => Some(Grouping::Bytes),
            Shuffle::Bit if elements % 8 == 0 => Some(Grouping::Bits),
            _ => None,
        };
        let streams = if split && length == self.block_bytes { t } else { 1 };
        let kind = Kind { length, typesize: t, streams, flags: self.bytes[2] };
        let Scratch { streams: buffer, joined, unsplit, zstd, constant } = scratch;
        if let Some(pattern) = constant.known(kind, self.encoded(i)) {
            return Ok(Block { body: BlockBody::Constant(pattern), elements, typesize: t, joined });
        }
        let count = grouping.map_or(streams, |grouping| grouping.planes(t));
        let (stream_bytes, plane_bytes) = (length / streams, length / count);
        let mut planes = Planes::new(grouping.unwrap_or(Grouping::Bytes), plane_bytes);
        let mut places = [Place::Output; MAX_PLANES];
        let places = &mut places[..count / streams];
        let mut rest = room(buffer, length + lz4::SLACK_BYTES);
        let begin = u32_at(self.bytes, HEADER_BYTES + 4 * i) as usize;
        let mut at = begin;
        for _ in 0..streams {
            let stream = self
                .stream(at)
                .ok_or_else(|| format!("block {i}: a stream at {at} leaves the frame"))?;
            at += 4 + stream.len();
            if stream.len() == stream_bytes {
                stream.chunks_exact(plane_bytes).for_each(|plane| planes.push(plane));
                continue;
            }
            // Decoders may write into what lies behind: the next stream's place, and at the end slack.
            let whole = match compressor {
                Compressor::Lz4 => lz4::decode(Kernel::best(), stream, rest, stream_bytes, places),
                Compressor::Zstd => zstd
                    .get_or_insert_with(zstd_safe::DCtx::create)
                    .decompress(&mut rest[..stream_bytes], stream)
                    .is_ok_and(|n| n == stream_bytes),
            };
            if !whole {
                return Err(format!(
                    "block {i}: a {compressor:?} stream of {} bytes does not decode to {stream_bytes}",
                    stream.len()
                ));
            }
            let (done, behind) = rest.split_at_mut(stream_bytes);
            rest = behind;
            let done: &'s [u8] = done;
            for (p, place) in places.iter().enumerate() {
                planes.push(place.lend(p, plane_bytes, stream, done));
            }
        }
        if grouping.is_none() {
            let bytes = if streams == 1 {
                planes.bytes::<1>()[0]
            } else {
                // Streams of unshuffled bytes are parts of one run: this is how other writers may have made it.
                *unsplit = planes.iter().collect::<Vec<_>>().concat();
                unsplit
            };
            return Ok(Block::plain(bytes, t, joined));
        }
        if let Some(pattern) = constant.see(kind, &self.bytes[begin..at], &planes) {
            return Ok(Block { body: BlockBody::Constant(pattern), elements, typesize: t, joined });
        }
        planes.see_upper();
        Ok(Block { body: BlockBody::Shuffled(planes), elements, typesize: t, joined })
    }

    /// Where block `i` is encoded, for whoever wants to have its bytes near; none if they are used where they lie.
    pub fn encoded(&self, i: usize) -> &'a [u8] {
        if i >= self.blocks() || matches!(self.body, Body::Stored) {
            return &[];
        }
        let begin = |i: usize| u32_at(self.bytes, HEADER_BYTES + 4 * i) as usize;
        let end = if i + 1 < self.blocks() { begin(i + 1) } else { self.bytes.len() };
        // Blocks of other writers may lie in any order, and hostile ones anywhere.
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
    use crate::format::array::BloscParameters;

    pub(crate) fn decode(frame: &Frame<'_>, scratch: &mut Scratch) -> Result<Vec<u8>, Complaint> {
        let mut out = Vec::new();
        for i in 0..frame.blocks() {
            out.extend_from_slice(frame.block(i, scratch)?.whole());
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
        let mut scratch = Scratch::new();
        for (bytes, voxels, typesize) in every_frame() {
            let frame = Frame::parse(&bytes, voxels.len(), typesize).unwrap();
            assert!(decode(&frame, &mut scratch).unwrap() == voxels, "{frame:?}");
        }
    }

    #[test]
    fn constant_blocks_are_seen_and_almost_constant_ones_are_not() {
        const ELEMENTS: usize = 4096;
        let mut scratch = Scratch::new();
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
            // Decoded, then known.
            for _ in 0..2 {
                let mut block = frame.block(0, &mut scratch).unwrap();
                let seen = matches!(block.body, BlockBody::Constant(_));
                assert_eq!(seen, constant, "{parameters:?} {t} {other:?}");
                assert!(block.whole() == voxels, "{parameters:?} {t} {other:?}");
            }
            let block = frame.block(0, &mut scratch).unwrap();
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
        let (mut scratch, mut refused) = (Scratch::new(), 0);
        for (bytes, voxels, typesize) in every_frame() {
            for at in 0..bytes.len().min(80) {
                for value in [0, 1, 0x7f, 0xff, bytes[at] ^ 0x10] {
                    let mut bytes = bytes.clone();
                    bytes[at] = value;
                    match Frame::parse(&bytes, voxels.len(), typesize)
                        .and_then(|f| decode(&f, &mut scratch))
                    {
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
