//! Patches that may be replaced: kept as they came, the latest of each location, and blended at the end.
//!
//! # Invariants
//! - What replaces a patch does so whole, and a batch all at once, whatever other threads add and whatever fails.
//! - In memory is what the budget has room for; the rest lies in one file, and leaves the disk as it is blended or replaced.
//!
//! Not here: patches that count as soon as they come, which is all but [`Duplicates::Replace`](super::Duplicates::Replace).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use half::bf16;

use super::Aggregator;
use super::buffer::{Budget, Buffer};
use super::sink::Sink;
use super::tile::Patch;
use super::value::Value;
use crate::sys::temp_file::{Extent, TempFile};
use crate::{Dtype, Result, with_voxel};

/// So many bytes of patches, or one patch, are blended at a time: what a tile's sums are read from memory once for.
const RUN_BYTES: usize = 16 << 20;

/// The latest patch of each location that has one.
#[derive(Debug)]
pub(super) struct Latest {
    budget: Arc<Budget>,
    /// Made for the first patch that exceeds the budget.
    spill: OnceLock<TempFile>,
    /// By the location's number in the grid.
    patches: Mutex<BTreeMap<usize, Kept>>,
}

/// A patch as it came.
#[derive(Debug)]
struct Kept {
    /// That of [`Value`]: `None` is bfloat16.
    dtype: Option<Dtype>,
    room: Room,
}

#[derive(Debug)]
enum Room {
    Memory(Buffer),
    Disk(Extent),
}

impl Latest {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, spill: OnceLock::new(), patches: Mutex::default() }
    }

    fn patches(&self) -> MutexGuard<'_, BTreeMap<usize, Kept>> {
        self.patches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spill(&self) -> Result<&TempFile> {
        if self.spill.get().is_none() {
            // Where another thread was quicker, its file is used.
            let _ = self.spill.set(TempFile::new(self.budget.folder())?);
        }
        Ok(self.spill.get().expect("it was set"))
    }

    /// Keeps patches, all or none; those of their locations that were kept before are gone.
    fn put<T: Value>(&self, patches: &BTreeMap<usize, &[T]>) -> Result<()> {
        let mut coming = BTreeMap::new();
        for (&number, values) in patches {
            match self.copy(T::DTYPE, bytemuck::cast_slice(values)) {
                Ok(kept) => coming.insert(number, kept),
                Err(e) => {
                    self.let_go(coming.into_values());
                    return Err(e);
                }
            };
        }
        let replaced: Vec<Kept> = {
            let mut patches = self.patches();
            coming.into_iter().filter_map(|(number, kept)| patches.insert(number, kept)).collect()
        };
        self.let_go(replaced);
        Ok(())
    }

    fn copy(&self, dtype: Option<Dtype>, bytes: &[u8]) -> Result<Kept> {
        let room = match Buffer::in_memory(bytes.len(), &self.budget) {
            Some(mut buffer) => {
                buffer.bytes().copy_from_slice(bytes);
                Room::Memory(buffer)
            }
            None => Room::Disk(self.spill()?.put(bytes)?),
        };
        Ok(Kept { dtype, room })
    }

    /// Gives back the rooms of patches that are kept no more.
    fn let_go(&self, patches: impl IntoIterator<Item = Kept>) {
        for kept in patches {
            if let (Room::Disk(piece), Some(spill)) = (kept.room, self.spill.get()) {
                spill.free(piece);
            }
        }
    }

    /// Takes the first patches in the grid's order that have one dtype; none if none is left.
    fn take_run(&self, patch_len: usize) -> Vec<(usize, Kept)> {
        let mut patches = self.patches();
        let mut run: Vec<(usize, Kept)> = Vec::new();
        while let Some(next) = patches.first_entry() {
            let dtype = next.get().dtype;
            let patch_bytes = patch_len * dtype.map_or(size_of::<bf16>(), Dtype::size);
            let fits = (run.len() + 1) * patch_bytes <= RUN_BYTES;
            if run.first().is_some_and(|(_, first)| first.dtype != dtype || !fits) {
                break;
            }
            run.push(next.remove_entry());
        }
        run
    }
}

impl<S: Sink> Aggregator<S> {
    /// Keeps patches until the end; of several of one location the last.
    pub(super) fn keep<T: Value>(
        &self,
        latest: &Latest,
        patches: &[T],
        starts: &[[i64; 3]],
    ) -> Result<()> {
        let numbers = self.places(starts)?.into_iter().map(|at| self.plan.grid.number_of(at));
        let patches = numbers.zip(patches.chunks_exact(self.plan.patch_len())).collect();
        latest.put(&patches)?;
        let mut ledger = self.ledger();
        for number in patches.into_keys() {
            ledger.mark(number);
        }
        Ok(())
    }

    /// Blends what was kept in the grid's order, so that the same patches make the same bits however they came, and lets go of
    /// each.
    pub(super) fn blend_kept(&self, latest: &Latest) -> Result<()> {
        loop {
            let run = latest.take_run(self.plan.patch_len());
            let Some((_, first)) = run.first() else { return Ok(()) };
            match first.dtype {
                None => self.blend_run::<bf16>(latest, run)?,
                Some(dtype) => with_voxel!(dtype, T => self.blend_run::<T>(latest, run)?),
            }
        }
    }

    fn blend_run<T: Value>(&self, latest: &Latest, mut run: Vec<(usize, Kept)>) -> Result<()> {
        let (grid, patch_len) = (&self.plan.grid, self.plan.patch_len());
        let on_disk = run.iter().filter(|(_, kept)| matches!(kept.room, Room::Disk(_))).count();
        let mut read = vec![T::default(); on_disk * patch_len];
        let mut read = read.chunks_exact_mut(patch_len);
        let patches = run.iter_mut().map(|(number, kept)| {
            let values = match &mut kept.room {
                Room::Memory(buffer) => bytemuck::cast_slice(buffer.bytes()),
                Room::Disk(piece) => {
                    let values = read.next().expect("one for each on the disk");
                    latest.spill()?.read(piece, bytemuck::cast_slice_mut(values))?;
                    values
                }
            };
            let places = grid.indices_of(grid.start(*number)).expect("its own start");
            Ok(Patch { values, places })
        });
        self.blend(&patches.collect::<Result<Vec<Patch<'_, T>>>>()?)?;
        latest.let_go(run.into_iter().map(|(_, kept)| kept));
        Ok(())
    }
}
