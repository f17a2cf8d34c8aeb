//! Overlapping patches of predictions become one volume.
//!
//! The result is made in tiles. A tile exists from its first patch to its last: then it is finished, goes to the sink, and its
//! memory is free. In the grid's order memory is one layer of patches, along whichever axis is outermost; in any other the
//! result is the same but for the order of additions, and what exceeds `memory_bytes` lies in scratch files. Only patches that
//! may be replaced are kept until the end.
//!
//! # Invariants
//! - Each location of the grid counts once, its patch whole or not at all; a tile leaves when it has all its patches.
//! - No volume of weights exists: the sum over a product grid is the product of three sums along the axes.
//! - A lock is held for one tile only, and none while work is handed to the pool, so callers may be threads of any pool.
//!
//! Not here: where the patches are (`sample`), what the model makes of them.

mod array;
mod buffer;
mod coverage;
mod latest;
mod ledger;
mod mean;
mod options;
mod plan;
mod row;
mod sink;
mod tile;
mod value;
mod window;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use half::bf16;
use serde_json::json;

pub use array::ArraySink;
use buffer::{Budget, Buffer};
use latest::Latest;
use ledger::{Bits, Ledger};
pub use options::{AggregateOptions, Duplicates, Finish, NonFinite, Scale};
use plan::{Plan, Tiling};
pub use sink::{Sink, StoreSink};
use tile::{Patch, Rows};
pub use value::Value;
pub use window::Window;

use crate::format::array::ChunkCodec;
use crate::format::attributes::Kind;
use crate::format::layout::{self, Codec, VolumeShape};
use crate::sample::Grid;
use crate::store::{Resume, StoreWriter, VolumeSpec};
use crate::sys::executor::Executor;
use crate::{Affine, Dtype, Error, Region, Result, Size3, Voxel, with_voxel};

/// Blends the patches of a grid; they come in any order, from any thread.
///
/// Weighted sums are `f64`, divided and rounded at the end. But a result of `f32` or `f16`, of a window that is a product and
/// at most 32 patches a voxel, is the mean of the patches so far at any time, in `f32`: half the memory, rounded once for each
/// patch, and so a few units in the last place (of the largest of a voxel's values) from the exact mean.
///
/// Where all patches that count for a voxel have the same value there, it comes out as the nearest of the result's dtype, bit
/// for bit if that is the patches' own: integers of up to 32 bits, `f16` and `f32`, with ±0, ±∞ and subnormals. The exceptions:
/// - NaN comes out as a NaN, perhaps with other bits (in integers as 0);
/// - `f64`, and 64-bit integers above 2⁴⁴: sums are no wider, so the last bits may differ, by about as many units in
///   the last place as patches overlap; what is above 2⁵³ is rounded first, and `f64` near its largest may overflow;
/// - a custom window whose weights, or their products and sums, leave the normal range of `f64`.
///
/// [`Window::Crop`] has no sums: of the same dtype, every voxel is copied.
#[derive(Debug)]
pub struct Aggregator<S> {
    plan: Plan,
    executor: Executor,
    budget: Arc<Budget>,
    non_finite: NonFinite,
    tiling: Tiling,
    tiles: Vec<Mutex<Tile>>,
    /// The sink's boxes, each of whole tiles.
    boxing: Tiling,
    boxes: Vec<Mutex<Gathering>>,
    ledger: Mutex<Ledger>,
    /// Patches that may be replaced until the end; `None`: each is blended when it comes.
    latest: Option<Latest>,
    /// After an error of the sink or of scratch space nothing can be completed any more.
    failed: AtomicBool,
    sink: S,
}

/// An unfinished part of the result.
#[derive(Debug)]
struct Tile {
    /// Patches that will still be added; 0 from the start if an earlier run has written it.
    awaited: usize,
    /// Made for the first patch.
    sums: Option<Buffer>,
    /// The patches that it has had: a bit for each that counts for it.
    had: Bits,
}

/// A box of the sink whose tiles are finished one by one.
#[derive(Debug)]
struct Gathering {
    /// Voxels of one channel that are still awaited.
    awaited: usize,
    /// By their first plane: tiles that hold results, as they are; else one, made for the first tile, which all are written to.
    slabs: BTreeMap<i64, Buffer>,
}

/// A box of the sink that is whole.
type Finished = (Region, Vec<Buffer>);

/// Elements of patches, for bindings that know them at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchDtype {
    /// Those of a volume.
    Volume(Dtype),
    /// bfloat16, which no volume has.
    BFloat16,
}

