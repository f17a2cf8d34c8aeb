//! `ResampledVolume`: a volume at another spacing or orientation.

use numpy::PyArray2;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use voxquarry::format::attributes::Kind;
use voxquarry::{Dtype, Order, Orientation, with_voxel};

use crate::arguments::{padding, size3, start, starts};
use crate::errors::{READ_LESS, invalid, raise, raise_short};
use crate::resample::order;
use crate::voxels::{Target, fill};

/// A volume as it would be at another spacing or orientation; nothing is stored.
///
/// ``Volume.at`` makes it. Axes are exchanged, mirrored and scaled, never turned; the outer faces
/// at the begin of each axis stay in place. Images are read as float32, real values, and labels in
/// their own type; ``docs/resampling.md`` defines the values.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct ResampledVolume {
    view: voxquarry::ResampledVolume,
    /// The `Volume` in Python.
    volume: Py<PyAny>,
    asked: (Option<[f64; 3]>, Option<String>),
}

impl ResampledVolume {
    pub(crate) fn new(
        (volume, of): (&voxquarry::Volume, Py<PyAny>),
        spacing: Option<&Bound<'_, PyAny>>,
        orientation: Option<String>,
    ) -> PyResult<Self> {
        let spacing = spacing.map(spacing_of).transpose()?;
        let parsed = orientation.as_deref().map(str::parse::<Orientation>).transpose();
        let view = volume.at(spacing, parsed.map_err(raise)?).map_err(raise)?;
        Ok(Self { view, volume: of, asked: (spacing, orientation) })
    }

    fn element(&self) -> PyResult<Dtype> {
        self.view.volume().affine_dtype(None).map_err(raise)
    }

    /// The order of interpolation that is asked for, or the default.
    fn order(&self, asked: Option<&Bound<'_, PyAny>>) -> PyResult<Order> {
        let are_labels = self.view.volume().kind() == Kind::Labels;
        let default = if are_labels { Order::Nearest } else { Order::Linear };
        Ok(asked.map(order).transpose()?.unwrap_or(default))
    }

    fn read_patches<'py>(
        &self,
        starts: &[[i64; 3]],
        lead: &[usize],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        pad: Option<&Bound<'py, PyAny>>,
        by: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, volume, dtype) = (size.py(), self.view.volume(), self.element()?);
        let (size, padding) = (size3(size, "size")?, padding(pad)?);
        let order = self.order(by)?;
        // Fails before an array of impossible size is made.
        volume.voxels_in(size, starts.len()).map_err(raise_short(READ_LESS))?;
        let shape = lead.iter().copied().chain(volume.channels()).chain(size).collect();
        with_voxel!(dtype, T => {
            fill::<T>(py, &Target { shape, dtype, remedy: READ_LESS }, out, |voxels| {
                self.view.read_batch_into(starts, size, order, padding, voxels)
            })
        })
    }
}

#[pymethods]
impl ResampledVolume {
    /// The volume that is read.
    #[getter]
    fn volume(&self, py: Python<'_>) -> Py<PyAny> {
        self.volume.clone_ref(py)
    }

    /// Whether it is of a store behind a URL.
    #[getter]
    fn is_remote(&self) -> bool {
        self.view.volume().is_remote()
    }

    /// Its name in the subject.
    #[getter]
    fn name(&self) -> &str {
        self.view.volume().name()
    }

