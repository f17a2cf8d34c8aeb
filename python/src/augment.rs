//! `Augment`: the random changes of a queue's patches.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMapping, PyString};
use voxquarry::{AugmentPart, Order};

use crate::errors::{invalid, raise, unsupported};
use crate::resample::order as order_of;

/// Random changes of the patches of a queue; a part that is not given changes nothing.
///
/// The spatial parts of a patch become one map, the same for all its volumes, so that any number of
/// them costs one interpolation: linear for images unless ``order`` says otherwise, the nearest
/// voxel for labels. The parts from ``noise`` on change the values of images, each channel by
/// itself, after they are normalized, in the order in which they are listed here. Everything is a
/// pure function of the queue's seed, the epoch, the subject and the number of the patch.
/// ``docs/augmentation.md`` defines each part.
///
/// A range is a pair, from the lowest to the greatest number. Parts with axes take one for all, or
/// three for ``(z, y, x)``.
///
/// Args:
///     rotation_degrees: Turn about each axis in millimetres, to whatever side: a number for
///         ``(-number, number)``, or a range.
///     scale: Range of the magnification: at 2 all things look twice as large.
///     per_axis: Whether each axis has a scale of its own.
///     flip: Mirror each axis in half of the patches: ``True`` for all, or the axes, 0 for z, 1 for
///         y, 2 for x.
///     translation: Shift in voxels, as for ``rotation_degrees``.
///     elastic: The farthest displacement of a knot along each axis, in voxels: a number, or a
///         range that it is drawn from.
///     elastic_knots: Voxels from knot to knot.
///     shear: What an axis moves along each other one, as a factor below 0.5, as for
///         ``rotation_degrees``.
///     p: The probability of each part: a number for all, or a mapping from their names
///         (``"rotation"`` for ``rotation_degrees``); others have 1. Parts are drawn independently.
///     noise: Standard deviation of Gaussian noise: a range, or a number for ``(0, number)``.
///     blur: Standard deviation of a Gaussian filter in voxels, as for ``noise``.
///     brightness: Range of a factor of all values.
///     shift: What is added to all values: a number for ``(-number, number)``, or a range.
///     contrast: Range of a factor of the distances to the mean; values stay between the patch's
///         least and greatest one.
///     low_resolution: Range of the part of the voxels along each axis that are kept and
///         interpolated between.
///     inverted_gamma: As ``gamma``, of the negative.
///     gamma: Range of the exponent of a curve between the patch's least and greatest value; mean
///         and standard deviation are restored.
///     order: Interpolation of images, 0, 1 or 3 as for ``Volume.read_affine``.
///
/// Raises:
///     UsageError: A range that descends or that the part does not allow, an unknown name or axis.
///
/// >>> augment = vq.Augment(rotation_degrees=30, scale=(0.7, 1.4), flip=True, noise=0.1)
/// >>> queue = vq.Queue(ds, sampler, augment=augment, normalize="zscore")
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Augment {
    pub(crate) inner: voxquarry::Augment,
    /// How it is made again.
    made: Made,
}

