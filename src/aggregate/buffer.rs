//! Memory for unfinished voxels: on the heap within the budget, in a scratch file beyond it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Result;
use crate::sys::temp_map::TempMap;

/// Bytes that unfinished voxels may take of memory, and where the rest goes.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    folder: PathBuf,
    heap: Mutex<Heap>,
}

#[derive(Debug, Default)]
struct Heap {
    /// Of buffers in use and idle ones.
    used_bytes: u64,
    /// Given back, to be lent again: fresh memory costs a fault for each of its pages.
    idle: Vec<Vec<f64>>,
}

/// Bytes, aligned for every voxel; whatever was in them before.
#[derive(Debug)]
pub(super) struct Buffer {
    room: Room,
    bytes: usize,
    budget: Arc<Budget>,
}

#[derive(Debug)]
enum Room {
    Heap(Vec<f64>),
    Disk(TempMap),
}

impl Budget {
    pub(super) fn new(limit_bytes: u64, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { limit_bytes, folder, heap: Mutex::default() })
    }

    /// Where what exceeds the memory goes.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn heap(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many numbers of memory, if the budget has them; idle ones of another length make room.
    fn take(&self, numbers: usize) -> Option<Vec<f64>> {
        let bytes = (numbers * size_of::<f64>()) as u64;
        let mut heap = self.heap();
        if let Some(at) = heap.idle.iter().rposition(|idle| idle.len() == numbers) {
            return Some(heap.idle.swap_remove(at));
        }
        while heap.used_bytes.saturating_add(bytes) > self.limit_bytes {
            let idle = heap.idle.pop()?;
            heap.used_bytes -= size_of_val(&idle[..]) as u64;
        }
        heap.used_bytes += bytes;
        drop(heap);
        Some(vec![0.0; numbers])
    }
}

impl Buffer {
    /// # Errors
    /// [`crate::Error::Io`] if the budget is spent and the disk of the scratch folder has no room either.
    pub(super) fn new(bytes: usize, budget: &Arc<Budget>) -> Result<Self> {
        if let Some(buffer) = Self::in_memory(bytes, budget) {
            return Ok(buffer);
        }
        let room = Room::Disk(TempMap::new(&budget.folder, bytes)?);
        Ok(Self { room, bytes, budget: budget.clone() })
    }

    /// On the heap; `None` if the budget is spent.
    pub(super) fn in_memory(bytes: usize, budget: &Arc<Budget>) -> Option<Self> {
        let room = Room::Heap(budget.take(bytes.div_ceil(size_of::<f64>()))?);
        Some(Self { room, bytes, budget: budget.clone() })
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
        if let Room::Heap(numbers) = &mut self.room {
            let numbers = std::mem::take(numbers);
            self.budget.heap().idle.push(numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_budget_is_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let budget = Budget::new(104, folder.path().to_owned());
        let mut first = Buffer::new(60, &budget).unwrap();
        let mut second = Buffer::new(60, &budget).unwrap();
        assert!(matches!((&first.room, &second.room), (Room::Heap(_), Room::Disk(_))));
        second.bytes()[59] = 7;
        assert!(first.bytes() == [0; 60] && second.bytes()[..59] == [0; 59]);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the scratch file has no name");
        drop(first);
        // What is idle makes room for another length, and is lent again for its own.
        assert!(matches!(Buffer::new(100, &budget).unwrap().room, Room::Heap(_)));
        assert!(matches!(Buffer::new(98, &budget).unwrap().room, Room::Heap(_)));
        assert_eq!(budget.heap().used_bytes, 104);
    }
}
