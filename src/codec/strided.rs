//! Describes rows in the caller's memory, so that kernels can write elements straight into them.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use crate::sys::prefetch::prefetch_row;

/// Rows of equal length, a fixed distance apart.
pub(crate) struct RowsMut<'a> {
    base: *mut u8,
    count: usize,
    bytes: usize,
    stride: usize,
    prefetch_offset: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl RowsMut<'_> {
    /// `count` rows of `bytes` bytes, `stride` bytes apart, the first at `base`.
    ///
    /// # Safety
    /// As long as the rows live, all their bytes are valid for writes, nothing else accesses them,
    /// and no two rows overlap.
    pub(crate) unsafe fn new(base: *mut u8, count: usize, bytes: usize, stride: usize) -> Self {
        Self { base, count, bytes, stride, prefetch_offset: 0, memory: PhantomData }
    }

    /// Prefetches, as each row is written, the row `bytes` further on, which will be written next.
    ///
    /// Rows far apart defeat the hardware prefetcher. Prefetching row by row stays within the few
    /// cache lines that a core can have outstanding.
    pub(crate) fn with_next(mut self, bytes: usize) -> Self {
        self.prefetch_offset = bytes;
        self
    }

    /// Rows of `bytes` bytes, `stride` bytes apart, that fill `memory`.
    #[cfg(test)]
    pub(super) fn of(memory: &mut [u8], bytes: usize, stride: usize) -> RowsMut<'_> {
        assert!(bytes <= stride && memory.len().is_multiple_of(stride), "rows side by side");
        // SAFETY: all rows lie in `memory`, which is borrowed for as long as they live.
        unsafe { RowsMut::new(memory.as_mut_ptr(), memory.len() / stride, bytes, stride) }
    }

    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of each row.
    pub(super) fn row_bytes(&self) -> usize {
        self.bytes
    }

    /// Iterates over the rows.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        (0..self.count).map(|row| {
            let begin = self.base.wrapping_add(row * self.stride);
            if self.prefetch_offset > 0 {
                prefetch_row(begin.wrapping_add(self.prefetch_offset), self.bytes);
            }
            // SAFETY: the caller of `new` promised exclusive access; the rows do not overlap.
            unsafe { slice::from_raw_parts_mut(begin, self.bytes) }
        })
    }

    /// The rows as a destination of vectors of `V` bytes; `None` unless a row holds a power of two
    /// of them.
    pub(super) fn vectors<const V: usize>(&mut self) -> Option<StridedDst<'_, V>> {
        let per_row = self.bytes / V;
        (self.bytes.is_multiple_of(V) && per_row.is_power_of_two()).then(|| StridedDst {
            count: self.count * per_row,
            vectors: VectorPtrs {
                base: self.base,
                shift: per_row.ilog2(),
                stride: self.stride,
                prefetch_offset: self.prefetch_offset,
            },
            memory: PhantomData,
        })
    }
}

/// A destination of vectors of `V` bytes, in rows a fixed distance apart.
pub(super) struct StridedDst<'a, const V: usize> {
    /// Number of vectors.
    pub(super) count: usize,
    /// Where each of them goes.
    pub(super) vectors: VectorPtrs<V>,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a, const V: usize> StridedDst<'a, V> {
    /// The whole vectors of `out`, one behind the other.
    pub(super) fn of(out: &'a mut [u8]) -> Self {
        let vectors =
            VectorPtrs { base: out.as_mut_ptr(), shift: 0, stride: V, prefetch_offset: 0 };
        Self { count: out.len() / V, vectors, memory: PhantomData }
    }
}

/// The addresses of the vectors of a [`StridedDst`].
#[derive(Clone, Copy)]
pub(super) struct VectorPtrs<const V: usize> {
    base: *mut u8,
    /// A row holds `1 << shift` vectors.
    shift: u32,
    /// Bytes from row to row.
    stride: usize,
    /// Bytes to the row that is prefetched; 0 if none is.
    prefetch_offset: usize,
}

impl<const V: usize> VectorPtrs<V> {
    /// Where vector `i` goes.
    ///
    /// # Safety
    /// `i` is less than the destination's count, and the destination is still borrowed.
    #[inline(always)]
    pub(super) unsafe fn at(self, i: usize) -> *mut u8 {
        let (row, column) = (i >> self.shift, i & ((1 << self.shift) - 1));
        // SAFETY: our caller's promise.
        unsafe { self.base.add(row * self.stride + column * V) }
    }

    /// Prefetches what follows the rows of `vectors`.
    #[inline(always)]
    pub(super) fn prefetch(self, vectors: Range<usize>) {
        if self.prefetch_offset > 0 {
            for row in vectors.start >> self.shift..vectors.end >> self.shift {
                let next = self.base.wrapping_add(row * self.stride + self.prefetch_offset);
                prefetch_row(next, V << self.shift);
            }
        }
    }
}
