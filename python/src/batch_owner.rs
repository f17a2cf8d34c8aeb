//! Numpy arrays over the memory of a batch, without a copy.
//!
//! # Invariants
//! - The arrays keep their batch alive; its memory is reused once the last of them is gone.
#![allow(unsafe_code)]

use numpy::ndarray::ArrayView5;
use numpy::{Element, PyArray5};
use pyo3::prelude::*;
use voxquarry::{Batch, Dtype, Voxel, with_voxel};

/// The `base` of a batch's arrays: it owns the memory that they show.
#[pyclass(frozen, module = "voxquarry")]
struct BatchOwner {
    /// Only dropped; numpy alone reads and writes the voxels.
    _batch: Batch,
}

/// One volume of a batch.
struct VolumeArray {
    dtype: Dtype,
    shape: [usize; 5],
    base: *mut u8,
}

/// For each volume of a batch a writable array of its voxels, `(patches, c, z, y, x)`.
pub(crate) fn arrays(py: Python<'_>, mut batch: Batch) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let volumes = batch.volumes().len();
    let array = |i| VolumeArray {
        dtype: batch.dtype(i),
        shape: batch.shape(i),
        base: batch.bytes_mut(i).as_mut_ptr(),
    };
    let arrays: Vec<_> = (0..volumes).map(array).collect();
    let owner = Bound::new(py, BatchOwner { _batch: batch })?.into_any();
    let array = |array: &VolumeArray| with_voxel!(array.dtype, T => typed::<T>(array, &owner));
    Ok(arrays.iter().map(array).collect())
}

fn typed<'py, T: Voxel + Element>(
    array: &VolumeArray,
    owner: &Bound<'py, PyAny>,
) -> Bound<'py, PyAny> {
    assert!(array.dtype == T::DTYPE, "the volume's own dtype");
    // SAFETY: `Batch::bytes_mut` gave a range of as many voxels, aligned for their dtype, and the
    // ranges of different volumes do not overlap. The memory lives as long as `owner`, which the
    // array keeps alive, and `owner` never touches it. `python/tests/test_queue.py` watches it.
    unsafe {
        let view = ArrayView5::from_shape_ptr(array.shape, array.base.cast::<T>());
        PyArray5::borrow_from_array(&view, owner.clone()).into_any()
    }
}
