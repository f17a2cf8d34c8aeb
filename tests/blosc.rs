//! Tests our frames against c-blosc, which defines the format: each decodes what the other encodes.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};

use voxquarry::codec::{DecodeContext, DecodeError, Encoder, Frame};
use voxquarry::format::array::{BloscParameters, Compressor, Shuffle};

const TYPESIZES: [usize; 4] = [1, 2, 4, 8];
/// Elements: fewer than in the smallest block, odd, around the number that is split, several blocks
/// and a rest.
const ELEMENTS: [usize; 8] = [1, 7, 127, 128, 1000, 2048, 4099, 20_000];
/// Block sizes in bytes; 0 leaves the choice to c-blosc.
const BLOCKS: [usize; 5] = [0, 128, 1000, 1024, 8192];

/// How noisy the bytes are, from runs to incompressible.
const NOISE: [u64; 3] = [1, 7, 256];

fn bytes(elements: usize, typesize: usize, noise: u64) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    (0..elements)
        .flat_map(|i| {
            let value = if noise == 256 {
                next() << 40 | next() << 20 | next()
            } else {
                (i as u64 / 13).wrapping_mul(257) + next() % noise
            };
            value.to_le_bytes()[..typesize].to_vec()
        })
        .collect()
}

/// Encodes with c-blosc; `split` is its global split mode.
fn c_encode(
    compressor: &CStr,
    shuffle: u32,
    split: u32,
    (level, block): (c_int, usize),
    voxels: &[u8],
    typesize: usize,
) -> Vec<u8> {
    let mut frame = vec![0; voxels.len() + blosc_src::BLOSC_MAX_OVERHEAD as usize];
    // SAFETY: both lengths are the vectors' own and the name ends with 0. Only one test sets the
    // split mode, so no other thread writes that global.
    let n = unsafe {
        blosc_src::blosc_set_splitmode(split as c_int);
        blosc_src::blosc_compress_ctx(
            level,
            shuffle as c_int,
            typesize,
            voxels.len(),
            voxels.as_ptr().cast(),
            frame.as_mut_ptr().cast(),
            frame.len(),
            compressor.as_ptr(),
            block,
            1,
        )
    };
    frame.truncate(usize::try_from(n).expect("c-blosc encodes"));
    assert!(!frame.is_empty());
    frame
}

/// Decodes with c-blosc; `None` if it rejects the frame.
fn c_decode(frame: &[u8], nbytes: usize) -> Option<Vec<u8>> {
    let (mut out, mut found) = (vec![0; nbytes], 0);
    // SAFETY: both lengths are the slices' own; validation checks the header against them.
    let n = unsafe {
        let (frame, length) = (frame.as_ptr().cast(), frame.len());
        if blosc_src::blosc_cbuffer_validate(frame, length, &raw mut found) != 0 {
            return None;
        }
        assert_eq!(found, nbytes);
        blosc_src::blosc_decompress_ctx(frame, out.as_mut_ptr().cast(), nbytes, 1)
    };
    (n == nbytes as c_int).then_some(out)
}

fn decode(frame: &[u8], nbytes: usize, typesize: usize) -> Result<Vec<u8>, DecodeError> {
    let (frame, mut context) = (Frame::parse(frame, nbytes, typesize)?, DecodeContext::new());
    let mut out = Vec::new();
    for i in 0..frame.blocks() {
        assert_eq!(frame.block_range(i).start, out.len());
        out.extend_from_slice(frame.block(i, &mut context)?.whole());
        assert_eq!(frame.block_range(i).end, out.len());
    }
    Ok(out)
}

/// Counts the kinds of frames that a test has met, so that a test of nothing fails.
#[derive(Debug, Default)]
struct FrameCounts {
    memcpyed: usize,
    split: usize,
    unsplit: usize,
    shuffled: usize,
    bitshuffled: usize,
    short_last_block: usize,
}

impl FrameCounts {
    fn add(&mut self, frame: &[u8]) {
        let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
        let flags = frame[2];
        if flags & 0x02 != 0 {
            self.memcpyed += 1;
            return;
        }
        let splits = flags & 0x10 == 0 && frame[3] > 1 && u32_at(8) / u32::from(frame[3]) >= 128;
        self.split += usize::from(splits);
        self.unsplit += usize::from(!splits);
        self.shuffled += usize::from(flags & 0x01 != 0 && frame[3] > 1);
        self.bitshuffled += usize::from(flags & 0x04 != 0);
        self.short_last_block += usize::from(u32_at(4) % u32_at(8) != 0);
    }

    fn check(&self) {
        let Self { memcpyed, split, unsplit, shuffled, bitshuffled, short_last_block } = self;
        for n in [memcpyed, split, unsplit, shuffled, bitshuffled, short_last_block] {
            assert!(*n >= 50, "{self:?}");
        }
    }
}

