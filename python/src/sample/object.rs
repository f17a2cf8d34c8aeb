//! `ObjectSampler`: patches that hold a whole object of a label map.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use voxquarry::ObjectOrder;

use super::random::RandomSampler;
use super::{Triple, border, quoted};
use crate::arguments::{name_of, named, natural, size3};
use crate::dataset::{Dataset, Subject};
use crate::errors::raise;

const ORDERS: [(&str, ObjectOrder); 2] =
    [("random", ObjectOrder::Random), ("each", ObjectOrder::Each)];

/// Draws patches that hold an object wholly: a label above 0 of an instance map.
///
/// Every place at which a patch holds its object is equally likely. Objects that do not fit into a
/// patch are never drawn; ``objects`` shows them. The boxes of the labels are found at first use:
/// the label counts that ingest makes for ``Labels`` show which chunks lie at the rim of a label,
/// and only these are decoded.
///
/// One patch for each object of a data set in each epoch:
/// ``vq.Queue(ds, sampler, subjects=sampler.counts(ds))`` with ``order="each"``.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     labels: A volume of the subject; ``None``: its first label map.
///     border: ``"exclude"`` and ``"clamp"``: patches stay inside the volume. ``"pad"``: they may
///         leave it; read them with a padding.
///     order: ``"random"``: a sample is of any object, each equally likely. ``"each"``: sample
///         ``n`` is of object ``n`` modulo their number, ascending by label.
///     channel: The channel of the label map that holds the objects.
///
/// Raises:
///     UsageError: A size below 1, another border or order.
#[pyclass(frozen, extends = RandomSampler, module = "voxquarry")]
pub(crate) struct ObjectSampler(voxquarry::ObjectSampler);

#[pymethods]
impl ObjectSampler {
    #[new]
    #[pyo3(signature = (patch_size, labels=None, border="exclude", order="random", channel=0))]
    fn new(
        patch_size: &Bound<'_, PyAny>,
        labels: Option<&str>,
        border: &str,
        order: &str,
        #[pyo3(from_py_with = natural)] channel: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let (size, border) = (size3(patch_size, "patch_size")?, self::border(border)?);
        let sampler = voxquarry::ObjectSampler::new(size, labels).map_err(raise)?.border(border);
        let sampler = sampler.order(named(&ORDERS, "order", order)?).channel(channel as usize);
        Ok(RandomSampler::initializer(sampler.clone(), Self(sampler)))
    }

    /// The labels above 0 of a subject, ascending.
    ///
    /// Returns:
    ///     Label, box ``(z0, y0, x0, z1, y1, x1)`` from the first voxel to one past the last, and
    ///     whether it fits into a patch.
    ///
    /// Raises:
    ///     UsageError: A subject without a label map, or a channel that it does not have.
    ///     KeyError: No such volume.
    ///     DataError: A label that is not an integer.
    fn objects(&self, py: Python<'_>, subject: &Subject) -> PyResult<Vec<Object>> {
        let objects = py.detach(|| self.0.objects(&subject.0)).map_err(raise)?;
        let object = |(label, found): (i64, voxquarry::Region)| {
            let ([z, y, x], end) = (found.start, [0, 1, 2].map(|a| found.end(a)));
            (label, (z, y, x, end[0], end[1], end[2]), self.0.fits(&found))
        };
        Ok(objects.into_iter().map(object).collect())
    }

    /// The number of objects that fit into a patch, of each subject that has some: ``subjects=`` of
    /// a ``Queue``.
    ///
    /// Args:
    ///     dataset: The store.
    ///     subjects: Names of the subjects to look at; all if None.
    ///
    /// Raises:
    ///     KeyError: No such subject.
    ///     UsageError, DataError: As ``objects``.
    #[pyo3(signature = (dataset, subjects=None))]
    fn counts<'py>(
        &self,
        py: Python<'py>,
        dataset: &Dataset,
        subjects: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let count = |name: &String| -> voxquarry::Result<usize> {
            let objects = self.0.objects(&dataset.0.subject(name)?)?;
            Ok(objects.iter().filter(|(_, found)| self.0.fits(found)).count())
        };
        let names = subjects.as_deref().unwrap_or(dataset.0.subjects());
        let counted = py.detach(|| names.iter().map(count).collect::<voxquarry::Result<Vec<_>>>());
        let counts = PyDict::new(py);
        for (name, count) in names.iter().zip(counted.map_err(raise)?) {
            if count > 0 {
                counts.set_item(name, count)?;
            }
        }
        Ok(counts)
    }

    /// The volume that holds the labels; ``None``: the first label map.
    #[getter]
    fn labels(&self) -> Option<&str> {
        self.0.labels()
    }

    /// ``"random"`` or ``"each"``.
    #[getter]
    fn order(&self) -> &'static str {
        name_of(&ORDERS, self.0.get_order())
    }

    /// The channel of the label map that holds the objects.
    #[getter]
    fn channel(&self) -> usize {
        self.0.get_channel()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, ObjectArguments) {
        let (this, base) = (slf.get(), slf.as_super().get());
        let labels = this.labels().map(str::to_owned);
        (slf.get_type(), (base.patch_size(), labels, base.border(), this.order(), this.channel()))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (this, base) = (slf.get(), slf.as_super().get());
        let mut parts = vec![format!("{:?}", base.patch_size())];
        if let Some(labels) = this.labels() {
            parts.push(format!("labels={}", quoted(slf.py(), labels)?));
        }
        parts.push(format!("border={:?}, order={:?}", base.border(), this.order()));
        if this.channel() > 0 {
            parts.push(format!("channel={}", this.channel()));
        }
        Ok(format!("voxquarry.ObjectSampler({})", parts.join(", ")))
    }
}

type ObjectArguments = (Triple, Option<String>, &'static str, &'static str, usize);

/// A label, its box, and whether it fits into a patch.
type Object = (i64, (i64, i64, i64, i64, i64, i64), bool);
