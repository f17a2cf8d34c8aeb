//! Stores patches that may be replaced, the latest of each location, until they are blended.
//!
//! # Invariants
//! - A call replaces all its patches or none, and each patch whole, whatever other threads add and
//!   whatever fails.
//! - Patches within the memory limit lie in memory and the others in one file; the file's space is
//!   freed as patches are blended or replaced.
//!
//! Not here: patches that are blended when they are added, which is the default.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use half::bf16;

use super::buffer::{BufferPool, PooledBuffer};
use super::engine::BlendEngine;
use super::patch::Patch;
use super::sink::Sink;
use super::value::{PatchDtype, PatchValue};
use crate::sys::temp_file::{Extent, TempFile};
use crate::{Result, with_voxel};

/// Bytes of patches, at least one, that are blended at a time, so that a tile is brought into the
/// cache once for many patches.
const RUN_BYTES: usize = 16 << 20;

/// The latest patch of each location that has one.
#[derive(Debug)]
pub(super) struct LatestPatches {
    buffers: Arc<BufferPool>,
    /// Created for the first patch beyond the memory limit.
    file: OnceLock<TempFile>,
    /// By the location's number in the grid.
    patches: Mutex<BTreeMap<usize, StoredPatch>>,
}

/// A patch as it was added.
#[derive(Debug)]
struct StoredPatch {
    dtype: PatchDtype,
    bytes: PatchBytes,
}

#[derive(Debug)]
enum PatchBytes {
    Memory(PooledBuffer),
    Disk(Extent),
}

impl LatestPatches {
    pub(super) fn new(buffers: Arc<BufferPool>) -> Self {
        Self { buffers, file: OnceLock::new(), patches: Mutex::default() }
    }

    fn patches(&self) -> MutexGuard<'_, BTreeMap<usize, StoredPatch>> {
        self.patches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> Result<&TempFile> {
        if self.file.get().is_none() {
            // If another thread has set it meanwhile, its file is used.
            let _ = self.file.set(TempFile::new(self.buffers.scratch_folder())?);
        }
        Ok(self.file.get().expect("it was set"))
    }

    /// Stores patches by number, all or none, and discards earlier patches of their locations.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the disk is full; nothing is replaced then.
    pub(super) fn put<T: PatchValue>(&self, patches: &BTreeMap<usize, &[T]>) -> Result<()> {
        let mut new = BTreeMap::new();
        for (&number, values) in patches {
            match self.copy(T::PATCH_DTYPE, bytemuck::cast_slice(values)) {
                Ok(stored) => new.insert(number, stored),
                Err(e) => {
                    self.free(new.into_values());
                    return Err(e);
                }
            };
        }
        let replaced: Vec<StoredPatch> = {
            let mut patches = self.patches();
            new.into_iter().filter_map(|(number, stored)| patches.insert(number, stored)).collect()
        };
        self.free(replaced);
        Ok(())
    }

    fn copy(&self, dtype: PatchDtype, bytes: &[u8]) -> Result<StoredPatch> {
        let bytes = match PooledBuffer::in_memory(bytes.len(), &self.buffers) {
            Some(mut buffer) => {
                buffer.bytes().copy_from_slice(bytes);
                PatchBytes::Memory(buffer)
            }
            None => PatchBytes::Disk(self.file()?.put(bytes)?),
        };
        Ok(StoredPatch { dtype, bytes })
    }

    /// Frees the file's space that patches take.
    fn free(&self, patches: impl IntoIterator<Item = StoredPatch>) {
        for stored in patches {
            if let (PatchBytes::Disk(piece), Some(file)) = (stored.bytes, self.file.get()) {
                file.free(piece);
            }
        }
    }

    /// Takes the next patches in the grid's order that have one dtype; none if none is left.
    fn take_run(&self, patch_len: usize) -> Vec<(usize, StoredPatch)> {
        let mut patches = self.patches();
        let mut run: Vec<(usize, StoredPatch)> = Vec::new();
        while let Some(next) = patches.first_entry() {
            let dtype = next.get().dtype;
            let fits = (run.len() + 1) * patch_len * dtype.size() <= RUN_BYTES;
            if run.first().is_some_and(|(_, first)| first.dtype != dtype || !fits) {
                break;
            }
            run.push(next.remove_entry());
        }
        run
    }

    /// Blends the patches in the grid's order, so that the same patches give the same bits in
    /// whatever order they were added, and frees each.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if a patch cannot be read back or blended.
    pub(super) fn blend(&self, engine: &BlendEngine<impl Sink>) -> Result<()> {
        loop {
            let run = self.take_run(engine.plan().patch_len());
            let Some((_, first)) = run.first() else { return Ok(()) };
            match first.dtype {
                PatchDtype::BFloat16 => self.blend_run::<bf16>(engine, run)?,
                PatchDtype::Volume(dtype) => {
                    with_voxel!(dtype, T => self.blend_run::<T>(engine, run)?);
                }
            }
        }
    }

    fn blend_run<T: PatchValue>(
        &self,
        engine: &BlendEngine<impl Sink>,
        mut run: Vec<(usize, StoredPatch)>,
    ) -> Result<()> {
        let (grid, patch_len) = (&engine.plan().grid, engine.plan().patch_len());
        let is_on_disk =
            |(_, stored): &&(usize, StoredPatch)| matches!(stored.bytes, PatchBytes::Disk(_));
        let mut read = vec![T::default(); run.iter().filter(is_on_disk).count() * patch_len];
        let mut read = read.chunks_exact_mut(patch_len);
        let patches = run.iter_mut().map(|(number, stored)| {
            let values = match &mut stored.bytes {
                PatchBytes::Memory(buffer) => bytemuck::cast_slice(buffer.bytes()),
                PatchBytes::Disk(piece) => {
                    let values = read.next().expect("one for each patch on the disk");
                    self.file()?.read(piece, bytemuck::cast_slice_mut(values))?;
                    values
                }
            };
            let index = grid.indices_of(grid.start(*number)).expect("a start of the grid");
            Ok(Patch { values, index })
        });
        engine.blend(&patches.collect::<Result<Vec<Patch<'_, T>>>>()?)?;
        self.free(run.into_iter().map(|(_, stored)| stored));
        Ok(())
    }
}
