//! Joins planes with AVX-512: one instruction transposes a vector of bit matrices.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm256_loadu_si256, _mm512_castsi256_si512, _mm512_gf2p8affine_epi64_epi8,
    _mm512_inserti64x4, _mm512_loadu_si512, _mm512_mask_add_epi8, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};
use std::ops::Range;

use super::portable::GROUP;
use crate::codec::planes::{BITS, PlaneKind, Planes};
use crate::codec::strided::{StridedDst, VectorPtrs};

/// As [`super::join()`], for whole groups that fill `dst`.
pub(super) fn join<const T: usize>(
    planes: &Planes<'_>,
    groups: Range<usize>,
    dst: &StridedDst<'_, GROUP>,
) {
    debug_assert!(is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("gfni"));
    assert!(dst.count == groups.len() * T, "whole groups");
    let plane_bytes = groups.end * GROUP / planes.kind().elements_per_byte();
    assert!(plane_bytes <= planes.plane_bytes(), "whole groups");
    // SAFETY: `Isa::detect`, the only source of `Isa::Avx512Gfni`, has detected these
    // instructions. The groups lie in the planes and fill `dst`, as was just checked.
    unsafe {
        match planes.kind() {
            PlaneKind::Bytes => bytes(&planes.bytes::<T>(), groups, dst.vectors),
            PlaneKind::Bits => bits(planes.begins::<T>(), groups, dst.vectors),
        }
    }
}

/// # Safety
/// Every plane has the bytes of `groups`, which fill `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
unsafe fn bytes<const T: usize>(planes: &[&[u8]; T], groups: Range<usize>, out: VectorPtrs<GROUP>) {
    for (i, g) in groups.enumerate() {
        out.prefetch(T * i..T * (i + 1));
        let mut joined = [_mm512_setzero_si512(); T];
        for k in 0..T {
            // SAFETY: the group lies in the plane; loads need no alignment.
            joined[k] = unsafe { _mm512_loadu_si512(planes[k].as_ptr().add(g * GROUP).cast()) };
        }
        // SAFETY: the group lies in `out`.
        unsafe { store_interleaved(joined, out, i) };
    }
}

/// # Safety
/// As [`bytes`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
unsafe fn bits<const T: usize>(
    planes: &[[*const u8; BITS]; T],
    groups: Range<usize>,
    out: VectorPtrs<GROUP>,
) {
    let fours = groups.len() / 4;
    for four in 0..fours {
        let at = 8 * (groups.start + 4 * four);
        out.prefetch(4 * T * four..4 * T * (four + 1));
        let mut joined = [[_mm512_setzero_si512(); T]; 4];
        for k in 0..T {
            // SAFETY: each plane has the four groups' 32 bytes from `at` on.
            let groups = unsafe { four_groups(&planes[k], at) };
            for i in 0..4 {
                joined[i][k] = groups[i];
            }
        }
        for (i, joined) in joined.into_iter().enumerate() {
            // SAFETY: the group lies in `out`.
            unsafe { store_interleaved(joined, out, 4 * four + i) };
        }
    }
    for i in 4 * fours..groups.len() {
        let g = groups.start + i;
        let mut joined = [_mm512_setzero_si512(); T];
        for k in 0..T {
            for (j, row) in planes[k].iter().enumerate() {
                // SAFETY: the group has 8 bytes of each bit plane.
                let mask: u64 = unsafe { row.add(8 * g).cast::<u64>().read_unaligned() };
                // 64 bits of a plane are a mask: the value of the bit is added where it is set.
                let value = _mm512_set1_epi8((1u8 << j).cast_signed());
                joined[k] = _mm512_mask_add_epi8(joined[k], mask, joined[k], value);
            }
        }
        // SAFETY: the group lies in `out`.
        unsafe { store_interleaved(joined, out, i) };
    }
}

