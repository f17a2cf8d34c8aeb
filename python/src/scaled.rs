//! `ScaledVolume`, which reads real values.

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use voxquarry::Dtype;

use crate::arguments::{dtype, start};
use crate::errors::invalid;
use crate::volume::Volume;
use crate::voxels::{Reader, RealDtype, Values};

/// A volume whose reads give real values, stored value × ``slope`` + ``intercept``.
///
/// ``Volume.scaled`` makes it. Values are computed in double precision and rounded once, to
/// float32, or to float64 for a volume that stores float64.
///
/// Args:
///     volume: What is read.
///     dtype: float32 or float64; ``None`` chooses as above.
///
/// Raises:
///     UsageError: Another dtype.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct ScaledVolume {
    volume: Py<Volume>,
    dtype: RealDtype,
}

#[pymethods]
impl ScaledVolume {
    #[new]
    #[pyo3(signature = (volume, dtype=None))]
    fn new(volume: &Bound<'_, Volume>, dtype: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Ok(Self::of(volume, dtype.map(real_dtype).transpose()?))
    }

    /// The volume that is read.
    #[getter]
    fn volume(&self, py: Python<'_>) -> Py<Volume> {
        self.volume.clone_ref(py)
    }

    /// Extents as numpy shows them: ``(z, y, x)`` or ``(c, z, y, x)``.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.reader().volume.shape())
    }

    /// 16 hexadecimal digits that depend on all voxels and metadata of the volume: volumes of
    /// different content have different ones.
    #[getter]
    fn content_id(&self) -> String {
        format!("{:016x}", self.reader().volume.content_id())
    }

    /// Whether it is of a store behind a URL.
    #[getter]
    fn is_remote(&self) -> bool {
        self.reader().volume.is_remote()
    }

    /// Number of axes, 3 or 4.
    #[getter]
    fn ndim(&self) -> usize {
        self.reader().volume.shape().len()
    }

    /// Element type of what is read, a ``numpy.dtype``.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("numpy")?.call_method1("dtype", (self.dtype.dtype().name(),))
    }

    /// The same volume, read as float32 or float64.
    fn astype(&self, py: Python<'_>, dtype: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(self.volume.bind(py), Some(dtype))
    }

    /// Reads one patch, as ``Volume.read``; a number as ``padding`` is a real value.
    #[pyo3(signature = (start, size, out=None, padding=None, channels=None))]
    fn read<'py>(
        &self,
        #[pyo3(from_py_with = start)] start: [i64; 3],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        channels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.reader().patch(start, size, out, padding, channels)
    }

    /// Reads several patches, as ``Volume.read_batch``; a number as ``padding`` is a real value.
    #[pyo3(signature = (starts, size, out=None, padding=None, channels=None))]
    fn read_batch<'py>(
        &self,
        starts: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        channels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.reader().batch(starts, size, out, padding, channels)
    }

    /// Begins to read the chunks of patches, as ``Volume.read_ahead``.
    #[pyo3(signature = (starts, size, channels=None))]
    fn read_ahead(
        &self,
        starts: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        channels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.reader().ahead(starts, size, channels)
    }

    /// numpy basic indexing, as for ``Volume``.
    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.reader().index(index)
    }

    fn __len__(&self) -> usize {
        self.reader().volume.shape()[0]
    }

    /// The whole volume as an array, for numpy functions and volumes that fit into memory.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Where float64 is asked for, nothing is rounded to float32 on the way.
        let real = dtype.and_then(|dtype| real_dtype(dtype).ok()).unwrap_or(self.dtype);
        Reader { values: Values::Real(real), ..self.reader() }.array(py, dtype, copy)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (Py<Volume>, &'static str)) {
        let this = slf.get();
        (slf.get_type(), (this.volume(slf.py()), this.dtype.dtype().name()))
    }

    fn __repr__(&self) -> String {
        self.reader().describe("ScaledVolume")
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("voxquarry._html")?.call_method1("volume", (slf.get().volume(slf.py()),))
    }
}

impl ScaledVolume {
    /// A volume as real values of a type, or of the type that suits what is stored.
    pub(crate) fn of(volume: &Bound<'_, Volume>, dtype: Option<RealDtype>) -> Self {
        let dtype = dtype.unwrap_or_else(|| RealDtype::of(volume.get().0.dtype()));
        Self { volume: volume.clone().unbind(), dtype }
    }

    /// The volume in the library.
    pub(crate) fn stored(&self) -> &voxquarry::Volume {
        &self.volume.get().0
    }

    fn reader(&self) -> Reader<'_> {
        Reader { volume: self.stored(), values: Values::Real(self.dtype) }
    }
}

fn real_dtype(value: &Bound<'_, PyAny>) -> PyResult<RealDtype> {
    match dtype(value) {
        Ok(Dtype::Float32) => Ok(RealDtype::Float32),
        Ok(Dtype::Float64) => Ok(RealDtype::Float64),
        _ => Err(invalid("dtype", value, "float32 or float64")),
    }
}