    /// ``"image"`` or ``"labels"``.
    #[getter]
    fn kind(&self) -> &'static str {
        self.view.volume().kind().name()
    }

    /// Extents as numpy shows them: ``(z, y, x)`` or ``(c, z, y, x)``.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.view.shape())
    }

    /// Element type of what is read, a ``numpy.dtype``.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("numpy")?.call_method1("dtype", (self.element()?.name(),))
    }

    /// The unit of ``affine`` and ``spacing``, the volume's.
    #[getter]
    fn unit(&self) -> &'static str {
        self.view.volume().unit().name()
    }

    /// Distances between voxels along ``(z, y, x)``, in ``unit``.
    #[getter]
    fn spacing(&self) -> (f64, f64, f64) {
        let [z, y, x] = self.view.affine().spacing_mm();
        (z, y, x)
    }

    /// ``(4, 4)`` float64: voxel index ``(x, y, z, 1)`` to RAS+ positions in ``unit``.
    #[getter]
    fn affine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let rows: Vec<Vec<f64>> = self.view.affine().0.iter().map(|row| row.to_vec()).collect();
        Ok(PyArray2::from_vec2(py, &rows)?)
    }

    /// Reads the patch of ``size`` that begins at ``start``.
    ///
    /// Args:
    ///     start: First voxel, ``(z, y, x)``; may be negative where a padding is given.
    ///     size: An int for a cube, or ``(z, y, x)``.
    ///     out: C-contiguous array of ``dtype`` and the result's shape; it is filled and returned.
    ///     padding: What lies outside: ``None`` (an error), a number, ``"edge"`` or ``"reflect"``.
    ///     order: As for ``Volume.read_affine``; ``None`` is 1 for images and 0 for labels.
    ///
    /// Returns:
    ///     ``(z, y, x)`` or ``(c, z, y, x)`` voxels.
    ///
    /// Raises:
    ///     UsageError: An argument with a value that is not accepted; ``out`` is untouched.
    ///     DataError: Damaged chunks.
    #[pyo3(signature = (start, size, out=None, padding=None, order=None))]
    fn read<'py>(
        &self,
        #[pyo3(from_py_with = start)] start: [i64; 3],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        order: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.read_patches(&[start], &[], size, out, padding, order)
    }

    /// Reads one patch of ``size`` for each of ``starts``, ``(n, 3)``; else as ``read``.
    ///
    /// Returns:
    ///     ``(n, z, y, x)`` or ``(n, c, z, y, x)`` voxels.
    #[pyo3(signature = (starts, size, out=None, padding=None, order=None))]
    fn read_batch<'py>(
        &self,
        starts: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        order: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let starts = self::starts(starts)?;
        self.read_patches(&starts, &[starts.len()], size, out, padding, order)
    }

    /// Begins to read the chunks of patches, as ``Volume.read_ahead``.
    #[pyo3(signature = (starts, size, order=None))]
    fn read_ahead(
        &self,
        starts: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        order: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, starts, size) = (size.py(), self::starts(starts)?, size3(size, "size")?);
        let order = self.order(order)?;
        py.detach(|| self.view.read_ahead(&starts, size, order)).map_err(raise)
    }

    fn __len__(&self) -> usize {
        self.view.shape()[0]
    }

    #[allow(clippy::type_complexity)]
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, (Py<PyAny>, Option<[f64; 3]>, Option<String>))> {
        let (spacing, orientation) = self.asked.clone();
        let at = py.import("voxquarry._resampled")?.getattr("at")?;
        Ok((at, (self.volume(py), spacing, orientation)))
    }

    fn __repr__(&self) -> PyResult<String> {
        let (name, kind, shape) = (self.name(), self.kind(), self.view.shape());
        let [z, y, x] = self.view.affine().spacing_mm();
        let dtype = self.element()?;
        let axes = Orientation::of(self.view.affine());
        Ok(format!(
            "<voxquarry.ResampledVolume {name:?} ({kind}): {shape:?} {dtype}, spacing \
             ({z}, {y}, {x}), {axes}>"
        ))
    }
}

/// A number, or three for `(z, y, x)`.
pub(crate) fn spacing_of(value: &Bound<'_, PyAny>) -> PyResult<[f64; 3]> {
    if let Ok(spacing) = value.extract::<f64>() {
        return Ok([spacing; 3]);
    }
    let three = || {
        let listed = value.py().import("numpy")?.call_method1("asarray", (value, "float64"))?;
        listed.call_method0("tolist")?.extract::<[f64; 3]>()
    };
    three().map_err(|_| invalid("spacing", value, "a number, or three for (z, y, x)"))
}
