//! `Aggregator`: patches of predictions come in, one array or volume comes out.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use numpy::ndarray::{Array4, Axis};
use numpy::{Element, PyArray, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use voxquarry::aggregate::{AggregateOptions, Sink};
use voxquarry::store::StoreWriter;
use voxquarry::{Dtype, Size3, Voxel, Window, with_voxel};

use crate::arguments::{bytes, dtype, start, starts};
use crate::dataset::open_volume;
use crate::errors::{raise, usage};
use crate::sample::{GridSampler, space_of};

/// Blends the overlapping patches of a grid into one array, or a volume of a store.
///
/// Patches come in any order, from any thread; each patch of the grid counts once. In the grid's own order memory is one layer
/// of patches.
///
/// A constant in is the same constant out, bit for bit, for integers of up to 32 bits, float16 and float32, with ±0, ±inf and
/// subnormals. NaN comes out as a NaN, perhaps with other bits. Sums are float64, so the last bits of float64, and of 64-bit
/// integers above 2**44, may differ, by about as many units in the last place as patches overlap; 64-bit integers above 2**53
/// are rounded first, and float64 near its largest may overflow. A window of your own has to keep its weights, with their
/// products and sums, in the normal range of float64. ``"crop"`` has no sums: of the same dtype, every voxel is copied.
///
/// Args:
///     grid: The sampler whose patches will come.
///     subject: What the grid is laid over: a subject, a volume, or extents ``(z, y, x)``.
///     channels: Channels of every patch; ``None`` if the result has no such axis.
///     dtype: Of the result; integers are rounded half to even and saturate.
///     window: Weights of a patch's voxels. ``"hann"``, ``"average"``, ``"crop"`` (one patch a voxel: TorchIO's three),
///         ``"gaussian"`` (MONAI's), ``"gaussian-nnunet"``, or three arrays of positive weights, one for each axis
///         ``(z, y, x)``, whose product is the window.
///     out: ``"STORE/SUBJECT/VOLUME"`` to write a volume that never lies in memory whole; ``None`` for an array. The store and
///         the subject are made if they are not there; nothing is visible before ``finish``.
///     memory_bytes: For unfinished voxels, an int or a string such as ``"1GiB"``; beyond it a scratch file is used. An array
///         that is the result is not counted.
///     finish: What happens to blended voxels before they are stored; ``"none"`` is all there is.
///     threads: Threads that blend and encode; all cores by default.
///
/// Raises:
///     UsageError: Arguments that cannot be; ``"crop"`` of an odd overlap; a volume that is there.
///     StorageError: The store cannot be written.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Aggregator {
    /// Gone once finished.
    engine: RwLock<Option<Box<dyn Engine>>>,
    patch_size: Size3,
    size: Size3,
    channels: Option<usize>,
    dtype: Dtype,
}

