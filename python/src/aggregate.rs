//! `Aggregator`: patches of predictions come in, one array or volume comes out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use numpy::{
    Element, PyArray2, PyArrayDescr, PyArrayDyn, PyArrayMethods, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use voxquarry::{
    Affine, AggregateOptions, ArraySink, AxisWeights, Dtype, Duplicates, Finish, Grid, NanPlace,
    Part, PatchDtype, Region, Size3, StoreWriter, Voxel, with_voxel,
};

use crate::any_aggregator::{AnyAggregator, split};
use crate::arguments::{bytes, dtype, named, start, starts};
use crate::blend_arguments::{self, MERGES, non_finite};
use crate::errors::{BLEND_LESS, LAY_FEWER, invalid, raise, raise_short, unsupported};
use crate::sample::{GridSampler, space_of, starts_array};

/// Blends the overlapping patches of a grid into one array, or into a volume of a store.
///
/// Patches may be added in any order and from any thread; each patch of the grid counts once, with
/// ``replace`` its last. In the grid's own order, memory is one layer of patches.
///
/// Where all patches have the same value, the result has it too, bit for bit, for integers of up to
/// 32 bits, float16 and float32, with ±0, ±inf and subnormals. NaN gives a NaN, perhaps with other
/// bits. Sums are float64, so the last bits of float64, and of 64-bit integers above 2**44, may
/// differ, by about as many units in the last place as patches overlap. 64-bit integers above 2**53
/// are rounded first, and float64 near its largest may overflow. The weights of a custom window,
/// their products and sums have to stay in the normal range of float64. ``"crop"`` has no sums: of
/// the same dtype, every voxel is copied.
///
/// Args:
///     grid: The sampler that gives the patches.
///     subject: What the grid covers: a subject, a volume, or extents ``(z, y, x)``.
///     channels: Channels of every patch; ``None`` if the result has no channel axis.
///     dtype: Dtype of the result; integers are rounded half to even and saturate. By default
///         float32, or uint8 (uint16 for more than 256 channels) for a ``finish`` that gives whole
///         numbers.
///     window: Weights of a patch's voxels: ``"hann"``, ``"average"``, ``"crop"`` (one patch a
///         voxel: TorchIO's three), ``"gaussian"`` (MONAI's), ``("gaussian", s)`` with MONAI's
///         ``sigma_scale``, a number or three ``(z, y, x)``, ``"gaussian-nnunet"``, or three arrays
///         of positive weights, one for each axis ``(z, y, x)``, whose product is the window.
///     out: ``"STORE/SUBJECT/VOLUME"`` to write a volume, which is never in memory as a whole;
///         ``None`` for an array. The store and the subject are created if necessary; nothing is
///         visible before ``finish``.
///     memory_bytes: Memory for unfinished voxels, an int or a string such as ``"1GiB"``; beyond it
///         a scratch file is used. An array that is the result does not count.
///     finish: What happens to blended voxels before they are stored. ``"none"``: only the cast.
///         ``"argmax"``: the number of the channel with the largest value, the first of equal ones;
///         the result has no channel axis, and the channels never exist as a whole volume.
///         ``"softmax+argmax"``: each patch's channels become probabilities first. ``"threshold"``,
///         or ``("threshold", t)``: 1 where the value is at least ``t`` (0.5), else 0.
///         ``("quantize", slope, intercept)``: the nearest whole number of steps, ``(value -
///         intercept) / slope``; a stored volume records slope and intercept.
///     threads: Threads that blend and encode; all cores by default.
///     scale: Voxels of the patches to be added for each voxel of the grid: a number, or three
///         ``(z, y, x)``; each a whole number or one divided by one (``0.5``: the model halves the
///         resolution). The result has that resolution; starts remain those of the grid.
///     nonfinite: ``"keep"`` blends NaN and infinite values like any other. ``"warn"`` does too,
///         and one warning says where the first NaN is. ``"error"`` refuses the patch.
///     resume: With ``out``: unfinished work stays when the process ends, however it ends, and an
///         aggregator with the same arguments continues it: ``needed`` lists the patches that are
///         still to be computed. A text instead of ``True``, such as the model's name, is one more
///         argument that has to be the same. Without it, earlier unfinished work is discarded.
///     replace: A patch replaces an earlier one of the same location instead of being refused; in
///         one call of ``add`` the last counts. The result is that of the last patches alone,
///         added in the grid's order, bit for bit. All patches are stored as they were added, in
///         memory up to ``memory_bytes`` and on the disk beyond it, and ``finish`` blends them:
///         with half an overlap they are eight times the result. Not with ``resume``.
///     merge: How the values of overlapping patches become one: ``"mean"``, weighted by the window;
///         ``"max"`` or ``"min"``, whatever the window; ``"vote"``: the class with the greatest sum
///         of the window's weights, the smallest of equal ones. Votes are whole numbers up to
///         2**24; with ``finish="argmax"`` each patch votes for its largest channel.
///     mask: A boolean array ``(z, y, x)`` of the grid's volume: the voxels that are predicted.
///         Patches without any of them are not missing.
///     skipped: ``(n, 3)`` starts of patches that never come.
///     outside: The value of voxels that are not predicted, as the result shows it.
///     part: ``(i, n)`` with ``out``: only the shards of part i of n are written, ``needed`` lists
///         the patches that count for them, and ``finish`` returns ``None``. A part stays and is
///         continued as with ``resume``. :func:`finalize` makes the volume of all parts, which is
///         byte for byte that of one aggregator. All are to be given the same arguments.
///
/// Raises:
///     UsageError: Invalid arguments; ``"crop"`` of an odd overlap; a volume that exists;
///         unfinished work, or another part, that was begun with other arguments.
///     StorageError: The store cannot be written.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Aggregator {
    state: RwLock<AggregatorState>,
    patch_size: Size3,
    /// Extents of the result, its channels first if it has them.
    shape: Vec<usize>,
    channels: Option<usize>,
    dtype: Dtype,
    /// Whether the first NaN was told.
    has_warned: AtomicBool,
}

