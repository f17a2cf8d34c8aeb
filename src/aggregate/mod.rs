//! Overlapping patches of predictions become one volume.
//!
//! The result is made in bands of z planes. A band exists from its first patch to its last: then its weights are divided
//! away, it goes to the sink, and its memory is free. In the grid's order memory is one layer of patches; in any other the
//! result is the same, and what exceeds `memory_bytes` lies in a scratch file.
//!
//! # Invariants
//! - Each patch of the grid is added once, whole or not at all; a band leaves when it has all its patches, in z order.
//! - No volume of weights exists: the sum over a product grid is the product of three sums along the axes.
//! - No lock is held while work is handed to the pool, so callers may be threads of any pool.
//!
//! Not here: where the patches are (`sample`), what the model makes of them.

mod band;
mod buffer;
mod coverage;
mod sink;
mod window;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use band::{Band, Patch};
use buffer::Budget;
use coverage::AxisCoverage;
pub use sink::{ArraySink, Sink, StoreSink};
use window::Weights;
pub use window::Window;

use crate::format::attributes::Kind;
use crate::format::layout::{self, Codec, VolumeShape};
use crate::sample::Grid;
use crate::store::{Pool, StoreWriter, VolumeSpec};
use crate::{Affine, Dtype, Error, Result, Voxel, with_voxel};

/// How patches are blended.
#[derive(Clone, Debug)]
pub struct AggregateOptions {
    /// Channels of every patch, or `None` if they have no such axis.
    pub channels: Option<usize>,
    /// Weights of a patch's voxels.
    pub window: Window,
    /// Memory for unfinished voxels; beyond it a scratch file is used. An array that is the result is not counted.
    pub memory_bytes: u64,
    /// Threads that blend; `None`: as many as cores.
    pub threads: Option<usize>,
}

impl Default for AggregateOptions {
    fn default() -> Self {
        Self { channels: None, window: Window::default(), memory_bytes: 1 << 30, threads: None }
    }
}

/// What stays the same while patches come.
#[derive(Debug)]
struct Plan {
    grid: Grid,
    channels: Option<usize>,
    dtype: Dtype,
    window: Window,
    weights: Weights,
    axes: [AxisCoverage; 3],
}

/// Blends the patches of a grid; they come in any order, from any thread.
///
/// Where all patches that count for a voxel have the same value there, it comes out as the nearest of the result's dtype, bit
/// for bit if that is the patches' own: integers of up to 32 bits, `f16` and `f32`, with ±0, ±∞ and subnormals. The exceptions:
/// - NaN comes out as a NaN, perhaps with other bits (in integers as 0);
/// - `f64`, and 64-bit integers above 2⁴⁴: sums are `f64` themselves, so the last bits may differ, by about as many units in
///   the last place as patches overlap; what is above 2⁵³ is rounded first, and `f64` near its largest may overflow;
/// - a custom window whose weights, or their products and sums, leave the normal range of `f64`.
///
/// [`Window::Crop`] has no sums: of the same dtype, every voxel is copied.
#[derive(Debug)]
pub struct Aggregator<S> {
    plan: Plan,
    pool: Pool,
    budget: Arc<Budget>,
    layer_planes: usize,
    bands: Vec<Mutex<Band>>,
    ledger: Mutex<Ledger<S>>,
}

/// Who has come, and what has gone.
#[derive(Debug)]
struct Ledger<S> {
    /// One bit a patch.
    added: Vec<u64>,
    added_count: usize,
    /// The next band to leave.
    next_band: usize,
    /// Taken by the thread that is handing bands over.
    sink: Option<S>,
    /// After an error of the sink or of scratch space nothing can be completed any more.
    failed: bool,
}

impl<T: Voxel> Aggregator<ArraySink<T>> {
    /// Blends into an array in memory.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that do not fit the grid.
    pub fn to_array(grid: Grid, options: &AggregateOptions) -> Result<Self> {
        let channels = options.channels.unwrap_or(1);
        let size = grid.size();
        let plan = Plan::new(grid, options, T::DTYPE)?;
        Ok(Self::new(plan, options, ArraySink::new(channels, size)))
    }
}

impl Aggregator<StoreSink> {
    /// Blends into a new volume of a store, `dtype` voxels with the affine of the volume that was predicted from.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that do not fit the grid, [`Error::Exists`] if the subject has that volume, [`Error::Io`].
    pub fn to_store(
        grid: Grid,
        options: &AggregateOptions,
        dtype: Dtype,
        store: &StoreWriter,
        (subject, volume): (&str, &str),
        affine: Affine,
    ) -> Result<Self> {
        let plan = Plan::new(grid, options, dtype)?;
        let shape = VolumeShape {
            channels: plan.channels,
            size: plan.grid.size(),
            dtype,
            interleaved: plan.channel_count(),
        };
        let patch_sizes = vec![plan.grid.patch_size()];
        let codec = Codec::default();
        let spec = VolumeSpec {
            name: volume.to_owned(),
            kind: Kind::Image,
            layout: layout::choose(&shape, &patch_sizes, codec, options.memory_bytes)?,
            codec,
            patch_sizes,
            affine,
            slope: 1.0,
            intercept: 0.0,
            interleaved: shape.interleaved,
        };
        let sink = StoreSink::new(store.add_volume(subject, spec)?);
        Ok(Self::new(plan, options, sink))
    }
}

