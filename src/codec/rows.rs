//! Rows of the caller's memory, for whoever can put elements there without a detour.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use crate::prefetch::prefetch_row;

/// Rows of equal length, a fixed distance apart.
pub(crate) struct RowsMut<'a> {
    base: *mut u8,
    count: usize,
    bytes: usize,
    stride: usize,
    ahead: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl RowsMut<'_> {
    /// `count` rows of `bytes` bytes, each `stride` bytes behind the one before, from `base` on.
    ///
    /// # Safety
    /// While the rows live, all their bytes may be written, and nobody else uses them; none overlaps another.
    pub(crate) unsafe fn new(base: *mut u8, count: usize, bytes: usize, stride: usize) -> Self {
        Self { base, count, bytes, stride, ahead: 0, memory: PhantomData }
    }

    /// Rows that the processor is to have at hand `bytes` further on when these are written: they will be the next, and it has
    /// no foresight of its own for rows far apart. Asked for row by row, for it can wait for a few lines at a time only.
    pub(crate) fn with_next(mut self, bytes: usize) -> Self {
        self.ahead = bytes;
        self
    }

    /// Rows of `bytes` bytes in as much of `memory` as they fill, each `stride` bytes behind the one before.
    #[cfg(test)]
    pub(super) fn of(memory: &mut [u8], bytes: usize, stride: usize) -> RowsMut<'_> {
        assert!(bytes <= stride && memory.len().is_multiple_of(stride), "rows side by side");
        // SAFETY: all rows lie in the memory, which is lent for as long as they live.
        unsafe { RowsMut::new(memory.as_mut_ptr(), memory.len() / stride, bytes, stride) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of each.
    pub(super) fn row_bytes(&self) -> usize {
        self.bytes
    }

    /// Each of them, in turn.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        (0..self.count).map(|row| {
            let begin = self.base.wrapping_add(row * self.stride);
            if self.ahead > 0 {
                prefetch_row(begin.wrapping_add(self.ahead), self.bytes);
            }
            // SAFETY: the row is ours alone, as `new` was promised; no other overlaps it.
            unsafe { slice::from_raw_parts_mut(begin, self.bytes) }
        })
    }

    /// The rows as places of `V` bytes; `None` if a row is not a power of two of those.
    pub(super) fn places<const V: usize>(&mut self) -> Option<Places<'_, V>> {
        let per_row = self.bytes / V;
        (self.bytes.is_multiple_of(V) && per_row.is_power_of_two()).then(|| Places {
            count: self.count * per_row,
            at: Steps {
                base: self.base,
                shift: per_row.ilog2(),
                stride: self.stride,
                ahead: self.ahead,
            },
            memory: PhantomData,
        })
    }
}

/// Places for vectors of `V` bytes, one behind the other in rows.
pub(super) struct Places<'a, const V: usize> {
    /// How many there are.
    pub(super) count: usize,
    pub(super) at: Steps<V>,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a, const V: usize> Places<'a, V> {
    /// The whole vectors of `out`.
    pub(super) fn of(out: &'a mut [u8]) -> Self {
        let at = Steps { base: out.as_mut_ptr(), shift: 0, stride: V, ahead: 0 };
        Self { count: out.len() / V, at, memory: PhantomData }
    }
}

/// Where places are.
#[derive(Clone, Copy)]
pub(super) struct Steps<const V: usize> {
    base: *mut u8,
    /// A row has `1 << shift` places.
    shift: u32,
    /// Bytes from row to row.
    stride: usize,
    /// Bytes to the rows that come next; 0 if they are not asked for.
    ahead: usize,
}

impl<const V: usize> Steps<V> {
    /// Where vector `i` goes.
    ///
    /// # Safety
    /// The places have that vector, and they are still lent.
    #[inline(always)]
    pub(super) unsafe fn at(self, i: usize) -> *mut u8 {
        let (row, column) = (i >> self.shift, i & ((1 << self.shift) - 1));
        // SAFETY: our caller's promise.
        unsafe { self.base.add(row * self.stride + column * V) }
    }

    /// Asks for what is ahead of the rows of `vectors`.
    #[inline(always)]
    pub(super) fn prefetch(self, vectors: Range<usize>) {
        if self.ahead > 0 {
            for row in vectors.start >> self.shift..vectors.end >> self.shift {
                let next = self.base.wrapping_add(row * self.stride + self.ahead);
                prefetch_row(next, V << self.shift);
            }
        }
    }
}