/// Starts, used voxels and weights along one axis.
type AxisTuple = (Vec<i64>, Vec<(usize, usize)>, Vec<f64>);

/// Whether patches can be added. A state without an aggregator has released its unfinished work,
/// however long Python keeps the object: a notebook keeps the last traceback and its objects.
enum AggregatorState {
    Running(Box<dyn AnyAggregator>),
    Finished,
    Closed,
    Failed,
}

#[pymethods]
impl Aggregator {
    #[new]
    #[pyo3(
        signature = (
            grid, subject, channels=Some(1), dtype=None, window=None, out=None, memory_bytes=None,
            finish=None, threads=None, scale=None, nonfinite="keep", resume=None, replace=false,
            merge="mean", mask=None, skipped=None, outside=0.0, part=None
        ),
        text_signature = "(grid, subject, channels=1, dtype='float32', window='hann', out=None, \
            memory_bytes='1GiB', finish='none', threads=None, scale=1, nonfinite='keep', \
            resume=False, replace=False, merge='mean', mask=None, skipped=None, outside=0.0, \
            part=None)"
    )]
    #[allow(clippy::too_many_arguments)] // Python's keywords, checked and bundled here.
    fn new(
        py: Python<'_>,
        grid: &GridSampler,
        subject: &Bound<'_, PyAny>,
        channels: Option<usize>,
        dtype: Option<&Bound<'_, PyAny>>,
        window: Option<&Bound<'_, PyAny>>,
        out: Option<PathBuf>,
        memory_bytes: Option<&Bound<'_, PyAny>>,
        finish: Option<&Bound<'_, PyAny>>,
        threads: Option<usize>,
        scale: Option<&Bound<'_, PyAny>>,
        nonfinite: &str,
        resume: Option<&Bound<'_, PyAny>>,
        replace: bool,
        merge: &str,
        mask: Option<&Bound<'_, PyAny>>,
        skipped: Option<&Bound<'_, PyAny>>,
        outside: f64,
        part: Option<(usize, usize)>,
    ) -> PyResult<Self> {
        let part = part.map(|(i, n)| Part::new(i, n)).transpose().map_err(raise)?;
        if threads == Some(0) {
            return Err(invalid("threads", 0, "None or at least 1"));
        }
        let finish = finish.map_or(Ok(Finish::None), blend_arguments::finish)?;
        let resume = resume.map_or(Ok(None), blend_arguments::resume)?;
        if (resume.is_some() || part.is_some()) && out.is_none() {
            let reason = "resume and part: an array ends with its process";
            return Err(unsupported(reason, "give an out"));
        }
        let mut options = AggregateOptions::default()
            .channels(channels)
            .threads(threads)
            .finish(finish)
            .non_finite(non_finite(nonfinite)?)
            .duplicates(if replace { Duplicates::Replace } else { Duplicates::Error })
            .resume(resume)
            .merge(named(&MERGES, "merge", merge)?)
            .mask(mask.map(blend_arguments::mask).transpose()?)
            .skipped(skipped.map_or(Ok(Vec::new()), starts)?)
            .outside(outside);
        if let Some(value) = window {
            options = options.window(blend_arguments::window(value)?);
        }
        if let Some(value) = memory_bytes {
            options = options.memory_bytes(bytes(value, "memory_bytes")?);
        }
        if let Some(value) = scale {
            options = options.scale(blend_arguments::scale(value)?);
        }
        let default = finish.default_dtype(channels.unwrap_or(1));
        let dtype = dtype.map_or(Ok(default), self::dtype)?;
        let (size, affine, unit) = space_of(subject)?;
        options = options.unit(unit);
        let place = (out.as_deref(), affine);
        let aggregator =
            || aggregator_of(grid.0.grid(size)?, &options, dtype, place, (part, threads));
        let short = if out.is_some() { raise_short(LAY_FEWER) } else { raise_short(BLEND_LESS) };
        let aggregator = py.detach(aggregator).map_err(short)?;
        let (patch_size, shape) = (aggregator.patch_size(), aggregator.shape());
        let state = RwLock::new(AggregatorState::Running(aggregator));
        Ok(Self { state, patch_size, shape, channels, dtype, has_warned: AtomicBool::new(false) })
    }

    /// Adds patches.
    ///
    /// Args:
    ///     patches: ``(n, c, z, y, x)`` voxels, or ``(c, z, y, x)`` for one patch; with one channel
    ///         the axis ``c`` may be left out. Any dtype of a volume, bool or bfloat16; numpy
    ///         arrays and CPU tensors, which are read in place if they are C-contiguous.
    ///     starts: Where the patches begin: ``(n, 3)`` integers ``(z, y, x)`` as the grid gave
    ///         them, or three for one patch.
    ///
    /// Raises:
    ///     UsageError: Another shape or dtype, a start off the grid, a patch that was added before
    ///         (except with ``replace``), or a call after ``finish``: nothing is added.
    ///     StorageError: The disk is full or fails, and the result cannot be completed. With
    ///         ``resume``, another aggregator with the same arguments continues the work once
    ///         there is space. With ``replace``, nothing is added and the same patches may be added
    ///         again.
    fn add(&self, patches: &Bound<'_, PyAny>, starts: &Bound<'_, PyAny>) -> PyResult<()> {
        let (patches, is_bfloat16) = native(patches)?;
        let starts = match start(starts) {
            Ok(one) => vec![one],
            Err(_) => self::starts(starts)?,
        };
        let count = self.patches_in(patches.shape());
        if count != Some(starts.len()) {
            let [z, y, x] = self.patch_size;
            let c = self.channels.unwrap_or(1);
            let (shape, n) = (patches.shape(), starts.len());
            let expected = format!("({n}, {c}, {z}, {y}, {x})");
            return Err(invalid("patches", format!("of shape {shape:?} for {n} starts"), expected));
        }
        if is_bfloat16 {
            return self.add_typed::<u16>(PatchDtype::BFloat16, &patches, &starts);
        }
        let dtype = dtype(patches.dtype().as_any())?;
        with_voxel!(dtype, T => self.add_typed::<T>(PatchDtype::Volume(dtype), &patches, &starts))
    }

    /// How many patches are missing.
    #[getter]
    fn missing(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.with(|aggregator| aggregator.missing())).map_err(raise)
    }

    /// Starts of the missing patches in the grid's order; in a resumed run, those to compute.
    ///
    /// Returns:
    ///     ``(n, 3)`` int64, ``(z, y, x)``.
    fn needed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let needed = py.detach(|| self.with(|aggregator| aggregator.needed())).map_err(raise)?;
        starts_array(py, needed.map_err(raise)?)
    }

    /// Whether the patch that begins at ``start``, ``(z, y, x)``, was added, or is unneeded
    /// because an earlier run has written its voxels.
    fn has(&self, py: Python<'_>, #[pyo3(from_py_with = start)] start: [i64; 3]) -> PyResult<bool> {
        py.detach(|| self.with(|aggregator| aggregator.has(start))).map_err(raise)
    }

    /// Takes finished voxels that were blended elsewhere, as on a GPU.
    ///
    /// Patches all of whose voxels are finished then are no longer missing. What an earlier run has
    /// written is left alone, and what ``mask`` excludes becomes ``outside``.
    ///
    /// Args:
    ///     voxels: ``(c, z, y, x)``, or ``(z, y, x)`` where the result has no channel axis: of the
    ///         result's dtype, C-contiguous, and whole boxes of ``box_size``, cut off at the
    ///         result's end.
    ///     start: Where they begin in the result, ``(z, y, x)``.
    ///
    /// Raises:
    ///     UsageError: Another shape, dtype or place, or an aggregator with ``replace``: nothing is
    ///         taken.
    ///     StorageError: As for ``add``.
    fn put(&self, voxels: &Bound<'_, PyAny>, start: &Bound<'_, PyAny>) -> PyResult<()> {
        let (voxels, _) = native(voxels)?;
        let (start, found) = (self::start(start)?, dtype(voxels.dtype().as_any())?);
        let lead = self.shape.len() - 3;
        let size: Option<Size3> = voxels.shape().get(lead..).and_then(|s| s.try_into().ok());
        let (Some(size), true) = (size, voxels.shape().starts_with(&self.shape[..lead])) else {
            let expected = format!("boxes of the result's {:?}", self.shape);
            return Err(invalid("voxels", format!("of shape {:?}", voxels.shape()), expected));
        };
        if found != self.dtype {
            return Err(invalid("voxels", format!("of {found}"), self.dtype.name()));
        }
        let region = Region::new(start, size);
        with_voxel!(found, T => self.put_typed::<T>(&voxels, &region))
    }

    /// Extents ``(z, y, x)`` of the boxes that ``put`` takes.
    #[getter]
    fn box_size(&self, py: Python<'_>) -> PyResult<(usize, usize, usize)> {
        let [z, y, x] = py.detach(|| self.with(|a| a.box_size())).map_err(raise)?;
        Ok((z, y, x))
    }

    /// How patches count along each axis ``(z, y, x)`` of the result, for blending elsewhere.
    ///
    /// Returns:
    ///     Three tuples and a number. Each tuple has the first voxel of each patch, which may lie
    ///     outside of the result; the range ``(start, end)`` of the voxels that each patch counts
    ///     for; and the weight of each voxel of a patch. A voxel's weight is the product over the
    ///     axes, and at least the number.
    fn axis_weights(&self, py: Python<'_>) -> PyResult<(Vec<AxisTuple>, f64)> {
        let weights = py.detach(|| self.with(|a| a.axis_weights())).map_err(raise)?;
        let (axes, least) = weights.map_err(raise)?;
        let tuple = |axis: AxisWeights| {
            let used = axis.used.into_iter().map(|used| (used.start, used.end)).collect();
            (axis.starts, used, axis.weights)
        };
        Ok((axes.into_iter().map(tuple).collect(), least))
    }

    /// Completes and returns the result; the aggregator takes no patches afterwards.
    ///
    /// Returns:
    ///     A ``(c, z, y, x)`` array, ``(z, y, x)`` for ``channels=None`` and for labels; or the
    ///     volume at ``out``; ``None`` for a part.
    ///
    /// Raises:
    ///     UsageError: Patches are missing, which can still be added; or it was finished before.
    ///     StorageError: The volume cannot be published, or, with ``replace``, patches cannot be
    ///         blended.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let take = || {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.aggregator()?.check_complete()?;
            Ok(std::mem::replace(&mut *state, AggregatorState::Finished))
        };
        match py.detach(take).map_err(raise)? {
            AggregatorState::Running(aggregator) => aggregator.finish(py, self.shape.len() == 4),
            _ => unreachable!("an aggregator was there, and the lock is held"),
        }
    }

    /// Releases unfinished work, as when the last reference goes: with ``resume`` it stays, and
    /// an aggregator with the same arguments continues it; otherwise it is removed. A finished
    /// result is not affected.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.end(AggregatorState::Closed));
    }

    /// Extents of the result, ``(z, y, x)`` or ``(c, z, y, x)``.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    /// Element type of the result, a ``numpy.dtype``.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDescr>> {
        PyArrayDescr::new(py, self.dtype.name())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let describe = || match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            AggregatorState::Running(aggregator) => {
                format!("{} patches missing", aggregator.missing())
            }
            AggregatorState::Finished => "finished".to_owned(),
            AggregatorState::Closed => "closed".to_owned(),
            AggregatorState::Failed => "failed".to_owned(),
        };
        let state = py.detach(describe);
        format!("<voxquarry.Aggregator: {:?} {}, {state}>", self.shape, self.dtype)
    }
}