impl Plan {
    fn new(grid: Grid, options: &AggregateOptions, dtype: Dtype) -> Result<Self> {
        if options.channels == Some(0) {
            return Err(Error::usage("channels 0: a patch has at least one"));
        }
        let weights = options.window.weights(grid.patch_size())?;
        let axis = |a| AxisCoverage::new(&grid, a, &options.window, &weights);
        let axes = [axis(0)?, axis(1)?, axis(2)?];
        let (channels, window) = (options.channels, options.window.clone());
        let plan = Self { grid, channels, dtype, window, weights, axes };
        let extents = plan.grid.size().into_iter().chain([plan.channel_count(), size_of::<f64>()]);
        extents
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .ok_or_else(|| Error::usage("the result exceeds the address space"))?;
        Ok(plan)
    }

    fn channel_count(&self) -> usize {
        self.channels.unwrap_or(1)
    }
}

impl<S: Sink> Aggregator<S> {
    fn new(plan: Plan, options: &AggregateOptions, sink: S) -> Self {
        let (nz, depth) = (plan.grid.size()[0], sink.layer_planes());
        let [_, ny, nx] = plan.grid.counts();
        let bands = (0..nz).step_by(depth).map(|z| {
            let planes = z..(z + depth).min(nz);
            let awaited = plan.axes[0].patches_meeting(&planes).len() * ny * nx;
            Mutex::new(Band { planes, awaited, buffer: None })
        });
        Self {
            bands: bands.collect(),
            pool: Pool::new(options.threads),
            budget: Budget::new(options.memory_bytes, sink.scratch_folder()),
            layer_planes: depth,
            ledger: Mutex::new(Ledger {
                added: vec![0; plan.grid.len().div_ceil(64)],
                added_count: 0,
                next_band: 0,
                sink: Some(sink),
                failed: false,
            }),
            plan,
        }
    }

    /// The grid whose patches are awaited.
    pub fn grid(&self) -> &Grid {
        &self.plan.grid
    }

    /// Adds one patch for each of `starts`: patches, then channels, z, y, x, in C order.
    ///
    /// # Errors
    /// [`Error::BufferLength`], and [`Error::Usage`] for a start off the grid or one that was added before: nothing is added.
    /// [`Error::Io`] if the sink or the scratch space fails: the aggregator is of no use afterwards.
    pub fn add<T: Voxel>(&self, patches: &[T], starts: &[[i64; 3]]) -> Result<()> {
        let plan = &self.plan;
        let patch_voxels = plan.channel_count() * plan.grid.patch_size().iter().product::<usize>();
        let expected = patch_voxels.checked_mul(starts.len());
        if Some(patches.len()) != expected {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(Error::BufferLength { found: patches.len(), expected });
        }
        let places = self.claim(starts)?;
        let patches: Vec<Patch<'_, T>> = patches
            .chunks_exact(patch_voxels)
            .zip(places)
            .map(|(voxels, places)| Patch { voxels, places })
            .collect();
        let run = || {
            self.touched(&patches)
                .into_par_iter()
                .try_for_each(|band| self.add_to_band(band, &patches))
        };
        let added = self.pool.get()?.install(run);
        if added.is_err() {
            self.ledger().failed = true;
        }
        added?;
        self.hand_over()
    }

    /// As [`Aggregator::add`] for bytes of `dtype`: for bindings that know it at run time.
    ///
    /// # Errors
    /// As [`Aggregator::add`].
    pub fn add_bytes(&self, dtype: Dtype, patches: &[u8], starts: &[[i64; 3]]) -> Result<()> {
        with_voxel!(dtype, T => {
            let voxels = bytemuck::try_cast_slice::<u8, T>(patches)
                .map_err(|e| Error::usage(format!("patches: not an array of {dtype}: {e}")))?;
            self.add(voxels, starts)
        })
    }

    /// How many patches are still awaited.
    pub fn missing(&self) -> usize {
        self.plan.grid.len() - self.ledger().added_count
    }

    /// Whether the patch that begins at `start` was added.
    pub fn has(&self, start: [i64; 3]) -> bool {
        let number = self.plan.grid.places_of(start).map(|places| self.plan.grid.number_of(places));
        number.is_some_and(|n| self.ledger().added[n / 64] >> (n % 64) & 1 == 1)
    }

