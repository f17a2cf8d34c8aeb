//! Blocks that are one value throughout: air, padding, background.
//!
//! They are filled, not decoded: once one is known, those like it are known by their bytes.

use std::array;

use super::planes::Planes;

/// Bytes of a pattern: elements of every type fill it.
const PATTERN_BYTES: usize = 32;

/// A block that takes less than this part of its bytes may be constant.
const SHARE: usize = 64;

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

/// All that a block's bytes are decoded by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) length: usize,
    pub(super) typesize: usize,
    pub(super) streams: usize,
    /// Those of the frame.
    pub(super) flags: u8,
}

/// The last constant block.
#[derive(Debug, Default)]
pub(super) struct LastConstant {
    kind: Kind,
    encoded: Vec<u8>,
    pattern: Pattern,
}

impl LastConstant {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        let kind = Kind { length: 0, typesize: 0, streams: 0, flags: 0 };
        Self { kind, encoded: Vec::new(), pattern: [0; PATTERN_BYTES] }
    }

    /// The pattern of a block of these bytes, if it is as the last one.
    #[inline]
    pub(super) fn known(&self, kind: Kind, encoded: &[u8]) -> Option<Pattern> {
        (self.kind == kind && self.encoded == encoded).then_some(self.pattern)
    }

    /// The pattern of a block that was decoded from these bytes, if it is constant; it is the last one then.
    #[inline]
    pub(super) fn see(
        &mut self,
        kind: Kind,
        encoded: &[u8],
        planes: &Planes<'_>,
    ) -> Option<Pattern> {
        if encoded.len() >= kind.length / SHARE {
            return None;
        }
        let element = planes.constant()?;
        self.kind = kind;
        self.encoded.clear();
        self.encoded.extend_from_slice(encoded);
        self.pattern = array::from_fn(|i| element[i % kind.typesize]);
        Some(self.pattern)
    }
}
