//! Encodes LZ4 blocks with the reference library, then drops the matches that are slow to decode.
#![allow(unsafe_code)]

use std::os::raw::{c_char, c_int};

use super::{MIN_MATCH, TOKEN_MAX};

/// Lowest level that uses the high-compression search.
const HIGH_LEVEL: i32 = 3;

/// Encodes `source` at `level` (LZ4HC from 3 on) into `out`, for fast decoding; `false` if it takes
/// more than `limit` bytes.
///
/// `buffer` holds the library's output meanwhile. Decoding time depends on the number of sequences,
/// not of bytes: each costs a mispredicted branch. So matches shorter than `min_match` become
/// literals again, which costs a few bytes and saves most of the sequences.
pub(in crate::codec) fn encode(
    source: &[u8],
    out: &mut Vec<u8>,
    buffer: &mut Vec<u8>,
    level: i32,
    min_match: usize,
    limit: usize,
) -> bool {
    let bound = source.len() + source.len() / 255 + 16;
    buffer.resize(bound, 0);
    let (Ok(from), Ok(to)) = (c_int::try_from(source.len()), c_int::try_from(bound)) else {
        return false;
    };
    // SAFETY: both lengths are the slices' own; the encoder returns 0 if `buffer` is too short.
    let encoded = unsafe {
        let (source, buffer) =
            (source.as_ptr().cast::<c_char>(), buffer.as_mut_ptr().cast::<c_char>());
        if level < HIGH_LEVEL {
            lz4_sys::LZ4_compress_default(source, buffer, from, to)
        } else {
            lz4_sys::LZ4_compress_HC(source, buffer, from, to, level)
        }
    };
    let Some(n) = usize::try_from(encoded).ok().filter(|&n| n > 0) else { return false };
    out.clear();
    drop_short_matches(&buffer[..n], source, min_match, out);
    out.len() <= limit
}

/// Writes the sequences of `encoded`, which decodes to `source`, without matches shorter than
/// `min_match`.
///
/// A dropped match joins the literals of the next sequence. All other matches keep their positions,
/// so the format's rules about the end of a block still hold.
fn drop_short_matches(encoded: &[u8], source: &[u8], min_match: usize, out: &mut Vec<u8>) {
    let (mut at, mut position, mut literals_begin) = (0, 0, 0);
    let length = |at: &mut usize, nibble: u8| {
        let mut length = usize::from(nibble);
        if length == TOKEN_MAX {
            loop {
                let more = encoded[*at];
                *at += 1;
                length += usize::from(more);
                if more != u8::MAX {
                    break;
                }
            }
        }
        length
    };
    loop {
        let token = encoded[at];
        at += 1;
        let literals = length(&mut at, token >> 4);
        at += literals;
        position += literals;
        if at == encoded.len() {
            put_sequence(&source[literals_begin..position], None, out);
            return;
        }
        let offset = [encoded[at], encoded[at + 1]];
        at += 2;
        let matched = length(&mut at, token & 0xf) + MIN_MATCH;
        if matched >= min_match {
            put_sequence(&source[literals_begin..position], Some((offset, matched)), out);
            literals_begin = position + matched;
        }
        position += matched;
    }
}

/// Appends literals and, except in a block's last sequence, a match: its offset and its length.
fn put_sequence(literals: &[u8], matched: Option<([u8; 2], usize)>, out: &mut Vec<u8>) {
    let match_code = matched.map_or(0, |(_, n)| n - MIN_MATCH);
    let nibble = |n: usize| n.min(TOKEN_MAX) as u8;
    let put_rest = |n: usize, out: &mut Vec<u8>| {
        if let Some(rest) = n.checked_sub(TOKEN_MAX) {
            out.extend(std::iter::repeat_n(u8::MAX, rest / 255));
            out.push((rest % 255) as u8);
        }
    };
    out.push(nibble(literals.len()) << 4 | nibble(match_code));
    put_rest(literals.len(), out);
    out.extend_from_slice(literals);
    if let Some((offset, _)) = matched {
        out.extend_from_slice(&offset);
        put_rest(match_code, out);
    }
}

/// Decodes `source` with the reference library; `None` unless it decodes to `length` bytes.
#[cfg(test)]
pub(super) fn reference_decode(source: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = vec![0u8; length];
    // SAFETY: both lengths are the buffers' own; the function never leaves them.
    let n = unsafe {
        lz4_sys::LZ4_decompress_safe(
            source.as_ptr().cast::<c_char>(),
            out.as_mut_ptr().cast::<c_char>(),
            source.len() as c_int,
            length as c_int,
        )
    };
    (n == length as c_int).then_some(out)
}