    /// Checks that every patch was added.
    ///
    /// # Errors
    /// [`Error::Usage`] that says how many are missing, and the first.
    pub fn check_complete(&self) -> Result<()> {
        let missing = self.missing();
        if missing == 0 {
            return Ok(());
        }
        let grid = &self.plan.grid;
        let first = grid.starts().find(|&start| !self.has(start)).expect("some are missing");
        Err(Error::usage(format!(
            "{missing} of {} patches are missing, the first begins at {first:?} (z, y, x): add them, then finish",
            grid.len()
        )))
    }

    /// The finished result.
    ///
    /// # Errors
    /// As [`Aggregator::check_complete`]; [`Error::Io`] if the sink cannot be finished, or failed before.
    pub fn finish(self) -> Result<S::Output> {
        self.check_complete()?;
        let ledger = self.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
        match ledger.sink {
            Some(sink) if !ledger.failed && ledger.next_band == self.bands.len() => sink.finish(),
            _ => Err(failed()),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<S>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the patches as added, all or none.
    fn claim(&self, starts: &[[i64; 3]]) -> Result<Vec<[usize; 3]>> {
        let grid = &self.plan.grid;
        let place = |&start: &[i64; 3]| {
            grid.places_of(start).ok_or_else(|| {
                Error::usage(format!(
                    "no patch of the grid begins at {start:?} (z, y, x): use the grid's own locations"
                ))
            })
        };
        let places = starts.iter().map(place).collect::<Result<Vec<_>>>()?;
        let mut ledger = self.ledger();
        if ledger.failed {
            return Err(failed());
        }
        for (i, &at) in places.iter().enumerate() {
            let number = grid.number_of(at);
            let (word, bit) = (number / 64, 1 << (number % 64));
            if ledger.added[word] & bit != 0 {
                for &earlier in &places[..i] {
                    let number = grid.number_of(earlier);
                    ledger.added[number / 64] &= !(1 << (number % 64));
                }
                return Err(Error::usage(format!(
                    "the patch that begins at {:?} (z, y, x) was added before: each counts once",
                    starts[i]
                )));
            }
            ledger.added[word] |= bit;
        }
        ledger.added_count += places.len();
        Ok(places)
    }

    /// Bands that any of the patches count for.
    fn touched<T>(&self, patches: &[Patch<'_, T>]) -> Vec<usize> {
        let mut bands: Vec<usize> = patches.iter().flat_map(|p| self.bands_of(p)).collect();
        bands.sort_unstable();
        bands.dedup();
        bands
    }

    fn bands_of<T>(&self, patch: &Patch<'_, T>) -> Range<usize> {
        let used = &self.plan.axes[0].used[patch.places[0]];
        if used.is_empty() {
            return 0..0;
        }
        used.start / self.layer_planes..used.end.div_ceil(self.layer_planes)
    }

    fn add_to_band<T: Voxel>(&self, index: usize, patches: &[Patch<'_, T>]) -> Result<()> {
        let mut band = self.band(index);
        let Band { planes, awaited, buffer } = &mut *band;
        let buffer = match buffer {
            Some(buffer) => buffer,
            None => buffer.insert(self.plan.empty_band(planes.len(), &self.budget)?),
        };
        for patch in patches.iter().filter(|p| self.bands_of(p).contains(&index)) {
            self.plan.add(patch, planes, buffer.bytes());
            *awaited -= 1;
        }
        Ok(())
    }

    fn band(&self, index: usize) -> MutexGuard<'_, Band> {
        self.bands[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives finished bands to the sink, in order; if another thread is at it, that one sees to ours too.
    fn hand_over(&self) -> Result<()> {
        loop {
            let (index, mut sink) = {
                let mut ledger = self.ledger();
                let index = ledger.next_band;
                if ledger.failed || index == self.bands.len() || self.band(index).awaited > 0 {
                    return Ok(());
                }
                let Some(sink) = ledger.sink.take() else { return Ok(()) };
                (index, sink)
            };
            let result = self.put_band(index, &mut sink);
            let mut ledger = self.ledger();
            ledger.sink = Some(sink);
            ledger.next_band += 1;
            ledger.failed |= result.is_err();
            result?;
        }
    }

    fn put_band(&self, index: usize, sink: &mut S) -> Result<()> {
        let (planes, buffer) = {
            let mut band = self.band(index);
            (band.planes.clone(), band.buffer.take())
        };
        let mut buffer = buffer.expect("every band has patches, the last of them came");
        let [_, ny, nx] = self.plan.grid.size();
        let voxels = self.plan.channel_count() * planes.len() * ny * nx;
        with_voxel!(self.plan.dtype, Out => {
            let mut out = vec![Out::default(); voxels];
            let bytes = bytemuck::cast_slice_mut(&mut out);
            self.pool.get()?.install(|| self.plan.finish(&planes, buffer.bytes(), bytes));
            drop(buffer);
            sink.put(planes, bytes)
        })
    }
}

fn failed() -> Error {
    let gone = std::io::Error::other("an earlier patch could not be kept, its error says why");
    Error::io("aggregator", "cannot go on")(gone)
}