#[test]
fn frames_of_c_blosc_decode_to_their_input() {
    let (mut counts, mut lost) = (FrameCounts::default(), 0);
    for (compressor, level) in [(c"lz4", 5), (c"lz4hc", 5), (c"zstd", 3), (c"zstd", 0)] {
        for shuffle in
            [blosc_src::BLOSC_NOSHUFFLE, blosc_src::BLOSC_SHUFFLE, blosc_src::BLOSC_BITSHUFFLE]
        {
            for split in [
                blosc_src::BLOSC_ALWAYS_SPLIT,
                blosc_src::BLOSC_NEVER_SPLIT,
                blosc_src::BLOSC_FORWARD_COMPAT_SPLIT,
            ] {
                for (typesize, elements) in
                    TYPESIZES.into_iter().flat_map(|t| ELEMENTS.map(|n| (t, n)))
                {
                    for (i, noise) in NOISE.into_iter().enumerate() {
                        // Each block size meets each other choice, but not each combination of
                        // them.
                        let block = BLOCKS[(i + elements + typesize / 2 + level as usize) % 5];
                        let voxels = bytes(elements, typesize, noise);
                        let frame =
                            c_encode(compressor, shuffle, split, (level, block), &voxels, typesize);
                        counts.add(&frame);
                        let case = format!(
                            "{compressor:?} {level} {shuffle} split {split}, {elements} of \
                             {typesize} bytes, block {block}, noise {noise}"
                        );
                        // If always asked to split, c-blosc also splits small blocks, and then
                        // rejects its own frame.
                        let own = c_decode(&frame, voxels.len());
                        match decode(&frame, voxels.len(), typesize) {
                            Ok(found) => assert!(found == voxels, "{case}"),
                            Err(error) => assert!(own.is_none(), "{case}: {error}"),
                        }
                        lost += usize::from(own.is_none());
                        assert!(own.is_none() || own == Some(voxels), "{case}");
                    }
                }
            }
        }
    }
    counts.check();
    assert!(lost < 100, "{lost} frames that c-blosc cannot decode");
}

#[test]
fn c_blosc_decodes_our_frames() {
    let mut counts = FrameCounts::default();
    for (compressor, level) in [(Compressor::Lz4, 5), (Compressor::Zstd, 3)] {
        for shuffle in [Shuffle::None, Shuffle::Byte, Shuffle::Bit] {
            for (typesize, elements) in TYPESIZES.into_iter().flat_map(|t| ELEMENTS.map(|n| (t, n)))
            {
                for block_bytes in [128, 1000, 1024, 8192, 1 << 20] {
                    let parameters = BloscParameters { compressor, level, shuffle, block_bytes };
                    let mut encoder = Encoder::new(parameters, typesize);
                    for noise in NOISE {
                        let voxels = bytes(elements, typesize, noise);
                        let mut frame = vec![0xaa; 3];
                        encoder.encode(&voxels, &mut frame);
                        let frame = &frame[3..];
                        counts.add(frame);
                        let found = c_decode(frame, voxels.len());
                        assert!(
                            found.as_ref() == Some(&voxels),
                            "{parameters:?} typesize {typesize}, {elements} elements, noise \
                             {noise}: c-blosc {}",
                            if found.is_some() { "decodes other bytes" } else { "rejects it" }
                        );
                    }
                }
            }
        }
    }
    counts.check();
}

/// If both decode a damaged frame, the results are equal; c-blosc trusts some fields that we check.
#[test]
fn damaged_frames_are_rejected_or_decoded_as_c_blosc_does() {
    let (mut rejected, mut same) = (0, 0);
    for compressor in [Compressor::Lz4, Compressor::Zstd] {
        for shuffle in [Shuffle::None, Shuffle::Byte, Shuffle::Bit] {
            let parameters = BloscParameters { compressor, level: 3, shuffle, block_bytes: 1024 };
            let voxels = bytes(1100, 2, 7);
            let mut frame = Vec::new();
            Encoder::new(parameters, 2).encode(&voxels, &mut frame);
            for at in 0..frame.len() {
                for value in [0, 0x7f, frame[at] ^ 1, frame[at] ^ 0x80] {
                    let mut damaged = frame.clone();
                    damaged[at] = value;
                    let Ok(found) = decode(&damaged, voxels.len(), 2) else {
                        rejected += 1;
                        continue;
                    };
                    assert_eq!(found.len(), voxels.len());
                    if let Some(expected) = c_decode(&damaged, voxels.len()) {
                        assert!(found == expected, "{parameters:?}: byte {at} set to {value:#04x}");
                        same += 1;
                    }
                }
            }
        }
    }
    assert!(rejected > 500 && same > 500, "{rejected} rejected, {same} the same");
}
