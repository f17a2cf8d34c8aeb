//! Unpacks run lengths in bytes, as `PackBits` of TIFF and segments of DICOM have them.
//!
//! # Invariants
//! - No more bytes are written than there is room for, whatever the runs say.

/// Bytes of a run.
enum Run<'a> {
    Literal(&'a [u8]),
    Repeated(u8, usize),
}

/// Unpacks into `out`, and returns how many bytes there are, at most as many as fit.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> usize {
    let mut done = 0;
    runs(packed, out.len(), |run| match run {
        Run::Literal(bytes) => {
            out[done..done + bytes.len()].copy_from_slice(bytes);
            done += bytes.len();
        }
        Run::Repeated(value, count) => {
            out[done..done + count].fill(value);
            done += count;
        }
    });
    done
}

/// As [`unpack`], into every `step`th byte of `out` from the first on.
pub(super) fn unpack_apart(packed: &[u8], out: &mut [u8], step: usize) -> usize {
    let room = out.len().div_ceil(step);
    let mut places = out.iter_mut().step_by(step);
    let mut done = 0;
    runs(packed, room, |run| match run {
        Run::Literal(bytes) => {
            bytes.iter().zip(places.by_ref()).for_each(|(value, place)| *place = *value);
            done += bytes.len();
        }
        Run::Repeated(value, count) => {
            places.by_ref().take(count).for_each(|place| *place = value);
            done += count;
        }
    });
    done
}

/// Calls `take` with each run, cut where there is no room left.
fn runs<'a>(mut packed: &'a [u8], room: usize, mut take: impl FnMut(Run<'a>)) {
    let mut left = room;
    while left > 0 {
        let Some((&code, rest)) = packed.split_first() else { return };
        packed = rest;
        match i16::from(code.cast_signed()) {
            -128 => {}
            code @ 0.. => {
                let count = (code as usize + 1).min(left).min(packed.len());
                take(Run::Literal(&packed[..count]));
                (packed, left) = (&packed[count..], left - count);
            }
            code => {
                let Some((&value, rest)) = packed.split_first() else { return };
                let count = ((1 - code) as usize).min(left);
                take(Run::Repeated(value, count));
                (packed, left) = (rest, left - count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_repeat_and_copy() {
        // The example of the TIFF 6.0 specification.
        let packed = [
            0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7,
            0xaa,
        ];
        let mut out = [0; 24];
        assert_eq!(unpack(&packed, &mut out), 24);
        let expected = [
            0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22,
            0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
        ];
        assert_eq!(out, expected);
        assert_eq!(unpack(&packed[..5], &mut out), 5);
        assert_eq!(unpack(&[0x81], &mut out), 0);
    }

    #[test]
    fn bytes_apart_are_the_same() {
        let packed = [0xfe, 5, 1, 1, 2, 0x80, 0xff, 9];
        let (mut whole, mut apart) = ([0; 6], [0; 17]);
        assert_eq!(unpack(&packed, &mut whole), 6);
        assert_eq!(unpack_apart(&packed, &mut apart, 3), 6);
        assert!(apart.iter().step_by(3).eq(&whole));
        assert_eq!(unpack_apart(&packed, &mut apart[..4], 3), 2, "as many as fit");
    }
}
