//! Byte and bit shuffles of one block (§6).
//!
//! Elements of t bytes become t planes of m bytes, one for each byte of the element; bit-shuffled, each of these is eight
//! planes of m / 8 bytes, one for each bit. Such planes compress better than interleaved elements.
//!
//! Undoing a shuffle is the hot half of a read: 64 elements at a time, with the widest instructions that the machine has.
//!
//! # Invariants
//! - Every kernel gives the same bytes: `kernels_agree` compares them with what [`split()`] makes of its definition.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod split;

use std::ops::Range;

pub(super) use split::split;

use super::kernel::Kernel;
#[cfg(target_arch = "x86_64")]
use super::rows::Places;
use super::rows::RowsMut;

/// Elements that a kernel joins at a time: 8 bytes of each bit plane.
pub(super) const GROUP: usize = 64;

/// Largest element, in bytes: data types have 1, 2, 4 or 8.
pub(super) const MAX_TYPESIZE: usize = 8;

/// How the planes of a block are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// By the bytes of an element.
    Bytes,
    /// By the bits of each byte of an element; the element count is a multiple of 8.
    Bits,
}

/// Joins elements out of their planes: those of `groups`, counted in [`GROUP`]s, into `out`, which is as long as they are.
///
/// All planes have m bytes; `out` may be short in its last group.
pub(super) fn join(
    kernel: Kernel,
    grouping: Grouping,
    planes: &[&[u8]],
    groups: Range<usize>,
    out: &mut [u8],
) {
    match *planes {
        [a] => join_with(kernel, grouping, [a], groups, out),
        [a, b] => join_with(kernel, grouping, [a, b], groups, out),
        [a, b, c, d] => join_with(kernel, grouping, [a, b, c, d], groups, out),
        [a, b, c, d, e, f, g, h] => {
            join_with(kernel, grouping, [a, b, c, d, e, f, g, h], groups, out);
        }
        _ => unreachable!("{} planes: data types have 1, 2, 4 or 8 bytes", planes.len()),
    }
}

/// As [`join`], for whole groups that are `rows`, straight there; `false`, and nothing is done, if the kernel cannot.
pub(super) fn join_rows(
    kernel: Kernel,
    grouping: Grouping,
    planes: &[&[u8]],
    groups: Range<usize>,
    rows: &mut RowsMut<'_>,
) -> bool {
    match *planes {
        [a] => join_rows_with(kernel, grouping, [a], groups, rows),
        [a, b] => join_rows_with(kernel, grouping, [a, b], groups, rows),
        [a, b, c, d] => join_rows_with(kernel, grouping, [a, b, c, d], groups, rows),
        [a, b, c, d, e, f, g, h] => {
            join_rows_with(kernel, grouping, [a, b, c, d, e, f, g, h], groups, rows)
        }
        _ => false,
    }
}

fn join_rows_with<const T: usize>(
    kernel: Kernel,
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    rows: &mut RowsMut<'_>,
) -> bool {
    match kernel {
        Kernel::Portable => false,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => {
            rows.places().map(|places| avx2::join(grouping, planes, groups, &places)).is_some()
        }
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => {
            rows.places().map(|places| avx512::join(grouping, planes, groups, &places)).is_some()
        }
    }
}

fn join_with<const T: usize>(
    kernel: Kernel,
    grouping: Grouping,
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
) {
    let whole = (groups.start * GROUP + out.len() / T).min(planes[0].len()) / GROUP;
    let (body, tail) = out.split_at_mut((whole - groups.start) * GROUP * T);
    let body_groups = groups.start..whole;
    match kernel {
        Kernel::Portable => match grouping {
            Grouping::Bytes => groups_of(planes, body_groups, body, bytes_group),
            Grouping::Bits => groups_of(planes, body_groups, body, bits_group),
        },
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => avx2::join(grouping, planes, body_groups, &Places::of(body)),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::join(grouping, planes, body_groups, &Places::of(body)),
    }
    let first = whole * GROUP;
    for (i, element) in tail.chunks_exact_mut(T).enumerate() {
        for (byte, plane) in element.iter_mut().zip(planes) {
            *byte = match grouping {
                Grouping::Bytes => plane[first + i],
                Grouping::Bits => bit_column(plane, first + i),
            };
        }
    }
}

