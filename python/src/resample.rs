//! Arguments of resampled reads, and reading them into arrays.

use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;
use voxquarry::{Displacement, Order, Padding, Size3, Volume, Warp, with_voxel};

use crate::arguments::{dtype, padding, size3};
use crate::errors::{READ_LESS, invalid, raise, raise_short};
use crate::voxels::{Target, fill};

/// The arguments that one patch and several have in common.
pub(crate) struct Resampled<'a, 'py> {
    pub(crate) volume: &'a Volume,
    pub(crate) patch_size: &'a Bound<'py, PyAny>,
    pub(crate) order: Order,
    pub(crate) padding: Padding,
    pub(crate) dtype: Option<&'a Bound<'py, PyAny>>,
    pub(crate) out: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Resampled<'_, 'py> {
    /// Reads one patch, `([c,] z, y, x)`.
    pub(crate) fn patch(
        &self,
        matrix: &Bound<'py, PyAny>,
        displacement: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let matrix = floats(matrix, "matrix")?;
        let displacement = displacement.map(|d| floats(d, "displacement")).transpose()?;
        let displacement = displacement.as_ref().map(|(shape, of)| (&shape[..], &of[..]));
        self.read(&[warp((&matrix.0, &matrix.1), displacement)?], &[])
    }

    /// Reads a patch for each of several matrices, `(n, [c,] z, y, x)`.
    pub(crate) fn batch(
        &self,
        matrices: &Bound<'py, PyAny>,
        displacements: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (shape, values) = floats(matrices, "matrices")?;
        if shape.len() != 3 {
            let expected = "of shape (n, 3, 4) or (n, 4, 4)";
            return Err(invalid("matrices", format!("of shape {shape:?}"), expected));
        }
        let displacements = displacements.map(|d| floats(d, "displacements")).transpose()?;
        if let Some((of, _)) = &displacements
            && (of.len() != 5 || of[0] != shape[0])
        {
            let expected = format!("of shape ({}, 3, kz, ky, kx)", shape[0]);
            return Err(invalid("displacements", format!("of shape {of:?}"), expected));
        }
        let part = |values: &'_ [f64], count: usize, n: usize| -> std::ops::Range<usize> {
            let each = values.len() / count;
            n * each..(n + 1) * each
        };
        let warps = (0..shape[0]).map(|n| {
            let matrix = (&shape[1..], &values[part(&values, shape[0], n)]);
            let displacement =
                displacements.as_ref().map(|(of, all)| (&of[1..], &all[part(all, shape[0], n)]));
            warp(matrix, displacement)
        });
        let warps = warps.collect::<PyResult<Vec<_>>>()?;
        self.read(&warps, &[shape[0]])
    }

    fn read(&self, warps: &[Warp], lead: &[usize]) -> PyResult<Bound<'py, PyAny>> {
        let (py, volume) = (self.patch_size.py(), self.volume);
        let size: Size3 = size3(self.patch_size, "patch_size")?;
        // Fails before an array of impossible size is made.
        volume.voxels_in(size, warps.len()).map_err(raise_short(READ_LESS))?;
        let dtype = self.dtype.map(dtype).transpose()?;
        let dtype = volume.affine_dtype(dtype).map_err(raise)?;
        let shape = lead.iter().copied().chain(volume.channels()).chain(size).collect();
        let (order, padding) = (self.order, self.padding);
        with_voxel!(dtype, T => {
            fill::<T>(py, &Target { shape, dtype, remedy: READ_LESS }, self.out, |voxels| {
                volume.read_affine_into(warps, size, order, padding, voxels)
            })
        })
    }
}

/// An interpolation by its number.
pub(crate) fn order(value: &Bound<'_, PyAny>) -> PyResult<Order> {
    let number = value.extract::<i64>().ok();
    number
        .and_then(Order::from_number)
        .ok_or_else(|| invalid("order", value, "0 (nearest), 1 (linear) or 3 (cubic)"))
}

/// A padding, which is not missing: `None` is none.
pub(crate) fn border(value: &Bound<'_, PyAny>) -> PyResult<Padding> {
    padding((!value.is_none()).then_some(value))
}

/// The shape and the values of whatever numpy makes an array of, as float64.
fn floats(value: &Bound<'_, PyAny>, what: &'static str) -> PyResult<(Vec<usize>, Vec<f64>)> {
    let numpy = value.py().import("numpy")?;
    let array = numpy.call_method1("ascontiguousarray", (value, "float64"));
    let refused = || invalid(what, value, "an array of numbers");
    let array = array.map_err(|_| refused())?;
    let array = array.cast::<PyArrayDyn<f64>>().map_err(|_| refused())?;
    let values = array.try_readonly().map_err(|_| refused())?;
    let values = values.as_slice().map_err(|_| refused())?;
    let mut copy = Vec::new();
    copy.try_reserve_exact(values.len()).map_err(|_| {
        let bytes = size_of_val(values) as u64;
        raise(voxquarry::Error::OutOfMemory { what: format!("a copy of {what}"), bytes })
    })?;
    copy.extend_from_slice(values);
    Ok((array.shape().to_vec(), copy))
}

/// A matrix `(3, 4)` or `(4, 4)` and a displacement `(3, kz, ky, kx)`.
fn warp(
    (shape, values): (&[usize], &[f64]),
    displacement: Option<(&[usize], &[f64])>,
) -> PyResult<Warp> {
    let expected = "of shape (3, 4), or (4, 4) with the last row 0 0 0 1";
    match shape {
        [3, 4] => {}
        [4, 4] if values[12..] == [0.0, 0.0, 0.0, 1.0] => {}
        [4, 4] => {
            let found = format!("has the last row {:?}", &values[12..]);
            return Err(invalid("matrix", found, expected));
        }
        _ => return Err(invalid("matrix", format!("is of shape {shape:?}"), expected)),
    }
    let rows = [0, 1, 2].map(|a| [0, 1, 2, 3].map(|b| values[4 * a + b]));
    let warp = Warp::new(rows).map_err(raise)?;
    match displacement {
        None => Ok(warp),
        Some((&[3, z, y, x], values)) if !values.is_empty() => {
            let knots = values.len() / 3;
            let by_knot = (0..knots).map(|k| [0, 1, 2].map(|a| values[a * knots + k])).collect();
            Ok(warp.displaced(Displacement::new([z, y, x], by_knot).map_err(raise)?))
        }
        Some((shape, _)) => {
            let expected = "of shape (3, kz, ky, kx), with at least one knot";
            Err(invalid("displacement", format!("is of shape {shape:?}"), expected))
        }
    }
}