/// Bytes of a tile's sums: what stays in a processor's own cache while a batch of patches is added.
const TILE_BYTES: usize = 1 << 20;

/// Planes of a tile: few, so that a layer of patches holds hardly more than its own.
const TILE_PLANES: usize = 8;

/// Results are compressed by the encoder's quick search: the slow one would keep the model waiting.
const QUICK_LEVEL: i32 = 1;

impl<T: Voxel> Aggregator<ArraySink<T>> {
    /// Blends into an array in memory, `(c, z, y, x)`; labels have one channel.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that do not fit the grid.
    pub fn to_array(grid: Grid, options: &AggregateOptions) -> Result<Self> {
        let plan = Plan::new(grid, options, Some(T::DTYPE))?;
        if options.resume.is_some() {
            return Err(Error::usage("resume: an array is gone with its process; give an out"));
        }
        let size = plan.target.size();
        let tile = tile_size(&plan, [TILE_PLANES, 16, 64]);
        let sink = ArraySink::new(plan.out_channels().unwrap_or(1), Tiling::new(size, tile));
        Ok(Self::new(plan, options, tile, sink))
    }
}

impl Aggregator<StoreSink> {
    /// Blends into a new volume of a store, with the affine of the volume that was predicted from; `dtype` voxels, or as
    /// [`Finish::default_dtype`] says.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that do not fit the grid, and for other arguments than those of the unfinished work that
    /// is to be resumed; [`Error::Exists`] if the subject has that volume, [`Error::Io`].
    pub fn to_store(
        grid: Grid,
        options: &AggregateOptions,
        dtype: impl Into<Option<Dtype>>,
        store: &StoreWriter,
        (subject, volume): (&str, &str),
        affine: Affine,
    ) -> Result<Self> {
        options.check_resume()?;
        let plan = Plan::new(grid, options, dtype.into())?;
        let channels = plan.out_channels();
        let shape = VolumeShape {
            channels,
            size: plan.target.size(),
            dtype: plan.dtype,
            interleaved: channels.unwrap_or(1),
        };
        let patch_sizes = vec![plan.target.patch_size()];
        let codec = Codec::default();
        let mut layout =
            layout::choose_for_spilling(&shape, &patch_sizes, codec, options.memory_bytes);
        if let ChunkCodec::Blosc(parameters) = &mut layout.codec {
            parameters.level = QUICK_LEVEL;
        }
        let (slope, intercept) = match plan.finish {
            Finish::Quantize { slope, intercept } => (slope, intercept),
            _ => (1.0, 0.0),
        };
        let labels = channels.is_none()
            && !plan.dtype.is_float()
            && (plan.finish.is_argmax() || matches!(plan.finish, Finish::Threshold(_)));
        let chunk = layout.chunk;
        let kind = if labels { Kind::Labels } else { Kind::Image };
        let spec = VolumeSpec::new(volume, kind, layout)
            .codec(codec)
            .patch_sizes(patch_sizes)
            .affine(affine.scaled(options.scale.up, options.scale.down))
            .scaling(slope, intercept)
            .interleaved(shape.interleaved);
        let kept = match &options.resume {
            None => Resume::Never,
            Some(note) => Resume::With(arguments(&plan, &spec, subject, note)),
        };
        let planes = if chunk[0].is_multiple_of(TILE_PLANES) { TILE_PLANES } else { chunk[0] };
        let tile = tile_size(&plan, [planes, chunk[1], chunk[2]]);
        let sink =
            StoreSink::new(store.add_volume(subject, spec, &kept)?, [chunk[0], tile[1], tile[2]]);
        Ok(Self::new(plan, options, tile, sink))
    }
}

/// Everything that decides what the voxels of a result are, and where they lie: work can only be resumed with the same.
fn arguments(plan: &Plan, spec: &VolumeSpec, subject: &str, note: &str) -> String {
    let grid = &plan.grid;
    let starts = [0, 1, 2].map(|a| grid.axis_starts(a));
    json!({
        "subject": subject,
        "volume": spec.name,
        "size": grid.size(),
        "patch_size": grid.patch_size(),
        "overlap": grid.overlap(),
        "margins": grid.margins(),
        "starts": starts,
        "target": plan.target.size(),
        "channels": plan.channels,
        "window": format!("{:?}", plan.window),
        "finish": plan.finish.to_string(),
        "affine": spec.affine,
        "layout": spec.layout.to_json(),
        "note": note,
    })
    .to_string()
}

