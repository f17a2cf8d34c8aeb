//! The planes of a shuffled block: where each lies, and what is known of them before they are looked into.
//!
//! A decoder need not bring planes together: those that it would only copy stay where they are, so several may be one.
//!
//! # Invariants
//! - Every plane that was pushed may be read, for its length, as long as [`Planes`] lives.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::null;
use std::{array, slice};

/// Largest element, in bytes: data types have 1, 2, 4 or 8.
pub(super) const MAX_TYPESIZE: usize = 8;

/// Bit planes of a byte.
pub(super) const BITS: usize = 8;

/// Most planes of a block.
pub(super) const MAX_PLANES: usize = BITS * MAX_TYPESIZE;

/// Longest plane that may lie in [`ZEROS`] or [`ONES`].
pub(super) const CONSTANT_BYTES: usize = 4096;

/// Where a plane of bits lies that are all 0.
pub(super) static ZEROS: [u8; CONSTANT_BYTES] = [0; CONSTANT_BYTES];

/// Where a plane of bits lies that are all 1.
pub(super) static ONES: [u8; CONSTANT_BYTES] = [u8::MAX; CONSTANT_BYTES];

/// What is known of the upper bits of a byte, for all elements of a block, because planes lie in one place: [`super::lz4`] lends them.
///
/// Values are small against their type, so this is what the highest byte of most blocks is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Upper {
    /// Nothing.
    Any,
    /// They repeat the fourth: the byte is a signed number of four bits.
    Sign,
    /// The upper four are 0.
    Zero,
    /// All eight are one: the byte is 0 or −1.
    Same,
}

/// How the planes of a block are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// By the bytes of an element.
    Bytes,
    /// By the bits of each byte of an element, the lowest first; the element count is a multiple of 8.
    Bits,
}

impl Grouping {
    /// Elements of which a byte of a plane tells.
    pub(super) fn elements_per_byte(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::Bits => BITS,
        }
    }

    /// Planes of elements of `typesize` bytes.
    pub(super) fn planes(self, typesize: usize) -> usize {
        typesize * self.elements_per_byte()
    }
}

/// The planes of a block, of one length.
#[derive(Debug)]
pub(super) struct Planes<'s> {
    grouping: Grouping,
    upper: Upper,
    plane_bytes: usize,
    count: usize,
    /// Where each of `count` begins.
    begins: [*const u8; MAX_PLANES],
    bytes: PhantomData<&'s [u8]>,
}

impl<'s> Planes<'s> {
    /// None yet.
    pub(super) fn new(grouping: Grouping, plane_bytes: usize) -> Self {
        let begins = [null(); MAX_PLANES];
        Self { grouping, upper: Upper::Any, plane_bytes, count: 0, begins, bytes: PhantomData }
    }

    /// Adds the next one: lowest byte first, and of each byte the lowest bit.
    #[inline]
    pub(super) fn push(&mut self, plane: &'s [u8]) {
        assert!(plane.len() == self.plane_bytes, "planes of one length");
        self.begins[self.count] = plane.as_ptr();
        self.count += 1;
    }

    /// Looks where they lie, once all are there.
    pub(super) fn see_upper(&mut self) {
        if self.grouping == Grouping::Bits {
            self.upper = Upper::of(&self.begins[self.count - BITS..self.count]);
        }
    }

    /// How they are made.
    #[inline]
    pub(super) fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// Bytes of each.
    #[inline]
    pub(super) fn plane_bytes(&self) -> usize {
        self.plane_bytes
    }

    /// What is known of the highest byte's planes of bits.
    #[inline]
    pub(super) fn upper(&self) -> Upper {
        self.upper
    }

    /// The element that all are, if they are one.
    pub(super) fn constant(&self) -> Option<[u8; MAX_TYPESIZE]> {
        let mut element = [0; MAX_TYPESIZE];
        for (p, plane) in self.iter().enumerate() {
            let &first = plane.first()?;
            let seen = [ZEROS.as_ptr(), ONES.as_ptr()].contains(&plane.as_ptr());
            if !seen && plane[1..] != plane[..plane.len() - 1] {
                return None;
            }
            match (self.grouping, first) {
                (Grouping::Bytes, byte) => element[p] = byte,
                (Grouping::Bits, 0) => {}
                (Grouping::Bits, u8::MAX) => element[p / BITS] |= 1 << (p % BITS),
                (Grouping::Bits, _) => return None,
            }
        }
        Some(element)
    }

    /// All of them, in turn.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'s [u8]> + '_ {
        (0..self.count).map(|p| self.plane(p))
    }

    /// One plane for each of an element's `T` bytes, by [`Grouping::Bytes`].
    #[inline]
    pub(super) fn bytes<const T: usize>(&self) -> [&'s [u8]; T] {
        array::from_fn(|k| self.plane(k))
    }

    /// Eight planes for each of an element's `T` bytes, by [`Grouping::Bits`].
    #[inline]
    pub(super) fn bits<const T: usize>(&self) -> [[&'s [u8]; BITS]; T] {
        array::from_fn(|k| array::from_fn(|j| self.plane(k * BITS + j)))
    }

    /// Where eight planes for each of an element's `T` bytes begin.
    #[inline]
    pub(super) fn begins<const T: usize>(&self) -> &[[*const u8; BITS]; T] {
        assert!(T * BITS <= self.count, "planes of all bytes");
        let (begins, _) = self.begins.as_chunks();
        begins.first_chunk().expect("no type is longer than the longest")
    }

    #[inline]
    fn plane(&self, p: usize) -> &'s [u8] {
        assert!(p < self.count, "a plane that was pushed");
        // SAFETY: it was a slice of that length when it was pushed, and is lent for as long.
        unsafe { slice::from_raw_parts(self.begins[p], self.plane_bytes) }
    }
}

impl Upper {
    /// What is seen of eight planes that begin there.
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
