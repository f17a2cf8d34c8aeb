//! Memory for unfinished voxels: on the heap within a limit, in scratch files beyond it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Result;
use crate::sys::temp_map::TempMap;

/// Hands out buffers and keeps returned ones for reuse; new memory costs a page fault for each
/// page.
#[derive(Debug)]
pub(super) struct BufferPool {
    limit_bytes: u64,
    scratch_folder: PathBuf,
    heap: Mutex<PoolHeap>,
}

#[derive(Debug, Default)]
struct PoolHeap {
    /// Bytes of buffers in use and of idle ones.
    used_bytes: u64,
    idle: Vec<Vec<f64>>,
}

/// Bytes, aligned for every voxel; their content is whatever the last user left.
#[derive(Debug)]
pub(super) struct PooledBuffer {
    memory: BufferMemory,
    bytes: usize,
    pool: Arc<BufferPool>,
}

#[derive(Debug)]
enum BufferMemory {
    Heap(Vec<f64>),
    Disk(TempMap),
}

impl BufferPool {
    /// A pool that takes `limit_bytes` of the heap and beyond that files in `scratch_folder`.
    pub(super) fn new(limit_bytes: u64, scratch_folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { limit_bytes, scratch_folder, heap: Mutex::default() })
    }

    pub(super) fn scratch_folder(&self) -> &Path {
        &self.scratch_folder
    }

    fn heap(&self) -> MutexGuard<'_, PoolHeap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for `numbers` numbers, if the limit and the system allow it; idle buffers of other
    /// lengths are freed for it.
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
        // Without memory for it the buffer lies on the disk.
        let taken = bytemuck::allocation::try_zeroed_vec(numbers).ok()?;
        heap.used_bytes += bytes;
        Some(taken)
    }
}

impl PooledBuffer {
    /// # Errors
    /// [`crate::Error::Io`] if the pool's limit is reached and the disk is full too.
    pub(super) fn new(bytes: usize, pool: &Arc<BufferPool>) -> Result<Self> {
        if let Some(buffer) = Self::in_memory(bytes, pool) {
            return Ok(buffer);
        }
        let memory = BufferMemory::Disk(TempMap::new(&pool.scratch_folder, bytes)?);
        Ok(Self { memory, bytes, pool: pool.clone() })
    }

    /// A buffer on the heap; `None` if the pool's limit is reached.
    pub(super) fn in_memory(bytes: usize, pool: &Arc<BufferPool>) -> Option<Self> {
        let memory = BufferMemory::Heap(pool.take(bytes.div_ceil(size_of::<f64>()))?);
        Some(Self { memory, bytes, pool: pool.clone() })
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let bytes = match &mut self.memory {
            BufferMemory::Heap(numbers) => bytemuck::cast_slice_mut(numbers),
            BufferMemory::Disk(scratch) => scratch.bytes(),
        };
        &mut bytes[..self.bytes]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let BufferMemory::Heap(numbers) = &mut self.memory {
            let numbers = std::mem::take(numbers);
            self.pool.heap().idle.push(numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_is_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let pool = BufferPool::new(104, folder.path().to_owned());
        let mut first = PooledBuffer::new(60, &pool).unwrap();
        let mut second = PooledBuffer::new(60, &pool).unwrap();
        assert!(matches!(
            (&first.memory, &second.memory),
            (BufferMemory::Heap(_), BufferMemory::Disk(_))
        ));
        second.bytes()[59] = 7;
        assert!(first.bytes() == [0; 60] && second.bytes()[..59] == [0; 59]);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the scratch file has no name");
        drop(first);
        // An idle buffer is freed for one of another length, and handed out again for its own.
        let is_on_heap = |bytes| {
            matches!(PooledBuffer::new(bytes, &pool).unwrap().memory, BufferMemory::Heap(_))
        };
        assert!(is_on_heap(100) && is_on_heap(98));
        assert_eq!(pool.heap().used_bytes, 104);
    }
}
