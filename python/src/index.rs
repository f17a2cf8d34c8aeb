//! numpy's basic indexing: turns ints, slices and `...` into a box to read and an index into it.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyEllipsis, PySlice, PyTuple};

/// One axis of a basic index: `count` voxels from `start` on, `step` apart.
pub(crate) struct Axis {
    start: isize,
    pub(crate) step: isize,
    count: usize,
    pub(crate) dropped: bool,
}

impl Axis {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn low(&self) -> usize {
        let last = self.start + self.step * (self.count as isize - 1);
        self.start.min(last) as usize
    }

    pub(crate) fn span(&self) -> usize {
        (self.count - 1) * self.step.unsigned_abs() + 1
    }

    /// The index into the box that was read.
    pub(crate) fn local<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.dropped {
            return Ok(0isize.into_pyobject(py)?.into_any());
        }
        let builtins = py.import("builtins")?;
        builtins.getattr("slice")?.call1((py.None(), py.None(), self.step))
    }
}

/// One entry for each axis of the volume; axes that the index leaves out are taken whole.
///
/// # Errors
/// `IndexError` where numpy raises it, and for anything but ints, slices and `...`.
pub(crate) fn basic_index(index: &Bound<'_, PyAny>, shape: &[usize]) -> PyResult<Vec<Axis>> {
    let items: Vec<Bound<'_, PyAny>> = match index.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().collect(),
        Err(_) => vec![index.clone()],
    };
    let ellipses = items.iter().filter(|i| i.is_instance_of::<PyEllipsis>()).count();
    let given = items.len() - ellipses;
    if ellipses > 1 || given > shape.len() {
        return Err(PyIndexError::new_err(format!(
            "{given} indices for a volume of {} axes",
            shape.len()
        )));
    }
    let whole = |n: usize| Axis { start: 0, step: 1, count: n, dropped: false };
    let mut axes = Vec::with_capacity(shape.len());
    for item in &items {
        let n = shape.get(axes.len()).copied().unwrap_or(0);
        if item.is_instance_of::<PyEllipsis>() {
            for _ in 0..shape.len() - given {
                axes.push(whole(shape[axes.len()]));
            }
        } else if let Ok(slice) = item.cast::<PySlice>() {
            let indices = slice.indices(n as isize)?;
            axes.push(Axis {
                start: indices.start,
                step: indices.step,
                count: indices.slicelength,
                dropped: false,
            });
        } else if let Ok(i) = item.call_method0("__index__").and_then(|i| i.extract::<isize>()) {
            let at = if i < 0 { i + n as isize } else { i };
            if !(0..n as isize).contains(&at) {
                return Err(PyIndexError::new_err(format!(
                    "index {i} is out of bounds for axis {} of {n}",
                    axes.len()
                )));
            }
            axes.push(Axis { start: at, step: 1, count: 1, dropped: true });
        } else {
            return Err(PyIndexError::new_err(format!(
                "{item}: volumes take ints, slices and ..., read_batch takes many starts"
            )));
        }
    }
    while axes.len() < shape.len() {
        axes.push(whole(shape[axes.len()]));
    }
    Ok(axes)
}
