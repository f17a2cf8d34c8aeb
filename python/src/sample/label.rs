//! `LabelSampler`: patches about the voxels of a label map.

use numpy::{PyArray2, PyArray3};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyType};
use voxquarry::sample::Balance;

use super::{Triple, border, draw, probability_map, quoted};
use crate::arguments::{natural, size3};
use crate::dataset::{Dataset, Subject};
use crate::errors::{raise, usage};

/// Draws patches whose centres, ``start + patch_size // 2``, have certain labels.
///
/// The counts of labels that ingest makes for ``Labels`` choose a chunk, and that one is decoded to choose the voxel: exact, in
/// memory that grows with the chunks, not the voxels. Any volume of integers will do; without counts it is counted at first use.
///
/// At most one of ``probabilities``, ``pos_neg`` and ``foreground_fraction`` is given; with none, every voxel of a label above 0
/// is equally likely. Within a class every voxel that may be a centre always is. Classes that a subject does not have among its
/// possible centres are left out, and the others share their part.
///
/// Of a one-hot map, with several channels, each channel is a class and channel 0 the background.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     labels: A volume of the subject; ``None``: its first label map.
///     probabilities: How often each label is drawn, in any unit: ``{1: 2.0, 2: 1.0}`` (TorchIO's ``LabelSampler``), or a
///         sequence for the labels 0, 1, … (with ``border="clamp"`` MONAI's ``RandCropByLabelClasses``).
///     border: What becomes of patches that would leave the volume. ``"exclude"``: they are never drawn (TorchIO). ``"clamp"``: every voxel
///         may be the centre, ``start + patch_size // 2``, and the patch is moved back into the volume (MONAI). ``"pad"``: the
///         same, but it may leave the volume (nnU-Net); read it with a padding.
///     channel: Takes one channel as an ordinary label map.
///     pos_neg: Two parts: labels above 0, and the rest (with ``border="clamp"`` MONAI's ``RandCropByPosNegLabel``).
///     foreground_fraction: This part of the samples about a label above 0, each of those there equally often, the others
///         anywhere (with ``border="pad"`` nnU-Net's, which takes 0.33). Forced ones are spread evenly: of any k that follow
///         each other, k times the fraction are forced, less or more than one.
///
/// Raises:
///     UsageError: A size below 1, another border, or numbers that cannot be.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct LabelSampler(pub(super) voxquarry::LabelSampler);

#[pymethods]
impl LabelSampler {
    #[new]
    #[pyo3(signature = (
        patch_size, labels=None, probabilities=None, border="exclude", channel=None, pos_neg=None, foreground_fraction=None
    ))]
    fn new(
        patch_size: &Bound<'_, PyAny>,
        labels: Option<&str>,
        probabilities: Option<&Bound<'_, PyAny>>,
        border: &str,
        channel: Option<&Bound<'_, PyAny>>,
        pos_neg: Option<(f64, f64)>,
        foreground_fraction: Option<f64>,
    ) -> PyResult<Self> {
        let (size, border) = (size3(patch_size, "patch_size")?, self::border(border)?);
        let balance = match (probabilities, pos_neg, foreground_fraction) {
            (None, None, None) => Balance::Foreground,
            (Some(value), None, None) => Balance::Classes(classes(value)?),
            (None, Some((pos, neg)), None) => Balance::PosNeg { pos, neg },
            (None, None, Some(fraction)) => Balance::Forced { fraction },
            _ => {
                let words = "probabilities, pos_neg and foreground_fraction exclude each other";
                return Err(usage(words));
            }
        };
        let channel = channel.map(natural).transpose()?.map(|channel| channel as usize);
        voxquarry::LabelSampler::new(size, border, labels, balance)
            .map(|sampler| Self(sampler.with_channel(channel)))
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
    ///         no voxel of the classes that may be a centre; a subject without a label map.
    ///     KeyError: No such volume.
    ///     DataError: A voxel that is no integer.
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

    /// Checks that every label of ``probabilities`` with a part above 0 is in the map of some subject.
    ///
    /// A sampler leaves out what one subject lacks, and so would never tell of a label that all of them do.
    ///
    /// Raises:
    ///     UsageError: Labels that no subject has, or a subject without a label map.
    fn check(&self, py: Python<'_>, dataset: &Dataset) -> PyResult<()> {
        py.detach(|| self.0.check(&dataset.0)).map_err(raise)
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

    /// The volume whose labels count; ``None``: the first label map.
    #[getter]
    fn labels(&self) -> Option<&str> {
        self.0.labels()
    }

    /// How often each label is drawn, if that was given.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Balance::Classes(classes) = self.0.balance() else { return Ok(None) };
        let dict = PyDict::new(py);
        for (label, weight) in classes {
            dict.set_item(label, weight)?;
        }
        Ok(Some(dict))
    }

    /// The channel that counts, if one was chosen.
    #[getter]
    fn channel(&self) -> Option<usize> {
        self.0.channel()
    }

    /// The parts of foreground and background, if they were given.
    #[getter]
    fn pos_neg(&self) -> Option<(f64, f64)> {
        match *self.0.balance() {
            Balance::PosNeg { pos, neg } => Some((pos, neg)),
            _ => None,
        }
    }

    /// The part of forced samples, if it was given.
    #[getter]
    fn foreground_fraction(&self) -> Option<f64> {
        match *self.0.balance() {
            Balance::Forced { fraction } => Some(fraction),
            _ => None,
        }
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Arguments<'py>)> {
        let this = slf.get();
        let arguments = (
            this.patch_size(),
            this.labels().map(str::to_owned),
            this.probabilities(slf.py())?,
            this.border(),
            this.channel(),
            this.pos_neg(),
            this.foreground_fraction(),
        );
        Ok((slf.get_type(), arguments))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = vec![format!("{:?}", self.patch_size())];
        if let Some(labels) = self.labels() {
            parts.push(format!("labels={}", quoted(py, labels)?));
        }
        if let Some(probabilities) = self.probabilities(py)? {
            parts.push(format!("probabilities={}", probabilities.repr()?));
        }
        parts.push(format!("border={:?}", self.border()));
        if let Some(channel) = self.channel() {
            parts.push(format!("channel={channel}"));
        }
        if let Some(sides) = self.pos_neg() {
            parts.push(format!("pos_neg={sides:?}"));
        }
        if let Some(fraction) = self.foreground_fraction() {
            parts.push(format!("foreground_fraction={fraction:?}"));
        }
        Ok(format!("voxquarry.LabelSampler({})", parts.join(", ")))
    }
}

type Arguments<'py> = (
    Triple,
    Option<String>,
    Option<Bound<'py, PyDict>>,
    &'static str,
    Option<usize>,
    Option<(f64, f64)>,
    Option<f64>,
);

/// Labels and how often each is drawn: a mapping, or a sequence for the labels from 0 on.
fn classes(value: &Bound<'_, PyAny>) -> PyResult<Vec<(i64, f64)>> {
    let complaint = || {
        usage(format!(
            "probabilities {value}: expected numbers by label, such as {{1: 2.0, 2: 1.0}}, or a sequence for the labels 0, 1, …"
        ))
    };
    if let Ok(mapping) = value.cast::<PyMapping>() {
        return mapping.items()?.extract().map_err(|_| complaint());
    }
    let weights: Vec<f64> = value.extract().map_err(|_| complaint())?;
    Ok((0..).zip(weights).collect())
}
