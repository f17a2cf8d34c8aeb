//! Lists the planes of a shuffled block, and what their addresses say about the elements.
//!
//! Planes need not be adjacent: a decoder refers to those it would only copy, so several planes may
//! lie at one address.
//!
//! # Invariants
//! - Every plane that was pushed is valid for reads of its length as long as [`Planes`] lives.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::null;
use std::{array, slice};

/// Largest element in bytes: data types have 1, 2, 4 or 8.
pub(super) const MAX_TYPESIZE: usize = 8;

/// Bit planes of a byte.
pub(super) const BITS: usize = 8;

/// Most planes of a block.
pub(super) const MAX_PLANES: usize = BITS * MAX_TYPESIZE;

/// Longest plane that [`ZEROS`] or [`ONES`] may stand for.
pub(super) const CONSTANT_BYTES: usize = 4096;

/// A bit plane of zeros.
pub(super) static ZEROS: [u8; CONSTANT_BYTES] = [0; CONSTANT_BYTES];

/// A bit plane of ones.
pub(super) static ONES: [u8; CONSTANT_BYTES] = [u8::MAX; CONSTANT_BYTES];

/// What all elements of a block have in common in the high bits of their most significant byte.
///
/// It is known without a look at the bits when [`super::lz4`] found that planes are equal, so that
/// they lie at one address. Most values are small for their type, so this applies to most blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum HighBits {
    /// Nothing is known.
    Any,
    /// The upper four bits repeat the fourth: the byte is a signed number of four bits.
    Sign,
    /// The upper four bits are 0.
    Zero,
    /// All eight bits are equal: the byte is 0 or −1.
    Same,
}

/// What a plane collects from each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaneKind {
    /// One byte.
    Bytes,
    /// One bit; the element count is a multiple of 8.
    Bits,
}

impl PlaneKind {
    /// Elements that a byte of a plane belongs to.
    pub(super) fn elements_per_byte(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::Bits => BITS,
        }
    }

    /// Number of planes of elements of `typesize` bytes.
    pub(super) fn planes(self, typesize: usize) -> usize {
        typesize * self.elements_per_byte()
    }
}

/// The planes of a block, all of one length: lowest byte first, and of each byte the lowest bit.
#[derive(Debug)]
pub(super) struct Planes<'s> {
    kind: PlaneKind,
    high_bits: HighBits,
    plane_bytes: usize,
    count: usize,
    /// Where each of `count` planes begins.
    begins: [*const u8; MAX_PLANES],
    bytes: PhantomData<&'s [u8]>,
}

impl<'s> Planes<'s> {
    /// No planes yet.
    pub(super) fn new(kind: PlaneKind, plane_bytes: usize) -> Self {
        let begins = [null(); MAX_PLANES];
        Self { kind, high_bits: HighBits::Any, plane_bytes, count: 0, begins, bytes: PhantomData }
    }

    /// Appends a plane.
    #[inline]
    pub(super) fn push(&mut self, plane: &'s [u8]) {
        assert!(plane.len() == self.plane_bytes, "planes of one length");
        self.begins[self.count] = plane.as_ptr();
        self.count += 1;
    }

    /// Finds out what the high bits have in common, once all planes are pushed.
    pub(super) fn detect_high_bits(&mut self) {
        if self.kind == PlaneKind::Bits {
            self.high_bits = HighBits::of(&self.begins[self.count - BITS..self.count]);
        }
    }

    /// What each plane collects.
    #[inline]
    pub(super) fn kind(&self) -> PlaneKind {
        self.kind
    }

    /// Bytes of each plane.
    #[inline]
    pub(super) fn plane_bytes(&self) -> usize {
        self.plane_bytes
    }

    /// What is known of the most significant byte.
    #[inline]
    pub(super) fn high_bits(&self) -> HighBits {
        self.high_bits
    }

    /// The element that all elements are equal to, if they are.
    pub(super) fn constant(&self) -> Option<[u8; MAX_TYPESIZE]> {
        let mut element = [0; MAX_TYPESIZE];
        for (p, plane) in self.iter().enumerate() {
            let &first = plane.first()?;
            let known = [ZEROS.as_ptr(), ONES.as_ptr()].contains(&plane.as_ptr());
            if !known && plane[1..] != plane[..plane.len() - 1] {
                return None;
            }
            match (self.kind, first) {
                (PlaneKind::Bytes, byte) => element[p] = byte,
                (PlaneKind::Bits, 0) => {}
                (PlaneKind::Bits, u8::MAX) => element[p / BITS] |= 1 << (p % BITS),
                (PlaneKind::Bits, _) => return None,
            }
        }
        Some(element)
    }

    /// Iterates over the planes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'s [u8]> + '_ {
        (0..self.count).map(|p| self.plane(p))
    }

    /// The byte planes of elements of `T` bytes.
    #[inline]
    pub(super) fn bytes<const T: usize>(&self) -> [&'s [u8]; T] {
        array::from_fn(|k| self.plane(k))
    }

    /// The bit planes of elements of `T` bytes, eight for each byte.
    #[inline]
    pub(super) fn bits<const T: usize>(&self) -> [[&'s [u8]; BITS]; T] {
        array::from_fn(|k| array::from_fn(|j| self.plane(k * BITS + j)))
    }

    /// Where the bit planes of elements of `T` bytes begin.
    #[inline]
    pub(super) fn begins<const T: usize>(&self) -> &[[*const u8; BITS]; T] {
        assert!(T * BITS <= self.count, "planes of all bytes");
        let (begins, _) = self.begins.as_chunks();
        begins.first_chunk().expect("no type is longer than the longest")
    }

    #[inline]
    fn plane(&self, p: usize) -> &'s [u8] {
        assert!(p < self.count, "a plane that was pushed");
        // SAFETY: it was a slice of that length when it was pushed, borrowed for `'s`.
        unsafe { slice::from_raw_parts(self.begins[p], self.plane_bytes) }
    }
}

impl HighBits {
    /// What the addresses of a byte's eight bit planes say.
    fn of(begins: &[*const u8]) -> Self {
        let repeats = |plane: usize| begins[plane..].iter().all(|&begin| begin == begins[plane]);
        if repeats(0) {
            Self::Same
        } else if repeats(3) {
            Self::Sign
        } else if repeats(4) && begins[4] == ZEROS.as_ptr() {
            Self::Zero
        } else {
            Self::Any
        }
    }
}
