//! Reads voxels into numpy arrays: new ones, or the caller's `out`.

use numpy::{Element, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyEllipsis, PyTuple};
use voxquarry::{Channels, Dtype, Padding, RealVoxel, Result, Size3, Volume, Voxel, with_voxel};

use crate::arguments::{channels, padding, size3, starts};
use crate::errors::{READ_LESS, allocation, invalid, raise, raise_short, unsupported};
use crate::index::{Axis, basic_index};

/// What the elements of an array are.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Values {
    /// Voxels as they are stored.
    Stored,
    /// Stored value × slope + intercept, as float32 or float64.
    Real(RealDtype),
}

/// The types of real values.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum RealDtype {
    Float32,
    Float64,
}

impl RealDtype {
    /// The type that has room for the real values of a volume of `stored` voxels.
    pub(crate) fn of(stored: Dtype) -> Self {
        if stored.real() == Dtype::Float64 { Self::Float64 } else { Self::Float32 }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::Float32 => Dtype::Float32,
            Self::Float64 => Dtype::Float64,
        }
    }
}

/// Reads from one volume in one kind of values.
pub(crate) struct Reader<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) values: Values,
}

/// A read whose arguments have been checked.
struct Request<'a> {
    starts: &'a [[i64; 3]],
    size: Size3,
    padding: Padding,
    channels: Channels,
    /// Shape of the resulting array; its product is what is read.
    shape: Vec<usize>,
}

impl Reader<'_> {
    /// What `repr` shows of it.
    pub(crate) fn describe(&self, class: &str) -> String {
        let (volume, dtype) = (self.volume, self.dtype());
        let (name, kind, shape) = (volume.name(), volume.kind().name(), volume.shape());
        format!("<voxquarry.{class} {name:?} ({kind}): {shape:?} {dtype}>")
    }

    /// The dtype of the arrays that are read.
    pub(crate) fn dtype(&self) -> Dtype {
        match self.values {
            Values::Stored => self.volume.dtype(),
            Values::Real(real) => real.dtype(),
        }
    }

    /// Reads one patch, `([c,] z, y, x)`.
    pub(crate) fn patch<'py>(
        &self,
        start: [i64; 3],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        channels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.patches(&[start], &[], size, out, padding, channels)
    }

    /// Reads a patch for each of several starts, `(n, [c,] z, y, x)`.
    pub(crate) fn batch<'py>(
        &self,
        starts: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        channels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let starts = self::starts(starts)?;
        self.patches(&starts, &[starts.len()], size, out, padding, channels)
    }

    /// Begins to read the chunks of patches; does not wait for them.
    pub(crate) fn ahead(
        &self,
        starts: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        chosen: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, starts, size) = (size.py(), self::starts(starts)?, size3(size, "size")?);
        let channels = self.channels(chosen.map(channels).transpose()?);
        py.detach(|| self.volume.read_ahead(&starts, size, channels)).map_err(raise)
    }

    /// Some channels, or all.
    fn channels(&self, chosen: Option<Channels>) -> Channels {
        chosen.unwrap_or_else(|| Channels::from(0..self.volume.layout().channel_count()))
    }

    fn patches<'py>(
        &self,
        starts: &[[i64; 3]],
        lead: &[usize],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        pad: Option<&Bound<'py, PyAny>>,
        chosen: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = size.py();
        let (size, padding) = (size3(size, "size")?, padding(pad)?);
        let chosen = chosen.map(channels).transpose()?;
        let axis = chosen.as_ref().map_or(self.volume.channels(), |chosen| Some(chosen.len()));
        let shape = lead.iter().copied().chain(axis).chain(size).collect();
        let channels = self.channels(chosen);
        self.read(py, &Request { starts, size, padding, channels, shape }, out)
    }

    /// Reads what a basic index asks for, and no more.
    pub(crate) fn index<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        let axes = basic_index(index, &self.volume.shape())?;
        let left: Vec<usize> = axes.iter().filter(|a| !a.dropped).map(Axis::len).collect();
        if left.contains(&0) {
            let numpy = py.import("numpy")?;
            return numpy.call_method1("zeros", (PyTuple::new(py, left)?, self.dtype().name()));
        }
        // Reads the box that the index spans, then lets numpy take steps and drop axes.
        let spatial = &axes[axes.len() - 3..];
        let start = [0, 1, 2].map(|a| spatial[a].low() as i64);
        let size = [0, 1, 2].map(|a| spatial[a].span());
        let channels =
            axes.first().filter(|_| axes.len() == 4).map_or(0..1, |c| c.low()..c.low() + c.span());
        let channels = Channels::from(channels);
        let shape = axes.iter().map(Axis::span).collect();
        let request = Request { starts: &[start], size, padding: Padding::None, channels, shape };
        let voxels = self.read(py, &request, None)?;
        if axes.iter().all(|a| !a.dropped && a.step == 1) {
            return Ok(voxels);
        }
        let local = axes.iter().map(|axis| axis.local(py)).collect::<PyResult<Vec<_>>>()?;
        let view = voxels.get_item(PyTuple::new(py, local)?)?;
        // A copy, so that a few strided voxels do not keep the whole box alive.
        if axes.iter().any(|a| a.step != 1) { view.call_method0("copy") } else { Ok(view) }
    }

    /// Reads the whole volume, for `__array__`.
    pub(crate) fn array<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            return Err(unsupported(
                "copy=False: a volume becomes an array by being read",
                "pass copy=None or copy=True",
            ));
        }
        let voxels = self.index(PyEllipsis::get(py).as_any())?;
        let Some(dtype) = dtype else { return Ok(voxels) };
        let keywords = PyDict::new(py);
        keywords.set_item("copy", false)?;
        voxels.call_method("astype", (dtype,), Some(&keywords))
    }

    /// Reads into `out`, or a new array, with the GIL released.
    fn read<'py>(
        &self,
        py: Python<'py>,
        request: &Request<'_>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let volume = self.volume;
        // Fails before an array of impossible size is made.
        voxels_in(volume, request).map_err(raise_short(READ_LESS))?;
        let (shape, dtype) = (request.shape.clone(), self.dtype());
        let target = Target { shape, dtype, remedy: READ_LESS };
        let is_stored = volume.slope_intercept() == (1.0, 0.0) && volume.dtype() == self.dtype();
        match self.values {
            Values::Real(RealDtype::Float32) if !is_stored => {
                fill::<f32>(py, &target, out, |real| read_real(volume, request, real))
            }
            Values::Real(RealDtype::Float64) if !is_stored => {
                fill::<f64>(py, &target, out, |real| read_real(volume, request, real))
            }
            _ => with_voxel!(volume.dtype(), T => fill::<T>(py, &target, out, |voxels| {
                let Request { starts, size, padding, channels, .. } = request;
                let bytes = bytemuck::cast_slice_mut(voxels);
                volume.read_bytes(starts, *size, *padding, channels, bytes)
            })),
        }
    }
}

