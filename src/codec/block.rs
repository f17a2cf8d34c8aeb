//! A decompressed block of a frame, whose elements are unshuffled on demand.

use std::ops::Range;

use super::constant::{self, Pattern};
use super::planes::Planes;
use super::shuffle::{self, GROUP};
use super::strided::RowsMut;
use crate::sys::isa::Isa;

/// A decompressed block, whose elements are unshuffled on demand.
#[derive(Debug)]
pub struct Block<'s> {
    content: BlockContent<'s>,
    elements: usize,
    typesize: usize,
    /// Unshuffled elements.
    joined: &'s mut Vec<u8>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // It stays on one thread's stack.
pub(super) enum BlockContent<'s> {
    /// The elements themselves.
    Plain(&'s [u8]),
    Shuffled(Planes<'s>),
    /// All elements are equal.
    Constant(Pattern),
}

impl<'s> Block<'s> {
    pub(super) fn new(
        content: BlockContent<'s>,
        elements: usize,
        typesize: usize,
        joined: &'s mut Vec<u8>,
    ) -> Self {
        Self { content, elements, typesize, joined }
    }

    /// The bytes of a range of elements, counted from the start of the block.
    ///
    /// # Panics
    /// If the range ends beyond the block.
    #[inline]
    pub fn elements(&mut self, range: Range<usize>) -> &[u8] {
        let t = self.typesize;
        match &self.content {
            BlockContent::Plain(bytes) => &bytes[range.start * t..range.end * t],
            BlockContent::Shuffled(planes) => {
                assert!(range.end <= self.elements, "elements beyond the block");
                // The kernels are fastest with multiples of four groups.
                let groups = range.start / GROUP / 4 * 4..range.end.div_ceil(4 * GROUP) * 4;
                let groups = groups.start..groups.end.min(self.elements.div_ceil(GROUP));
                let first = groups.start * GROUP;
                let bytes = ((groups.end * GROUP).min(self.elements) - first) * t;
                let out = &mut self.joined[..bytes];
                shuffle::join(Isa::detect(), planes, t, groups, out);
                &out[(range.start - first) * t..(range.end - first) * t]
            }
            BlockContent::Constant(pattern) => {
                assert!(range.end <= self.elements, "elements beyond the block");
                let out = &mut self.joined[..range.len() * t];
                constant::fill(out, pattern);
                out
            }
        }
    }

    /// Writes elements straight into `rows`: those of the first row begin at element `first` of the
    /// block, those of each other row `stride` elements after those of the row before.
    ///
    /// Returns `false`, having written nothing, if the block cannot do that without a buffer, if a
    /// plain copy of [`Block::elements`] is as good, or if `rows` reach beyond the block.
    #[inline]
    pub(crate) fn put(&self, first: usize, stride: usize, rows: &mut RowsMut<'_>) -> bool {
        let (row, t) = (rows.row_bytes() / self.typesize, self.typesize);
        let end = first + rows.count().saturating_sub(1) * stride + row;
        if end > self.elements {
            return false;
        }
        match &self.content {
            BlockContent::Plain(_) => false,
            BlockContent::Constant(pattern) => {
                rows.iter_mut().for_each(|row| constant::fill(row, pattern));
                true
            }
            BlockContent::Shuffled(planes) => {
                let whole =
                    row == stride && first.is_multiple_of(GROUP) && end.is_multiple_of(GROUP);
                let groups = first / GROUP..end / GROUP;
                whole && shuffle::join_rows(Isa::detect(), planes, t, groups, rows)
                    || shuffle::join_partial_rows(planes, t, first, stride, rows)
            }
        }
    }

    /// The bytes of all elements.
    pub fn whole(&mut self) -> &[u8] {
        self.elements(0..self.elements)
    }

    /// Whether the block was recognized as constant.
    #[cfg(test)]
    pub(super) fn is_constant(&self) -> bool {
        matches!(self.content, BlockContent::Constant(_))
    }
}