#[pymethods]
impl Aggregator {
    #[new]
    #[pyo3(
        signature = (grid, subject, channels=Some(1), dtype=None, window=None, out=None, memory_bytes=None, finish="none", threads=None),
        text_signature = "(grid, subject, channels=1, dtype='float32', window='hann', out=None, memory_bytes='1GiB', finish='none', threads=None)"
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
        finish: &str,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        if finish != "none" {
            return Err(usage(format!(
                "finish {finish:?}: only \"none\" is there, take the argmax of the result"
            )));
        }
        if threads == Some(0) {
            return Err(usage("threads 0: expected None or at least 1"));
        }
        let mut options = AggregateOptions { channels, threads, ..AggregateOptions::default() };
        if let Some(window) = window {
            options.window = self::window(window)?;
        }
        if let Some(value) = memory_bytes {
            options.memory_bytes = bytes(value, "memory_bytes")?;
        }
        let dtype = dtype.map_or(Ok(Dtype::Float32), self::dtype)?;
        let (size, affine) = space_of(subject)?;
        let (grid, patch_size) = (&grid.0, grid.0.patch_size());
        let engine = || -> voxquarry::Result<Box<dyn Engine>> {
            let grid = grid.grid(size)?;
            let Some(out) = &out else {
                return with_voxel!(dtype, T => {
                    Ok(Box::new(voxquarry::Aggregator::<voxquarry::aggregate::ArraySink<T>>::to_array(grid, &options)?))
                });
            };
            let (store, place) = split(out)?;
            let store = StoreWriter::open(store, threads)?;
            let engine =
                voxquarry::Aggregator::to_store(grid, &options, dtype, &store, place, affine)?;
            Ok(Box::new(engine))
        };
        let engine = RwLock::new(Some(py.detach(engine).map_err(raise)?));
        Ok(Self { engine, patch_size, size, channels, dtype })
    }

    /// Adds patches.
    ///
    /// Args:
    ///     patches: ``(n, c, z, y, x)`` voxels, or ``(c, z, y, x)`` for one patch; the axis ``c`` may be left out where there
    ///         is one channel. Any dtype of a volume; numpy arrays and CPU tensors, which are read in place where they are
    ///         C-contiguous.
    ///     starts: Where they begin: ``(n, 3)`` integers, ``(z, y, x)``, as the grid gave them, or one of them for one patch.
    ///
    /// Raises:
    ///     UsageError: Another shape or dtype, a start off the grid, a patch that was added before, or after ``finish``:
    ///         nothing is added.
    ///     StorageError: The disk; the aggregator is of no use afterwards.
    fn add(&self, patches: &Bound<'_, PyAny>, starts: &Bound<'_, PyAny>) -> PyResult<()> {
        let patches = native(patches)?;
        let starts = match start(starts) {
            Ok(one) => vec![one],
            Err(_) => self::starts(starts)?,
        };
        let count = self.patches_in(patches.shape());
        if count != Some(starts.len()) {
            let [z, y, x] = self.patch_size;
            let c = self.channels.unwrap_or(1);
            return Err(usage(format!(
                "patches of shape {:?} for {} starts: expected ({}, {c}, {z}, {y}, {x})",
                patches.shape(),
                starts.len(),
                starts.len()
            )));
        }
        with_voxel!(dtype(patches.dtype().as_any())?, T => self.add_typed::<T>(&patches, &starts))
    }

    /// How many patches are still awaited.
    #[getter]
    fn missing(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.with(|engine| engine.missing())).map_err(raise)
    }

    /// Whether the patch that begins at ``start``, ``(z, y, x)``, was added.
    fn has(&self, py: Python<'_>, #[pyo3(from_py_with = start)] start: [i64; 3]) -> PyResult<bool> {
        py.detach(|| self.with(|engine| engine.has(start))).map_err(raise)
    }

    /// The result; the aggregator is empty afterwards.
    ///
    /// Returns:
    ///     A ``(c, z, y, x)`` array, ``(z, y, x)`` for ``channels=None``; or the volume at ``out``.
    ///
    /// Raises:
    ///     UsageError: Patches are missing (they can still be added), or it was finished before.
    ///     StorageError: The volume could not be published.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let take = || {
            let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
            engine.as_ref().ok_or_else(finished)?.check_complete()?;
            engine.take().ok_or_else(finished)
        };
        py.detach(take).map_err(raise)?.finish(py, self.channels.is_some())
    }

    /// Extents of the result, ``(z, y, x)`` or ``(c, z, y, x)``.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.channels.into_iter().chain(self.size).collect::<Vec<_>>())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = match py.detach(|| self.with(|engine| engine.missing())) {
            Ok(missing) => format!("{missing} patches missing"),
            Err(_) => "finished".to_owned(),
        };
        let shape: Vec<usize> = self.channels.into_iter().chain(self.size).collect();
        format!("<voxquarry.Aggregator: {shape:?} {}, {state}>", self.dtype)
    }
}

