//! Memory of batches: filled by threads together, lent to the consumer, and used again.
//!
//! # Invariants
//! - A patch's bytes are written by whoever claimed the patch, and each is claimed once.
//! - A buffer leaves its filling only when every claim on it has ended.
#![allow(unsafe_code)]

use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::Layout;

/// Zeroed memory, aligned for every dtype.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: *mut [u64],
}

// SAFETY: the memory is the buffer's own; `Filling` says who may write to it.
unsafe impl Send for Buffer {}
// SAFETY: as above: through a shared buffer bytes are only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn new(bytes: usize) -> Self {
        let words = vec![0u64; bytes.div_ceil(size_of::<u64>())];
        Self { memory: Box::into_raw(words.into_boxed_slice()) }
    }

    /// The first byte, through which whoever owns the buffer may write.
    pub(super) fn base(&self) -> *mut u8 {
        self.memory.cast()
    }

    fn len(&self) -> usize {
        self.memory.len() * size_of::<u64>()
    }

    /// Some of its bytes; nobody writes to a buffer that can be seen, but its owner.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len(), "bytes of the buffer");
        // SAFETY: in the buffer; while it is being filled `Filling` hides it, so nobody writes. `tests/queue.rs` watches it.
        unsafe { slice::from_raw_parts(self.base().add(range.start), range.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and nobody else frees it.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    layout: Arc<Layout>,
    patches: usize,
    base: *mut u8,
    claimed: AtomicUsize,
    ended: AtomicUsize,
    buffer: Mutex<Option<Buffer>>,
}

// SAFETY: `base` points into `buffer`; parts of it are handed out once each, see `Filling::claim`.
unsafe impl Send for Filling {}
// SAFETY: as above.
unsafe impl Sync for Filling {}

/// One patch of a filling, claimed.
pub(super) struct Claim {
    filling: Arc<Filling>,
    index: usize,
}

impl Filling {
    /// A batch of `patches` in a buffer that the layout has measured.
    pub(super) fn new(layout: Arc<Layout>, patches: usize, buffer: Buffer) -> Self {
        assert!(patches <= layout.batch_size && layout.batch_bytes <= buffer.len());
        let (base, buffer) = (buffer.base(), Mutex::new(Some(buffer)));
        let (claimed, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { layout, patches, base, claimed, ended, buffer }
    }

    /// The next patch that nobody has.
    pub(super) fn claim(self: &Arc<Self>) -> Option<Claim> {
        let next = |n: usize| (n < self.patches).then_some(n + 1);
        let index = self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(Claim { filling: self.clone(), index })
    }

    /// Whether every patch was claimed and every claim has ended.
    pub(super) fn is_full(&self) -> bool {
        self.ended.load(Ordering::Acquire) == self.patches
    }

    /// The buffer, if it is full.
    pub(super) fn take(&self) -> Option<Buffer> {
        if !self.is_full() {
            return None;
        }
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Claim {
    /// Which patch of the batch.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn filling(&self) -> &Arc<Filling> {
        &self.filling
    }

    /// Where the patch's voxels of a volume go.
    pub(super) fn bytes(&mut self, volume: usize) -> &mut [u8] {
        let range = self.filling.layout.patch(volume, self.index);
        // SAFETY: the layout's ranges of different patches and volumes are disjoint parts of the buffer; a patch is claimed
        // once, `self` is borrowed for as long as the bytes are, and the buffer is not taken before the claim has ended.
        unsafe { slice::from_raw_parts_mut(self.filling.base.add(range.start), range.len()) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.filling.ended.fetch_add(1, Ordering::Release);
    }
}
