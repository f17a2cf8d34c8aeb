//! Memory for unfinished voxels: on the heap within the budget, in a scratch file beyond it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Result;
use crate::source::Scratch;

/// Bytes that unfinished voxels may take of memory, and where the rest goes.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    folder: PathBuf,
}

/// Zeroed bytes, aligned for every voxel.
#[derive(Debug)]
pub(super) struct Buffer {
    room: Room,
    bytes: usize,
    budget: Arc<Budget>,
}

#[derive(Debug)]
enum Room {
    Heap(Vec<f64>),
    Disk(Scratch),
}

impl Budget {
    pub(super) fn new(limit_bytes: u64, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicU64::new(0), folder })
    }

    /// Takes so many bytes of the budget if they are left.
    fn take(&self, bytes: u64) -> bool {
        let within = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }
}

impl Buffer {
    /// # Errors
    /// [`crate::Error::Io`] if the budget is spent and the disk of the scratch folder has no room either.
    pub(super) fn new(bytes: usize, budget: &Arc<Budget>) -> Result<Self> {
        let room = if budget.take(bytes as u64) {
            Room::Heap(vec![0.0; bytes.div_ceil(size_of::<f64>())])
        } else {
            Room::Disk(Scratch::new(&budget.folder, bytes)?)
        };
        Ok(Self { room, bytes, budget: budget.clone() })
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let bytes = match &mut self.room {
            Room::Heap(numbers) => bytemuck::cast_slice_mut(numbers),
            Room::Disk(scratch) => scratch.bytes(),
        };
        &mut bytes[..self.bytes]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Room::Heap(_) = self.room {
            self.budget.used_bytes.fetch_sub(self.bytes as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_budget_is_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let budget = Budget::new(100, folder.path().to_owned());
        let mut first = Buffer::new(60, &budget).unwrap();
        let mut second = Buffer::new(60, &budget).unwrap();
        assert!(matches!((&first.room, &second.room), (Room::Heap(_), Room::Disk(_))));
        second.bytes()[59] = 7;
        assert!(first.bytes() == [0; 60] && second.bytes()[..59] == [0; 59]);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the scratch file has no name");
        drop(first);
        assert!(matches!(Buffer::new(100, &budget).unwrap().room, Room::Heap(_)));
    }
}
