//! `ConstrainedSampler`: constraints on the patches of a random sampler.

use pyo3::prelude::*;
use pyo3::types::PyType;
use voxquarry::OnFailure;

use super::random::RandomSampler;
use super::{quoted, random_sampler};
use crate::arguments::{name_of, named, natural};
use crate::errors::{raise, unsupported};

/// Draws from another random sampler until the patch fulfils all constraints.
///
/// Each attempt has a random stream of its own, so that a sample stays a pure function of seed,
/// epoch, subject and number.
///
/// Args:
///     sampler: A uniform, weighted or label sampler.
///     min_foreground: The least fraction of a patch's voxels that is above 0 in ``labels``; voxels
///         outside the volume are not. Label counts of chunks decide if they can, otherwise chunks
///         are decoded.
///     labels: A volume of the subject; ``None``: its first label map.
///     inside: A mask of the subject: all voxels of a patch lie inside the volume and are above 0
///         in the mask. (If only the centre has to, use a ``LabelSampler`` of the mask.)
///     min_distance: The least distance in voxels, Euclidean, between the starts of a subject's
///         samples in an epoch. A sample then depends on those before it: sample n costs n + 1
///         samples, and an epoch has at most 65,536.
///     attempts: The largest number of attempts for a sample.
///     on_failure: What is done when all attempts fail. ``"best"``: take the attempt whose worst
///         constraint is fulfilled best. ``"guided"``: make as many attempts again, centred on
///         voxels above 0 of ``labels`` (of ``inside`` without ``min_foreground``), and take the
///         best of all if these fail too; a subject in which no patch can fulfil a constraint, as
///         the label counts show, is refused at once. ``"error"``.
///
/// Raises:
///     UsageError: Numbers out of range, or a sampler of another kind.
#[pyclass(frozen, extends = RandomSampler, module = "voxquarry")]
pub(crate) struct ConstrainedSampler {
    sampler: voxquarry::ConstrainedSampler,
    /// The Python object of the sampler that is drawn from.
    base: Py<PyAny>,
}

#[pymethods]
impl ConstrainedSampler {
    #[new]
    #[pyo3(signature = (
        sampler, min_foreground=None, labels=None, inside=None, min_distance=None, attempts=100,
        on_failure="guided"
    ))]
    #[allow(clippy::too_many_arguments)] // The keywords of Python.
    fn new(
        sampler: Bound<'_, PyAny>,
        min_foreground: Option<f64>,
        labels: Option<String>,
        inside: Option<String>,
        min_distance: Option<f64>,
        #[pyo3(from_py_with = natural)] attempts: u64,
        on_failure: &str,
    ) -> PyResult<PyClassInitializer<Self>> {
        if min_foreground.is_none() && labels.is_some() {
            return Err(unsupported("labels without min_foreground", "give both or neither"));
        }
        let on_failure = named(&ON_FAILURE, "on_failure", on_failure)?;
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        let mut constrained = voxquarry::ConstrainedSampler::new(random_sampler(&sampler)?)
            .and_then(|constrained| constrained.attempts(attempts))
            .map_err(raise)?
            .on_failure(on_failure);
        if let Some(fraction) = min_foreground {
            constrained = constrained.min_foreground(fraction).map_err(raise)?;
        }
        if let Some(labels) = labels {
            constrained = constrained.labels(labels);
        }
        if let Some(mask) = inside {
            constrained = constrained.inside(mask);
        }
        if let Some(voxels) = min_distance {
            constrained = constrained.min_distance(voxels).map_err(raise)?;
        }
        let this = Self { sampler: constrained.clone(), base: sampler.unbind() };
        Ok(RandomSampler::initializer(constrained, this))
    }

    /// The sampler that is drawn from.
    #[getter]
    fn sampler(&self, py: Python<'_>) -> Py<PyAny> {
        self.base.clone_ref(py)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, ConstrainedArguments) {
        let sampler = &slf.get().sampler;
        let arguments = (
            slf.get().sampler(slf.py()),
            sampler.get_min_foreground(),
            sampler.get_labels().map(str::to_owned),
            sampler.get_inside().map(str::to_owned),
            sampler.get_min_distance(),
            sampler.get_attempts(),
            name_of(&ON_FAILURE, sampler.get_on_failure()),
        );
        (slf.get_type(), arguments)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = vec![self.base.bind(py).repr()?.to_string()];
        let sampler = &self.sampler;
        if let Some(fraction) = sampler.get_min_foreground() {
            parts.push(format!("min_foreground={fraction:?}"));
        }
        for (key, name) in [("labels", sampler.get_labels()), ("inside", sampler.get_inside())] {
            if let Some(name) = name {
                parts.push(format!("{key}={}", quoted(py, name)?));
            }
        }
        if let Some(distance) = sampler.get_min_distance() {
            parts.push(format!("min_distance={distance:?}"));
        }
        let on_failure = name_of(&ON_FAILURE, sampler.get_on_failure());
        parts.push(format!("attempts={}, on_failure={on_failure:?}", sampler.get_attempts()));
        Ok(format!("voxquarry.ConstrainedSampler({})", parts.join(", ")))
    }
}

type ConstrainedArguments =
    (Py<PyAny>, Option<f64>, Option<String>, Option<String>, Option<f64>, u32, &'static str);

const ON_FAILURE: [(&str, OnFailure); 3] =
    [("guided", OnFailure::Guided), ("error", OnFailure::Error), ("best", OnFailure::Best)];
