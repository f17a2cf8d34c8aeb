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
#[cfg(target_arch = "x86_64")]
mod parts;
mod split;

use std::ops::Range;

pub(super) use split::split;

use super::kernel::Kernel;
use super::planes::{BITS, Grouping, MAX_TYPESIZE, Planes};
#[cfg(target_arch = "x86_64")]
use super::rows::Places;
use super::rows::RowsMut;

/// Elements that a kernel joins at a time: 8 bytes of each bit plane.
pub(super) const GROUP: usize = 64;

/// Joins elements of `typesize` bytes out of their planes: those of `groups`, counted in [`GROUP`]s, into `out`, which is as
/// long as they are.
///
/// `out` may be short in its last group.
pub(super) fn join(
    kernel: Kernel,
    planes: &Planes<'_>,
    typesize: usize,
    groups: Range<usize>,
    out: &mut [u8],
) {
    match typesize {
        1 => join_with::<1>(kernel, planes, groups, out),
        2 => join_with::<2>(kernel, planes, groups, out),
        4 => join_with::<4>(kernel, planes, groups, out),
        MAX_TYPESIZE => join_with::<MAX_TYPESIZE>(kernel, planes, groups, out),
        _ => unreachable!("{typesize} bytes: data types have 1, 2, 4 or 8"),
    }
}

/// As [`join`], for whole groups that are `rows`, straight there; `false`, and nothing is done, if the kernel cannot.
pub(super) fn join_rows(
    kernel: Kernel,
    planes: &Planes<'_>,
    typesize: usize,
    groups: Range<usize>,
    rows: &mut RowsMut<'_>,
) -> bool {
    match typesize {
        1 => join_rows_with::<1>(kernel, planes, groups, rows),
        2 => join_rows_with::<2>(kernel, planes, groups, rows),
        4 => join_rows_with::<4>(kernel, planes, groups, rows),
        MAX_TYPESIZE => join_rows_with::<MAX_TYPESIZE>(kernel, planes, groups, rows),
        _ => false,
    }
}

/// As [`join_rows`] for any part of rows: the first row's elements lie from `first` on, each other's `stride` behind the one before.
#[cfg(target_arch = "x86_64")]
pub(super) fn join_parts(
    planes: &Planes<'_>,
    typesize: usize,
    first: usize,
    stride: usize,
    rows: &mut RowsMut<'_>,
) -> bool {
    match (planes.grouping(), typesize) {
        (Grouping::Bytes, 2) => parts::join::<2>(&planes.bytes(), first, stride, rows),
        (Grouping::Bytes, 4) => parts::join::<4>(&planes.bytes(), first, stride, rows),
        (Grouping::Bytes, MAX_TYPESIZE) => {
            parts::join::<MAX_TYPESIZE>(&planes.bytes(), first, stride, rows);
        }
        _ => return false,
    }
    true
}

/// Kernels of other machines join whole groups alone.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn join_parts(
    _: &Planes<'_>,
    _: usize,
    _: usize,
    _: usize,
    _: &mut RowsMut<'_>,
) -> bool {
    false
}

fn join_rows_with<const T: usize>(
    kernel: Kernel,
    planes: &Planes<'_>,
    groups: Range<usize>,
    rows: &mut RowsMut<'_>,
) -> bool {
    match kernel {
        Kernel::Portable => false,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => {
            rows.places().map(|places| avx2::join::<T>(planes, groups, &places)).is_some()
        }
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => {
            rows.places().map(|places| avx512::join::<T>(planes, groups, &places)).is_some()
        }
    }
}

fn join_with<const T: usize>(
    kernel: Kernel,
    planes: &Planes<'_>,
    groups: Range<usize>,
    out: &mut [u8],
) {
    let elements = planes.plane_bytes() * planes.grouping().elements_per_byte();
    let whole = (groups.start * GROUP + out.len() / T).min(elements) / GROUP;
    let (body, tail) = out.split_at_mut((whole - groups.start) * GROUP * T);
    let body_groups = groups.start..whole;
    match kernel {
        Kernel::Portable => match planes.grouping() {
            Grouping::Bytes => groups_of(&planes.bytes::<T>(), body_groups, body, bytes_group),
            Grouping::Bits => groups_of(&planes.bits::<T>(), body_groups, body, bits_group),
        },
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => avx2::join::<T>(planes, body_groups, &Places::of(body)),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::join::<T>(planes, body_groups, &Places::of(body)),
    }
    let first = whole * GROUP;
    for (i, element) in tail.chunks_exact_mut(T).enumerate() {
        for (k, byte) in element.iter_mut().enumerate() {
            *byte = match planes.grouping() {
                Grouping::Bytes => planes.bytes::<T>()[k][first + i],
                Grouping::Bits => bit_column(&planes.bits::<T>()[k], first + i),
            };
        }
    }
}