impl Aggregator {
    /// Calls the engine; others may too, but none finishes it meanwhile. Not for holders of the GIL.
    fn with<R>(&self, call: impl FnOnce(&dyn Engine) -> R) -> voxquarry::Result<R> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        engine.as_deref().map(call).ok_or_else(finished)
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
        patches: &Bound<'_, PyUntypedArray>,
        starts: &[[i64; 3]],
    ) -> PyResult<()> {
        let borrowed = || usage("patches: the array is being written to elsewhere");
        let array = patches.cast::<PyArrayDyn<T>>()?.try_readonly().map_err(|_| borrowed())?;
        let bytes = bytemuck::cast_slice(array.as_slice()?);
        patches
            .py()
            .detach(|| self.with(|engine| engine.add(T::DTYPE, bytes, starts)))
            .and_then(|added| added)
            .map_err(raise)
    }
}

/// The aggregators of Rust behind one face, whatever their dtype and sink.
trait Engine: Send + Sync {
    fn add(&self, dtype: Dtype, patches: &[u8], starts: &[[i64; 3]]) -> voxquarry::Result<()>;
    fn missing(&self) -> usize;
    fn has(&self, start: [i64; 3]) -> bool;
    fn check_complete(&self) -> voxquarry::Result<()>;
    fn finish(self: Box<Self>, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>>;
}

impl<S: Sink<Output: Finished>> Engine for voxquarry::Aggregator<S> {
    fn add(&self, dtype: Dtype, patches: &[u8], starts: &[[i64; 3]]) -> voxquarry::Result<()> {
        self.add_bytes(dtype, patches, starts)
    }

    fn missing(&self) -> usize {
        voxquarry::Aggregator::missing(self)
    }

    fn has(&self, start: [i64; 3]) -> bool {
        voxquarry::Aggregator::has(self, start)
    }

    fn check_complete(&self) -> voxquarry::Result<()> {
        voxquarry::Aggregator::check_complete(self)
    }

    fn finish(self: Box<Self>, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>> {
        py.detach(|| voxquarry::Aggregator::finish(*self)).map_err(raise)?.hand_over(py, channels)
    }
}

/// A result on its way to Python.
trait Finished: Send {
    fn hand_over(self, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>>;
}

impl<T: Voxel + Element> Finished for Array4<T> {
    /// The array becomes numpy's without a copy.
    fn hand_over(self, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>> {
        Ok(if channels {
            PyArray::from_owned_array(py, self).into_any()
        } else {
            PyArray::from_owned_array(py, self.index_axis_move(Axis(0), 0)).into_any()
        })
    }
}

impl Finished for voxquarry::Volume {
    fn hand_over(self, py: Python<'_>, _: bool) -> PyResult<Bound<'_, PyAny>> {
        let (store, place) = split(self.path()).map_err(raise)?;
        open_volume(py, store, place)
    }
}

fn finished() -> voxquarry::Error {
    voxquarry::Error::usage("the aggregator is finished: make another")
}

/// A name, or three arrays of weights.
fn window(value: &Bound<'_, PyAny>) -> PyResult<Window> {
    if let Ok(name) = value.extract::<String>() {
        return Window::from_name(&name).map_err(raise);
    }
    value.extract().map(Window::Custom).map_err(|_| {
        usage(format!(
            "window is a {}: expected a name, or three arrays of weights (z, y, x)",
            value.get_type()
        ))
    })
}

/// Store, subject and volume of `STORE/SUBJECT/VOLUME`.
fn split(out: &Path) -> voxquarry::Result<(&Path, (&str, &str))> {
    let parts = || {
        let subject = out.parent()?;
        let store = subject.parent().filter(|store| !store.as_os_str().is_empty())?;
        Some((store, (subject.file_name()?.to_str()?, out.file_name()?.to_str()?)))
    };
    parts().ok_or_else(|| {
        voxquarry::Error::usage(format!(
            "out {:?}: expected \"STORE/SUBJECT/VOLUME\", such as \"pred.zarr/case01/pred\"",
            out.display()
        ))
    })
}

/// As a C-contiguous array in the machine's byte order; a copy only where it is none.
fn native<'py>(patches: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let numpy = patches.py().import("numpy")?;
    let array = numpy.call_method1("asarray", (patches,))?;
    let native = array.getattr("dtype")?.call_method1("newbyteorder", ("=",))?;
    let array = numpy.call_method1("ascontiguousarray", (array, native))?;
    Ok(array.cast_into::<PyUntypedArray>()?)
}
