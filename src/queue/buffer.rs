//! The memory of batches: threads fill it together, the consumer reads it, then it is reused.
//!
//! # Invariants
//! - Only the holder of a patch's claim writes that patch's bytes, and each patch is claimed once.
//! - A buffer leaves its [`PartialBatch`] only after every claim on it has been dropped.
#![allow(unsafe_code)]

use std::ops::Range;
use std::slice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::batch_layout::BatchLayout;
use crate::Result;
use crate::memory::zeroed;
use crate::sys::sync::{AtomicUsize, Mutex};

/// Memory of one batch: zeroed when new, aligned for every dtype.
#[derive(Debug)]
pub(super) struct BatchBuffer {
    memory: *mut [u64],
}

// SAFETY: the buffer owns its memory; `PartialBatch` decides which thread writes which part.
unsafe impl Send for BatchBuffer {}
// SAFETY: a shared reference to a buffer only reads.
unsafe impl Sync for BatchBuffer {}

impl BatchBuffer {
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn new(bytes: usize) -> Result<Self> {
        let words = zeroed::<u64>(bytes.div_ceil(size_of::<u64>()), || "a batch".to_owned())?;
        Ok(Self { memory: Box::into_raw(words.into_boxed_slice()) })
    }

    fn base(&self) -> *mut u8 {
        self.memory.cast()
    }

    fn len(&self) -> usize {
        self.memory.len() * size_of::<u64>()
    }

    fn check(&self, range: &Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len(), "bytes of the buffer");
    }

    /// Some of its bytes.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.check(&range);
        // SAFETY: the range lies in the buffer. `PartialBatch` hides a buffer while threads write
        // to it, so nothing writes behind this reference. `tests/queue.rs` watches it.
        unsafe { slice::from_raw_parts(self.base().add(range.start), range.len()) }
    }

    /// Some of its bytes, to be written.
    pub(super) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.check(&range);
        // SAFETY: as for `bytes`, and the exclusive reference keeps readers away.
        unsafe { slice::from_raw_parts_mut(self.base().add(range.start), range.len()) }
    }
}

impl Drop for BatchBuffer {
    fn drop(&mut self) {
        // SAFETY: `new` took the memory from a box, and nothing else frees it.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

/// A batch that threads are filling.
#[derive(Debug)]
pub(super) struct PartialBatch {
    layout: Arc<BatchLayout>,
    patches: usize,
    base: *mut u8,
    claimed: AtomicUsize,
    ended: AtomicUsize,
    buffer: Mutex<Option<BatchBuffer>>,
}

// SAFETY: `base` points into `buffer`; `PartialBatch::claim` hands out each part of it once.
unsafe impl Send for PartialBatch {}
// SAFETY: as above.
unsafe impl Sync for PartialBatch {}

/// The exclusive right to write one patch of a batch.
pub(super) struct PatchClaim {
    batch: Arc<PartialBatch>,
    index: usize,
}

impl PartialBatch {
    /// A batch of `patches` patches in `buffer`, which is as large as `layout` asks.
    pub(super) fn new(layout: Arc<BatchLayout>, patches: usize, buffer: BatchBuffer) -> Self {
        assert!(patches <= layout.batch_size && layout.batch_bytes <= buffer.len());
        let (base, buffer) = (buffer.base(), Mutex::new(Some(buffer)));
        let (claimed, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { layout, patches, base, claimed, ended, buffer }
    }

    /// Claims the next unclaimed patch.
    pub(super) fn claim(self: &Arc<Self>) -> Option<PatchClaim> {
        let next = |n: usize| (n < self.patches).then_some(n + 1);
        let index = self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(PatchClaim { batch: self.clone(), index })
    }

    /// Whether every patch was claimed and every claim has been dropped.
    pub(super) fn is_full(&self) -> bool {
        self.ended.load(Ordering::Acquire) == self.patches
    }

    /// The buffer, if it is full.
    pub(super) fn take(&self) -> Option<BatchBuffer> {
        if !self.is_full() {
            return None;
        }
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl PatchClaim {
    /// The patch's index in the batch.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn batch(&self) -> &Arc<PartialBatch> {
        &self.batch
    }

    /// The memory of the patch's voxels in a volume.
    pub(super) fn bytes(&mut self, volume: usize) -> &mut [u8] {
        let range = self.batch.layout.patch(volume, self.index);
        // SAFETY: the layout's ranges of different patches and volumes are disjoint parts of the
        // buffer. `claim` hands out a patch once, `self` stays borrowed as long as the bytes, and
        // `take` leaves the buffer alone until this claim is dropped. `tests/queue.rs` watches it.
        unsafe { slice::from_raw_parts_mut(self.batch.base.add(range.start), range.len()) }
    }
}

impl Drop for PatchClaim {
    fn drop(&mut self) {
        self.batch.ended.fetch_add(1, Ordering::Release);
    }
}
