//! Planes of a decoded block that need not be copied: those that do not compress stay in the source, those that are
//! constant or repeat another are lent from there.
//!
//! # Invariants
//! - A plane that lies elsewhere has there all the bytes that the output would have.
//! - [`Place::As`] names an earlier plane, which lies in the output.
#![allow(unsafe_code)]

use std::ops::Range;
use std::{ptr, slice};

use super::decode::copy_match;
use crate::codec::planes::{CONSTANT_BYTES, MAX_PLANES, ONES, ZEROS};

/// Where a decoded plane lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) enum Place {
    /// In the output, at its own place.
    Output,
    /// In the source, from this byte on.
    Source(u32),
    /// Its bits are all 0.
    Zeros,
    /// Its bits are all 1.
    Ones,
    /// In the output, at the place of this plane.
    As(u8),
}

impl Place {
    /// The bytes of plane `p`, which has `bytes` of them.
    pub(in crate::codec) fn lend<'a>(
        self,
        p: usize,
        bytes: usize,
        source: &'a [u8],
        output: &'a [u8],
    ) -> &'a [u8] {
        match self {
            Self::Output => &output[p * bytes..][..bytes],
            Self::Source(at) => &source[at as usize..][..bytes],
            Self::Zeros => &ZEROS[..bytes],
            Self::Ones => &ONES[..bytes],
            Self::As(q) => &output[usize::from(q) * bytes..][..bytes],
        }
    }
}

/// Literals at a plane's ends that a match may leave and the plane still be found to be all of a kind: LZ4 begins a run with
/// one, and ends a block with some.
const END_BYTES: usize = 16;

/// A plane that repeats another as far as it is decoded.
struct Unfinished {
    p: usize,
    like: Place,
    end: usize,
}

/// The output of a decoder, and where its planes lie.
pub(super) struct Lender<'a> {
    source: &'a [u8],
    out: *mut u8,
    places: &'a mut [Place],
    /// A plane has two to the power of so many bytes: more than any block if no plane is to be lent.
    shift: u32,
    /// A bit for each plane that lies elsewhere.
    elsewhere: u64,
    unfinished: Option<Unfinished>,
}

impl<'a> Lender<'a> {
    /// For planes of equal length, as many as `places`, which together have `length` bytes.
    ///
    /// # Safety
    /// Until it is dropped, `length` bytes and as many more as [`copy_match`] asks for may be written at `out`.
    pub(super) unsafe fn new(
        source: &'a [u8],
        out: *mut u8,
        length: usize,
        places: &'a mut [Place],
    ) -> Self {
        places.fill(Place::Output);
        let bytes = length / places.len();
        let lends = bytes.is_power_of_two() && bytes * places.len() == length;
        let shift =
            if lends && places.len() <= MAX_PLANES { bytes.ilog2() } else { usize::BITS - 1 };
        Self { source, out, places, shift, elsewhere: 0, unfinished: None }
    }

    /// Whether so many bytes may hold a whole plane.
    #[inline(always)]
    pub(super) fn may_hold_plane(&self, bytes: usize) -> bool {
        bytes >> self.shift != 0
    }

    /// Whether the bytes of a range, which is not empty, are in the output.
    #[inline(always)]
    pub(super) fn has(&self, range: Range<usize>) -> bool {
        self.elsewhere & self.planes_of(&range) == 0
    }

    /// A bit for each plane that a range meets, which is not empty.
    #[inline(always)]
    fn planes_of(&self, range: &Range<usize>) -> u64 {
        let (first, last) = (range.start >> self.shift, (range.end - 1) >> self.shift);
        (2u64 << last).wrapping_sub(1) & !((1 << first) - 1)
    }

    fn is_elsewhere(&self, p: usize) -> bool {
        self.elsewhere >> p & 1 == 1
    }

    fn lend(&mut self, p: usize, place: Place) {
        self.places[p] = place;
        self.elsewhere |= 1 << p;
    }

    /// Where the bytes of plane `p` begin, if they lie there.
    fn begin(&self, p: usize, place: Place) -> *const u8 {
        match place {
            Place::Output => self.out.wrapping_add(p << self.shift),
            Place::Source(at) => self.source.as_ptr().wrapping_add(at as usize),
            Place::Zeros => ZEROS.as_ptr(),
            Place::Ones => ONES.as_ptr(),
            Place::As(q) => self.out.wrapping_add(usize::from(q) << self.shift),
        }
    }

