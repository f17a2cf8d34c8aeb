//! The aggregator: takes the patches of a grid and gives the blended result.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use half::bf16;

use super::accumulate::MOST_CLASSES;
use super::engine::{BlendEngine, EnginePlan};
use super::options::{AggregateOptions, Duplicates, Merge, NonFinite};
use super::patch::Patch;
use super::replace::LatestPatches;
use super::sink::Sink;
use super::tracker::PatchTracker;
use super::value::{PatchDtype, PatchValue};
use crate::memory::collected;
use crate::sample::Grid;
use crate::{Error, Result, Size3, with_voxel};

/// Blends the patches of a grid, which may be added in any order and from any thread.
///
/// Weighted sums are `f64`, divided and rounded at the end. If the result is `f32` or `f16`, the
/// window is a product and at most 32 patches count for a voxel, the mean of the patches so far is
/// kept in `f32` instead. That takes half the memory; it is rounded once for each patch, so it
/// differs from the exact mean by a few units in the last place of the largest of a voxel's values.
///
/// Where all patches that count for a voxel have the same value there, the result has the nearest
/// value of its dtype, bit for bit if that is the patches' own: integers of up to 32 bits, `f16`
/// and `f32`, with ±0, ±∞ and subnormals. The exceptions:
/// - NaN gives a NaN, perhaps with other bits (in integers 0);
/// - `f64`, and 64-bit integers above 2⁴⁴: sums are no wider, so the last bits may differ, by about
///   as many units in the last place as patches overlap. Integers above 2⁵³ are rounded first, and
///   `f64` near its largest may overflow;
/// - a custom window whose weights, or their products and sums, leave the normal range of `f64`.
///
/// [`Window::Crop`](crate::Window::Crop) has no sums: of the same dtype, every voxel is copied.
///
/// # Example
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler};
///
/// let grid = GridSampler::new([4, 4, 4], 2)?.grid([8, 8, 8])?;
/// let options = AggregateOptions::default();
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid.clone(), &options)?;
/// for start in grid.starts() {
///     let prediction = [0.25f32; 64]; // a model's, for the patch at `start`
///     aggregator.add(&prediction, &[start])?;
/// }
/// let result = aggregator.finish()?;
/// assert_eq!(result.shape(), [1, 8, 8, 8]);
/// assert!(result.iter().all(|&voxel| voxel == 0.25));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct Aggregator<S> {
    pub(super) engine: BlendEngine<S>,
    tracker: Mutex<PatchTracker>,
    non_finite: NonFinite,
    first_nan: OnceLock<NanPlace>,
    /// Patches that may be replaced until the end; `None`: each is blended when it is added.
    latest: Option<LatestPatches>,
}

/// Where a patch has a NaN.
///
/// ```
/// use voxquarry::{AggregateOptions, Aggregator, ArraySink, GridSampler, NonFinite};
///
/// let grid = GridSampler::new([1, 1, 2], 0)?.grid([1, 1, 2])?;
/// let options = AggregateOptions::default().non_finite(NonFinite::Report);
/// let aggregator = Aggregator::<ArraySink<f32>>::to_array(grid, &options)?;
/// aggregator.add(&[0.0, f32::NAN], &[[0, 0, 0]])?;
/// assert_eq!(aggregator.first_nan().unwrap().index, [0, 0, 1]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NanPlace {
    /// First voxel of the patch, `(z, y, x)`.
    pub start: [i64; 3],
    /// Index in the patch, `(z, y, x)`.
    pub index: Size3,
    /// The channel.
    pub channel: usize,
}

impl<S: Sink> Aggregator<S> {
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn new(engine: EnginePlan, options: &AggregateOptions, sink: S) -> Result<Self> {
        let engine = BlendEngine::new(engine, options, sink)?;
        let tracker = PatchTracker::new(engine.plan().grid.len(), engine.unneeded_patches())?;
        let replaces = options.duplicates == Duplicates::Replace;
        Ok(Self {
            latest: replaces.then(|| LatestPatches::new(engine.buffers().clone())),
            tracker: Mutex::new(tracker),
            non_finite: options.non_finite,
            first_nan: OnceLock::new(),
            engine,
        })
    }

    /// Whether an error has left the result incomplete for good.
    pub fn has_failed(&self) -> bool {
        self.engine.has_failed()
    }

    /// The grid whose patches are to be added.
    pub fn grid(&self) -> &Grid {
        &self.engine.plan().grid
    }

    /// Extents of the patches to be added, `(z, y, x)`: the grid's, multiplied by the scale.
    pub fn patch_size(&self) -> Size3 {
        self.engine.plan().target.patch_size()
    }