impl Aggregator {
    /// Calls the aggregator; other threads may do so too, but none finishes it meanwhile. The
    /// caller must not hold the GIL.
    fn with<R>(&self, call: impl FnOnce(&dyn AnyAggregator) -> R) -> voxquarry::Result<R> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.aggregator().map(call)
    }

    /// Drops an aggregator that is still running. The caller must not hold the GIL.
    fn end(&self, end: AggregatorState) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, AggregatorState::Running(_)) {
            *state = end;
        }
    }

    /// How many patches an array of that shape holds.
    fn patches_in(&self, shape: &[usize]) -> Option<usize> {
        let (lead, patch) = shape.split_at_checked(shape.len().checked_sub(3)?)?;
        let channels = self.channels.unwrap_or(1);
        match *lead {
            _ if patch != self.patch_size => None,
            [] if channels == 1 => Some(1),
            [n] if channels == 1 => Some(n),
            [c] if c == channels => Some(1),
            [n, c] if c == channels => Some(n),
            _ => None,
        }
    }

    fn add_typed<T: Voxel + Element>(
        &self,
        dtype: PatchDtype,
        patches: &Bound<'_, PyUntypedArray>,
        starts: &[[i64; 3]],
    ) -> PyResult<()> {
        let borrowed =
            || unsupported("patches: the array is being written to", "add it once that is done");
        let array = patches.cast::<PyArrayDyn<T>>()?.try_readonly().map_err(|_| borrowed())?;
        let bytes = bytemuck::cast_slice(array.as_slice()?);
        let add = || self.call(|aggregator| aggregator.add(dtype, bytes, starts));
        patches.py().detach(add).map_err(raise)?;
        self.warn_of_nan(patches.py())
    }

    fn put_typed<T: Voxel + Element>(
        &self,
        voxels: &Bound<'_, PyUntypedArray>,
        region: &Region,
    ) -> PyResult<()> {
        let borrowed =
            || unsupported("voxels: the array is being written to", "put it once that is done");
        let array = voxels.cast::<PyArrayDyn<T>>()?.try_readonly().map_err(|_| borrowed())?;
        let bytes = bytemuck::cast_slice(array.as_slice()?);
        let put = || self.call(|aggregator| aggregator.put(region, bytes));
        voxels.py().detach(put).map_err(raise)
    }

    /// Calls the aggregator, and drops it if it cannot be completed any more.
    fn call(
        &self,
        call: impl FnOnce(&dyn AnyAggregator) -> voxquarry::Result<()>,
    ) -> voxquarry::Result<()> {
        let (called, has_failed) =
            self.with(|aggregator| (call(aggregator), aggregator.has_failed()))?;
        if has_failed {
            self.end(AggregatorState::Failed);
        }
        called
    }

    /// Says once where the first NaN is.
    fn warn_of_nan(&self, py: Python<'_>) -> PyResult<()> {
        let found = py.detach(|| self.with(|aggregator| aggregator.first_nan())).map_err(raise)?;
        let Some(NanPlace { start, index, channel }) = found else { return Ok(()) };
        if self.has_warned.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let message = format!(
            "the patch that begins at {start:?} (z, y, x) has NaN at {index:?} of channel \
             {channel}; it is kept, as others may be (nonfinite=\"keep\" is silent, \"error\" \
             refuses)"
        );
        let warnings = py.import("warnings")?;
        warnings.call_method1("warn", (message, py.get_type::<PyRuntimeWarning>(), 2))?;
        Ok(())
    }
}