enum Made {
    By(Py<PyDict>),
    Preset(&'static str),
}

/// What a lone number stands for.
#[derive(Clone, Copy)]
enum Lone {
    Signed,
    FromZero,
    Itself,
    Refused,
}

#[pymethods]
impl Augment {
    #[new]
    #[pyo3(
        signature = (
            *, rotation_degrees=None, scale=None, per_axis=false, flip=None, translation=None,
            elastic=None, elastic_knots=16, shear=None, p=None, noise=None, blur=None,
            brightness=None, shift=None, contrast=None, low_resolution=None, inverted_gamma=None,
            gamma=None, order=None
        ),
        text_signature = "(*, rotation_degrees=None, scale=None, per_axis=False, flip=False, \
            translation=None, elastic=None, elastic_knots=16, shear=None, p=1.0, noise=None, \
            blur=None, brightness=None, shift=None, contrast=None, low_resolution=None, \
            inverted_gamma=None, gamma=None, order=1)"
    )]
    #[allow(clippy::too_many_arguments)] // Python's keywords.
    fn new<'py>(
        py: Python<'py>,
        rotation_degrees: Option<&Bound<'py, PyAny>>,
        scale: Option<&Bound<'py, PyAny>>,
        per_axis: bool,
        flip: Option<&Bound<'py, PyAny>>,
        translation: Option<&Bound<'py, PyAny>>,
        elastic: Option<&Bound<'py, PyAny>>,
        elastic_knots: usize,
        shear: Option<&Bound<'py, PyAny>>,
        p: Option<&Bound<'py, PyAny>>,
        noise: Option<&Bound<'py, PyAny>>,
        blur: Option<&Bound<'py, PyAny>>,
        brightness: Option<&Bound<'py, PyAny>>,
        shift: Option<&Bound<'py, PyAny>>,
        contrast: Option<&Bound<'py, PyAny>>,
        low_resolution: Option<&Bound<'py, PyAny>>,
        inverted_gamma: Option<&Bound<'py, PyAny>>,
        gamma: Option<&Bound<'py, PyAny>>,
        order: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        use AugmentPart as P;
        let given = [
            (P::Rotation, "rotation_degrees", rotation_degrees, Lone::Signed),
            (P::Scale, "scale", scale, Lone::Refused),
            (P::Translation, "translation", translation, Lone::Signed),
            (P::Elastic, "elastic", elastic, Lone::Itself),
            (P::Shear, "shear", shear, Lone::Signed),
            (P::Noise, "noise", noise, Lone::FromZero),
            (P::Blur, "blur", blur, Lone::FromZero),
            (P::Brightness, "brightness", brightness, Lone::Refused),
            (P::Shift, "shift", shift, Lone::Signed),
            (P::Contrast, "contrast", contrast, Lone::Refused),
            (P::LowResolution, "low_resolution", low_resolution, Lone::Refused),
            (P::InvertedGamma, "inverted_gamma", inverted_gamma, Lone::Refused),
            (P::Gamma, "gamma", gamma, Lone::Refused),
        ];
        let made = PyDict::new(py);
        let mut inner = voxquarry::Augment::default().scales_per_axis(per_axis);
        for (part, name, value, lone) in given {
            if let Some(value) = value {
                inner = inner.part(part, ranges(part, name, value, lone)?).map_err(raise)?;
                made.set_item(name, value)?;
            }
        }
        for (name, value) in [("flip", flip), ("p", p), ("order", order)] {
            if let Some(value) = value {
                made.set_item(name, value)?;
            }
        }
        made.set_item("per_axis", per_axis)?;
        made.set_item("elastic_knots", elastic_knots)?;
        inner = inner.flip(flip.map(axes).transpose()?.unwrap_or_default());
        inner = inner.knot_voxels(elastic_knots).map_err(raise)?;
        inner = inner.order(order.map(order_of).transpose()?.unwrap_or(Order::Linear));
        let inner = p.map_or_else(|| Ok(inner.clone()), |p| with_chances(inner.clone(), p))?;
        Ok(Self { inner, made: Made::By(made.unbind()) })
    }

    /// The ranges and probabilities of nnU-Net v2's default training, for 3-D patches of similar
    /// extents along all axes; ``docs/augmentation.md`` lists what differs.
    #[staticmethod]
    fn nnunet() -> Self {
        Self { inner: voxquarry::Augment::nnunet(), made: Made::Preset("nnunet") }
    }

    /// The defaults of TorchIO's ``RandomFlip`` over all axes, ``RandomAffine``,
    /// ``RandomElasticDeformation``, ``RandomNoise``, ``RandomBlur`` and ``RandomGamma``;
    /// ``docs/augmentation.md`` lists what differs.
    #[staticmethod]
    fn torchio() -> Self {
        Self { inner: voxquarry::Augment::torchio(), made: Made::Preset("torchio") }
    }

    /// MONAI's usual transforms, each with its default probability, 0.1: ``RandAffine``,
    /// ``RandFlip``, ``RandScaleIntensity``, ``RandShiftIntensity``, ``RandGaussianNoise``,
    /// ``RandGaussianSmooth`` and ``RandAdjustContrast``; ``docs/augmentation.md`` lists what
    /// differs.
    #[staticmethod]
    fn monai() -> Self {
        Self { inner: voxquarry::Augment::monai(), made: Made::Preset("monai") }
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().inner == self.inner)
    }

    fn __hash__(&self) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        format!("{:?}", self.inner).bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, ())> {
        let (py, class) = (slf.py(), slf.get_type());
        Ok(match &slf.get().made {
            Made::Preset(name) => (class.getattr(*name)?, ()),
            Made::By(keywords) => {
                let partial = py.import("functools")?.getattr("partial")?;
                (partial.call((class,), Some(keywords.bind(py)))?, ())
            }
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &self.made {
            Made::Preset(name) => format!("voxquarry.Augment.{name}()"),
            Made::By(keywords) => {
                let pairs = keywords
                    .bind(py)
                    .iter()
                    .map(|(name, value)| Ok(format!("{}={}", name.str()?, value.repr()?)));
                format!("voxquarry.Augment({})", pairs.collect::<PyResult<Vec<_>>>()?.join(", "))
            }
        })
    }
}