    /// Extents of the result, `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.engine.plan().target.size()
    }

    /// Channels of the result, or `None` if it has no channel axis.
    pub fn out_channels(&self) -> Option<usize> {
        self.engine.plan().out_channels()
    }

    /// Adds one patch for each of `starts`: patches, then channels, z, y, x, in C order. Starts are
    /// those of the grid, whatever the scale.
    ///
    /// A patch that is unneeded because an earlier run has written its voxels changes nothing.
    ///
    /// # Errors
    /// [`Error::BufferLength`], [`Error::NotInGrid`], [`Error::AddedTwice`] and
    /// [`Error::NonFinite`]: nothing is added. [`Error::Io`] if the sink or the scratch space
    /// fails: the result cannot be completed any more. With [`Duplicates::Replace`] nothing is
    /// added then, and the same patches may be added again.
    pub fn add<T: PatchValue>(&self, patches: &[T], starts: &[[i64; 3]]) -> Result<()> {
        let patch_len = self.engine.plan().patch_len();
        let expected = patch_len.checked_mul(starts.len());
        if Some(patches.len()) != expected {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(Error::BufferLength { found: patches.len(), expected });
        }
        match self.non_finite {
            NonFinite::Keep => {}
            NonFinite::Report => self.report_nan(patches, starts),
            NonFinite::Error => self.check_finite(patches, starts)?,
        }
        self.check_classes(patches)?;
        if let Some(latest) = &self.latest {
            return self.store(latest, patches, starts);
        }
        let indices = self.mark_added(starts)?;
        let plan = self.engine.plan();
        let patches: Vec<Patch<'_, T>> = patches
            .chunks_exact(patch_len)
            .zip(indices)
            .filter(|(_, index)| !plan.is_skipped(*index))
            .map(|(values, index)| Patch { values, index })
            .collect();
        self.engine.blend(&patches)
    }

    /// As [`Aggregator::add`], for bytes of a dtype that is known only at run time.
    ///
    /// # Errors
    /// As [`Aggregator::add`]; [`Error::InvalidArgument`] for bytes that are no aligned array of
    /// `dtype`.
    pub fn add_bytes(&self, dtype: PatchDtype, patches: &[u8], starts: &[[i64; 3]]) -> Result<()> {
        fn cast<T: PatchValue>(patches: &[u8]) -> Result<&[T]> {
            bytemuck::try_cast_slice(patches).map_err(|e| {
                Error::invalid("patches", format!("({e})"), "an aligned array of their dtype")
            })
        }
        match dtype {
            PatchDtype::BFloat16 => self.add::<bf16>(cast(patches)?, starts),
            PatchDtype::Volume(dtype) => {
                with_voxel!(dtype, T => self.add::<T>(cast(patches)?, starts))
            }
        }
    }

    /// How many patches are missing.
    pub fn missing(&self) -> usize {
        self.tracker().missing()
    }

    /// Whether the patch that begins at `start` was added or is unneeded.
    pub fn has(&self, start: [i64; 3]) -> bool {
        let grid = self.grid();
        let number = grid.indices_of(start).map(|index| grid.number_of(index));
        number.is_some_and(|n| self.tracker().has(n))
    }

    /// Starts of the missing patches, lexicographic: in a resumed run, those to be computed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn needed(&self) -> Result<Vec<[i64; 3]>> {
        let (grid, tracker) = (self.grid(), self.tracker());
        let starts = (0..grid.len()).filter(|&n| !tracker.has(n)).map(|n| grid.start(n));
        let count = tracker.missing() as u64;
        collected(starts, count, || format!("a list of {count} patches"))
    }

    /// Checks that no patch is missing.
    ///
    /// # Errors
    /// [`Error::Incomplete`], which names the number of missing patches and the first.
    pub fn check_complete(&self) -> Result<()> {
        let (grid, tracker) = (self.grid(), self.tracker());
        let Some(first) = (0..grid.len()).find(|&n| !tracker.has(n)) else { return Ok(()) };
        let missing = format!(
            "{} of {} patches are missing, the first begins at {:?} (z, y, x)",
            tracker.missing(),
            grid.len(),
            grid.start(first)
        );
        Err(Error::Incomplete { what: "the result".to_owned(), missing })
    }

    /// Completes the result and returns it: an array `(c, z, y, x)`, or the volume.
    ///
    /// # Errors
    /// As [`Aggregator::check_complete`]; [`Error::Io`] if the sink cannot be finished, or failed
    /// before.
    pub fn finish(self) -> Result<S::Finished> {
        self.check_complete()?;
        if let Some(latest) = &self.latest {
            latest.blend(&self.engine)?;
        }
        self.check_failed()?;
        self.engine.finish()
    }

    pub(super) fn duplicates(&self) -> Duplicates {
        if self.latest.is_some() { Duplicates::Replace } else { Duplicates::Error }
    }

    pub(super) fn tracker(&self) -> MutexGuard<'_, PatchTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check_failed(&self) -> Result<()> {
        if !self.has_failed() {
            return Ok(());
        }
        let cause = std::io::Error::other("an earlier patch could not be stored");
        Err(Error::io("aggregator", "cannot go on")(cause))
    }

    fn check_finite<T: PatchValue>(&self, patches: &[T], starts: &[[i64; 3]]) -> Result<()> {
        let Some(at) = patches.iter().position(|value| !value.to_f64().is_finite()) else {
            return Ok(());
        };
        let NanPlace { start, index, channel } = self.place_of(at, starts);
        Err(Error::NonFinite { start, index, channel, value: patches[at].to_f64() })
    }

    /// The first NaN that a patch had, with [`NonFinite::Report`].
    pub fn first_nan(&self) -> Option<NanPlace> {
        self.first_nan.get().copied()
    }

    fn report_nan<T: PatchValue>(&self, patches: &[T], starts: &[[i64; 3]]) {
        if self.first_nan.get().is_none()
            && let Some(at) = patches.iter().position(|value| value.to_f64().is_nan())
        {
            // Another thread may have found one meanwhile.
            let _ = self.first_nan.set(self.place_of(at, starts));
        }
    }

    /// Checks that votes are whole numbers that are kept exactly.
    fn check_classes<T: PatchValue>(&self, patches: &[T]) -> Result<()> {
        let plan = self.engine.plan();
        if plan.merge != Merge::Vote || plan.finish.is_argmax() {
            return Ok(());
        }
        let is_class = |v: f64| v.is_nan() || (v.fract() == 0.0 && v.abs() <= MOST_CLASSES);
        match patches.iter().map(|value| value.to_f64()).find(|&value| !is_class(value)) {
            None => Ok(()),
            Some(value) => {
                let expected = "classes to vote for, whole numbers up to 2²⁴; of scores, vote for \
                                the channel with the largest (argmax)";
                Err(Error::invalid("patches: value", value, expected))
            }
        }
    }

    /// Where element `at` of patches lies.
    fn place_of(&self, at: usize, starts: &[[i64; 3]]) -> NanPlace {
        let plan = self.engine.plan();
        let ([_, ny, nx], patch_len) = (plan.target.patch_size(), plan.patch_len());
        let (patch, inside) = (at / patch_len, at % patch_len);
        let channel_len = patch_len / plan.channel_count();
        let (channel, voxel) = (inside / channel_len, inside % channel_len);
        let index = [voxel / (ny * nx), voxel / nx % ny, voxel % nx];
        NanPlace { start: starts[patch], index, channel }
    }

    /// Indices of the patches that begin at `starts`, on each axis of the grid.
    fn indices(&self, starts: &[[i64; 3]]) -> Result<Vec<Size3>> {
        let index =
            |&start: &[i64; 3]| self.grid().indices_of(start).ok_or(Error::NotInGrid { start });
        starts.iter().map(index).collect()
    }

    /// Marks the patches as added, all or none, and returns their indices.
    fn mark_added(&self, starts: &[[i64; 3]]) -> Result<Vec<Size3>> {
        let indices = self.indices(starts)?;
        self.check_failed()?;
        let numbers: Vec<usize> = indices.iter().map(|&at| self.grid().number_of(at)).collect();
        let mut tracker = self.tracker();
        for (i, &number) in numbers.iter().enumerate() {
            if !tracker.mark(number) {
                numbers[..i].iter().for_each(|&earlier| tracker.unmark(earlier));
                return Err(Error::AddedTwice { start: starts[i] });
            }
        }
        Ok(indices)
    }

    /// Stores patches that may be replaced; of several of one location, the last.
    fn store<T: PatchValue>(
        &self,
        latest: &LatestPatches,
        patches: &[T],
        starts: &[[i64; 3]],
    ) -> Result<()> {
        let indices = self.indices(starts)?.into_iter();
        let (plan, grid) = (self.engine.plan(), self.grid());
        let patches: BTreeMap<usize, &[T]> = indices
            .zip(patches.chunks_exact(plan.patch_len()))
            .filter(|(at, _)| !plan.is_skipped(*at))
            .map(|(at, patch)| (grid.number_of(at), patch))
            .collect();
        latest.put(&patches)?;
        let mut tracker = self.tracker();
        for number in patches.into_keys() {
            tracker.mark(number);
        }
        Ok(())
    }
}