/// Extents of a tile: `least`, doubled along x, then y, while its sums stay small; memory likes long rows.
fn tile_size(plan: &Plan, least: Size3) -> Size3 {
    let (mut tile, size) = (least, plan.target.size());
    let bytes =
        |tile: Size3| tile.iter().product::<usize>() * plan.channel_count() * plan.kept_bytes();
    while 2 * bytes(tile) <= TILE_BYTES {
        let Some(a) = [2, 1].into_iter().find(|&a| tile[a] < size[a]) else { break };
        tile[a] *= 2;
    }
    tile
}

impl<S: Sink> Aggregator<S> {
    fn new(plan: Plan, options: &AggregateOptions, tile: Size3, sink: S) -> Self {
        let size = plan.target.size();
        let (tiling, boxing) = (Tiling::new(size, tile), Tiling::new(size, sink.box_size()));
        let boxes = (0..boxing.len()).map(|number| {
            let region = boxing.region(number);
            let awaited = if sink.has(&region) { 0 } else { region.len() };
            Mutex::new(Gathering { awaited, slabs: BTreeMap::new() })
        });
        let mut boxes: Vec<Mutex<Gathering>> = boxes.collect();
        let mut awaited = tiling.awaited(&plan);
        for (number, awaited) in awaited.iter_mut().enumerate() {
            let holder = boxing.holding(tiling.region(number).start);
            if unlocked(&mut boxes[holder]).awaited == 0 {
                *awaited = 0;
            }
        }
        let is_needless = |&number: &usize| {
            let places = plan.grid.indices_of(plan.grid.start(number)).expect("its own start");
            let mut met = crate::format::grid::iter_box(tiling.met_by(&plan, places));
            met.all(|at| awaited[tiling.number(at)] == 0)
        };
        let patches = if awaited.contains(&0) { 0..plan.grid.len() } else { 0..0 };
        let ledger = Ledger::new(plan.grid.len(), patches.filter(is_needless));
        let tiles = awaited
            .into_iter()
            .map(|awaited| Mutex::new(Tile { awaited, sums: None, had: Bits::default() }));
        let budget = Budget::new(options.memory_bytes, sink.scratch_folder());
        let replaces = options.duplicates == Duplicates::Replace;
        Self {
            tiles: tiles.collect(),
            tiling,
            boxes,
            boxing,
            executor: Executor::new(options.threads),
            latest: replaces.then(|| Latest::new(budget.clone())),
            budget,
            non_finite: options.non_finite,
            ledger: Mutex::new(ledger),
            failed: AtomicBool::new(false),
            plan,
            sink,
        }
    }

    /// Whether a patch could not be kept, so that nothing can be completed any more.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The grid whose patches are awaited.
    pub fn grid(&self) -> &Grid {
        &self.plan.grid
    }

    /// Extents of the patches that are awaited, `(z, y, x)`: the grid's, or what the scale makes of them.
    pub fn patch_size(&self) -> Size3 {
        self.plan.target.patch_size()
    }

