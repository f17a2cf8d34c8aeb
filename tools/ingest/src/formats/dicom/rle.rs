//! Decodes run lengths (PS3.5, annex G): each byte of the samples has a segment, the highest first.
//!
//! # Invariants
//! - Every access is checked: segments that are short, long, or outside of the frame are errors.

use crate::formats::pack_bits;

/// Bytes of the table of segments.
const HEADER_BYTES: usize = 64;
const MAX_SEGMENTS: usize = 15;

/// Decodes a frame of samples of `width` bytes into `out`: the samples of each plane together,
/// little endian.
///
/// # Errors
/// What is wrong with the frame.
pub(super) fn decode(
    frame: &[u8],
    width: usize,
    samples: usize,
    out: &mut [u8],
) -> Result<(), String> {
    let segments = width * samples;
    let numbers: Vec<usize> = frame
        .get(..HEADER_BYTES)
        .ok_or("its run lengths have no table")?
        .as_chunks()
        .0
        .iter()
        .map(|number| u32::from_le_bytes(*number) as usize)
        .collect();
    if numbers[0] != segments || segments > MAX_SEGMENTS {
        return Err(format!("its run lengths have {} segments, expected {segments}", numbers[0]));
    }
    let starts = &numbers[1..=segments];
    let pixels = out.len() / segments;
    for (i, &start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(frame.len());
        let segment = frame.get(start..end).filter(|_| start >= HEADER_BYTES);
        let segment = segment.ok_or("its run lengths lie outside of the frame")?;
        let (sample, byte) = (i / width, width - 1 - i % width);
        let plane = &mut out[sample * pixels * width..(sample + 1) * pixels * width];
        let found = if width == 1 {
            pack_bits::unpack(segment, plane)
        } else {
            pack_bits::unpack_apart(segment, &mut plane[byte..], width)
        };
        if found < pixels {
            return Err(format!("a segment of its run lengths has {found} of {pixels} bytes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut numbers = vec![segments.len() as u32];
        let mut start = HEADER_BYTES;
        for segment in segments {
            numbers.push(start as u32);
            start += segment.len();
        }
        numbers.resize(16, 0);
        let table = numbers.iter().flat_map(|number| number.to_le_bytes());
        table.chain(segments.concat()).collect()
    }

    #[test]
    fn runs_and_literals_of_each_byte_are_joined() {
        // 5 5 5 1 2, and padding; the high bytes first.
        let low: &[u8] = &[0xfe, 5, 1, 1, 2, 0x80];
        let high: &[u8] = &[0xfd, 0, 0, 7];
        let mut out = [0; 10];
        decode(&frame(&[high, low]), 2, 1, &mut out).unwrap();
        assert_eq!(out, [5, 0, 5, 0, 5, 0, 1, 0, 2, 7]);
        let mut out = [0; 6];
        decode(&frame(&[&[1, 1, 2], &[0xff, 3], &[0x80, 0, 4, 0, 5]]), 1, 3, &mut out).unwrap();
        assert_eq!(out, [1, 2, 3, 3, 4, 5]);
    }

    #[test]
    fn what_is_short_or_outside_is_an_error() {
        let good = frame(&[&[1, 1, 2]]);
        let mut out = [0; 2];
        assert!(decode(&good, 1, 1, &mut out).is_ok());
        for end in 0..good.len() {
            assert!(decode(&good[..end], 1, 1, &mut out).is_err(), "{end}");
        }
        for (at, value) in [(0, 0), (0, 2), (4, 255), (4, 3), (5, 1), (7, 255), (64, 0), (64, 0x80)]
        {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(decode(&bad, 1, 1, &mut out).is_err(), "{at} {value}");
        }
    }
}
