//! Encodes Zstandard frames with the reference library, with parameters that make decoding fast.
//!
//! Not here: Blosc frames, whose streams these are; decoding (`frame`).

use zstd_safe::{CCtx, CParameter, ResetDirective, Strategy};

/// Shortest matches in noise, where shorter ones cost more than the literals that they replace.
///
/// Measured at level 8 on the low bytes of CT-like int16: ratio 1.658 at 1.27 GB/s with 4 (the
/// level's default), 1.678 at 1.58 with 5, 1.679 at 1.60 with 6, and the same with 7; on the high
/// bytes 42.1 at 3.3, 42.6, 43.0 at 3.4.
const MIN_MATCH: u32 = 7;

/// The level's default match length is used only below this percentage: its sequences take longer
/// to decode.
///
/// Measured on a brain MR of uint8, which has no noise: ratio 3.70 at 1.73 GB/s with 7, 4.09 at
/// 1.43 with 4.
const DEFAULT_MATCH_PERCENT: usize = 99;

/// Level of a trial encoding, which takes a tenth of the time of the final one.
const TRIAL_LEVEL: i32 = 1;

/// A stream that the trial shrinks below this percentage consists of long matches.
///
/// There a binary tree finds longer matches than hash chains do, in three times the time. On the
/// high bytes of CT-like int16 the ratio is 43.4 at 4.83 GB/s instead of 42.3 at 4.68; on labels
/// 88.26 at 9.11 instead of 87.97 at 8.99.
const DENSE_PERCENT: usize = 12;

/// Longest block of a Zstandard frame, and so the longest run.
const BLOCK_BYTES: usize = 128 << 10;

/// Whether the library says by this code that it could not allocate memory.
pub(crate) fn is_out_of_memory(code: zstd_safe::ErrorCode) -> bool {
    /// `ZSTD_error_memory_allocation`, which the library returns negated.
    const MEMORY_ALLOCATION: usize = 64;
    code == MEMORY_ALLOCATION.wrapping_neg()
}

/// Encodes Zstandard frames; one for each thread, since it owns its buffers.
pub(super) struct ZstdEncoder {
    /// Made at first use.
    context: Option<CCtx<'static>>,
    other: Vec<u8>,
    /// Whether something was left unencoded for want of memory.
    lacks_memory: bool,
}

impl ZstdEncoder {
    pub(super) fn new() -> Self {
        Self { context: None, other: Vec::new(), lacks_memory: false }
    }

    /// Whether a stream was refused for want of memory, not because of its length.
    pub(super) fn lacks_memory(&self) -> bool {
        self.lacks_memory
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
        let trial = [CParameter::CompressionLevel(TRIAL_LEVEL), asked[1]];
        if self.compress(source, out, &trial, dense.min(limit)) {
            let tree = [asked[0], asked[1], CParameter::Strategy(Strategy::ZSTD_btlazy2)];
            return self.compress(source, out, &tree, limit);
        }
        let fits = self.compress(source, out, &asked, limit);
        let limit = if fits { out.len() * DEFAULT_MATCH_PERCENT / 100 } else { limit };
        let mut other = std::mem::take(&mut self.other);
        let better = self.compress(source, &mut other, &asked[..1], limit);
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
        if self.context.is_none() {
            self.context = CCtx::try_create();
        }
        let missing = limit.saturating_sub(out.len());
        let Some(context) = self.context.as_mut().filter(|_| out.try_reserve(missing).is_ok())
        else {
            self.lacks_memory = true;
            return false;
        };
        context.reset(ResetDirective::SessionAndParameters).expect("between frames");
        for &parameter in parameters {
            context.set_parameter(parameter).expect("a parameter that Zstandard knows");
        }
        out.resize(limit, 0);
        let encoded = context.compress2(&mut out[..], source);
        self.lacks_memory |= encoded.is_err_and(is_out_of_memory);
        out.truncate(encoded.unwrap_or(0));
        encoded.is_ok()
    }
}

/// The byte that all of `source` consists of, if there is one and the run fits a block.
fn repeated(source: &[u8]) -> Option<u8> {
    let (&first, rest) = source.split_first()?;
    (source.len() <= BLOCK_BYTES && rest.iter().all(|&byte| byte == first)).then_some(first)
}

/// Writes the frame of a run (RFC 8878, 3.1.1), which decodes as fast as memory is filled.
///
/// The library itself never makes the first block of a frame a run, because the command line tool
/// up to version 1.4.3 cannot read that; the library's decoder always could. It writes a match
/// instead, which is copied eight bytes at a time.
fn put_run(byte: u8, length: usize, out: &mut Vec<u8>) {
    const MAGIC: u32 = 0xfd2f_b528;
    /// Content size of four bytes, single segment (so no window), no checksum, no dictionary.
    const DESCRIPTOR: u8 = 0b1010_0000;
    /// The last block, of the type that repeats a byte.
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
        let mut zstd = ZstdEncoder::new();
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
        let (mut zstd, mut out) = (ZstdEncoder::new(), Vec::new());
        for length in [14, 255, 256, 4096, BLOCK_BYTES] {
            assert!(zstd.encode(&vec![0xa5; length], &mut out, 3, length));
            assert_eq!(out.len(), 13);
            let mut decoded = vec![0; length];
            assert_eq!(zstd_safe::decompress(&mut decoded[..], &out), Ok(length));
            assert!(decoded.iter().all(|&byte| byte == 0xa5));
        }
    }

    #[test]
    fn streams_above_the_limit_are_refused() {
        let (mut zstd, mut out) = (ZstdEncoder::new(), Vec::new());
        assert!(!zstd.encode(&noise(4096, 8), &mut out, 8, 4096));
        assert!(!zstd.encode(&[3; 12], &mut out, 8, 11));
        assert!(!zstd.encode(&noise(4096, 4), &mut out, 8, 100));
    }
}
