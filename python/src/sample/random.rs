//! The base class of all random samplers, and the samplers that follow no labels.

use numpy::{PyArray2, PyArray3};
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use voxquarry::{Epoch, OnMissing};

use super::{Triple, border, quoted, starts_array, starts_of};
use crate::arguments::{named, natural, size3};
use crate::dataset::{Dataset, Subject};
use crate::errors::{DRAW_LESS, raise, raise_short};

/// What is done with subjects in which no patch can be drawn.
pub(crate) const ON_MISSING: [(&str, OnMissing); 3] =
    [("error", OnMissing::Error), ("skip", OnMissing::Skip), ("background", OnMissing::Background)];

/// The methods that all random samplers share.
#[pyclass(frozen, subclass, module = "voxquarry", name = "_RandomSampler")]
pub(crate) struct RandomSampler(pub(super) voxquarry::RandomSampler);

impl RandomSampler {
    /// An instance of a subclass.
    pub(super) fn initializer<S: PyClass<BaseType = Self>>(
        sampler: impl Into<voxquarry::RandomSampler>,
        subclass: S,
    ) -> PyClassInitializer<S> {
        PyClassInitializer::from(Self(sampler.into())).add_subclass(subclass)
    }
}

#[pymethods]
impl RandomSampler {
    /// Draws samples ``first`` to ``first + n`` of a subject.
    ///
    /// A location is a pure function of the seed, the epoch, the name of the subject and the number
    /// of the sample: the same on any number of threads or machines, in any order.
    ///
    /// Args:
    ///     subject: The subject to draw from.
    ///     n: The number of samples.
    ///     seed, epoch: 0 to 2**64 - 1.
    ///     first: The number of the first sample; a subject has 2**32 in an epoch.
    ///
    /// Returns:
    ///     ``(n, 3)`` int64 starts, ``(z, y, x)``.
    ///
    /// Raises:
    ///     UsageError: A patch that is larger than the volume (except with ``border="pad"``),
    ///         samples beyond 2**32, a volume without a voxel that may be a centre, a subject
    ///         without a label map, or constraints that no attempt fulfils.
    ///     KeyError: No such volume.
    ///     DataError: A label that is not an integer, or a weight that is negative or not finite;
    ///         the message has its index.
    #[pyo3(signature = (subject, n, seed=0, epoch=0, first=0))]
    fn locations<'py>(
        &self,
        subject: &Bound<'py, Subject>,
        #[pyo3(from_py_with = natural)] n: u64,
        #[pyo3(from_py_with = natural)] seed: u64,
        #[pyo3(from_py_with = natural)] epoch: u64,
        #[pyo3(from_py_with = natural)] first: u64,
    ) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let (py, subject) = (subject.py(), &subject.get().0);
        let draw = || self.0.locations(subject, n, Epoch { seed, epoch }, first).map(starts_of);
        starts_array(py, py.detach(draw).map_err(raise_short(DRAW_LESS))?)
    }

    /// Finds the subjects in which no patch can be drawn, because they lack the label map, all
    /// labels of a probability above 0, or all weight, or because no patch of them can meet a
    /// constraint.
    ///
    /// The label counts and the sums of weights that ingest recorded tell; a volume without them is
    /// read once.
    ///
    /// Args:
    ///     dataset: The store.
    ///     subjects: Names of the subjects to look at; all if None.
    ///     on_missing: ``"error"`` refuses such subjects, and ``"skip"`` does if there is no other.
    ///
    /// Returns:
    ///     The reason for each such subject, by its name.
    ///
    /// Raises:
    ///     UsageError: As ``on_missing`` says; a patch that is larger than a volume.
    ///     KeyError: No such subject.
    ///     DataError: As ``locations``.
    #[pyo3(
        signature = (dataset, subjects=None, on_missing="background"),
        text_signature = "($self, dataset, subjects=None, on_missing='background')"
    )]
    fn missing<'py>(
        &self,
        py: Python<'py>,
        dataset: &Dataset,
        subjects: Option<Vec<String>>,
        on_missing: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let on_missing = named(&ON_MISSING, "on_missing", on_missing)?;
        let find = || {
            let names = subjects.as_deref().unwrap_or(dataset.0.subjects());
            self.0.missing(&dataset.0, names, on_missing)
        };
        let missing = PyDict::new(py);
        for (subject, reason) in py.detach(find).map_err(raise)? {
            missing.set_item(subject, reason)?;
        }
        Ok(missing)
    }

    /// Computes the probability of each voxel to be the centre of a patch.
    ///
    /// Returns:
    ///     ``(z, y, x)`` float64, as large as the volume.
    ///
    /// Raises:
    ///     UsageError: A sampler with constraints; otherwise as ``locations``.
    fn probability_map<'py>(
        &self,
        subject: &Bound<'py, Subject>,
    ) -> PyResult<Bound<'py, PyArray3<f64>>> {
        let (py, subject) = (subject.py(), &subject.get().0);
        let map = py.detach(|| self.0.probability_map(subject)).map_err(raise)?;
        Ok(PyArray3::from_owned_array(py, map))
    }

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    pub(super) fn patch_size(&self) -> Triple {
        self.0.patch_size().into()
    }

    /// ``"exclude"``, ``"clamp"`` or ``"pad"``.
    #[getter]
    pub(super) fn border(&self) -> &'static str {
        self.0.get_border().name()
    }
}

