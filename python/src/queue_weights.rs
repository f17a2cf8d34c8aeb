//! Weights of a queue, from Python's arguments and in the form that a state keeps them.

use std::sync::Arc;

use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};
use voxquarry::{ChunkWeights, QueueWeights, WeightUpdate};

use crate::errors::{invalid, raise, unsupported};

/// The weights that the arguments `subjects` and `chunks` of `update_weights` describe.
pub(crate) fn weights(
    subjects: Option<&Bound<'_, PyAny>>,
    chunks: Option<&Bound<'_, PyAny>>,
) -> PyResult<QueueWeights> {
    let mut weights = QueueWeights::default();
    if let Some(value) = subjects {
        let refused = || invalid("subjects", value, "a mapping from names to numbers");
        let mapping = value.cast::<PyMapping>().map_err(|_| refused())?;
        let named: Vec<(String, f64)> = mapping.items()?.extract().map_err(|_| refused())?;
        weights = weights.subjects(named);
    }
    if let Some(value) = chunks {
        let refused = || invalid("chunks", value, "a mapping from names to arrays (z, y, x)");
        let mapping = value.cast::<PyMapping>().map_err(|_| refused())?;
        let named: Vec<(String, Bound<'_, PyAny>)> =
            mapping.items()?.extract().map_err(|_| refused())?;
        let array = |(name, array): (String, Bound<'_, PyAny>)| Ok((name, chunk_weights(&array)?));
        weights = weights.chunks(named.into_iter().map(array).collect::<PyResult<Vec<_>>>()?);
    }
    Ok(weights)
}

/// The weights of an array `(z, y, x)`.
fn chunk_weights(value: &Bound<'_, PyAny>) -> PyResult<ChunkWeights> {
    let expected = "an array (z, y, x) of numbers";
    let numpy = value.py().import("numpy")?;
    let array = numpy.call_method1("ascontiguousarray", (value, "float64"));
    let array = array.map_err(|_| invalid("chunk weights", value, expected))?;
    let array = array.cast::<PyArrayDyn<f64>>().map_err(PyErr::from)?;
    let &[z, y, x] = array.shape() else {
        let found = format!("of shape {:?}", array.shape());
        return Err(invalid("chunk weights", found, expected));
    };
    ChunkWeights::new([z, y, x], array.to_vec()?).map_err(raise)
}

/// Updates as lists, dictionaries, strings and numbers.
pub(crate) fn to_state<'py>(
    py: Python<'py>,
    updates: &[WeightUpdate],
) -> PyResult<Bound<'py, PyList>> {
    let state = PyList::empty(py);
    for WeightUpdate { epoch, position, weights } in updates {
        let update = PyDict::new(py);
        update.set_item("epoch", epoch)?;
        update.set_item("position", position)?;
        if let Some(named) = weights.get_subjects() {
            let subjects = PyDict::new(py);
            for (name, weight) in named {
                subjects.set_item(name, weight)?;
            }
            update.set_item("subjects", subjects)?;
        }
        let chunks = PyDict::new(py);
        for (name, found) in weights.get_chunks() {
            let entry = PyDict::new(py);
            entry.set_item("grid", found.grid().to_vec())?;
            entry.set_item("weights", found.values().to_vec())?;
            chunks.set_item(name, entry)?;
        }
        update.set_item("chunks", chunks)?;
        state.append(update)?;
    }
    Ok(state)
}

/// The updates of a state.
pub(crate) fn from_state(value: &Bound<'_, PyAny>) -> PyResult<Vec<WeightUpdate>> {
    let refused = |_: PyErr| {
        unsupported("the weights of state_dict are damaged", "pass what state_dict() gave")
    };
    value.try_iter().map_err(refused)?.map(|item| update(&item?)).collect::<PyResult<_>>().map_err(
        |error| {
            if error.is_instance_of::<pyo3::exceptions::PyValueError>(value.py()) {
                error
            } else {
                refused(error)
            }
        },
    )
}

fn update(item: &Bound<'_, PyAny>) -> PyResult<WeightUpdate> {
    let mut weights = QueueWeights::default();
    if item.contains("subjects")? {
        let subjects = item.get_item("subjects")?;
        let subjects: Vec<(String, f64)> = subjects.cast::<PyMapping>()?.items()?.extract()?;
        weights = weights.subjects(subjects);
    }
    let chunks = item.get_item("chunks")?;
    let chunks: Vec<(String, Bound<'_, PyAny>)> = chunks.cast::<PyMapping>()?.items()?.extract()?;
    let chunk = |(name, entry): (String, Bound<'_, PyAny>)| {
        let values: Vec<f64> = entry.get_item("weights")?.extract()?;
        let grid = entry.get_item("grid")?.extract()?;
        Ok((name, ChunkWeights::new(grid, values).map_err(raise)?))
    };
    let chunks = chunks.into_iter().map(chunk).collect::<PyResult<Vec<_>>>()?;
    Ok(WeightUpdate {
        epoch: item.get_item("epoch")?.extract()?,
        position: item.get_item("position")?.extract()?,
        weights: Arc::new(weights.chunks(chunks)),
    })
}