    /// Extents of the result, `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.plan.target.size()
    }

    /// Channels of the result, or `None` if it has no such axis.
    pub fn out_channels(&self) -> Option<usize> {
        self.plan.out_channels()
    }

    /// Adds one patch for each of `starts`: patches, then channels, z, y, x, in C order. Starts are the grid's, whatever the
    /// scale.
    ///
    /// A patch that an earlier run made needless may be added; it changes nothing.
    ///
    /// # Errors
    /// [`Error::BufferLength`], and [`Error::Usage`] for a start off the grid, one that was added before where that is refused,
    /// or a value that is not finite where those are: nothing is added.
    /// [`Error::Io`] if the sink or the scratch space fails: the aggregator is of no use afterwards, but for
    /// [`Duplicates::Replace`], where nothing is added and the same patches may be added again.
    pub fn add<T: Value>(&self, patches: &[T], starts: &[[i64; 3]]) -> Result<()> {
        let patch_len = self.plan.patch_len();
        let expected = patch_len.checked_mul(starts.len());
        if Some(patches.len()) != expected {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(Error::BufferLength { found: patches.len(), expected });
        }
        if self.non_finite == NonFinite::Refuse {
            self.check_finite(patches, starts)?;
        }
        if let Some(latest) = &self.latest {
            return self.keep(latest, patches, starts);
        }
        let places = self.claim(starts)?;
        let patches: Vec<Patch<'_, T>> = patches
            .chunks_exact(patch_len)
            .zip(places)
            .map(|(values, places)| Patch { values, places })
            .collect();
        self.blend(&patches)
    }

    /// Adds patches to the tiles that they count for.
    fn blend<T: Value>(&self, patches: &[Patch<'_, T>]) -> Result<()> {
        let mut by_tile: BTreeMap<usize, Vec<&Patch<'_, T>>> = BTreeMap::new();
        for patch in patches {
            let met = self.tiling.met_by(&self.plan, patch.places);
            for at in crate::format::grid::iter_box(met) {
                by_tile.entry(self.tiling.number(at)).or_default().push(patch);
            }
        }
        let by_tile: Vec<_> = by_tile.into_iter().collect();
        let finished = Mutex::new(Vec::new());
        let add = |rows: &mut Rows, n: usize| {
            let (tile, patches) = &by_tile[n];
            let finished_box = self.add_to_tile(*tile, patches, rows)?;
            finished.lock().unwrap_or_else(PoisonError::into_inner).extend(finished_box);
            Ok(())
        };
        let added = self
            .executor
            .share(by_tile.len(), Rows::default, add)
            .and_then(|()| self.put(finished.into_inner().unwrap_or_else(PoisonError::into_inner)));
        if added.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        added
    }

    /// Hands finished boxes to the sink.
    fn put(&self, mut boxes: Vec<Finished>) -> Result<()> {
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

    /// As [`Aggregator::add`] for bytes of `dtype`: for bindings that know it at run time.
    ///
    /// # Errors
    /// As [`Aggregator::add`].
    pub fn add_bytes(&self, dtype: PatchDtype, patches: &[u8], starts: &[[i64; 3]]) -> Result<()> {
        fn cast<T: Value>(patches: &[u8]) -> Result<&[T]> {
            bytemuck::try_cast_slice(patches)
                .map_err(|e| Error::usage(format!("patches: not an array of their dtype: {e}")))
        }
        match dtype {
            PatchDtype::BFloat16 => self.add::<bf16>(cast(patches)?, starts),
            PatchDtype::Volume(dtype) => {
                with_voxel!(dtype, T => self.add::<T>(cast(patches)?, starts))
            }
        }
    }

    /// How many patches are still awaited.
    pub fn missing(&self) -> usize {
        self.ledger().missing()
    }

    /// Whether the patch that begins at `start` was added, or is needless.
    pub fn has(&self, start: [i64; 3]) -> bool {
        let number =
            self.plan.grid.indices_of(start).map(|places| self.plan.grid.number_of(places));
        number.is_some_and(|n| self.ledger().has(n))
    }

    /// Starts of the patches that are still awaited, lexicographic: of a resumed run, those that have to be computed.
    pub fn needed(&self) -> Vec<[i64; 3]> {
        let (grid, ledger) = (&self.plan.grid, self.ledger());
        (0..grid.len()).filter(|&n| !ledger.has(n)).map(|n| grid.start(n)).collect()
    }

    /// Checks that every patch was added.
    ///
    /// # Errors
    /// [`Error::Usage`] that says how many are missing, and the first.
    pub fn check_complete(&self) -> Result<()> {
        let (grid, ledger) = (&self.plan.grid, self.ledger());
        if ledger.missing() == 0 {
            return Ok(());
        }
        let first = (0..grid.len()).find(|&n| !ledger.has(n)).expect("some are missing");
        Err(Error::usage(format!(
            "{} of {} patches are missing, the first begins at {:?} (z, y, x): add them, then finish",
            ledger.missing(),
            grid.len(),
            grid.start(first)
        )))
    }

    /// The finished result.
    ///
    /// # Errors
    /// As [`Aggregator::check_complete`]; [`Error::Io`] if the sink cannot be finished, or failed before.
    pub fn finish(self) -> Result<S::Output> {
        self.check_complete()?;
        if let Some(latest) = &self.latest {
            self.blend_kept(latest)?;
        }
        if self.has_failed() {
            return Err(failed());
        }
        self.sink.finish()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_finite<T: Value>(&self, patches: &[T], starts: &[[i64; 3]]) -> Result<()> {
        let [_, ny, nx] = self.plan.target.patch_size();
        let Some(at) = patches.iter().position(|value| !value.to_f64().is_finite()) else {
            return Ok(());
        };
        let (patch, inside) = (at / self.plan.patch_len(), at % self.plan.patch_len());
        let channel_len = self.plan.patch_len() / self.plan.channel_count();
        let (c, voxel) = (inside / channel_len, inside % channel_len);
        let place = [voxel / (ny * nx), voxel / nx % ny, voxel % nx];
        Err(Error::usage(format!(
            "the patch that begins at {:?} (z, y, x) has {} at {place:?} of channel {c}: find out why the model makes it, or \
             keep such values (nonfinite=\"keep\")",
            starts[patch],
            patches[at].to_f64()
        )))
    }

    /// Where on each axis the patches lie.
    fn places(&self, starts: &[[i64; 3]]) -> Result<Vec<Size3>> {
        let grid = &self.plan.grid;
        let place = |&start: &[i64; 3]| {
            grid.indices_of(start).ok_or_else(|| {
                Error::usage(format!(
                    "no patch of the grid begins at {start:?} (z, y, x): use the grid's own locations"
                ))
            })
        };
        starts.iter().map(place).collect()
    }

    /// Marks the patches as added, all or none.
    fn claim(&self, starts: &[[i64; 3]]) -> Result<Vec<Size3>> {
        let (grid, places) = (&self.plan.grid, self.places(starts)?);
        if self.has_failed() {
            return Err(failed());
        }
        let numbers: Vec<usize> = places.iter().map(|&at| grid.number_of(at)).collect();
        let mut ledger = self.ledger();
        for (i, &number) in numbers.iter().enumerate() {
            if !ledger.mark(number) {
                numbers[..i].iter().for_each(|&earlier| ledger.unmark(earlier));
                return Err(Error::usage(format!(
                    "the patch that begins at {:?} (z, y, x) was added before: each counts once (replace=True keeps the last)",
                    starts[i]
                )));
            }
        }
        Ok(places)
    }

    fn add_to_tile<T: Value>(
        &self,
        number: usize,
        patches: &[&Patch<'_, T>],
        rows: &mut Rows,
    ) -> Result<Option<Finished>> {
        let region = self.tiling.region(number);
        let finished = {
            let mut tile = self.tiles[number].lock().unwrap_or_else(PoisonError::into_inner);
            if tile.awaited == 0 {
                return Ok(None);
            }
            let Tile { awaited, sums, had } = &mut *tile;
            let filled = match &mut *sums {
                Some(sums) => sums,
                none => {
                    let bytes = region.len() * self.plan.channel_count() * self.plan.kept_bytes();
                    let mut sums = Buffer::new(bytes, &self.budget)?;
                    self.plan.clear(sums.bytes());
                    none.insert(sums)
                }
            };
            self.plan.add(patches, &region, had, filled.bytes(), rows);
            *awaited -= patches.len();
            if *awaited == 0 { sums.take() } else { None }
        };
        match finished {
            Some(sums) => self.finish_tile(&region, sums, rows),
            None => Ok(None),
        }
    }

    /// Finishes a tile, and gives its box if that is whole now and comes to the sink in parts; otherwise the sink has it.
    fn finish_tile(
        &self,
        region: &Region,
        mut sums: Buffer,
        rows: &mut Rows,
    ) -> Result<Option<Finished>> {
        let number = self.boxing.holding(region.start);
        let canvas = self.boxing.region(number);
        let slabs = {
            let mut gathering = self.boxes[number].lock().unwrap_or_else(PoisonError::into_inner);
            let Gathering { awaited, slabs } = &mut *gathering;
            if self.plan.keeps_results() {
                slabs.insert(region.start[0], sums);
            } else {
                if slabs.is_empty() {
                    let voxel_bytes =
                        self.plan.out_channels().unwrap_or(1) * self.plan.dtype.size();
                    let slab = Buffer::new(canvas.len() * voxel_bytes, &self.budget)?;
                    slabs.insert(canvas.start[0], slab);
                }
                let slab = slabs.values_mut().next().expect("it was just made");
                self.plan.finish(region, sums.bytes(), &canvas, slab.bytes(), rows);
            }
            *awaited -= region.len();
            if *awaited > 0 {
                return Ok(None);
            }
            std::mem::take(slabs)
        };
        let mut slabs: Vec<Buffer> = slabs.into_values().collect();
        if self.sink.parts(&canvas) > 1 {
            return Ok(Some((canvas, slabs)));
        }
        self.sink.put(&canvas, &bytes_of(&mut slabs), 0)?;
        Ok(None)
    }
}

fn bytes_of(slabs: &mut [Buffer]) -> Vec<&[u8]> {
    slabs.iter_mut().map(|slab| &*slab.bytes()).collect()
}

fn unlocked<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn failed() -> Error {
    let gone = std::io::Error::other("an earlier patch could not be kept, its error says why");
    Error::io("aggregator", "cannot go on")(gone)
}