/// Draws patches uniformly.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     border: What is done with patches that would leave the volume. ``"exclude"``: they are never
///         drawn, and every start inside is equally likely. ``"clamp"``: every voxel is equally
///         likely to be the centre, ``start + patch_size // 2``, and the patch is moved back into
///         the volume. ``"pad"``: the same, but the patch may leave the volume; read it with a
///         padding.
///
/// Raises:
///     UsageError: A size below 1, or another border.
#[pyclass(frozen, extends = RandomSampler, module = "voxquarry")]
pub(crate) struct UniformSampler;

#[pymethods]
impl UniformSampler {
    #[new]
    #[pyo3(signature = (patch_size, border="exclude"))]
    fn new(patch_size: &Bound<'_, PyAny>, border: &str) -> PyResult<PyClassInitializer<Self>> {
        let (size, border) = (size3(patch_size, "patch_size")?, self::border(border)?);
        let sampler = voxquarry::UniformSampler::new(size).map_err(raise)?.border(border);
        Ok(RandomSampler::initializer(sampler, Self))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (Triple, &'static str)) {
        let base = slf.as_super().get();
        (slf.get_type(), (base.patch_size(), base.border()))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let base = slf.as_super().get();
        format!("voxquarry.UniformSampler({:?}, border={:?})", base.patch_size(), base.border())
    }
}

/// Draws patches whose centres, ``start + patch_size // 2``, are drawn by the values of a volume.
///
/// The probability of a voxel is its real value (stored value × slope + intercept) over the sum of
/// all voxels that may be centres: the distribution of TorchIO's ``WeightedSampler``. Sums of the
/// volume's chunks choose a chunk, and only that chunk is decoded to choose the voxel: memory grows
/// with the number of chunks, not of voxels. The sums are made at ingest for ``Weights``, otherwise
/// at first use, and kept beside the volume if the store is writable.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     weights: A volume of the subject; finite, not negative.
///     border: What is done with patches that would leave the volume. ``"exclude"``: they are never
///         drawn (TorchIO). ``"clamp"``: every voxel may be the centre, and the patch is moved back
///         into the volume (MONAI). ``"pad"``: the same, but the patch may leave the volume
///         (nnU-Net); read it with a padding.
///     channel: The channel of the volume that holds the weights.
///
/// Raises:
///     UsageError: A size below 1, or another border.
#[pyclass(frozen, extends = RandomSampler, module = "voxquarry")]
pub(crate) struct WeightedSampler(voxquarry::WeightedSampler);

#[pymethods]
impl WeightedSampler {
    #[new]
    #[pyo3(signature = (patch_size, weights, border="exclude", channel=0))]
    fn new(
        patch_size: &Bound<'_, PyAny>,
        weights: &str,
        border: &str,
        #[pyo3(from_py_with = natural)] channel: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let (size, border) = (size3(patch_size, "patch_size")?, self::border(border)?);
        let sampler = voxquarry::WeightedSampler::new(size, weights).map_err(raise)?;
        let sampler = sampler.border(border).channel(channel as usize);
        Ok(RandomSampler::initializer(sampler.clone(), Self(sampler)))
    }

    /// The volume of weights.
    #[getter]
    fn weights(&self) -> &str {
        self.0.weights()
    }

    /// The channel of the volume that holds the weights.
    #[getter]
    fn channel(&self) -> usize {
        self.0.get_channel()
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> (Bound<'py, PyType>, (Triple, String, &'static str, usize)) {
        let (this, base) = (slf.get(), slf.as_super().get());
        let weights = this.weights().to_owned();
        (slf.get_type(), (base.patch_size(), weights, base.border(), this.channel()))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (this, base) = (slf.get(), slf.as_super().get());
        Ok(format!(
            "voxquarry.WeightedSampler({:?}, weights={}, border={:?}, channel={})",
            base.patch_size(),
            quoted(slf.py(), this.weights())?,
            base.border(),
            this.channel()
        ))
    }
}