/// The byte of one element out of its eight bit planes.
fn bit_column(planes: &[&[u8]; BITS], element: usize) -> u8 {
    planes
        .iter()
        .enumerate()
        .fold(0, |byte, (j, plane)| byte | (plane[element / 8] >> (element % 8) & 1) << j)
}

/// Joins whole groups, whose bytes `group` finds in a plane.
#[inline(always)]
fn groups_of<const T: usize, P>(
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

/// Eight transposes of 8×8 bits.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::planes::{Upper, ZEROS};

    #[test]
    fn transpose_swaps_row_and_column() {
        for row in 0..8 {
            for column in 0..8 {
                assert_eq!(transpose8(1 << (8 * row + column)), 1 << (8 * column + row));
            }
        }
    }

    /// The planes that `shuffled` consists of, of elements of `t` bytes.
    fn planes(grouping: Grouping, shuffled: &[u8], t: usize) -> Planes<'_> {
        let plane_bytes = shuffled.len() / grouping.planes(t);
        let mut planes = Planes::new(grouping, plane_bytes);
        shuffled.chunks_exact(plane_bytes).for_each(|plane| planes.push(plane));
        planes.see_upper();
        planes
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
                        let planes = planes(grouping, &shuffled, t);
                        for groups in [0..m.div_ceil(GROUP), 0..m / GROUP, m / GROUP / 2..m / GROUP]
                        {
                            let range = groups.start * GROUP..(groups.end * GROUP).min(m);
                            let mut out = vec![0xa5; range.len() * t];
                            join(kernel, &planes, t, groups, &mut out);
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

    /// Planes of the highest byte that lie in one place are joined by shorter ways.
    #[test]
    fn planes_that_are_one_are_joined_alike() {
        const ROW: usize = 128;
        let bytes: Vec<u8> = (0..64 * ROW).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
        let row = |p: usize| &bytes[p * ROW..][..ROW];
        let kinds = [Upper::Any, Upper::Sign, Upper::Zero, Upper::Same];
        for (t, upper) in [1, 2, 4, 8].into_iter().flat_map(|t| kinds.map(|upper| (t, upper))) {
            let mut planes = Planes::new(Grouping::Bits, ROW);
            (0..BITS * (t - 1)).for_each(|p| planes.push(row(p)));
            for bit in 0..BITS {
                planes.push(match upper {
                    Upper::Sign => row(bit.min(3)),
                    Upper::Zero if bit >= 4 => &ZEROS[..ROW],
                    Upper::Any | Upper::Zero => row(bit),
                    Upper::Same => row(5),
                });
            }
            planes.see_upper();
            assert_eq!(planes.upper(), upper);
            let groups = 1..ROW * BITS / GROUP;
            let mut expected = vec![0; groups.len() * GROUP * t];
            join(Kernel::Portable, &planes, t, groups.clone(), &mut expected);
            for &kernel in Kernel::available() {
                let mut out = vec![0xa5; expected.len()];
                join(kernel, &planes, t, groups.clone(), &mut out);
                assert!(out == expected, "{kernel:?} {t} {upper:?}");
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn parts_of_rows_are_joined_alone() {
        const ROW: usize = 48;
        const ROWS: usize = 5;
        for t in [2, 4, 8] {
            let elements: Vec<u8> =
                (0..ROW * ROWS * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
            let mut shuffled = vec![0; elements.len()];
            for grouping in [Grouping::Bytes, Grouping::Bits] {
                split(Kernel::Portable, grouping, &elements, &mut shuffled, t);
                let planes = planes(grouping, &shuffled, t);
                for (first, n) in (0..ROW).flat_map(|x| (1..=ROW - x).map(move |n| (ROW + x, n))) {
                    let stride = n * t + 3;
                    let mut out = vec![0xa5; (ROWS - 1) * stride];
                    let mut rows = RowsMut::of(&mut out, n * t, stride);
                    let done = join_parts(&planes, t, first, ROW, &mut rows);
                    assert_eq!(done, grouping == Grouping::Bytes);
                    for (i, row) in out.chunks_exact(stride).enumerate() {
                        let (row, gap) = row.split_at(n * t);
                        let expected = &elements[(first + i * ROW) * t..][..n * t];
                        assert!(gap == [0xa5; 3], "{t} {first} {n}");
                        assert!(!done || row == expected, "{t} {first} {n}");
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
                    let planes = planes(grouping, &shuffled, t);
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
                            let done = join_rows(kernel, &planes, t, groups, &mut rows);
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
