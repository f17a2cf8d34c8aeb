//! `GridSampler`: patches that cover a volume.

use numpy::PyArray2;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyType};
use voxquarry::{Error, Margin, Overlap, Padding, Placement};

use super::{Triple, space_of, starts_array};
use crate::arguments::{name_of, named, padding, size3, voxels3};
use crate::errors::{LAY_FEWER, raise, raise_short};

/// Lays overlapping patches over a volume, for inference with a sliding window.
///
/// Args:
///     patch_size: Voxels of a patch, an int for a cube or ``(z, y, x)``.
///     overlap: Voxels that neighbouring patches share, an int or ``(z, y, x)``; a float such as
///         ``0.5`` is a fraction of the patch.
///     padding: ``None`` keeps patches inside the volume, which has to hold one. With a number,
///         ``"edge"`` or ``"reflect"`` they may leave it; give the same padding to ``read``. An
///         axis that is too short gets one patch about its middle.
///     placement: ``"flush"``: one patch every stride, the last moved back to end with the volume
///         (TorchIO, MONAI). ``"even"``: as few as the stride allows, evenly spread (nnU-Net).
///     margin: How far a padded grid reaches beyond the volume. ``"half-overlap"``:
///         ``overlap // 2`` voxels on each side of every axis (TorchIO). ``"none"``: not at all, so
///         that patches leave the volume only on axes that are shorter than a patch, by half the
///         difference, rounded down in front (MONAI, nnU-Net).
///
/// Raises:
///     UsageError: A size below 1, an overlap that is not smaller than the patch, or an unknown
///         name.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct GridSampler(pub(crate) voxquarry::GridSampler);

#[pymethods]
impl GridSampler {
    #[new]
    #[pyo3(
        signature = (
            patch_size, overlap=None, padding=None, placement="flush", margin="half-overlap"
        ),
        text_signature = "(patch_size, overlap=0, padding=None, placement='flush', \
                          margin='half-overlap')"
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
        let padding = self::padding(padding)?;
        let placement = named(&PLACEMENTS, "placement", placement)?;
        let margin = named(&MARGINS, "margin", margin)?;
        let sampler = voxquarry::GridSampler::new(size, overlap).map_err(raise)?;
        Ok(Self(sampler.padding(padding).placement(placement).margin(margin)))
    }

    /// Lists every patch of the grid.
    ///
    /// Args:
    ///     subject: What the grid covers: a subject, a volume, or extents ``(z, y, x)``.
    ///
    /// Returns:
    ///     ``(n, 3)`` int64 starts, ``(z, y, x)``, in lexicographic order; negative where a padded
    ///     grid begins outside the volume.
    ///
    /// Raises:
    ///     UsageError: A patch that is larger than the volume, without a padding.
    fn locations<'py>(
        &self,
        py: Python<'py>,
        subject: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let (size, ..) = space_of(subject)?;
        let starts = || {
            let grid = self.0.grid(size)?;
            let mut starts = Vec::new();
            let what = |_| {
                let what = format!("a list of {} patches", grid.len());
                let bytes = (grid.len() as u64).saturating_mul(size_of::<[i64; 3]>() as u64);
                Error::OutOfMemory { what, bytes }
            };
            starts.try_reserve_exact(grid.len()).map_err(what)?;
            starts.extend(grid.starts());
            Ok(starts)
        };
        starts_array(py, py.detach(starts).map_err(raise_short(LAY_FEWER))?)
    }

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    fn patch_size(&self) -> Triple {
        self.0.patch_size().into()
    }

    /// Voxels that neighbouring patches share, ``(z, y, x)``, or a fraction of the patch, as given.
    #[getter]
    fn overlap<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.0.overlap() {
            Overlap::Voxels(voxels) => Ok(Triple::from(voxels).into_pyobject(py)?.into_any()),
            Overlap::Fraction(fraction) => Ok(fraction.into_pyobject(py)?.into_any()),
        }
    }

    /// ``None``, a number, ``"edge"`` or ``"reflect"``.
    #[getter]
    fn padding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.0.get_padding() {
            Padding::None => py.None().into_bound(py),
            Padding::Constant(value) => value.into_pyobject(py)?.into_any(),
            Padding::Edge => "edge".into_pyobject(py)?.into_any(),
            Padding::Reflect => "reflect".into_pyobject(py)?.into_any(),
        })
    }

    /// ``"flush"`` or ``"even"``.
    #[getter]
    fn placement(&self) -> &'static str {
        name_of(&PLACEMENTS, self.0.get_placement())
    }

    /// ``"half-overlap"`` or ``"none"``.
    #[getter]
    fn margin(&self) -> &'static str {
        name_of(&MARGINS, self.0.get_margin())
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

type GridArguments<'py> =
    (Triple, Bound<'py, PyAny>, Bound<'py, PyAny>, &'static str, &'static str);

const PLACEMENTS: [(&str, Placement); 2] = [("flush", Placement::Flush), ("even", Placement::Even)];
const MARGINS: [(&str, Margin); 2] =
    [("half-overlap", Margin::HalfOverlap), ("none", Margin::None)];

/// A fraction of the patch for a float, otherwise voxels.
fn overlap(value: &Bound<'_, PyAny>) -> PyResult<Overlap> {
    match value.cast::<PyFloat>() {
        Ok(fraction) => fraction.extract().map(Overlap::Fraction),
        Err(_) => voxels3(value, "overlap", 0).map(Overlap::Voxels),
    }
}
