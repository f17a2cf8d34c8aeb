//! `UniformSampler` and `WeightedSampler`.

use numpy::{PyArray2, PyArray3};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Triple, border, draw, probability_map, quoted};
use crate::arguments::{natural, size3};
use crate::dataset::Subject;
use crate::errors::raise;

/// Draws patches uniformly.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     border: What becomes of patches that would leave the volume. ``"exclude"``: they are never drawn, every start inside
///         is equally likely. ``"clamp"``: every voxel is equally likely to be the centre, ``start + patch_size // 2``, and the
///         patch is moved back into the volume. ``"pad"``: the same, but it may leave the volume; read it with a padding.
///
/// Raises:
///     UsageError: A size below 1, or another border.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct UniformSampler(pub(super) voxquarry::UniformSampler);

#[pymethods]
impl UniformSampler {
    #[new]
    #[pyo3(signature = (patch_size, border="exclude"))]
    fn new(patch_size: &Bound<'_, PyAny>, border: &str) -> PyResult<Self> {
        let size = size3(patch_size, "patch_size")?;
        voxquarry::UniformSampler::new(size, self::border(border)?).map(Self).map_err(raise)
    }

    /// Samples ``first`` to ``first + n`` of a subject.
    ///
    /// A location is a pure function of the seed, the epoch, the subject's name and its number: the same on any number of
    /// threads or machines, in any order.
    ///
    /// Args:
    ///     subject: Whose grid is sampled.
    ///     n: How many.
    ///     seed, epoch: 0 to 2**64 - 1.
    ///     first: Number of the first; a subject has 2**32 in an epoch.
    ///
    /// Returns:
    ///     ``(n, 3)`` int64 starts, ``(z, y, x)``.
    ///
    /// Raises:
    ///     UsageError: A patch that is larger than the volume (but for ``border="pad"``), or samples beyond 2**32.
    #[pyo3(signature = (subject, n, seed=0, epoch=0, first=0))]
    fn locations<'py>(
        &self,
        subject: &Bound<'py, Subject>,
        #[pyo3(from_py_with = natural)] n: u64,
        #[pyo3(from_py_with = natural)] seed: u64,
        #[pyo3(from_py_with = natural)] epoch: u64,
        #[pyo3(from_py_with = natural)] first: u64,
    ) -> PyResult<Bound<'py, PyArray2<i64>>> {
        draw(&self.0.clone().into(), subject, [n, seed, epoch, first])
    }

    /// The probability of every voxel to be the centre of a patch, ``(z, y, x)`` float64: as large as the volume.
    fn probability_map<'py>(
        &self,
        subject: &Bound<'py, Subject>,
    ) -> PyResult<Bound<'py, PyArray3<f64>>> {
        probability_map(&self.0.clone().into(), subject)
    }

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    fn patch_size(&self) -> Triple {
        self.0.patch_size().into()
    }

    /// ``"exclude"``, ``"clamp"`` or ``"pad"``.
    #[getter]
    fn border(&self) -> &'static str {
        self.0.border().name()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (Triple, &'static str)) {
        let this = slf.get();
        (slf.get_type(), (this.patch_size(), this.border()))
    }

    fn __repr__(&self) -> String {
        format!("voxquarry.UniformSampler({:?}, border={:?})", self.patch_size(), self.border())
    }
}

/// Draws patches whose centres, ``start + patch_size // 2``, are drawn by the values of a volume.
///
/// A voxel's probability is its real value (stored value × slope + intercept) over the sum of all voxels that may be centres:
/// the distribution of TorchIO's ``WeightedSampler``. Sums of the volume's chunks choose a chunk, and that one is decoded to
/// choose the voxel: memory grows with the chunks, not the voxels. The sums are made at ingest for ``Weights``, else at first
/// use, and kept beside the volume where the store may be written.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     weights: A volume of the subject; finite, not negative.
///     border: What becomes of patches that would leave the volume. ``"exclude"``: they are never drawn (TorchIO). ``"clamp"``: every voxel
///         may be the centre, ``start + patch_size // 2``, and the patch is moved back into the volume (MONAI). ``"pad"``: the
///         same, but it may leave the volume (nnU-Net); read it with a padding.
///     channel: Which channel of the volume.
///
/// Raises:
///     UsageError: A size below 1, another border.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct WeightedSampler(pub(super) voxquarry::WeightedSampler);

#[pymethods]
impl WeightedSampler {
    #[new]
    #[pyo3(signature = (patch_size, weights, border="exclude", channel=0))]
    fn new(
        patch_size: &Bound<'_, PyAny>,
        weights: &str,
        border: &str,
        #[pyo3(from_py_with = natural)] channel: u64,
    ) -> PyResult<Self> {
        let (size, border) = (size3(patch_size, "patch_size")?, self::border(border)?);
        voxquarry::WeightedSampler::new(size, border, weights, channel as usize)
            .map(Self)
            .map_err(raise)
    }

    /// Samples ``first`` to ``first + n`` of a subject.
    ///
    /// A location is a pure function of the seed, the epoch, the subject's name and its number: the same on any number of
    /// threads or machines, in any order.
    ///
    /// Args:
    ///     subject: Whose grid is sampled.
    ///     n: How many.
    ///     seed, epoch: 0 to 2**64 - 1.
    ///     first: Number of the first; a subject has 2**32 in an epoch.
    ///
    /// Returns:
    ///     ``(n, 3)`` int64 starts, ``(z, y, x)``.
    ///
    /// Raises:
    ///     UsageError: A patch that is larger than the volume (but for ``border="pad"``), or samples beyond 2**32;
    ///         no voxel of a weight above 0 that may be a centre.
    ///     KeyError: No such volume.
    ///     DataError: A weight that is negative or not finite; the message has its index.
    #[pyo3(signature = (subject, n, seed=0, epoch=0, first=0))]
    fn locations<'py>(
        &self,
        subject: &Bound<'py, Subject>,
        #[pyo3(from_py_with = natural)] n: u64,
        #[pyo3(from_py_with = natural)] seed: u64,
        #[pyo3(from_py_with = natural)] epoch: u64,
        #[pyo3(from_py_with = natural)] first: u64,
    ) -> PyResult<Bound<'py, PyArray2<i64>>> {
        draw(&self.0.clone().into(), subject, [n, seed, epoch, first])
    }

    /// The probability of every voxel to be the centre of a patch, ``(z, y, x)`` float64: as large as the volume.
    fn probability_map<'py>(
        &self,
        subject: &Bound<'py, Subject>,
    ) -> PyResult<Bound<'py, PyArray3<f64>>> {
        probability_map(&self.0.clone().into(), subject)
    }

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    fn patch_size(&self) -> Triple {
        self.0.patch_size().into()
    }

    /// ``"exclude"``, ``"clamp"`` or ``"pad"``.
    #[getter]
    fn border(&self) -> &'static str {
        self.0.border().name()
    }

    /// The volume of weights.
    #[getter]
    fn weights(&self) -> &str {
        self.0.weights()
    }

    /// Its channel.
    #[getter]
    fn channel(&self) -> usize {
        self.0.channel()
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> (Bound<'py, PyType>, (Triple, String, &'static str, usize)) {
        let this = slf.get();
        let weights = this.weights().to_owned();
        (slf.get_type(), (this.patch_size(), weights, this.border(), this.channel()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "voxquarry.WeightedSampler({:?}, weights={}, border={:?}, channel={})",
            self.patch_size(),
            quoted(py, self.weights())?,
            self.border(),
            self.channel()
        ))
    }
}