/// The ranges of a part along z, y and x.
fn ranges(
    part: AugmentPart,
    name: &'static str,
    value: &Bound<'_, PyAny>,
    lone: Lone,
) -> PyResult<[(f64, f64); 3]> {
    let has_axes = matches!(
        part,
        AugmentPart::Rotation
            | AugmentPart::Scale
            | AugmentPart::Shear
            | AugmentPart::Translation
            | AugmentPart::Blur
    );
    let refused = || {
        let number = match lone {
            Lone::Refused => "two numbers, the lower one first",
            _ => "a number, or two, the lower one first",
        };
        let three = if has_axes { "; or three of these for (z, y, x)" } else { "" };
        invalid(name, value, format!("{number}{three}"))
    };
    if value.is_instance_of::<PyString>() || value.is_instance_of::<PyBool>() {
        return Err(refused());
    }
    let one = |value: &Bound<'_, PyAny>| -> Option<(f64, f64)> {
        let Ok(number) = value.extract::<f64>() else { return value.extract().ok() };
        match lone {
            Lone::Signed => Some((-number.abs(), number.abs())),
            Lone::FromZero => Some((0.0, number)),
            Lone::Itself => Some((number, number)),
            Lone::Refused => None,
        }
    };
    if let Some(range) = one(value) {
        return Ok([range; 3]);
    }
    let several = value.try_iter().map_err(|_| refused())?;
    let several = several.collect::<PyResult<Vec<_>>>().map_err(|_| refused())?;
    let ranges: Option<Vec<_>> = several.iter().map(one).collect();
    let ranges = ranges.filter(|_| has_axes).ok_or_else(refused)?;
    ranges.try_into().map_err(|_| refused())
}

/// The axes `(z, y, x)` that are mirrored.
fn axes(value: &Bound<'_, PyAny>) -> PyResult<[bool; 3]> {
    let refused = || invalid("flip", value, "True, False, or axes of 0 (z), 1 (y) and 2 (x)");
    if let Ok(all) = value.cast::<PyBool>() {
        return Ok([all.is_true(); 3]);
    }
    let numbers = match value.extract::<usize>() {
        Ok(number) => vec![number],
        Err(_) => value.extract::<Vec<usize>>().map_err(|_| refused())?,
    };
    let mut flips = [false; 3];
    for number in numbers {
        *flips.get_mut(number).ok_or_else(refused)? = true;
    }
    Ok(flips)
}

/// Sets the probabilities of all parts, or of those that a mapping names.
fn with_chances(augment: voxquarry::Augment, p: &Bound<'_, PyAny>) -> PyResult<voxquarry::Augment> {
    let refused = || invalid("p", p, "a number, or a mapping from parts to numbers");
    let Ok(mapping) = p.cast::<PyMapping>() else {
        let number: f64 = p.extract().map_err(|_| refused())?;
        let set = |augment: voxquarry::Augment, part| augment.probability(part, number);
        return AugmentPart::ALL.into_iter().try_fold(augment, set).map_err(raise);
    };
    mapping.items()?.iter().try_fold(augment, |augment, pair| {
        let (name, number): (String, f64) = pair.extract().map_err(|_| refused())?;
        let part = AugmentPart::ALL.into_iter().find(|part| part.name() == name);
        let part = part.ok_or_else(|| {
            let known = AugmentPart::ALL.map(AugmentPart::name).join(", ");
            unsupported(format!("p names {name:?}, which is no part"), format!("use {known}"))
        })?;
        augment.probability(part, number).map_err(raise)
    })
}
