//! Tracks where the planes of a decoded block lie, so that whole planes need not be copied.
//!
//! A plane of literals stays in the source. A constant plane is one of the static ones. A plane
//! that repeats an earlier one is a reference to it.
//!
//! # Invariants
//! - A plane outside its place in the output equals what the output would hold there.
//! - [`PlaneRef::SameAs`] names an earlier plane that lies at its own place in the output.
#![allow(unsafe_code)]

use std::ops::Range;
use std::{ptr, slice};

use super::copy::copy_match;
use crate::codec::planes::{CONSTANT_BYTES, MAX_PLANES, ONES, ZEROS};

/// Where a decoded plane lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) enum PlaneRef {
    /// In the output, at its own place.
    InOutput,
    /// In the source, from this byte on.
    InSource(u32),
    /// All bits are 0.
    Zeros,
    /// All bits are 1.
    Ones,
    /// In the output, at the place of this plane.
    SameAs(u8),
}

impl PlaneRef {
    /// The `bytes` bytes of plane `p`.
    pub(in crate::codec) fn bytes<'a>(
        self,
        p: usize,
        bytes: usize,
        source: &'a [u8],
        output: &'a [u8],
    ) -> &'a [u8] {
        match self {
            Self::InOutput => &output[p * bytes..][..bytes],
            Self::InSource(at) => &source[at as usize..][..bytes],
            Self::Zeros => &ZEROS[..bytes],
            Self::Ones => &ONES[..bytes],
            Self::SameAs(q) => &output[usize::from(q) * bytes..][..bytes],
        }
    }
}

/// Most literals at either end of a plane whose match may still make it a reference: LZ4 begins a
/// run with one literal and ends a block with several.
const END_BYTES: usize = 16;

/// A plane that so far equals another, up to byte `end` of the output.
struct PartialMatch {
    p: usize,
    plane: PlaneRef,
    end: usize,
}

/// The output of a decoder, and where each of its planes lies.
pub(super) struct PlaneRefs<'a> {
    source: &'a [u8],
    out: *mut u8,
    refs: &'a mut [PlaneRef],
    /// A plane has `1 << shift` bytes; more than any block if no plane may be a reference.
    shift: u32,
    /// A bit for each plane that does not lie at its own place in the output.
    elsewhere: u64,
    partial: Option<PartialMatch>,
}

impl<'a> PlaneRefs<'a> {
    /// One plane for each of `refs`, of equal length and together `length` bytes.
    ///
    /// # Safety
    /// As long as it lives, `length` bytes at `out` and the slack that [`copy_match`] needs are
    /// valid for writes.
    pub(super) unsafe fn new(
        source: &'a [u8],
        out: *mut u8,
        length: usize,
        refs: &'a mut [PlaneRef],
    ) -> Self {
        refs.fill(PlaneRef::InOutput);
        let bytes = length / refs.len();
        let even = bytes.is_power_of_two() && bytes * refs.len() == length;
        let shift = if even && refs.len() <= MAX_PLANES { bytes.ilog2() } else { usize::BITS - 1 };
        Self { source, out, refs, shift, elsewhere: 0, partial: None }
    }

    /// Whether that many bytes may hold a whole plane.
    #[inline(always)]
    pub(super) fn may_hold_plane(&self, bytes: usize) -> bool {
        bytes >> self.shift != 0
    }

    /// Whether all planes that a non-empty range meets lie in the output.
    #[inline(always)]
    pub(super) fn in_output(&self, range: Range<usize>) -> bool {
        self.elsewhere & self.planes_of(&range) == 0
    }

    /// A bit for each plane that a non-empty range meets.
    #[inline(always)]
    fn planes_of(&self, range: &Range<usize>) -> u64 {
        let (first, last) = (range.start >> self.shift, (range.end - 1) >> self.shift);
        (2u64 << last).wrapping_sub(1) & !((1 << first) - 1)
    }

    fn is_elsewhere(&self, p: usize) -> bool {
        self.elsewhere >> p & 1 == 1
    }

    fn refer(&mut self, p: usize, plane: PlaneRef) {
        self.refs[p] = plane;
        self.elsewhere |= 1 << p;
    }

    /// Where plane `p` begins if it is `plane`.
    fn begin(&self, p: usize, plane: PlaneRef) -> *const u8 {
        match plane {
            PlaneRef::InOutput => self.out.wrapping_add(p << self.shift),
            PlaneRef::InSource(at) => self.source.as_ptr().wrapping_add(at as usize),
            PlaneRef::Zeros => ZEROS.as_ptr(),
            PlaneRef::Ones => ONES.as_ptr(),
            PlaneRef::SameAs(q) => self.out.wrapping_add(usize::from(q) << self.shift),
        }
    }