/// The bytes of four groups, whose bits begin at byte `first` of eight rows.
///
/// For each group, 8 bytes of each row are gathered and transposed as eight 8×8 bit matrices:
/// multiplied by a matrix over GF(2), the byte `1 << e` gives column e.
///
/// # Safety
/// Each row is valid for reads of 32 bytes from `first` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
#[inline]
unsafe fn four_groups(bits: &[*const u8; BITS], first: usize) -> [__m512i; 4] {
    // Rows j and j + 4 in one vector, a group's 8 bytes in each of its quarters.
    let pair = |j: usize| {
        // SAFETY: our caller's promise; loads need no alignment.
        let (low, high) = unsafe {
            let at = |j: usize| _mm256_loadu_si256(bits[j].add(first).cast());
            (at(j), at(j + 4))
        };
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
    };
    let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
    let (even, odd) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let (even2, odd2) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
    let gathered = [
        _mm512_shuffle_i64x2::<0x88>(even, even2),
        _mm512_shuffle_i64x2::<0x88>(odd, odd2),
        _mm512_shuffle_i64x2::<0xdd>(even, even2),
        _mm512_shuffle_i64x2::<0xdd>(odd, odd2),
    ];
    let bytes = ByteIndices(MATRICES).load();
    let columns = _mm512_set1_epi64(0x8040_2010_0804_0201_u64.cast_signed());
    gathered.map(|rows| {
        _mm512_gf2p8affine_epi64_epi8::<0>(columns, _mm512_permutexvar_epi8(bytes, rows))
    })
}

/// Where each byte of eight bit matrices comes from: row j of a matrix is its byte 7 − j, and the
/// rows of a group are in the order 0, 1, 4, 5, 2, 3, 6, 7.
const MATRICES: [u8; GROUP] = {
    const ORDER: [u8; 8] = [0, 1, 4, 5, 2, 3, 6, 7];
    let mut from = [0; GROUP];
    let mut i = 0;
    while i < GROUP {
        let (matrix, j) = (i as u8 / 8, 7 - i % 8);
        from[i] = 8 * ORDER[j] + matrix;
        i += 1;
    }
    from
};

/// Where each byte comes from when two vectors are interleaved in units of 1, 2 and 4 bytes: unit i
/// of the first becomes unit 2·i, unit i of the second unit 2·i + 1.
const INTERLEAVE: [[[u8; GROUP]; 2]; 3] = {
    let mut from = [[[0; GROUP]; 2]; 3];
    let mut power = 0;
    while power < from.len() {
        let unit = 1 << power;
        let mut i = 0;
        while i < 2 * GROUP {
            let (pair, of_second) = (i / (2 * unit), i / unit % 2);
            from[power][i / GROUP][i % GROUP] = (pair * unit + i % unit + of_second * GROUP) as u8;
            i += 1;
        }
        power += 1;
    }
    from
};

/// Byte indices of a permutation.
struct ByteIndices([u8; GROUP]);

impl ByteIndices {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load(&self) -> __m512i {
        // SAFETY: the array has the vector's 64 bytes; the load needs no alignment.
        unsafe { _mm512_loadu_si512(self.0.as_ptr().cast()) }
    }
}

/// Stores 64 elements of T bytes, given as one vector for each byte, as group `i` of `out`.
///
/// # Safety
/// `out` has that group.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
#[inline]
unsafe fn store_interleaved<const T: usize>(
    joined: [__m512i; T],
    out: VectorPtrs<GROUP>,
    i: usize,
) {
    // Interleaved bytes are pairs, interleaved pairs fours, and so on: `run` vectors hold 64 units
    // of `run` bytes.
    let mut units = joined;
    for (power, [low, high]) in INTERLEAVE.into_iter().enumerate().take(T.ilog2() as usize) {
        let (run, given) = (1 << power, units);
        let (low, high) = (ByteIndices(low).load(), ByteIndices(high).load());
        for first in (0..T).step_by(2 * run) {
            for i in 0..run {
                let (a, b) = (given[first + i], given[first + run + i]);
                units[first + 2 * i] = _mm512_permutex2var_epi8(a, low, b);
                units[first + 2 * i + 1] = _mm512_permutex2var_epi8(a, high, b);
            }
        }
    }
    for (k, vector) in units.into_iter().enumerate() {
        // SAFETY: our caller's promise; stores need no alignment.
        unsafe { _mm512_storeu_si512(out.at(i * T + k).cast(), vector) };
    }
}
