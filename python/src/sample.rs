//! `UniformSampler` and `GridSampler`: they give locations, reading is up to the caller.

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyType};
use voxquarry::sample::{Border, Epoch, Margin, Overlap, Placement};
use voxquarry::{Affine, Padding, PatchLocation, Size3};

use crate::arguments::{name_of, named, padding, size3, voxels3};
use crate::dataset::{Subject, Volume};
use crate::errors::{raise, usage};

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
pub(crate) struct UniformSampler(voxquarry::UniformSampler);

#[pymethods]
impl UniformSampler {
    #[new]
    #[pyo3(signature = (patch_size, border="exclude"))]
    fn new(patch_size: &Bound<'_, PyAny>, border: &str) -> PyResult<Self> {
        let size = size3(patch_size, "patch_size")?;
        let border = named(&BORDERS, "border", border)?;
        voxquarry::UniformSampler::new(size, border).map(Self).map_err(raise)
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
        py: Python<'py>,
        subject: &Subject,
        n: u64,
        seed: u64,
        epoch: u64,
        first: u64,
    ) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let draw = || self.0.locations(&subject.0, Epoch { seed, epoch }, first, n).map(starts_of);
        array(py, py.detach(draw).map_err(raise)?)
    }

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    fn patch_size(&self) -> (usize, usize, usize) {
        self.0.patch_size().into()
    }

    /// ``"exclude"``, ``"clamp"`` or ``"pad"``.
    #[getter]
    fn border(&self) -> &'static str {
        name_of(&BORDERS, self.0.border())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (Triple, &'static str)) {
        let this = slf.get();
        (slf.get_type(), (this.patch_size(), this.border()))
    }

    fn __repr__(&self) -> String {
        format!("voxquarry.UniformSampler({:?}, border={:?})", self.patch_size(), self.border())
    }
}

/// Lays overlapping patches over a volume, for inference with a sliding window.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     overlap: Voxels that neighbours share, an int or ``(z, y, x)``; a float such as ``0.5`` is a part of the patch.
///     padding: ``None`` keeps patches inside the volume, which has to hold one. With a number, ``"edge"`` or ``"reflect"`` they
///         may leave it; give the same padding to ``read``. An axis that is too short gets one patch about its middle.
///     placement: ``"flush"``: one patch every stride, the last moved back to end with the volume (TorchIO, MONAI).
///         ``"even"``: as few as the stride allows, evenly spread (nnU-Net).
///     margin: What a padded grid covers beyond the volume. ``"half-overlap"``: ``overlap // 2`` voxels on each side of every
///         axis (TorchIO). ``"none"``: nothing, so that patches leave it only on axes that are shorter than a patch, by half
///         the difference, rounded down in front (MONAI, nnU-Net).
///
/// Raises:
///     UsageError: A size below 1, an overlap that is not smaller than the patch, or names that are none of these.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct GridSampler(pub(crate) voxquarry::GridSampler);

