//! `Scale`: patches of one volume in a volume of another spacing.

use numpy::PyArray2;
use pyo3::prelude::*;
use voxquarry::{PatchScale, Region};

use super::{Triple, starts_array};
use crate::arguments::{size3, starts};
use crate::errors::raise;
use crate::volume::Volume;

/// Maps patches of one volume to the same place in a volume of another spacing: exactly, or not at
/// all.
///
/// Both volumes cover the same box of space. Along each axis a number of voxels of the other volume
/// covers a number of voxels of the first.
///
/// Args:
///     one: The volume whose starts are given, of any subject.
///     other: The volume whose starts are wanted.
///
/// Raises:
///     UsageError: The volumes cover different boxes, or the ratio of their extents has no terms up
///         to 64.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Scale(PatchScale);

#[pymethods]
impl Scale {
    #[new]
    fn new(one: &Volume, other: &Volume) -> PyResult<Self> {
        PatchScale::between(&one.0, &other.0).map(Self).map_err(raise)
    }

    /// Voxels of the other volume for those of the first, ``(z, y, x)``, as numerator and
    /// denominator.
    #[getter]
    fn ratios(&self) -> Vec<(u64, u64)> {
        self.0.ratios().to_vec()
    }

    /// Computes starts and size of the patches that cover the same space in the other volume.
    ///
    /// Returns:
    ///     ``(n, 3)`` int64 starts and the size, ``(z, y, x)``.
    ///
    /// Raises:
    ///     UsageError: A patch whose faces would cut voxels of the other volume.
    fn patches<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = starts)] starts: Vec<[i64; 3]>,
        patch_size: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyArray2<i64>>, Triple)> {
        let patch_size = size3(patch_size, "patch_size")?;
        let scaled = |start| self.0.region(&Region::new(start, patch_size)).map_err(raise);
        let regions = starts.into_iter().map(scaled).collect::<PyResult<Vec<_>>>()?;
        let size = scaled([0; 3])?.size;
        Ok((starts_array(py, regions.iter().map(|region| region.start).collect())?, size.into()))
    }
}
