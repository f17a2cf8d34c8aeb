//! Recognizes blocks whose elements are all equal, such as air, padding and background.
//!
//! Such a block is filled, not decoded. The encoded bytes of the last one are remembered, so a
//! block with the same bytes is recognized by comparing them.

use std::array;

use super::planes::Planes;

/// Bytes of a pattern: a multiple of every element size.
const PATTERN_BYTES: usize = 32;

/// Only a block that is compressed to less than 1 / `MIN_RATIO` of its size may be constant.
const MIN_RATIO: usize = 64;

/// An element, repeated.
pub(super) type Pattern = [u8; PATTERN_BYTES];

/// Repeats `pattern` over `row`, which is a whole number of elements.
#[inline]
pub(super) fn fill(row: &mut [u8], pattern: &Pattern) {
    match row.len().checked_sub(PATTERN_BYTES) {
        Some(last) => {
            for at in (0..last).step_by(PATTERN_BYTES).chain([last]) {
                row[at..][..PATTERN_BYTES].copy_from_slice(pattern);
            }
        }
        None => row.copy_from_slice(&pattern[..row.len()]),
    }
}

/// Everything besides the encoded bytes that determines what a block decodes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockLayout {
    /// Decoded bytes.
    pub(super) length: usize,
    pub(super) typesize: usize,
    /// Number of compressed streams.
    pub(super) streams: usize,
    /// Flags of the frame's header.
    pub(super) flags: u8,
}

/// The last constant block that was decoded.
#[derive(Debug, Default)]
pub(super) struct LastConstant {
    layout: BlockLayout,
    encoded: Vec<u8>,
    pattern: Pattern,
}

impl LastConstant {
    /// No block yet.
    pub(super) const fn new() -> Self {
        let layout = BlockLayout { length: 0, typesize: 0, streams: 0, flags: 0 };
        Self { layout, encoded: Vec::new(), pattern: [0; PATTERN_BYTES] }
    }

    /// The pattern of a block, if its encoded bytes equal those of the last constant one.
    #[inline]
    pub(super) fn get(&self, layout: BlockLayout, encoded: &[u8]) -> Option<Pattern> {
        (self.layout == layout && self.encoded == encoded).then_some(self.pattern)
    }

    /// The pattern of a block that was decoded to `planes`, if it is constant; it is remembered.
    #[inline]
    pub(super) fn detect(
        &mut self,
        layout: BlockLayout,
        encoded: &[u8],
        planes: &Planes<'_>,
    ) -> Option<Pattern> {
        if encoded.len() >= layout.length / MIN_RATIO {
            return None;
        }
        let element = planes.constant()?;
        self.layout = layout;
        self.encoded.clear();
        self.encoded.extend_from_slice(encoded);
        self.pattern = array::from_fn(|i| element[i % layout.typesize]);
        Some(self.pattern)
    }
}
