//! Joins planes into elements with the best kernel of the CPU.

use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::partial;
use super::portable::{self, GROUP};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::codec::planes::PlaneKind;
use crate::codec::planes::{MAX_TYPESIZE, Planes};
use crate::codec::strided::RowsMut;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::codec::strided::StridedDst;
use crate::sys::isa::Isa;

/// Joins the elements of `groups`, of `typesize` bytes each, into `out`.
///
/// Groups are counted in [`GROUP`]s of elements. `out` may end within the last group.
pub(in crate::codec) fn join(
    isa: Isa,
    planes: &Planes<'_>,
    typesize: usize,
    groups: Range<usize>,
    out: &mut [u8],
) {
    match typesize {
        1 => join_with::<1>(isa, planes, groups, out),
        2 => join_with::<2>(isa, planes, groups, out),
        4 => join_with::<4>(isa, planes, groups, out),
        MAX_TYPESIZE => join_with::<MAX_TYPESIZE>(isa, planes, groups, out),
        _ => unreachable!("{typesize} bytes: data types have 1, 2, 4 or 8"),
    }
}

/// As [`join`], for whole groups that fill `rows`; `false`, having written nothing, if the kernel
/// cannot write straight into such rows.
pub(in crate::codec) fn join_rows(
    isa: Isa,
    planes: &Planes<'_>,
    typesize: usize,
    groups: Range<usize>,
    rows: &mut RowsMut<'_>,
) -> bool {
    match typesize {
        1 => join_rows_with::<1>(isa, planes, groups, rows),
        2 => join_rows_with::<2>(isa, planes, groups, rows),
        4 => join_rows_with::<4>(isa, planes, groups, rows),
        MAX_TYPESIZE => join_rows_with::<MAX_TYPESIZE>(isa, planes, groups, rows),
        _ => false,
    }
}

/// As [`join_rows`], for rows that may begin and end within a group: those of the first row begin
/// at element `first`, those of each other row `stride` elements after those of the row before.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::codec) fn join_partial_rows(
    planes: &Planes<'_>,
    typesize: usize,
    first: usize,
    stride: usize,
    rows: &mut RowsMut<'_>,
) -> bool {
    match (planes.kind(), typesize) {
        (PlaneKind::Bytes, 2) => partial::join::<2>(&planes.bytes(), first, stride, rows),
        (PlaneKind::Bytes, 4) => partial::join::<4>(&planes.bytes(), first, stride, rows),
        (PlaneKind::Bytes, MAX_TYPESIZE) => {
            partial::join::<MAX_TYPESIZE>(&planes.bytes(), first, stride, rows);
        }
        _ => return false,
    }
    true
}

/// Without vector instructions a copy of joined elements is as good.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(in crate::codec) fn join_partial_rows(
    _: &Planes<'_>,
    _: usize,
    _: usize,
    _: usize,
    _: &mut RowsMut<'_>,
) -> bool {
    false
}

