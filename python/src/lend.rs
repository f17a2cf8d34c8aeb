//! A batch's memory as numpy arrays, without a copy: the batch is dropped, and its memory used again, with the last of them.
#![allow(unsafe_code)]

use numpy::ndarray::ArrayView5;
use numpy::{Element, PyArray5};
use pyo3::prelude::*;
use voxquarry::{Batch, Voxel, with_voxel};

/// What the arrays of a batch keep alive.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Lent(Batch);

impl Lent {
    /// Takes a batch to lend it.
    pub(crate) fn new(py: Python<'_>, batch: Batch) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self(batch))
    }
}

/// The voxels of one of the batch's volumes, `(patches, c, z, y, x)`, writable.
pub(crate) fn array<'py>(lent: &Bound<'py, Lent>, volume: usize) -> Bound<'py, PyAny> {
    with_voxel!(lent.get().0.dtype(volume), T => typed::<T>(lent, volume).into_any())
}

fn typed<'py, T: Voxel + Element>(
    lent: &Bound<'py, Lent>,
    volume: usize,
) -> Bound<'py, PyArray5<T>> {
    let batch = &lent.get().0;
    assert!(batch.dtype(volume) == T::DTYPE, "the volume's own dtype");
    // SAFETY: the batch holds as many aligned voxels of that dtype there, for as long as it lives, which the array sees to by
    // keeping `lent`. Volumes do not overlap, and after this the batch is only dropped: so only numpy reads and writes it.
    // `python/tests/test_queue.py` watches it.
    unsafe {
        let view = ArrayView5::from_shape_ptr(batch.shape(volume), batch.base(volume).cast::<T>());
        PyArray5::borrow_from_array(&view, lent.clone().into_any())
    }
}