    /// Takes the literals from `at` on for `range`: whole planes stay where they are.
    ///
    /// # Safety
    /// The source has the literals, the output the range.
    pub(super) unsafe fn take(&mut self, at: usize, range: Range<usize>) {
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
            self.lend(p, Place::Source((at + (p << self.shift) - range.start) as u32));
        }
    }

    /// Repeats for `range` what lies `offset` bytes before, wherever that is: whole planes are lent if they can.
    ///
    /// # Safety
    /// The output has the range, and what lies before it is decoded; `offset` is 1 or more and leads to no place before.
    #[inline(never)]
    pub(super) unsafe fn repeat(&mut self, offset: usize, range: Range<usize>) {
        self.unfinished = None;
        let mut at = range.start;
        while at < range.end {
            let p = at >> self.shift;
            let plane = p << self.shift..(p + 1) << self.shift;
            let end = plane.end.min(range.end);
            // SAFETY: what lies before `at` is decoded.
            match unsafe { self.like(p, offset, at) } {
                Some(like) => {
                    // SAFETY: as far as `at`, the plane is in the output; another has all its bytes.
                    let begins_like = at - plane.start <= END_BYTES
                        && unsafe { self.agrees(p, like, plane.start..at) };
                    if begins_like && end == plane.end {
                        self.lend(p, like);
                    } else {
                        let from = self.begin(p, like).wrapping_add(at - plane.start);
                        // SAFETY: another plane's bytes, or constant ones, so they do not overlap with these.
                        unsafe { ptr::copy_nonoverlapping(from, self.out.add(at), end - at) };
                        self.unfinished = begins_like.then_some(Unfinished { p, like, end });
                    }
                }
                None => {
                    // SAFETY: what the match repeats is in the output then.
                    unsafe {
                        self.bring(at - offset..(end - offset).min(at));
                        copy_match(self.out.add(at), offset, end - at);
                    }
                }
            }
            at = end;
        }
    }

    /// Where plane `p` lies if it repeats what lies `offset` bytes before it, as it does from `at` on.
    ///
    /// # Safety
    /// What lies before `at` is decoded, and `offset` leads to a place in it.
    unsafe fn like(&self, p: usize, offset: usize, at: usize) -> Option<Place> {
        let bytes = 1usize << self.shift;
        if offset == 1 && bytes <= CONSTANT_BYTES {
            let before = (at - 1) >> self.shift;
            let place = self.places[before];
            // SAFETY: a byte that is decoded, where its plane lies.
            match unsafe { *self.begin(before, place).add((at - 1) & (bytes - 1)) } {
                0 => Some(Place::Zeros),
                u8::MAX => Some(Place::Ones),
                _ => None,
            }
        } else if offset & (bytes - 1) == 0 {
            let q = p - (offset >> self.shift);
            Some(if self.is_elsewhere(q) { self.places[q] } else { Place::As(q as u8) })
        } else {
            None
        }
    }

    /// Whether bytes of plane `p` in the output are those that it would have if it lay there.
    ///
    /// # Safety
    /// The bytes are decoded, and in the output; the plane that lies there has all its bytes.
    unsafe fn agrees(&self, p: usize, place: Place, range: Range<usize>) -> bool {
        let from = self.begin(p, place).wrapping_add(range.start - (p << self.shift));
        // SAFETY: our caller's promise.
        unsafe {
            slice::from_raw_parts(self.out.add(range.start), range.len())
                == slice::from_raw_parts(from, range.len())
        }
    }

    /// Brings the planes of a range, which is not empty, into the output.
    ///
    /// # Safety
    /// The planes that the range meets and lie elsewhere are in the output's length.
    unsafe fn bring(&mut self, range: Range<usize>) {
        let planes = self.planes_of(&range) & self.elsewhere;
        self.elsewhere &= !planes;
        for p in (range.start >> self.shift..).take_while(|&p| p << self.shift < range.end) {
            if planes >> p & 1 == 1 {
                let from = self.begin(p, self.places[p]);
                self.places[p] = Place::Output;
                // SAFETY: a plane's bytes; its own place is no other's.
                unsafe {
                    ptr::copy_nonoverlapping(from, self.out.add(p << self.shift), 1 << self.shift);
                }
            }
        }
    }

    /// Ends the output at `length`; the last bytes of it, from `literals` on, were literals.
    ///
    /// # Safety
    /// The output has that length and is decoded.
    pub(super) unsafe fn finish(&mut self, literals: usize, length: usize) {
        if let Some(Unfinished { p, like, end }) = self.unfinished.take()
            && end == literals
            && length == (p + 1) << self.shift
            && length - end <= END_BYTES
            // SAFETY: the plane's last bytes are in the output; the other has all of its.
            && unsafe { self.agrees(p, like, end..length) }
        {
            self.lend(p, like);
        }
    }
}