    /// Puts the literals at byte `at` of the source into `range` of the output; whole planes of
    /// them stay where they are.
    ///
    /// # Safety
    /// The literals lie in the source, the range in the output.
    pub(super) unsafe fn put_literals(&mut self, at: usize, range: Range<usize>) {
        let planes = range.start.div_ceil(1 << self.shift)..range.end >> self.shift;
        let (head, tail) = if planes.is_empty() {
            (range.end, range.end)
        } else {
            (planes.start << self.shift, planes.end << self.shift)
        };
        for part in [range.start..head, tail..range.end] {
            // SAFETY: parts of the literals and of the range, which do not overlap.
            unsafe {
                let from = self.source.as_ptr().add(at + part.start - range.start);
                ptr::copy_nonoverlapping(from, self.out.add(part.start), part.len());
            }
        }
        for p in planes {
            self.refer(p, PlaneRef::InSource((at + (p << self.shift) - range.start) as u32));
        }
    }

    /// Repeats in `range` the bytes `offset` before it, wherever they lie; whole planes become
    /// references if possible.
    ///
    /// # Safety
    /// The range lies in the output, all bytes before it are decoded, and `offset` is at least 1
    /// and at most `range.start`.
    #[inline(never)]
    pub(super) unsafe fn put_match(&mut self, offset: usize, range: Range<usize>) {
        self.partial = None;
        let mut at = range.start;
        while at < range.end {
            let p = at >> self.shift;
            let plane = p << self.shift..(p + 1) << self.shift;
            let end = plane.end.min(range.end);
            // SAFETY: all bytes before `at` are decoded.
            match unsafe { self.repeated_plane(p, offset, at) } {
                Some(repeated) => {
                    // SAFETY: up to `at` the plane is in the output; the other one is complete.
                    let begins_equal = at - plane.start <= END_BYTES
                        && unsafe { self.equals(p, repeated, plane.start..at) };
                    if begins_equal && end == plane.end {
                        self.refer(p, repeated);
                    } else {
                        let from = self.begin(p, repeated).wrapping_add(at - plane.start);
                        // SAFETY: another plane's bytes, or static ones, which do not overlap
                        // these.
                        unsafe { ptr::copy_nonoverlapping(from, self.out.add(at), end - at) };
                        self.partial =
                            begins_equal.then_some(PartialMatch { p, plane: repeated, end });
                    }
                }
                None => {
                    // SAFETY: the bytes that the match repeats are in the output now.
                    unsafe {
                        self.copy_to_output(at - offset..(end - offset).min(at));
                        copy_match(self.out.add(at), offset, end - at);
                    }
                }
            }
            at = end;
        }
    }

    /// The plane that plane `p` equals if all of it repeats the bytes `offset` before, as it does
    /// from `at` on.
    ///
    /// # Safety
    /// All bytes before `at` are decoded, and `offset` is at most `at`.
    unsafe fn repeated_plane(&self, p: usize, offset: usize, at: usize) -> Option<PlaneRef> {
        let bytes = 1usize << self.shift;
        if offset == 1 && bytes <= CONSTANT_BYTES {
            let before = (at - 1) >> self.shift;
            let plane = self.refs[before];
            // SAFETY: the byte is decoded, and its plane lies there.
            match unsafe { *self.begin(before, plane).add((at - 1) & (bytes - 1)) } {
                0 => Some(PlaneRef::Zeros),
                u8::MAX => Some(PlaneRef::Ones),
                _ => None,
            }
        } else if offset & (bytes - 1) == 0 {
            let q = p - (offset >> self.shift);
            Some(if self.is_elsewhere(q) { self.refs[q] } else { PlaneRef::SameAs(q as u8) })
        } else {
            None
        }
    }

    /// Whether a range of plane `p` in the output equals that part of another plane.
    ///
    /// # Safety
    /// The range is decoded and in the output; the other plane is complete.
    unsafe fn equals(&self, p: usize, other: PlaneRef, range: Range<usize>) -> bool {
        let from = self.begin(p, other).wrapping_add(range.start - (p << self.shift));
        // SAFETY: our caller's promise.
        unsafe {
            slice::from_raw_parts(self.out.add(range.start), range.len())
                == slice::from_raw_parts(from, range.len())
        }
    }

    /// Copies the planes that a non-empty range meets to their own places in the output.
    ///
    /// # Safety
    /// Those of them that lie elsewhere have places within the output's length.
    unsafe fn copy_to_output(&mut self, range: Range<usize>) {
        let planes = self.planes_of(&range) & self.elsewhere;
        self.elsewhere &= !planes;
        for p in (range.start >> self.shift..).take_while(|&p| p << self.shift < range.end) {
            if planes >> p & 1 == 1 {
                let from = self.begin(p, self.refs[p]);
                self.refs[p] = PlaneRef::InOutput;
                // SAFETY: a whole plane; no other plane lies at its own place.
                unsafe {
                    ptr::copy_nonoverlapping(from, self.out.add(p << self.shift), 1 << self.shift);
                }
            }
        }
    }

    /// Ends the output at `length`; its last bytes, from `literals` on, were literals.
    ///
    /// # Safety
    /// The output has that length and is decoded.
    pub(super) unsafe fn finish(&mut self, literals: usize, length: usize) {
        if let Some(PartialMatch { p, plane, end }) = self.partial.take()
            && end == literals
            && length == (p + 1) << self.shift
            && length - end <= END_BYTES
            // SAFETY: the plane's last bytes are in the output; the other plane is complete.
            && unsafe { self.equals(p, plane, end..length) }
        {
            self.refer(p, plane);
        }
    }
}