fn join_rows_with<const T: usize>(
    isa: Isa,
    planes: &Planes<'_>,
    groups: Range<usize>,
    rows: &mut RowsMut<'_>,
) -> bool {
    match isa {
        Isa::Base => false,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => {
            rows.vectors().map(|dst| avx2::join::<T>(planes, groups, &dst)).is_some()
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Gfni => {
            rows.vectors().map(|dst| avx512::join::<T>(planes, groups, &dst)).is_some()
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => rows.vectors().map(|dst| neon::join::<T>(planes, groups, &dst)).is_some(),
    }
}

fn join_with<const T: usize>(isa: Isa, planes: &Planes<'_>, groups: Range<usize>, out: &mut [u8]) {
    let elements = planes.plane_bytes() * planes.kind().elements_per_byte();
    let whole = (groups.start * GROUP + out.len() / T).min(elements) / GROUP;
    let (body, tail) = out.split_at_mut((whole - groups.start) * GROUP * T);
    let body_groups = groups.start..whole;
    match isa {
        Isa::Base => portable::join::<T>(planes, body_groups, body),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => avx2::join::<T>(planes, body_groups, &StridedDst::of(body)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Gfni => avx512::join::<T>(planes, body_groups, &StridedDst::of(body)),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::join::<T>(planes, body_groups, &StridedDst::of(body)),
    }
    portable::join_tail::<T>(planes, whole * GROUP, tail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::planes::{BITS, HighBits, PlaneKind, ZEROS};
    use crate::codec::shuffle::split;

    /// The planes of `shuffled`, for elements of `t` bytes.
    fn planes(kind: PlaneKind, shuffled: &[u8], t: usize) -> Planes<'_> {
        let plane_bytes = shuffled.len() / kind.planes(t);
        let mut planes = Planes::new(kind, plane_bytes);
        shuffled.chunks_exact(plane_bytes).for_each(|plane| planes.push(plane));
        planes.detect_high_bits();
        planes
    }

    #[test]
    fn kernels_agree() {
        for isa in Isa::all() {
            for t in [1, 2, 4, 8] {
                for m in [8, 64, 72, 1000, 4096] {
                    let elements: Vec<u8> =
                        (0..m * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
                    let mut shuffled = vec![0; m * t];
                    for kind in [PlaneKind::Bytes, PlaneKind::Bits] {
                        split(Isa::Base, kind, &elements, &mut shuffled, t);
                        let planes = planes(kind, &shuffled, t);
                        for groups in [0..m.div_ceil(GROUP), 0..m / GROUP, m / GROUP / 2..m / GROUP]
                        {
                            let range = groups.start * GROUP..(groups.end * GROUP).min(m);
                            let mut out = vec![0xa5; range.len() * t];
                            join(isa, &planes, t, groups, &mut out);
                            let expected = &elements[range.start * t..range.end * t];
                            assert!(out == expected, "{isa:?} {kind:?} t {t} m {m} {range:?}");
                        }
                    }
                }
            }
        }
    }

    /// Kernels have shortcuts for equal planes of the most significant byte.
    #[test]
    fn equal_planes_are_joined_alike() {
        const ROW: usize = 128;
        let bytes: Vec<u8> = (0..64 * ROW).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
        let row = |p: usize| &bytes[p * ROW..][..ROW];
        let kinds = [HighBits::Any, HighBits::Sign, HighBits::Zero, HighBits::Same];
        for (t, high_bits) in
            [1, 2, 4, 8].into_iter().flat_map(|t| kinds.map(|high_bits| (t, high_bits)))
        {
            let mut planes = Planes::new(PlaneKind::Bits, ROW);
            (0..BITS * (t - 1)).for_each(|p| planes.push(row(p)));
            for bit in 0..BITS {
                planes.push(match high_bits {
                    HighBits::Sign => row(bit.min(3)),
                    HighBits::Zero if bit >= 4 => &ZEROS[..ROW],
                    HighBits::Any | HighBits::Zero => row(bit),
                    HighBits::Same => row(5),
                });
            }
            planes.detect_high_bits();
            assert_eq!(planes.high_bits(), high_bits);
            let groups = 1..ROW * BITS / GROUP;
            let mut expected = vec![0; groups.len() * GROUP * t];
            join(Isa::Base, &planes, t, groups.clone(), &mut expected);
            for isa in Isa::all() {
                let mut out = vec![0xa5; expected.len()];
                join(isa, &planes, t, groups.clone(), &mut out);
                assert!(out == expected, "{isa:?} {t} {high_bits:?}");
            }
        }
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn partial_rows_are_joined_without_their_neighbours() {
        const ROW: usize = 48;
        const ROWS: usize = 5;
        for t in [2, 4, 8] {
            let elements: Vec<u8> =
                (0..ROW * ROWS * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
            let mut shuffled = vec![0; elements.len()];
            for kind in [PlaneKind::Bytes, PlaneKind::Bits] {
                split(Isa::Base, kind, &elements, &mut shuffled, t);
                let planes = planes(kind, &shuffled, t);
                for (first, n) in (0..ROW).flat_map(|x| (1..=ROW - x).map(move |n| (ROW + x, n))) {
                    let stride = n * t + 3;
                    let mut out = vec![0xa5; (ROWS - 1) * stride];
                    let mut rows = RowsMut::of(&mut out, n * t, stride);
                    let done = join_partial_rows(&planes, t, first, ROW, &mut rows);
                    assert_eq!(done, kind == PlaneKind::Bytes);
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
    fn rows_hold_the_elements_and_gaps_stay() {
        const ELEMENTS: usize = 1024;
        const GAP: usize = 24;
        for isa in Isa::all() {
            for t in [1, 2, 4, 8] {
                let elements: Vec<u8> =
                    (0..ELEMENTS * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
                let mut shuffled = vec![0; elements.len()];
                for kind in [PlaneKind::Bytes, PlaneKind::Bits] {
                    split(Isa::Base, kind, &elements, &mut shuffled, t);
                    let planes = planes(kind, &shuffled, t);
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
                            let done = join_rows(isa, &planes, t, groups, &mut rows);
                            let least = match isa {
                                Isa::Base => usize::MAX,
                                #[cfg(target_arch = "x86_64")]
                                Isa::Avx2 | Isa::Avx512 => 32,
                                #[cfg(target_arch = "x86_64")]
                                Isa::Avx512Gfni => 64,
                                #[cfg(target_arch = "aarch64")]
                                Isa::Neon => 16,
                            };
                            let can = row_bytes >= least && row_bytes.is_power_of_two();
                            assert_eq!(done, can, "{isa:?} {row_bytes}");
                            for (i, row) in out.chunks_exact(stride).enumerate() {
                                let (row, gap) = row.split_at(row_bytes);
                                assert!(gap == [0xa5; GAP], "{isa:?} {kind:?} t {t} {i}");
                                let joined = row == &expected[i * row_bytes..][..row_bytes];
                                let untouched = row.iter().all(|&byte| byte == 0xa5);
                                assert!(if done { joined } else { untouched }, "{isa:?} t {t}");
                            }
                        }
                    }
                }
            }
        }
    }
}
