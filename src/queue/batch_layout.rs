//! The layout of a batch in memory: one array `(patches, c, z, y, x)` after another.
//!
//! # Invariants
//! - The ranges of different patches and volumes do not overlap, and all end within `batch_bytes`.

use std::ops::Range;

use crate::{Dtype, Error, Result, Size3, Volume};

/// The arrays of a batch begin at cache lines.
const ALIGN_BYTES: usize = 64;

/// One volume of every patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchArray {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) channels: usize,
    patch_bytes: usize,
    offset: usize,
}

/// The arrays of a batch.
#[derive(Debug)]
pub(super) struct BatchLayout {
    pub(super) patch_size: Size3,
    pub(super) batch_size: usize,
    pub(super) batch_bytes: usize,
    pub(super) arrays: Vec<BatchArray>,
}

impl BatchLayout {
    /// The layout of `batch_size` patches of `volumes`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a batch exceeds the address space.
    pub(super) fn new(patch_size: Size3, batch_size: usize, volumes: &[Volume]) -> Result<Self> {
        let mut layout = Self { patch_size, batch_size, batch_bytes: 0, arrays: Vec::new() };
        for volume in volumes {
            let dtype = volume.dtype();
            let batch_bytes = volume.voxels_in(patch_size, batch_size)? * dtype.size();
            let end = layout.batch_bytes.checked_add(batch_bytes);
            let end = end.and_then(|end| end.checked_next_multiple_of(ALIGN_BYTES));
            layout.arrays.push(BatchArray {
                name: volume.name().to_owned(),
                dtype,
                channels: volume.layout().channel_count(),
                patch_bytes: batch_bytes / batch_size,
                offset: layout.batch_bytes,
            });
            layout.batch_bytes = end.filter(|&n| isize::try_from(n).is_ok()).ok_or_else(|| {
                Error::TooLarge { what: format!("a batch of {batch_size} patches") }
            })?;
        }
        Ok(layout)
    }

    /// The bytes of one patch of one volume.
    pub(super) fn patch(&self, volume: usize, patch: usize) -> Range<usize> {
        assert!(patch < self.batch_size, "a patch of the batch");
        let BatchArray { patch_bytes, offset, .. } = self.arrays[volume];
        offset + patch * patch_bytes..offset + (patch + 1) * patch_bytes
    }

    /// The bytes of one volume of the first `patches` patches.
    pub(super) fn volume(&self, volume: usize, patches: usize) -> Range<usize> {
        assert!(patches <= self.batch_size, "patches of the batch");
        let BatchArray { patch_bytes, offset, .. } = self.arrays[volume];
        offset..offset + patches * patch_bytes
    }
}
