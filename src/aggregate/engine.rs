//! Adds patches to tiles, completes the sink's boxes and hands them to the sink, on many threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::accumulate::{AccumulatorKind, RowScratch};
use super::box_grid::BoxGrid;
use super::buffer::{BufferPool, PooledBuffer};
use super::options::AggregateOptions;
use super::patch::Patch;
use super::plan::BlendPlan;
use super::sink::Sink;
use super::tile::{SinkBox, Tile, TileContext, fill_outside};
use super::value::PatchValue;
use crate::format::grid::iter_box;
use crate::sys::executor::Executor;
use crate::{Region, Result, Size3};

/// Bytes of a tile: what stays in a core's own cache while a batch of patches is added.
const TILE_BYTES: usize = 1 << 20;

/// Planes of a tile: few, so that unfinished tiles hold hardly more than the layer of patches.
pub(super) const TILE_PLANES: usize = 8;

/// A box of the sink whose tiles are all complete.
type CompleteBox = (Region, Vec<PooledBuffer>);

/// Blends patches into tiles and the sink's boxes, each of which consists of whole tiles.
#[derive(Debug)]
pub(super) struct BlendEngine<S> {
    context: TileContext,
    executor: Executor,
    tile_grid: BoxGrid,
    tiles: Vec<Mutex<Tile>>,
    box_grid: BoxGrid,
    boxes: Vec<Mutex<SinkBox>>,
    /// Set by an error of the sink or of scratch space, after which the result cannot be completed.
    failed: AtomicBool,
    sink: S,
}

/// Plan, accumulator and extents of tiles, which a sink's boxes are chosen by.
pub(super) struct EnginePlan {
    pub(super) plan: Arc<BlendPlan>,
    accumulator: AccumulatorKind,
    pub(super) tile_size: Size3,
}

impl EnginePlan {
    /// Tiles of at least the extents `least`.
    pub(super) fn new(plan: BlendPlan, least: Size3) -> Self {
        let plan = Arc::new(plan);
        let accumulator = AccumulatorKind::choose(&plan);
        let voxel_bytes = accumulator.tile_voxel_bytes(plan.channel_count());
        let tile_size = plan.tile_size(least, voxel_bytes, TILE_BYTES);
        Self { plan, accumulator, tile_size }
    }
}

impl<S: Sink> BlendEngine<S> {
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn new(engine: EnginePlan, options: &AggregateOptions, sink: S) -> Result<Self> {
        let EnginePlan { plan, accumulator, tile_size } = engine;
        let size = plan.target.size();
        let tile_grid = BoxGrid::new(size, tile_size);
        let box_grid = BoxGrid::new(size, sink.box_size());
        let missing_voxels = |number: usize| {
            let region = box_grid.region(number);
            if sink.has(&region) { 0 } else { region.len() }
        };
        let missing_voxels = box_grid.for_each(missing_voxels)?;
        let mut missing_patches = tile_grid.patch_counts(&plan.axes)?;
        for &number in plan.outside.iter().flat_map(|outside| &outside.numbers) {
            let index = plan.grid.indices_of(plan.grid.start(number)).expect("a start of the grid");
            for tile in iter_box(tile_grid.met_by(&plan.axes, index)) {
                missing_patches[tile_grid.number(tile)] -= 1;
            }
        }
        let tiles = tile_grid.for_each(|number| {
            let its_box = box_grid.containing(tile_grid.region(number).start);
            let missing = if missing_voxels[its_box] == 0 { 0 } else { missing_patches[number] };
            Mutex::new(Tile::new(missing))
        })?;
        let mut empty = vec![Vec::new(); box_grid.len()];
        for number in (0..tile_grid.len()).filter(|&n| missing_patches[n] == 0) {
            let region = tile_grid.region(number);
            let its_box = box_grid.containing(region.start);
            if missing_voxels[its_box] > 0 {
                empty[its_box].push(region);
            }
        }
        let new_box =
            |n: usize| Mutex::new(SinkBox::new(missing_voxels[n], std::mem::take(&mut empty[n])));
        let boxes = box_grid.for_each(new_box)?;
        let buffers = BufferPool::new(options.memory_bytes, sink.scratch_folder());
        Ok(Self {
            context: TileContext { plan, accumulator, buffers },
            executor: Executor::new(options.threads),
            tile_grid,
            tiles,
            box_grid,
            boxes,
            failed: AtomicBool::new(false),
            sink,
        })
    }

