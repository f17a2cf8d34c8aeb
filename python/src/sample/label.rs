//! `LabelSampler`: patches centred on the voxels of a label map.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyType};
use voxquarry::Balance;

use super::random::RandomSampler;
use super::{Triple, border, quoted};
use crate::arguments::{natural, size3};
use crate::dataset::Dataset;
use crate::errors::{invalid, raise, unsupported};

/// Draws patches whose centres, ``start + patch_size // 2``, have certain labels.
///
/// The label counts that ingest makes for ``Labels`` choose a chunk, and only that chunk is decoded
/// to choose the voxel: exact, in memory that grows with the number of chunks, not of voxels. Any
/// volume of integers will do; one without counts is counted at first use.
///
/// At most one of ``probabilities``, ``pos_neg`` and ``foreground_fraction`` is given; with none,
/// every voxel of a label above 0 is equally likely. Within a class every voxel that may be a
/// centre always is. Classes that a subject does not have among its possible centres are left out,
/// and the others share their part.
///
/// In a one-hot map, with several channels, each channel is a class and channel 0 the background.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     labels: A volume of the subject; ``None``: its first label map.
///     probabilities: How often each label is drawn, in any unit: ``{1: 2.0, 2: 1.0}`` (TorchIO's
///         ``LabelSampler``), or a sequence for the labels 0, 1, … (with ``border="clamp"`` MONAI's
///         ``RandCropByLabelClasses``).
///     border: What is done with patches that would leave the volume. ``"exclude"``: they are never
///         drawn (TorchIO). ``"clamp"``: every voxel may be the centre, and the patch is moved back
///         into the volume (MONAI). ``"pad"``: the same, but the patch may leave the volume
///         (nnU-Net); read it with a padding.
///     channel: Takes one channel as an ordinary label map.
///     pos_neg: Two parts: labels above 0, and the other voxels (with ``border="clamp"`` MONAI's
///         ``RandCropByPosNegLabel``).
///     foreground_fraction: The fraction of the samples that is centred on a label above 0, equally
///         often on each that the subject has; the others may be centred anywhere (with
///         ``border="pad"`` nnU-Net's, which takes 0.33). Forced samples are spread evenly: of any
///         k successive samples, k times the fraction are forced, to within one.
///
/// Raises:
///     UsageError: A size below 1, another border, or numbers out of range.
#[pyclass(frozen, extends = RandomSampler, module = "voxquarry")]
pub(crate) struct LabelSampler(voxquarry::LabelSampler);

#[pymethods]
impl LabelSampler {
    #[new]
    #[pyo3(signature = (
        patch_size, labels=None, probabilities=None, border="exclude", channel=None, pos_neg=None,
        foreground_fraction=None
    ))]
    fn new(
        patch_size: &Bound<'_, PyAny>,
        labels: Option<&str>,
        probabilities: Option<&Bound<'_, PyAny>>,
        border: &str,
        channel: Option<&Bound<'_, PyAny>>,
        pos_neg: Option<(f64, f64)>,
        foreground_fraction: Option<f64>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let (size, border) = (size3(patch_size, "patch_size")?, self::border(border)?);
        let balance = match (probabilities, pos_neg, foreground_fraction) {
            (None, None, None) => Balance::Foreground,
            (Some(value), None, None) => Balance::Classes(classes(value)?),
            (None, Some((pos, neg)), None) => Balance::PosNeg { pos, neg },
            (None, None, Some(fraction)) => Balance::Forced { fraction },
            _ => {
                let reason = "probabilities, pos_neg and foreground_fraction exclude each other";
                return Err(unsupported(reason, "give one of them"));
            }
        };
        let mut sampler = voxquarry::LabelSampler::new(size, labels)
            .and_then(|sampler| sampler.border(border).balance(balance))
            .map_err(raise)?;
        if let Some(channel) = channel.map(natural).transpose()? {
            sampler = sampler.channel(channel as usize);
        }
        Ok(RandomSampler::initializer(sampler.clone(), Self(sampler)))
    }

    /// Checks that some subject has each label of ``probabilities`` with a part above 0.
    ///
    /// Because a sampler leaves out the labels that a subject lacks, a label that all subjects lack
    /// would go unnoticed.
    ///
    /// Raises:
    ///     UsageError: Labels that no subject has, or a subject without a label map.
    fn check(&self, py: Python<'_>, dataset: &Dataset) -> PyResult<()> {
        py.detach(|| self.0.check(&dataset.0)).map_err(raise)
    }

    /// The volume that holds the labels; ``None``: the first label map.
    #[getter]
    fn labels(&self) -> Option<&str> {
        self.0.labels()
    }

    /// How often each label is drawn, if given.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Balance::Classes(classes) = self.0.get_balance() else { return Ok(None) };
        let dict = PyDict::new(py);
        for (label, weight) in classes {
            dict.set_item(label, weight)?;
        }
        Ok(Some(dict))
    }

    /// The channel that is taken as a label map, if given.
    #[getter]
    fn channel(&self) -> Option<usize> {
        self.0.get_channel()
    }

    /// The parts of foreground and background, if given.
    #[getter]
    fn pos_neg(&self) -> Option<(f64, f64)> {
        match *self.0.get_balance() {
            Balance::PosNeg { pos, neg } => Some((pos, neg)),
            _ => None,
        }
    }

    /// The fraction of forced samples, if given.
    #[getter]
    fn foreground_fraction(&self) -> Option<f64> {
        match *self.0.get_balance() {
            Balance::Forced { fraction } => Some(fraction),
            _ => None,
        }
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyType>, LabelArguments<'py>)> {
        let (this, base) = (slf.get(), slf.as_super().get());
        let arguments = (
            base.patch_size(),
            this.labels().map(str::to_owned),
            this.probabilities(slf.py())?,
            base.border(),
            this.channel(),
            this.pos_neg(),
            this.foreground_fraction(),
        );
        Ok((slf.get_type(), arguments))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (this, base, py) = (slf.get(), slf.as_super().get(), slf.py());
        let mut parts = vec![format!("{:?}", base.patch_size())];
        if let Some(labels) = this.labels() {
            parts.push(format!("labels={}", quoted(py, labels)?));
        }
        if let Some(probabilities) = this.probabilities(py)? {
            parts.push(format!("probabilities={}", probabilities.repr()?));
        }
        parts.push(format!("border={:?}", base.border()));
        if let Some(channel) = this.channel() {
            parts.push(format!("channel={channel}"));
        }
        if let Some(sides) = this.pos_neg() {
            parts.push(format!("pos_neg={sides:?}"));
        }
        if let Some(fraction) = this.foreground_fraction() {
            parts.push(format!("foreground_fraction={fraction:?}"));
        }
        Ok(format!("voxquarry.LabelSampler({})", parts.join(", ")))
    }
}

type LabelArguments<'py> = (
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
    let refused = || {
        let expected =
            "numbers by label, such as {1: 2.0, 2: 1.0}, or a sequence for the labels 0, 1, …";
        invalid("probabilities", value, expected)
    };
    if let Ok(mapping) = value.cast::<PyMapping>() {
        return mapping.items()?.extract().map_err(|_| refused());
    }
    let weights: Vec<f64> = value.extract().map_err(|_| refused())?;
    Ok((0..).zip(weights).collect())
}
