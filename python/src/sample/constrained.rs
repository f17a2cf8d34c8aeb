//! `ConstrainedSampler`: what the patches of a random sampler have to fulfil.

use numpy::PyArray2;
use pyo3::prelude::*;
use pyo3::types::PyType;
use voxquarry::sample::{self, Constraints, OnFailure};

use super::{Triple, draw, quoted, random_sampler};
use crate::arguments::{name_of, named, natural};
use crate::dataset::Subject;
use crate::errors::{raise, usage};

/// Draws from a random sampler again until the patch fulfils all constraints.
///
/// Each attempt has a random stream of its own, so that a sample stays a pure function of seed, epoch, subject and number.
///
/// Args:
///     sampler: A uniform, weighted or label sampler.
///     min_foreground: At least this part of the patch's voxels is above 0 in ``labels``; what lies outside the volume is not.
///         Counts of chunks decide where they can, other chunks are decoded.
///     labels: A volume of the subject; ``None``: its first label map.
///     inside: A mask of the subject: all the patch's voxels lie in the volume and above 0 in it. (That only the centre does is
///         a ``LabelSampler`` of the mask.)
///     min_distance: At least so many voxels, Euclidean, between the starts of a subject's samples in an epoch. A sample then
///         depends on those before it: number n costs n + 1 samples, and an epoch has at most 65,536.
///     attempts: Most attempts for a sample.
///     on_failure: When all fail, ``"error"``, or the ``"best"``: the attempt whose worst constraint is fulfilled best.
///
/// Raises:
///     UsageError: Numbers that cannot be, or a sampler of another kind.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct ConstrainedSampler(pub(super) sample::ConstrainedSampler, Py<PyAny>);

#[pymethods]
impl ConstrainedSampler {
    #[new]
    #[pyo3(signature = (
        sampler, min_foreground=None, labels=None, inside=None, min_distance=None, attempts=100, on_failure="error"
    ))]
    #[allow(clippy::too_many_arguments)] // Python's keywords, checked and bundled here.
    fn new(
        sampler: Bound<'_, PyAny>,
        min_foreground: Option<f64>,
        labels: Option<String>,
        inside: Option<String>,
        min_distance: Option<f64>,
        #[pyo3(from_py_with = natural)] attempts: u64,
        on_failure: &str,
    ) -> PyResult<Self> {
        if min_foreground.is_none() && labels.is_some() {
            return Err(usage("labels are those of min_foreground, which is not given"));
        }
        let constraints = Constraints { min_foreground, labels, inside, min_distance };
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        let on_failure = named(&ON_FAILURE, "on_failure", on_failure)?;
        let base = random_sampler(&sampler)?;
        sample::ConstrainedSampler::new(base, constraints, attempts, on_failure)
            .map(|constrained| Self(constrained, sampler.unbind()))
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
    ///         no attempt that fulfils the constraints; what the sampler itself raises.
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

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    fn patch_size(&self) -> Triple {
        self.0.base().patch_size().into()
    }

    /// ``"exclude"``, ``"clamp"`` or ``"pad"``.
    #[getter]
    fn border(&self) -> &'static str {
        self.0.base().border().name()
    }

    /// The sampler that is drawn from.
    #[getter]
    fn sampler(&self, py: Python<'_>) -> Py<PyAny> {
        self.1.clone_ref(py)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, Arguments) {
        let this = slf.get();
        let constraints = this.0.constraints().clone();
        let arguments = (
            this.sampler(slf.py()),
            constraints.min_foreground,
            constraints.labels,
            constraints.inside,
            constraints.min_distance,
            this.0.attempts(),
            name_of(&ON_FAILURE, this.0.on_failure()),
        );
        (slf.get_type(), arguments)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = vec![self.1.bind(py).repr()?.to_string()];
        let constraints = self.0.constraints();
        if let Some(part) = constraints.min_foreground {
            parts.push(format!("min_foreground={part:?}"));
        }
        for (key, name) in [("labels", &constraints.labels), ("inside", &constraints.inside)] {
            if let Some(name) = name {
                parts.push(format!("{key}={}", quoted(py, name)?));
            }
        }
        if let Some(distance) = constraints.min_distance {
            parts.push(format!("min_distance={distance:?}"));
        }
        let on_failure = name_of(&ON_FAILURE, self.0.on_failure());
        parts.push(format!("attempts={}, on_failure={on_failure:?}", self.0.attempts()));
        Ok(format!("voxquarry.ConstrainedSampler({})", parts.join(", ")))
    }
}

type Arguments =
    (Py<PyAny>, Option<f64>, Option<String>, Option<String>, Option<f64>, u32, &'static str);

const ON_FAILURE: [(&str, OnFailure); 2] = [("error", OnFailure::Error), ("best", OnFailure::Best)];