/// The aggregator of an array, of the volume at a path, or of a part of it.
fn aggregator_of(
    grid: Grid,
    options: &AggregateOptions,
    dtype: Dtype,
    (out, affine): (Option<&Path>, Affine),
    (part, threads): (Option<Part>, Option<usize>),
) -> voxquarry::Result<Box<dyn AnyAggregator>> {
    let Some(out) = out else {
        return with_voxel!(dtype, T => {
            Ok(Box::new(voxquarry::Aggregator::<ArraySink<T>>::to_array(grid, options)?))
        });
    };
    let (store, place) = split(out)?;
    let store = StoreWriter::open(store, threads)?;
    Ok(match part {
        None => {
            let whole =
                voxquarry::Aggregator::to_store(grid, options, dtype, &store, place, affine);
            Box::new(whole?)
        }
        Some(part) => Box::new(voxquarry::Aggregator::to_part(
            grid, options, dtype, &store, place, affine, part,
        )?),
    })
}

impl AggregatorState {
    fn aggregator(&self) -> voxquarry::Result<&dyn AnyAggregator> {
        match self {
            Self::Running(aggregator) => Ok(&**aggregator),
            Self::Finished => {
                Err(voxquarry::Error::unsupported("the aggregator is finished", "create another"))
            }
            Self::Closed => {
                Err(voxquarry::Error::unsupported("the aggregator is closed", "create another"))
            }
            Self::Failed => {
                let gone =
                    std::io::Error::other("an earlier patch could not be stored: create another");
                Err(voxquarry::Error::io("aggregator", "has failed")(gone))
            }
        }
    }
}

