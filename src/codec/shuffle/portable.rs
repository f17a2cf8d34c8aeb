//! Joins and splits planes with plain loops, which define both shuffles.

use std::ops::Range;

use crate::codec::planes::{BITS, PlaneKind, Planes};

/// Elements that a kernel joins at a time: 8 bytes of each bit plane.
pub(in crate::codec) const GROUP: usize = 64;

/// As [`super::join()`], for whole groups.
#[inline(always)]
pub(super) fn join<const T: usize>(planes: &Planes<'_>, groups: Range<usize>, out: &mut [u8]) {
    match planes.kind() {
        PlaneKind::Bytes => join_groups(&planes.bytes::<T>(), groups, out, bytes_group),
        PlaneKind::Bits => join_groups(&planes.bits::<T>(), groups, out, bits_group),
    }
}

/// As [`super::join()`], from the element `first` on, one by one.
#[inline(always)]
pub(super) fn join_tail<const T: usize>(planes: &Planes<'_>, first: usize, out: &mut [u8]) {
    for (i, element) in out.chunks_exact_mut(T).enumerate() {
        for (k, byte) in element.iter_mut().enumerate() {
            *byte = match planes.kind() {
                PlaneKind::Bytes => planes.bytes::<T>()[k][first + i],
                PlaneKind::Bits => bit_column(&planes.bits::<T>()[k], first + i),
            };
        }
    }
}

/// A byte of one element, from its eight bit planes.
fn bit_column(planes: &[&[u8]; BITS], element: usize) -> u8 {
    planes
        .iter()
        .enumerate()
        .fold(0, |byte, (j, plane)| byte | (plane[element / 8] >> (element % 8) & 1) << j)
}

/// Joins whole groups; `group` makes the bytes of one from a plane, or from eight of bits.
#[inline(always)]
fn join_groups<const T: usize, P>(
    planes: &[P; T],
    groups: Range<usize>,
    out: &mut [u8],
    group: impl Fn(&P, usize) -> [u8; GROUP],
) {
    for (g, out) in groups.zip(out.chunks_exact_mut(GROUP * T)) {
        let bytes = planes.each_ref().map(|plane| group(plane, g));
        interleave(&bytes, out);
    }
}

#[inline(always)]
fn interleave<const T: usize>(bytes: &[[u8; GROUP]; T], out: &mut [u8]) {
    let (elements, _) = out.as_chunks_mut::<T>();
    for (i, element) in elements.iter_mut().enumerate().take(GROUP) {
        *element = bytes.map(|plane| plane[i]);
    }
}

#[inline(always)]
fn bytes_group(plane: &&[u8], g: usize) -> [u8; GROUP] {
    plane[g * GROUP..][..GROUP].try_into().expect("a whole group")
}

/// Transposes eight matrices of 8×8 bits.
#[inline(always)]
fn bits_group(planes: &[&[u8]; BITS], g: usize) -> [u8; GROUP] {
    let mut bytes = [0; GROUP];
    for (i, out) in bytes.chunks_exact_mut(8).enumerate() {
        let bits: [u8; 8] = planes.map(|plane| plane[8 * g + i]);
        out.copy_from_slice(&transpose8(u64::from_le_bytes(bits)).to_le_bytes());
    }
    bytes
}

/// Transposes an 8×8 bit matrix whose row r is byte r (Hacker's Delight, 7-3).
#[inline(always)]
fn transpose8(mut x: u64) -> u64 {
    for (mask, shift) in
        [(0x00aa_00aa_00aa_00aa, 7), (0x0000_cccc_0000_cccc, 14), (0x0000_0000_f0f0_f0f0, 28)]
    {
        let t = (x ^ (x >> shift)) & mask;
        x ^= t ^ (t << shift);
    }
    x
}

/// Splits as [`super::split()`] does, from the element `first` on; for bits that is a multiple of
/// 8.
pub(super) fn split(kind: PlaneKind, elements: &[u8], out: &mut [u8], t: usize, first: usize) {
    let m = elements.len() / t;
    for (k, plane) in out.chunks_exact_mut(m).enumerate() {
        match kind {
            PlaneKind::Bytes => {
                for (to, element) in plane.iter_mut().zip(elements.chunks_exact(t)).skip(first) {
                    *to = element[k];
                }
            }
            PlaneKind::Bits => {
                let row = m / 8;
                for group in first / 8..row {
                    let bytes = std::array::from_fn(|i| elements[(8 * group + i) * t + k]);
                    let bits = transpose8(u64::from_le_bytes(bytes)).to_le_bytes();
                    for (j, byte) in bits.into_iter().enumerate() {
                        plane[j * row + group] = byte;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transpose_swaps_row_and_column() {
        for row in 0..8 {
            for column in 0..8 {
                assert_eq!(transpose8(1 << (8 * row + column)), 1 << (8 * column + row));
            }
        }
    }

    #[test]
    fn bits_lie_where_the_specification_says() {
        // Bit j of byte k of element i lies at bit i mod 8 of byte (8·k + j)·(m / 8) + i div 8.
        let (t, m) = (2, 16);
        for (i, k, j) in [(0, 0, 0), (9, 1, 3), (15, 1, 7), (6, 0, 5)] {
            let (mut elements, mut found) = (vec![0; m * t], vec![0; m * t]);
            elements[i * t + k] = 1 << j;
            split(PlaneKind::Bits, &elements, &mut found, t, 0);
            let mut expected = vec![0; m * t];
            expected[(8 * k + j) * (m / 8) + i / 8] = 1 << (i % 8);
            assert_eq!(found, expected);
        }
    }
}
