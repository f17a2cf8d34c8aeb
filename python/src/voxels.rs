//! Reads into numpy arrays: new ones, or the caller's `out`.

use numpy::{Element, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use voxquarry::{Padding, Size3, Volume, Voxel, with_voxel};

use crate::errors::{raise, usage};

/// What to read.
pub(crate) struct Request<'a> {
    pub(crate) starts: &'a [[i64; 3]],
    pub(crate) size: Size3,
    pub(crate) padding: Padding,
    pub(crate) channels: std::ops::Range<usize>,
    /// Shape of the resulting array; its product is what is read.
    pub(crate) shape: Vec<usize>,
}

/// Reads into `out`, or a new array, with the GIL released.
pub(crate) fn read<'py>(
    py: Python<'py>,
    volume: &Volume,
    request: &Request<'_>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    // Fails before an array of impossible size is made.
    volume.voxels_in(request.size, request.starts.len()).map_err(raise)?;
    with_voxel!(volume.dtype(), T => read_typed::<T>(py, volume, request, out))
}

fn read_typed<'py, T: Voxel + Element>(
    py: Python<'py>,
    volume: &Volume,
    request: &Request<'_>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let array: Bound<'py, PyArrayDyn<T>> = match out {
        Some(out) => {
            out.cast::<PyArrayDyn<T>>().map_err(|_| wrong_out(out, volume, request))?.clone()
        }
        None => PyArrayDyn::zeros(py, request.shape.clone(), false),
    };
    if array.shape() != request.shape || !array.is_c_contiguous() {
        return Err(wrong_out(array.as_any(), volume, request));
    }
    let mut writable = array
        .try_readwrite()
        .map_err(|_| usage("out: the array is read-only, or borrowed elsewhere"))?;
    let voxels = writable.as_slice_mut().map_err(|_| wrong_out(array.as_any(), volume, request))?;
    let Request { starts, size, padding, channels, .. } = request;
    py.detach(|| {
        volume.read_bytes(
            starts,
            *size,
            *padding,
            channels.clone(),
            bytemuck::cast_slice_mut(voxels),
        )
    })
    .map_err(raise)?;
    drop(writable);
    Ok(array.into_any())
}

fn wrong_out(out: &Bound<'_, PyAny>, volume: &Volume, request: &Request<'_>) -> PyErr {
    let found = match out.cast::<PyUntypedArray>() {
        Ok(array) => {
            let order = if array.is_c_contiguous() { "" } else { ", not C-contiguous" };
            format!("{} of shape {:?}{order}", array.dtype(), array.shape())
        }
        Err(_) => format!("a {}", out.get_type()),
    };
    usage(format!(
        "out is {found}: expected a C-contiguous {} of shape {:?}",
        volume.dtype(),
        request.shape
    ))
}