/// The shape and the type of the array that a read fills.
pub(crate) struct Target {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    /// What to do where there is no memory for it.
    pub(crate) remedy: &'static str,
}

/// Reads into `out`, or a new array, with the GIL released.
pub(crate) fn fill<'py, T: Voxel + Element>(
    py: Python<'py>,
    target: &Target,
    out: Option<&Bound<'py, PyAny>>,
    read: impl FnOnce(&mut [T]) -> Result<()> + Send,
) -> PyResult<Bound<'py, PyAny>> {
    let array: Bound<'py, PyArrayDyn<T>> = match out {
        Some(out) => out.cast::<PyArrayDyn<T>>().map_err(|_| target.refuse(out))?.clone(),
        None => zeros(py, target)?,
    };
    if array.shape() != target.shape || !array.is_c_contiguous() {
        return Err(target.refuse(array.as_any()));
    }
    let mut writable = array.try_readwrite().map_err(|_| {
        unsupported("out is read-only, or borrowed elsewhere", "give an array of your own")
    })?;
    let voxels = writable.as_slice_mut().map_err(|_| target.refuse(array.as_any()))?;
    py.detach(|| read(voxels)).map_err(raise_short(target.remedy))?;
    drop(writable);
    Ok(array.into_any())
}

impl Target {
    /// The error of an `out` that is something else.
    fn refuse(&self, out: &Bound<'_, PyAny>) -> PyErr {
        let found = match out.cast::<PyUntypedArray>() {
            Ok(array) => {
                let order = if array.is_c_contiguous() { "" } else { ", not C-contiguous" };
                format!("{} of shape {:?}{order}", array.dtype(), array.shape())
            }
            Err(_) => format!("a {}", out.get_type()),
        };
        let expected = format!("a C-contiguous {} of shape {:?}", self.dtype, self.shape);
        invalid("out", format!("is {found}"), expected)
    }
}

/// A new array; `MemoryError` where there is no room for a large one.
fn zeros<'py, T: Voxel + Element>(
    py: Python<'py>,
    target: &Target,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    /// The crate's own constructor panics where memory is short; numpy's costs a call of Python.
    const LARGE_BYTES: usize = 1 << 24;
    let shape = &target.shape;
    if shape.iter().product::<usize>() * size_of::<T>() < LARGE_BYTES {
        return Ok(PyArrayDyn::zeros(py, shape.clone(), false));
    }
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("zeros", (PyTuple::new(py, shape)?, T::DTYPE.name()));
    Ok(array
        .map_err(|raised| allocation(py, raised, target.remedy))?
        .cast_into::<PyArrayDyn<T>>()?)
}

fn read_real<F: RealVoxel>(volume: &Volume, request: &Request<'_>, real: &mut [F]) -> Result<()> {
    let Request { starts, size, padding, channels, .. } = request;
    volume.read_real_into(starts, *size, *padding, channels, real)
}

/// Checks that what is read can be counted and addressed.
fn voxels_in(volume: &Volume, request: &Request<'_>) -> Result<()> {
    let Request { starts, size, channels, .. } = request;
    let factors = [channels.len(), starts.len(), size_of::<f64>()];
    let bytes = size.iter().copied().chain(factors).try_fold(1usize, usize::checked_mul);
    if bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        return Ok(());
    }
    volume.voxels_in(*size, starts.len()).map(|_| ())
}
