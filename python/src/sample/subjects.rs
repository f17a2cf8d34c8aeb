//! `SubjectSampler`: the subject of each draw of an epoch.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use voxquarry::{Epoch, SubjectWeights};

use crate::arguments::natural;
use crate::dataset::Dataset;
use crate::errors::{invalid, raise};

/// Draws subjects of a dataset, with replacement.
///
/// Args:
///     dataset: The dataset to draw from.
///     weights: ``"equal"``; ``"volume"``: by the number of voxels, so that each voxel of the
///         dataset is equally likely; or a dictionary of weights by name, in which subjects that
///         are missing are never drawn.
///
/// Raises:
///     UsageError: Weights that are negative, not finite or all zero.
///     KeyError: A name that is no subject.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct SubjectSampler(voxquarry::SubjectSampler);

#[pymethods]
impl SubjectSampler {
    #[new]
    #[pyo3(signature = (dataset, weights=None), text_signature = "(dataset, weights='equal')")]
    fn new(
        py: Python<'_>,
        dataset: &Dataset,
        weights: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let weights = weights.map_or(Ok(SubjectWeights::Equal), self::weights)?;
        py.detach(|| voxquarry::SubjectSampler::new(&dataset.0, &weights)).map(Self).map_err(raise)
    }

    /// The subject of draw ``k`` of an epoch: a pure function of these numbers and the subjects of
    /// the dataset.
    #[pyo3(signature = (k, seed=0, epoch=0))]
    fn subject(
        &self,
        #[pyo3(from_py_with = natural)] k: u64,
        #[pyo3(from_py_with = natural)] seed: u64,
        #[pyo3(from_py_with = natural)] epoch: u64,
    ) -> &str {
        self.0.subject(Epoch { seed, epoch }, k)
    }

    /// Counts how many of the first ``draws`` of an epoch each subject gets; subjects without any
    /// are left out.
    #[pyo3(signature = (draws, seed=0, epoch=0))]
    fn counts<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = natural)] draws: u64,
        #[pyo3(from_py_with = natural)] seed: u64,
        #[pyo3(from_py_with = natural)] epoch: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let count = || self.0.counts(Epoch { seed, epoch }, draws);
        let counts = PyDict::new(py);
        for (subject, n) in py.detach(count).map_err(raise)? {
            counts.set_item(subject, n)?;
        }
        Ok(counts)
    }
}

/// Weights by a rule's name, or by the names of subjects.
fn weights(value: &Bound<'_, PyAny>) -> PyResult<SubjectWeights> {
    let refused = || invalid("weights", value, "\"equal\", \"volume\" or numbers by subject");
    if let Ok(name) = value.cast::<PyString>() {
        return match name.to_str()? {
            "equal" => Ok(SubjectWeights::Equal),
            "volume" => Ok(SubjectWeights::Volume),
            _ => Err(refused()),
        };
    }
    let mapping = value.cast::<PyMapping>().map_err(|_| refused())?;
    mapping.items()?.extract().map(SubjectWeights::Named).map_err(|_| refused())
}