/// Converts patches to a C-contiguous array in the machine's byte order, without a copy if they are
/// one. Also returns whether the elements are bfloat16; these are given as 16-bit integers.
fn native<'py>(patches: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyUntypedArray>, bool)> {
    let py = patches.py();
    let numpy = py.import("numpy")?;
    // A tensor has to be detached from its graph, and numpy has no bfloat16. Only methods of the
    // tensor are called, so torch is imported only if the caller uses it.
    let tensor =
        if patches.hasattr("detach")? { &patches.call_method0("detach")? } else { patches };
    let name = |of: &Bound<'py, PyAny>| of.getattr("dtype").and_then(|dtype| dtype.str());
    if name(tensor).is_ok_and(|name| name == "torch.bfloat16") {
        let torch = py.import("torch")?;
        let bits = tensor.call_method1("view", (torch.getattr("uint16")?,))?;
        let bits = numpy.call_method1("ascontiguousarray", (bits,))?;
        return Ok((bits.cast_into::<PyUntypedArray>()?, true));
    }
    let array = numpy.call_method1("asarray", (tensor,))?;
    if name(&array).is_ok_and(|name| name == "bfloat16") {
        let bits = numpy.call_method1("ascontiguousarray", (array,))?;
        let bits = bits.call_method1("view", ("uint16",))?;
        return Ok((bits.cast_into::<PyUntypedArray>()?, true));
    }
    if name(&array).is_ok_and(|name| name == "bool") {
        let bytes = numpy.call_method1("ascontiguousarray", (array,))?;
        let bytes = bytes.call_method1("view", ("uint8",))?;
        return Ok((bytes.cast_into::<PyUntypedArray>()?, false));
    }
    let native = array.getattr("dtype")?.call_method1("newbyteorder", ("=",))?;
    let array = numpy.call_method1("ascontiguousarray", (array, native))?;
    Ok((array.cast_into::<PyUntypedArray>()?, false))
}