/// The byte of one element out of its eight bit planes.
fn bit_column(plane: &[u8], element: usize) -> u8 {
    let row = plane.len() / 8;
    (0..8).fold(0, |byte, j| byte | (plane[j * row + element / 8] >> (element % 8) & 1) << j)
}

/// Joins whole groups, whose bytes `group` finds in a plane.
#[inline(always)]
fn groups_of<const T: usize>(
    planes: [&[u8]; T],
    groups: Range<usize>,
    out: &mut [u8],
    group: impl Fn(&[u8], usize) -> [u8; GROUP],
) {
    for (g, out) in groups.zip(out.chunks_exact_mut(GROUP * T)) {
        let bytes = planes.map(|plane| group(plane, g));
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
fn bytes_group(plane: &[u8], g: usize) -> [u8; GROUP] {
    plane[g * GROUP..][..GROUP].try_into().expect("a whole group")
}

/// Eight transposes of 8×8 bits.
#[inline(always)]
fn bits_group(plane: &[u8], g: usize) -> [u8; GROUP] {
    let row = plane.len() / 8;
    let mut bytes = [0; GROUP];
    for (i, out) in bytes.chunks_exact_mut(8).enumerate() {
        let bits: [u8; 8] = std::array::from_fn(|j| plane[j * row + 8 * g + i]);
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
    fn kernels_agree() {
        for &kernel in Kernel::available() {
            for t in [1, 2, 4, 8] {
                for m in [8, 64, 72, 1000, 4096] {
                    let elements: Vec<u8> =
                        (0..m * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
                    let mut shuffled = vec![0; m * t];
                    for grouping in [Grouping::Bytes, Grouping::Bits] {
                        split(Kernel::Portable, grouping, &elements, &mut shuffled, t);
                        let planes: Vec<&[u8]> = shuffled.chunks_exact(m).collect();
                        for groups in [0..m.div_ceil(GROUP), 0..m / GROUP, m / GROUP / 2..m / GROUP]
                        {
                            let range = groups.start * GROUP..(groups.end * GROUP).min(m);
                            let mut out = vec![0xa5; range.len() * t];
                            join(kernel, grouping, &planes, groups, &mut out);
                            let expected = &elements[range.start * t..range.end * t];
                            assert!(
                                out == expected,
                                "{kernel:?} {grouping:?} t {t} m {m} {range:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_hold_what_lies_together_otherwise() {
        const ELEMENTS: usize = 1024;
        const GAP: usize = 24;
        for &kernel in Kernel::available() {
            for t in [1, 2, 4, 8] {
                let elements: Vec<u8> =
                    (0..ELEMENTS * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
                let mut shuffled = vec![0; elements.len()];
                for grouping in [Grouping::Bytes, Grouping::Bits] {
                    split(Kernel::Portable, grouping, &elements, &mut shuffled, t);
                    let planes: Vec<&[u8]> = shuffled.chunks_exact(ELEMENTS).collect();
                    for groups in [0..16, 3..16, 1..2, 5..14] {
                        let expected = &elements[groups.start * GROUP * t..groups.end * GROUP * t];
                        for row_bytes in [16, 32, 64, 128, 192, 256, 512] {
                            if !expected.len().is_multiple_of(row_bytes) {
                                continue;
                            }
                            let stride = row_bytes + GAP;
                            let mut out = vec![0xa5; expected.len() / row_bytes * stride];
                            let mut rows = RowsMut::of(&mut out, row_bytes, stride);
                            let groups = groups.clone();
                            let done = join_rows(kernel, grouping, &planes, groups, &mut rows);
                            let least = match kernel {
                                Kernel::Portable => usize::MAX,
                                #[cfg(target_arch = "x86_64")]
                                Kernel::Avx2 => 32,
                                #[cfg(target_arch = "x86_64")]
                                Kernel::Avx512 => 64,
                            };
                            let can = row_bytes >= least && row_bytes.is_power_of_two();
                            assert_eq!(done, can, "{kernel:?} {row_bytes}");
                            for (i, row) in out.chunks_exact(stride).enumerate() {
                                let (row, gap) = row.split_at(row_bytes);
                                assert!(gap == [0xa5; GAP], "{kernel:?} {grouping:?} t {t} {i}");
                                let joined = row == &expected[i * row_bytes..][..row_bytes];
                                let untouched = row.iter().all(|&byte| byte == 0xa5);
                                assert!(if done { joined } else { untouched }, "{kernel:?} t {t}");
                            }
                        }
                    }
                }
            }
        }
    }
}