    pub(super) fn plan(&self) -> &BlendPlan {
        &self.context.plan
    }

    pub(super) fn buffers(&self) -> &Arc<BufferPool> {
        &self.context.buffers
    }

    /// Whether an error has left the result incomplete for good.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Numbers of the patches that count only for complete tiles.
    pub(super) fn unneeded_patches(&self) -> Vec<usize> {
        let complete: Vec<bool> = self.tiles.iter().map(|tile| lock(tile).is_complete()).collect();
        let plan = self.plan();
        if !complete.contains(&true) && plan.skips_nothing() {
            return Vec::new();
        }
        let is_unneeded = |&number: &usize| {
            if plan.outside.as_ref().is_some_and(|outside| outside.is_skipped(number)) {
                return true;
            }
            let start = plan.grid.start(number);
            let index = plan.grid.indices_of(start).expect("a start of the grid");
            let mut tiles = iter_box(self.tile_grid.met_by(&plan.axes, index));
            tiles.all(|tile| complete[self.tile_grid.number(tile)])
        };
        (0..plan.grid.len()).filter(is_unneeded).collect()
    }

    /// Adds patches to the tiles that they count for, and hands completed boxes to the sink.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the sink or the scratch space fails; the engine has failed then.
    pub(super) fn blend<T: PatchValue>(&self, patches: &[Patch<'_, T>]) -> Result<()> {
        let mut by_tile: BTreeMap<usize, Vec<&Patch<'_, T>>> = BTreeMap::new();
        for patch in patches {
            for tile in iter_box(self.tile_grid.met_by(&self.plan().axes, patch.index)) {
                by_tile.entry(self.tile_grid.number(tile)).or_default().push(patch);
            }
        }
        let by_tile: Vec<_> = by_tile.into_iter().collect();
        let complete = Mutex::new(Vec::new());
        let add = |scratch: &mut RowScratch, n: usize| {
            let (tile, patches) = &by_tile[n];
            let complete_box = self.add_to_tile(*tile, patches, scratch)?;
            lock(&complete).extend(complete_box);
            Ok(())
        };
        let blended = self
            .executor
            .share(by_tile.len(), RowScratch::default, add)
            .and_then(|()| self.put(complete.into_inner().unwrap_or_else(PoisonError::into_inner)));
        if blended.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        blended
    }

    /// Adds patches to one tile. Returns its box if that is complete now and the sink takes it in
    /// parts; a box of one part goes to the sink at once.
    fn add_to_tile<T: PatchValue>(
        &self,
        number: usize,
        patches: &[&Patch<'_, T>],
        scratch: &mut RowScratch,
    ) -> Result<Option<CompleteBox>> {
        let region = self.tile_grid.region(number);
        let added = lock(&self.tiles[number]).add(&self.context, &region, patches, scratch)?;
        let Some(tile) = added else { return Ok(None) };
        let number = self.box_grid.containing(region.start);
        let box_region = self.box_grid.region(number);
        let context = &self.context;
        let mut sink_box = lock(&self.boxes[number]);
        let mut added = sink_box.add_tile(context, &box_region, &region, tile, scratch)?;
        if sink_box.has_only_empty_tiles() {
            added = sink_box.add_empty_tiles(context, &box_region, scratch)?;
        }
        drop(sink_box);
        let Some(mut slabs) = added else { return Ok(None) };
        if self.sink.parts(&box_region) > 1 {
            return Ok(Some((box_region, slabs)));
        }
        self.sink.put(&box_region, &bytes_of(&mut slabs), 0)?;
        Ok(None)
    }

    /// Hands complete boxes to the sink, part by part.
    fn put(&self, mut boxes: Vec<CompleteBox>) -> Result<()> {
        let boxes: Vec<(Region, Vec<&[u8]>)> =
            boxes.iter_mut().map(|(region, slabs)| (*region, bytes_of(slabs))).collect();
        let parts: Vec<(&Region, &[&[u8]], usize)> = boxes
            .iter()
            .flat_map(|(region, slabs)| {
                (0..self.sink.parts(region)).map(move |part| (region, &slabs[..], part))
            })
            .collect();
        let put = |n: usize| {
            let (region, slabs, part) = parts[n];
            self.sink.put(region, slabs, part)
        };
        self.executor.share(parts.len(), || (), |(), n| put(n))
    }

    pub(super) fn box_grid(&self) -> &BoxGrid {
        &self.box_grid
    }

    /// Whether all tiles that the patch at an index of the grid counts for are complete.
    pub(super) fn is_complete(&self, index: Size3) -> bool {
        let mut tiles = iter_box(self.tile_grid.met_by(&self.plan().axes, index));
        tiles.all(|tile| lock(&self.tiles[self.tile_grid.number(tile)]).is_complete())
    }

    /// Hands finished voxels of a region of whole boxes to the sink, except boxes that it has.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`], and [`crate::Error::Io`] if the sink fails; the engine has
    /// failed then.
    pub(super) fn put_finished(&self, region: &Region, voxels: &[u8]) -> Result<()> {
        let range = |a: usize| region.start[a] as usize..region.end(a) as usize;
        let boxes = [0, 1, 2].map(|a| self.box_grid.meeting(a, &range(a)));
        let numbers: Vec<usize> = iter_box(boxes).map(|at| self.box_grid.number(at)).collect();
        let put = |n: usize| self.put_box(numbers[n], region, voxels);
        let put = self.executor.share(numbers.len(), || (), |(), n| put(n));
        if put.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        put
    }

    /// Hands the box of a number, of which `voxels` over `given` have the content, to the sink.
    fn put_box(&self, number: usize, given: &Region, voxels: &[u8]) -> Result<()> {
        let region = self.box_grid.region(number);
        if !lock(&self.boxes[number]).complete() {
            return Ok(());
        }
        let plan = self.plan();
        let (channels, size) = (plan.out_channels().unwrap_or(1), plan.dtype.size());
        let bytes = channels * region.len() * size;
        let mut slab = PooledBuffer::new(bytes, &self.context.buffers)?;
        let mut rows = slab.bytes().chunks_exact_mut(region.size[2] * size);
        let [dz, dy, dx] = [0, 1, 2].map(|a| (region.start[a] - given.start[a]) as usize);
        let ([nz, ny, nx], [given_nz, given_ny, given_nx]) = (region.size, given.size);
        for c in 0..channels {
            for (z, y) in (0..nz).flat_map(|z| (0..ny).map(move |y| (z, y))) {
                let row = ((c * given_nz + dz + z) * given_ny + dy + y) * given_nx + dx;
                let to = rows.next().expect("a box has all its rows");
                to.copy_from_slice(&voxels[row * size..(row + nx) * size]);
            }
        }
        fill_outside(plan, &region, &region, slab.bytes());
        for part in 0..self.sink.parts(&region) {
            self.sink.put(&region, &[&*slab.bytes()], part)?;
        }
        let range = |a: usize| region.start[a] as usize..region.end(a) as usize;
        for tile in iter_box([0, 1, 2].map(|a| self.tile_grid.meeting(a, &range(a)))) {
            lock(&self.tiles[self.tile_grid.number(tile)]).complete();
        }
        Ok(())
    }

    /// Hands the boxes that no patch counts for to the sink.
    fn put_empty_boxes(&self) -> Result<()> {
        let is_empty = |&n: &usize| lock(&self.boxes[n]).has_only_empty_tiles();
        let numbers: Vec<usize> = (0..self.box_grid.len()).filter(is_empty).collect();
        let put = |scratch: &mut RowScratch, n: usize| {
            let region = self.box_grid.region(numbers[n]);
            let mut sink_box = lock(&self.boxes[numbers[n]]);
            let slabs = sink_box.add_empty_tiles(&self.context, &region, scratch)?;
            drop(sink_box);
            let mut slabs = slabs.unwrap_or_default();
            let slabs = bytes_of(&mut slabs);
            (0..self.sink.parts(&region)).try_for_each(|part| self.sink.put(&region, &slabs, part))
        };
        self.executor.share(numbers.len(), RowScratch::default, put)
    }

    /// Finishes the sink.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the sink fails.
    pub(super) fn finish(self) -> Result<S::Finished> {
        self.put_empty_boxes()?;
        self.sink.finish()
    }
}

fn bytes_of(slabs: &mut [PooledBuffer]) -> Vec<&[u8]> {
    slabs.iter_mut().map(|slab| &*slab.bytes()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
