//! Zstandard frames, encoded for a decoder in a hurry; the reference library decodes them.
//!
//! Not here: Blosc's own frames, of which these are the streams.

use zstd_safe::{CCtx, CParameter, ResetDirective, Strategy};

/// Shortest matches that are looked for in noise, where shorter ones cost more than the literals they replace.
///
/// Measured at level 8 over the low bytes of CT-like int16, ratio and decoded GB/s: 4 (the level's own) 1.658 at 1.27, 5 1.678
/// at 1.58, 6 1.679 at 1.60, and 7 as 6; over the high bytes 42.1 at 3.3, 42.6, 43.0 at 3.4.
const MIN_MATCH: u32 = 7;

/// The level's own shortest match is chosen only below this share: its sequences take longer to decode.
///
/// A brain MR of uint8 has no noise: 7 3.70 at 1.73 GB/s, 4 4.09 at 1.43.
const OWN_PERCENT: usize = 99;

/// Level of a first look at a stream, which takes a tenth of the time of its encoding.
const LOOK_LEVEL: i32 = 1;

/// A stream that a first look brings below this share consists of long matches.
///
/// A search tree finds longer ones than chains of hashes do, in three times the time. Over the high bytes of CT-like int16
/// it made 42.3 at 4.68 GB/s 43.4 at 4.83; and 87.97 at 8.99 of labels 88.26 at 9.11.
const DENSE_PERCENT: usize = 12;

/// The longest block of a frame, so the longest run.
const BLOCK_BYTES: usize = 128 << 10;

/// An encoder with its buffers; one for each thread.
pub(super) struct Zstd {
    context: CCtx<'static>,
    other: Vec<u8>,
}

impl Zstd {
    pub(super) fn new() -> Self {
        Self { context: CCtx::create(), other: Vec::new() }
    }

    /// Encodes `source` into `out`; `false` if it takes more than `limit` bytes.
    pub(super) fn encode(
        &mut self,
        source: &[u8],
        out: &mut Vec<u8>,
        level: i32,
        limit: usize,
    ) -> bool {
        if let Some(byte) = repeated(source) {
            put_run(byte, source.len(), out);
            return out.len() <= limit;
        }
        let asked = [CParameter::CompressionLevel(level), CParameter::MinMatch(MIN_MATCH)];
        let dense = source.len() * DENSE_PERCENT / 100;
        let look = [CParameter::CompressionLevel(LOOK_LEVEL), asked[1]];
        if self.compress(source, out, &look, dense.min(limit)) {
            let tree = [asked[0], asked[1], CParameter::Strategy(Strategy::ZSTD_btlazy2)];
            return self.compress(source, out, &tree, limit);
        }
        let fits = self.compress(source, out, &asked, limit);
        let worth = if fits { out.len() * OWN_PERCENT / 100 } else { limit };
        let mut other = std::mem::take(&mut self.other);
        let better = self.compress(source, &mut other, &asked[..1], worth);
        if better {
            std::mem::swap(out, &mut other);
        }
        self.other = other;
        fits || better
    }

    fn compress(
        &mut self,
        source: &[u8],
        out: &mut Vec<u8>,
        parameters: &[CParameter],
        limit: usize,
    ) -> bool {
        let context = &mut self.context;
        context.reset(ResetDirective::SessionAndParameters).expect("between frames");
        for &parameter in parameters {
            context.set_parameter(parameter).expect("a parameter that Zstandard knows");
        }
        out.resize(limit, 0);
        let encoded = context.compress2(&mut out[..], source);
        out.truncate(encoded.unwrap_or(0));
        encoded.is_ok()
    }
}

/// The byte that `source` consists of, if it is one, and a run of it fits a block.
fn repeated(source: &[u8]) -> Option<u8> {
    let (&first, rest) = source.split_first()?;
    (source.len() <= BLOCK_BYTES && rest.iter().all(|&byte| byte == first)).then_some(first)
}

/// Writes the frame (RFC 8878, 3.1.1) of a run, which decodes as fast as memory can be filled.
///
/// The library never makes a frame's first block a run, since version 1.4.3 of its command line and older stumble over it; its
/// decoder never did. The match that it writes instead is copied eight bytes at a time.
fn put_run(byte: u8, length: usize, out: &mut Vec<u8>) {
    const MAGIC: u32 = 0xfd2f_b528;
    /// A content size of four bytes; a single segment, so no window; no checksum, no dictionary.
    const DESCRIPTOR: u8 = 0b1010_0000;
    /// The last block, and of the type that repeats a byte.
    const LAST_RUN: u32 = 0b011;
    let length = length as u32;
    out.clear();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.push(DESCRIPTOR);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(length << 3 | LAST_RUN).to_le_bytes()[..3]);
    out.push(byte);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, bits: u32) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> (32 - bits)) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn streams_decode_to_what_was_encoded() {
        let mut zstd = Zstd::new();
        let mut out = Vec::new();
        let sparse: Vec<u8> = (0..20_000u32).map(|i| u8::from(i % 577 < 3)).collect();
        let words: Vec<u8> = noise(5000, 6).iter().flat_map(|&b| [b, b / 3, 7, b / 5]).collect();
        for source in [noise(20_000, 6), sparse, words, vec![9; 500], vec![1; BLOCK_BYTES + 1]] {
            assert!(zstd.encode(&source, &mut out, 8, source.len()));
            assert!(out.len() < source.len() * 4 / 5);
            let mut decoded = vec![0; source.len()];
            assert_eq!(zstd_safe::decompress(&mut decoded[..], &out), Ok(source.len()));
            assert!(decoded == source);
        }
    }

    #[test]
    fn runs_take_a_dozen_bytes() {
        let (mut zstd, mut out) = (Zstd::new(), Vec::new());
        for length in [14, 255, 256, 4096, BLOCK_BYTES] {
            assert!(zstd.encode(&vec![0xa5; length], &mut out, 3, length));
            assert_eq!(out.len(), 13);
            let mut decoded = vec![0; length];
            assert_eq!(zstd_safe::decompress(&mut decoded[..], &out), Ok(length));
            assert!(decoded.iter().all(|&byte| byte == 0xa5));
        }
    }

    #[test]
    fn what_exceeds_the_limit_is_refused() {
        let (mut zstd, mut out) = (Zstd::new(), Vec::new());
        assert!(!zstd.encode(&noise(4096, 8), &mut out, 8, 4096));
        assert!(!zstd.encode(&[3; 12], &mut out, 8, 11));
        assert!(!zstd.encode(&noise(4096, 4), &mut out, 8, 100));
    }
}