#[pymethods]
impl GridSampler {
    #[new]
    #[pyo3(
        signature = (patch_size, overlap=None, padding=None, placement="flush", margin="half-overlap"),
        text_signature = "(patch_size, overlap=0, padding=None, placement='flush', margin='half-overlap')"
    )]
    fn new(
        patch_size: &Bound<'_, PyAny>,
        overlap: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        placement: &str,
        margin: &str,
    ) -> PyResult<Self> {
        let size = size3(patch_size, "patch_size")?;
        let overlap = overlap.map_or(Ok(Overlap::Voxels([0; 3])), self::overlap)?;
        let padding = padding.map(|value| self::padding(Some(value))).transpose()?;
        let placement = named(&PLACEMENTS, "placement", placement)?;
        let margin = named(&MARGINS, "margin", margin)?;
        voxquarry::GridSampler::new(size, overlap, padding, placement)
            .map(|sampler| Self(sampler.with_margin(margin)))
            .map_err(raise)
    }

    /// Every patch of the grid.
    ///
    /// Args:
    ///     subject: What the grid is laid over: a subject, a volume, or extents ``(z, y, x)``.
    ///
    /// Returns:
    ///     ``(n, 3)`` int64 starts, ``(z, y, x)``, in lexicographic order; negative where a padded grid begins outside.
    ///
    /// Raises:
    ///     UsageError: A patch that is larger than the volume, and no padding.
    fn locations<'py>(
        &self,
        py: Python<'py>,
        subject: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let (size, _) = space_of(subject)?;
        let starts = py.detach(|| self.0.grid(size).map(|grid| grid.starts().collect()));
        array(py, starts.map_err(raise)?)
    }

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    fn patch_size(&self) -> (usize, usize, usize) {
        self.0.patch_size().into()
    }

    /// Voxels that neighbours share, ``(z, y, x)``, or the part of the patch that was given.
    #[getter]
    fn overlap<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.0.overlap() {
            Overlap::Voxels(voxels) => Ok(Triple::from(voxels).into_pyobject(py)?.into_any()),
            Overlap::Fraction(part) => Ok(part.into_pyobject(py)?.into_any()),
        }
    }

    /// ``None``, a number, ``"edge"`` or ``"reflect"``.
    #[getter]
    fn padding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.0.padding() {
            None | Some(Padding::Refuse) => py.None().into_bound(py),
            Some(Padding::Constant(value)) => value.into_pyobject(py)?.into_any(),
            Some(Padding::Edge) => "edge".into_pyobject(py)?.into_any(),
            Some(Padding::Reflect) => "reflect".into_pyobject(py)?.into_any(),
        })
    }

    /// ``"flush"`` or ``"even"``.
    #[getter]
    fn placement(&self) -> &'static str {
        name_of(&PLACEMENTS, self.0.placement())
    }

    /// ``"half-overlap"`` or ``"none"``.
    #[getter]
    fn margin(&self) -> &'static str {
        name_of(&MARGINS, self.0.margin())
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyType>, GridArguments<'py>)> {
        let (py, this) = (slf.py(), slf.get());
        let (overlap, padding) = (this.overlap(py)?, this.padding(py)?);
        let arguments = (this.patch_size(), overlap, padding, this.placement(), this.margin());
        Ok((slf.get_type(), arguments))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "voxquarry.GridSampler({:?}, overlap={}, padding={}, placement={:?}, margin={:?})",
            self.patch_size(),
            self.overlap(py)?.repr()?,
            self.padding(py)?.repr()?,
            self.placement(),
            self.margin()
        ))
    }
}

type Triple = (usize, usize, usize);
type GridArguments<'py> =
    (Triple, Bound<'py, PyAny>, Bound<'py, PyAny>, &'static str, &'static str);

const BORDERS: [(&str, Border); 3] =
    [("exclude", Border::Exclude), ("clamp", Border::Clamp), ("pad", Border::Pad)];
const PLACEMENTS: [(&str, Placement); 2] = [("flush", Placement::Flush), ("even", Placement::Even)];
const MARGINS: [(&str, Margin); 2] =
    [("half-overlap", Margin::HalfOverlap), ("none", Margin::None)];

/// Voxels, or a part where it is typed as one.
fn overlap(value: &Bound<'_, PyAny>) -> PyResult<Overlap> {
    match value.cast::<PyFloat>() {
        Ok(part) => part.extract().map(Overlap::Fraction),
        Err(_) => voxels3(value, "overlap", 0).map(Overlap::Voxels),
    }
}

/// Extents and affine of a subject, a volume, or extents alone (whose millimetres are voxels).
pub(crate) fn space_of(value: &Bound<'_, PyAny>) -> PyResult<(Size3, Affine)> {
    let space = |volume: &voxquarry::Volume| (volume.size(), *volume.affine());
    if let Ok(volume) = value.cast::<Volume>() {
        return Ok(space(&volume.get().0));
    }
    if let Ok(subject) = value.cast::<Subject>() {
        let subject = &subject.get().0;
        return value.py().detach(|| subject.first_volume()).map(|v| space(&v)).map_err(raise);
    }
    match value.extract::<[i64; 3]>() {
        Ok(_) => Ok((size3(value, "extents")?, Affine::IDENTITY)),
        Err(_) => Err(usage(format!(
            "a {}: expected a Subject, a Volume or extents (z, y, x)",
            value.get_type()
        ))),
    }
}

fn starts_of(locations: Vec<PatchLocation>) -> Vec<[i64; 3]> {
    locations.into_iter().map(|location| location.region.start).collect()
}

fn array(py: Python<'_>, starts: Vec<[i64; 3]>) -> PyResult<Bound<'_, PyArray2<i64>>> {
    let rows = starts.len();
    PyArray1::from_vec(py, starts.into_flattened()).reshape([rows, 3])
}
